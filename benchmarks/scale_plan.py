"""A plan from ten thousand to ten billion products: bytes, machines, hours and cost, as tables.

    python benchmarks/scale_plan.py
    python benchmarks/scale_plan.py --cores 64 --memory-gb 256 --price 3.20 --hours 12
    python benchmarks/scale_plan.py --images-per-s 4000 --price 4     # machines with a GPU

Everything is computed, from the rates in ``scale_rates.toml``, which were measured, and from the
options, which are assumptions: set your own. GB are 10^9 bytes. The tables go into docs/scale.md.
"""

import argparse
import math
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fashionclip.serve.memory_index import APPROXIMATE_FROM

SIZES = tuple(10**exponent for exponent in range(4, 11))
DIM = 512
KEPT_BYTES = {"float": 4.0, "half": 2.0, "int8": 2.0, "binary": 2.0}
"""Of each number of a vector that is kept."""
CANDIDATE_BYTES = {"half": 2.0, "int8": 1.0, "binary": 1 / 8}
"""Of each number of a vector that candidates are found by."""
LINK_BYTES = 16 * 2 * 6 + 64  # of a node in pgvector's graph: m = 16, twice at the lowest level
USABLE = 0.75  # of a machine's memory
BUSY = 0.5  # of a machine's cores: what is left takes peaks
MIN_REPLICAS = 2
MONTH_H = 730
GRAPH_FROM = 1_000_000  # products that the time of building a graph was measured with


@dataclass(frozen=True, slots=True)
class Rates:
    """The measured figures of ``scale_rates.toml``, by their names there."""

    images_per_core_s: float
    ray_share: float
    catalog_rows_per_s: float
    lance_product_bytes: float
    postgres_product_bytes: float
    postgres_build_s: float
    memory_product_bytes: float
    search_cpu_s: float
    search_cpu_s_per_product: float


@dataclass(frozen=True, slots=True)
class Search:
    """How a size is searched."""

    form: str
    """``exact``, or the form of vectors that candidates are found by."""
    memory_bytes: float
    """Of all parts of the index together."""
    parts: int
    """Machines that hold the index once."""
    machines: int
    """Machines that answer the load."""


class Plan:
    """What a number of products needs."""

    def __init__(self, n: int, rates: Rates, options: argparse.Namespace) -> None:
        """Plan for ``n`` products."""
        self.n, self.rates, self.options = n, rates, options

    def vectors(self, bytes_per_number: float) -> float:
        """Bytes of all vectors, for bytes of a number."""
        return self.n * DIM * bytes_per_number

    @property
    def pictures(self) -> float:
        """Bytes of all pictures, which embedding reads once."""
        return self.n * self.options.picture_kb * 1e3

    def lance(self, form: str) -> float:
        """Bytes of the store in a folder or bucket, with its index of candidates."""
        candidates = CANDIDATE_BYTES["int8" if form in {"float", "half"} else form]
        each = self.rates.lance_product_bytes + DIM * (KEPT_BYTES[form] + candidates)
        return self.n * each

    def graph(self, form: str) -> float:
        """Bytes of PostgreSQL's graph, which its searches need in memory."""
        return self.n * (DIM * CANDIDATE_BYTES[form] + LINK_BYTES)

    @property
    def postgres(self) -> float:
        """Bytes of the store in PostgreSQL, of halves."""
        return self.n * (self.rates.postgres_product_bytes + DIM * 2 * KEPT_BYTES["half"])

    @property
    def postgres_build_h(self) -> float:
        """Hours to write the products and build the graph, which becomes deeper."""
        deeper = math.log(self.n) / math.log(GRAPH_FROM)
        return self.n * self.rates.postgres_build_s * deeper / 3600

    @property
    def image_rate(self) -> float:
        """Images a second and machine."""
        local = self.options.images_per_s or self.options.cores * self.rates.images_per_core_s
        return local * (self.rates.ray_share if self.n > APPROXIMATE_FROM else 1)

    @property
    def embedding_machines(self) -> int:
        """Machines that embed everything in the time allowed."""
        return math.ceil(self.n / self.image_rate / 3600 / self.options.hours)

    @property
    def machine_hours(self) -> float:
        """Hours of one machine that embeds everything."""
        return self.n / self.image_rate / 3600

    @property
    def reading_h(self) -> float:
        """Hours in which one process reads the catalogue."""
        return self.n / self.rates.catalog_rows_per_s / 3600

    def memory(self, form: str) -> float:
        """Bytes of memory that a service holds to search by candidates of a form."""
        numbers = DIM * CANDIDATE_BYTES["half" if form == "exact" else form]
        return self.n * (self.rates.memory_product_bytes + numbers)

    @property
    def search(self) -> Search:
        """How the service searches it."""
        usable = USABLE * self.options.memory_gb * 1e9
        form = "exact" if self.n < APPROXIMATE_FROM else "half"
        if form == "half" and self.memory("half") > usable:
            form = "binary"
        memory = self.memory(form)
        parts = math.ceil(memory / usable)
        beyond = max(0, self.n / parts - GRAPH_FROM)
        cpu_s = self.rates.search_cpu_s + beyond * self.rates.search_cpu_s_per_product
        cores = self.options.searches_per_s * cpu_s / BUSY  # of each part: all answer each search
        copies = max(MIN_REPLICAS, math.ceil(cores / self.options.cores))
        return Search(form, memory, parts, parts * copies)

    @property
    def databases(self) -> tuple[str, int]:
        """The graph's form, and how many PostgreSQL servers hold it in their memory."""
        usable = USABLE * self.options.database_gb * 1e9
        form = "half" if self.graph("half") <= usable else "binary"
        return form, math.ceil(self.graph(form) / usable)


