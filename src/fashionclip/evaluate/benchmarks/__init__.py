"""Benchmarks by name: each reads its files from a folder and makes tasks.

To add a benchmark, write a module with a class that has the attributes of ``base.Benchmark`` and a
``load`` that returns tasks, and add it to ``_ALL``. ``base`` holds the steps that several
benchmarks share, ``hub`` downloads, and ``words.toml`` the words for their labels.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks.base import Benchmark, Loaded
from fashionclip.evaluate.benchmarks.fmnist import FashionMnist
from fashionclip.evaluate.benchmarks.kagl import Kagl
from fashionclip.evaluate.benchmarks.lookbench import LookBench
from fashionclip.evaluate.benchmarks.marqo import Marqo
from fashionclip.evaluate.benchmarks.photographs import Clothing, DeepFashion, Street
from fashionclip.evaluate.benchmarks.sample import SampleCatalog
from fashionclip.evaluate.benchmarks.table import OwnTable

_ALL: tuple[Benchmark, ...] = (
    FashionMnist(),
    Kagl(),
    DeepFashion(),
    Clothing(),
    Street(),
    LookBench(),
    Marqo(),
    SampleCatalog(),
)
BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType({b.name: b for b in _ALL})
"""Benchmarks by name, in the order in which reports list them."""


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of a name, or that of a user's own table.

    Args:
        name: one of ``BENCHMARKS``, or the path of a table.

    Raises:
        BenchmarkError: there is neither.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    if Path(name).is_file():
        return OwnTable(Path(name))
    close = get_close_matches(name, BENCHMARKS, n=1)
    meant = f" (did you mean '{close[0]}'?)" if close else ""
    message = (
        f"no benchmark and no file is called '{name}'{meant}; there are "
        f"{', '.join(BENCHMARKS)}, and tables with columns image,label or query,image,relevant"
    )
    raise BenchmarkError(message)


def find_folder(benchmark: Benchmark, data: Path | None) -> Path:
    """The folder of a benchmark's files; the current one for a benchmark without files.

    Args:
        benchmark: whose ``places`` are tried in turn.
        data: folder that relative places start from; None leaves only the absolute ones.

    Raises:
        BenchmarkError: there is none.
    """
    if not benchmark.places:
        return Path()
    places = [Path(place) for place in benchmark.places]
    places = [place if place.is_absolute() or data is None else data / place for place in places]
    for place in places:
        if place.exists() and (data is not None or place.is_absolute()):
            return place
    where = f"{data} has no folder {benchmark.places[0]}" if data else "no data folder is given"
    message = f"{benchmark.name}: {where}; {benchmark.how_to_get}"
    raise BenchmarkError(message)


__all__ = ["BENCHMARKS", "Benchmark", "Loaded", "find_benchmark", "find_folder"]
