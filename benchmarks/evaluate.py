"""Time of an evaluation without and with the cache, and the share of encoding.

    python benchmarks/evaluate.py --on fmnist
    python benchmarks/evaluate.py --on kagl --data DIR
    python benchmarks/evaluate.py --on kagl --data DIR --vit-b-32

The lower bound is the encoding: every image is decoded and encoded once. Everything else (digests,
leakage check, figures with their intervals, the report) is overhead.
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
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", help="a folder or a hub repository; default: built-in")
    parser.add_argument(
        "--vit-b-32", action="store_true", help="random weights of FashionCLIP's size instead"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.vit_b_32:
            args.model = str(Path(folder) / "vit-b-32")
            Path(args.model).mkdir()
            write_vit_b_32(Path(args.model))
        cold = measure(args, Path(folder))
        cached = measure(args, Path(folder))
    print(f"from the cache: {cold / cached:.1f} times as fast")


def measure(args: argparse.Namespace, folder: Path) -> float:
    begin = time.perf_counter()
    suite = load_benchmarks(args.on.split(","), args.data)
    loaded = time.perf_counter() - begin
    model = FashionCLIP.from_pretrained(args.model)
    run, thumbnails = evaluate_models([model], suite, cache=folder / "cache")
    scored = time.perf_counter() - begin
    write_run(run, folder / "run")
    write_report(run, folder / "run", thumbnails)
    total = time.perf_counter() - begin
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