def shown_bytes(n: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if n >= size:
            return f"{n / size:,.{0 if n >= 10 * size else 1}f} {unit}"
    return f"{n / 1e6:,.0f} MB"


def shown_hours(hours: float) -> str:
    return f"{hours:,.0f} h" if hours >= 2 else f"{hours * 60:,.0f} min"


def shown_price(price: float) -> str:
    return f"{price:,.0f}" if price >= 10 else f"{price:,.2f}"


def print_table(
    title: str,
    heads: Sequence[str],
    rows: Iterable[Iterable[object]],
    *,
    n_numbers: int | None = None,
) -> None:
    n_numbers = len(heads) if n_numbers is None else n_numbers
    print(f"**{title}**\n")
    print(f"| {' | '.join(heads)} |")
    print(f"|{'---:|' * n_numbers}{'---|' * (len(heads) - n_numbers)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    print()


def changes(rates: Rates, options: argparse.Namespace) -> Iterable[tuple[int, str]]:
    """What is different from some number of products on."""
    steps: list[tuple[Callable[[Plan], bool], str]] = [
        (
            lambda plan: plan.search.form != "exact",
            f"Exact search ends, at {APPROXIMATE_FROM:,} "
            "products in the service: the store's index proposes candidates.",
        ),
        (
            lambda plan: plan.embedding_machines > 1,
            "One machine no longer embeds it in "
            f"{options.hours:g} h: `--ray`, with the pictures where all machines reach them.",
        ),
        (
            lambda plan: plan.pictures + plan.lance("half") > options.disk_tb * 1e12,
            f"The pictures no longer fit on a disk of {options.disk_tb:g} TB: a bucket.",
        ),
        (
            lambda plan: plan.search.form == "binary",
            "Halves no longer fit into the memory of a "
            f"process with {options.memory_gb:g} GB: `--vectors binary`, ranked again by halves on "
            "disk.",
        ),
        (
            lambda plan: plan.search.parts > 1,
            "One process's memory ends, with signs too: several "
            "indexes, by country or department, and a service over each. This package searches one "
            "index at a time.",
        ),
        (
            lambda plan: plan.databases[0] == "binary",
            "A graph of halves no longer fits into the "
            f"memory of a PostgreSQL with {options.database_gb:g} GB: `--vectors binary`.",
        ),
        (
            lambda plan: plan.reading_h > options.hours,
            "One process no longer reads the catalogue "
            f"in {options.hours:g} h: one `fashionclip index` or `embed` a part, at the same time.",
        ),
        (
            lambda plan: plan.databases[1] > 1,
            "One PostgreSQL ends: partitions on several servers, "
            "or a dedicated engine fed by `fashionclip embed --shard-rows`.",
        ),
    ]
    for is_so, what in steps:
        first = _first(lambda n, is_so=is_so: is_so(Plan(n, rates, options)))
        if first is not None:
            yield first, what


def _first(is_so: Callable[[int], bool]) -> int | None:
    """The smallest number of products that something is true of; None if it is of none."""
    low, high = SIZES[0], SIZES[-1]
    if not is_so(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_so(middle) else (middle + 1, high)
    return low


def _rounded(n: int) -> str:
    """Two digits of a number."""
    return f"{round(n, 1 - int(math.log10(n))):,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    number = {"type": float, "metavar": "N"}
    parser.add_argument("--picture-kb", default=100.0, help="mean size of a picture", **number)
    parser.add_argument("--cores", type=int, default=16, help="of a machine")
    parser.add_argument("--memory-gb", default=64.0, help="of a machine", **number)
    parser.add_argument("--disk-tb", default=4.0, help="of a machine", **number)
    parser.add_argument("--price", default=0.80, help="of a machine, an hour", **number)
    parser.add_argument("--images-per-s", help="of a machine; by default its cores'", **number)
    parser.add_argument("--hours", default=24.0, help="in which all is to be embedded", **number)
    parser.add_argument("--searches-per-s", default=100.0, help="at the busiest hour", **number)
    parser.add_argument("--database-gb", default=256.0, help="memory of a PostgreSQL", **number)
    parser.add_argument("--gb-month-price", default=0.023, help="of a bucket", **number)
    options = parser.parse_args()
    source = tomllib.loads(Path(__file__).with_name("scale_rates.toml").read_text("utf-8"))
    rates = Rates(**{name: entry["value"] for name, entry in source.items()})
    plans = [Plan(n, rates, options) for n in SIZES]

    print_table(
        f"Bytes (computed): vectors of {DIM} numbers, pictures of {options.picture_kb:g} KB",
        [
            "products",
            "float",
            "half",
            "int8",
            "binary",
            "pictures",
            "folder or bucket",
            "PostgreSQL",
            "bucket, a month",
        ],
        (
            [
                f"{plan.n:,}",
                shown_bytes(plan.vectors(KEPT_BYTES["float"])),
                *(shown_bytes(plan.vectors(size)) for size in CANDIDATE_BYTES.values()),
                shown_bytes(plan.pictures),
                shown_bytes(plan.lance("half")),
                shown_bytes(plan.postgres),
                shown_price((plan.pictures + plan.lance("half")) / 1e9 * options.gb_month_price),
            ]
            for plan in plans
        ),
    )
    print_table(
        f"Embedding (computed): machines of {options.cores} cores at {options.price:.2f} an hour, "
        f"within {options.hours:g} h",
        [
            "products",
            "machine hours",
            "machines",
            "time",
            "cost",
            "reading by one process",
            "graph of PostgreSQL, 2 cores",
        ],
        (
            [
                f"{plan.n:,}",
                f"{plan.machine_hours:,.1f}",
                f"{plan.embedding_machines:,}",
                shown_hours(plan.machine_hours / plan.embedding_machines),
                shown_price(plan.machine_hours * options.price),
                shown_hours(plan.reading_h),
                shown_hours(plan.postgres_build_h),
            ]
            for plan in plans
        ),
    )
    print_table(
        f"Search (computed): {options.searches_per_s:g} a second, machines of {options.cores} "
        f"cores and {options.memory_gb:g} GB, a PostgreSQL of {options.database_gb:g} GB",
        [
            "products",
            "candidates by",
            "memory, one copy",
            "machines a copy",
            "machines",
            "a month",
            "PostgreSQL's graph",
            "servers",
        ],
        (
            [
                f"{plan.n:,}",
                found.form,
                shown_bytes(found.memory_bytes),
                f"{found.parts:,}",
                f"{found.machines:,}",
                shown_price(found.machines * MONTH_H * options.price),
                f"{plan.databases[0]}, {shown_bytes(plan.graph(plan.databases[0]))}",
                f"{plan.databases[1]:,}",
            ]
            for plan, found in ((plan, plan.search) for plan in plans)
        ),
    )
    print_table(
        "What changes (computed)",
        ["from about", "what"],
        ([_rounded(n), what] for n, what in sorted(changes(rates, options))),
        n_numbers=1,
    )
    print_table(
        "Rates",
        ["rate", "of", "how", "command"],
        (
            [f"{entry['value']:g}", entry["of"], entry["how"], f"`{entry['command']}`"]
            for entry in source.values()
        ),
        n_numbers=1,
    )


if __name__ == "__main__":
    main()
