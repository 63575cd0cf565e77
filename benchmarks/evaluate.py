"""Time of an evaluation with an empty cache and with a full one, and the share of encoding.

    python benchmarks/evaluate.py --on fmnist
    python benchmarks/evaluate.py --on kagl --data DIR
    python benchmarks/evaluate.py --on kagl --data DIR --vit-b-32

The same evaluation runs twice. The first run decodes and encodes every image once, which is the
lower bound of its time; the second reads the vectors from the cache. The rest of both is digests,
the leakage check, metrics with their intervals, and the report.
"""

import argparse
import tempfile
import time
from pathlib import Path

from encode import write_vit_b_32

from fashionclip.evaluate.report import write_report
from fashionclip.evaluate.results import write_run
from fashionclip.evaluate.run import evaluate_models, load_benchmarks
from fashionclip.model import FashionCLIP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--on", default="fmnist", help="benchmarks, separated by commas")
    parser.add_argument("--data", type=Path, help="the folder of the data sets")
    parser.add_argument("--model", help="a folder or a hub repository; default: built-in")
    parser.add_argument(
        "--vit-b-32", action="store_true", help="use random weights of FashionCLIP's size"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.vit_b_32:
            args.model = str(Path(folder) / "vit-b-32")
            Path(args.model).mkdir()
            write_vit_b_32(Path(args.model))
        without_cache = measure(args, Path(folder))
        with_cache = measure(args, Path(folder))
    print(f"from the cache: {without_cache / with_cache:.1f} times as fast")


def measure(args: argparse.Namespace, folder: Path) -> float:
    started = time.perf_counter()
    suite = load_benchmarks(args.on.split(","), args.data)
    loaded = time.perf_counter() - started
    model = FashionCLIP.from_pretrained(args.model)
    run, thumbnails = evaluate_models([model], suite, cache=folder / "cache")
    scored = time.perf_counter() - started
    write_run(run, folder / "run")
    write_report(run, folder / "run", thumbnails)
    total = time.perf_counter() - started
    (info,) = run.models
    print(
        f"{args.on}, {info.name} ({info.engine}): {len(suite.tasks)} tasks in {total:.1f} s: "
        f"reading {loaded:.1f}, encoding {info.encoding_seconds:.1f} "
        f"({info.encoding_seconds / total:.0%}), report {total - scored:.1f}",
        flush=True,
    )
    return total


if __name__ == "__main__":
    main()
