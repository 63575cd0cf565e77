"""Measure a model on what the built-in one was not trained on; write the figures into documents.

    python scripts/measure_builtin.py --kagl DIR --clothing DIR [--street DIR] [--fmnist DIR]
    python scripts/measure_builtin.py ... --model FOLDER
    python scripts/measure_builtin.py ... --write src/fashionclip/builtin/README.md README.md

Held out are whole brands of the catalogue and whole senders of the photographs (see
``builtin_data.py``); the street's photographs and Fashion-MNIST (Debian:
``dataset-fashion-mnist``) are measured only, never trained on. Everything goes through the
library, as a user's pictures and words do.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from builtin_data import read_clothing, read_kagl
from builtin_measures import (
    Figure,
    caption_of,
    measure_catalog,
    measure_clothing,
    measure_fmnist,
    measure_sample,
    measure_street,
)

from fashionclip.checkpoint.folder import SINGLE, open_checkpoint
from fashionclip.model import FashionCLIP

OPENING, CLOSING = "<!-- figures: scripts/measure_builtin.py -->", "<!-- end of figures -->"
ROUNDS = 3  # of each speed; the fastest counts, for the machine has other work too


def main() -> None:
    """Measure, print, and write the figures into files if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, help="a checkpoint folder; default: built-in")
    parser.add_argument("--kagl", type=Path, required=True)
    parser.add_argument("--clothing", type=Path)
    parser.add_argument("--street", type=Path)
    parser.add_argument("--fmnist", type=Path, help="folder of the IDX files")
    parser.add_argument(
        "--write", type=Path, nargs="+", default=[], help="files to put the figures into"
    )
    args = parser.parse_args()
    model = FashionCLIP.from_pretrained(args.model)
    weights = open_checkpoint(args.model).folder / SINGLE
    held_out = [item for item in read_kagl(args.kagl) if item.is_test]
    figures = measure_catalog(model, held_out)
    if args.clothing:
        figures += measure_clothing(model, read_clothing(args.clothing))
    if args.street:
        figures.append(measure_street(model, args.street))
    if args.fmnist:
        figures.append(measure_fmnist(model, args.fmnist))
    figures += measure_sample(model)
    pictures_s = speed(model.encode_images, [item.picture for item in held_out])
    texts_s = speed(model.encode_text, [caption_of(item) for item in held_out])
    told = (
        f"{as_table(figures)}\n\nIntervals are 95 % bootstraps over pictures, or over queries. "
        f"{pictures_s:,.0f} pictures a second from files and\n{texts_s:,.0f} captions a second on "
        f"{os.cpu_count()} cores ({model.engine.device}, {model.engine.precision}); "
        f"{weights.stat().st_size / 1e6:.1f} MB of weights."
    )
    print(told)
    for file in args.write:
        write_figures(file, told)


def speed(encode: Callable[..., object], items: Sequence[object]) -> float:
    """Items a second, end to end, in the fastest of some rounds."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        encode(items)
        seconds.append(time.perf_counter() - began)
    return len(items) / min(seconds)


def as_table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| what | pictures | this model | without a model |", "|---|---|---|---|"]
    lines += [
        f"| {f.what} | {f.n_items:,} | {f.value:.3f} [{f.interval[0]:.3f} to {f.interval[1]:.3f}]"
        f" | {f.without} |"
        for f in figures
    ]
    return "\n".join(lines)


def write_figures(file: Path, told: str) -> None:
    """Put the figures between the file's two marks.

    Raises:
        ValueError: the file lacks the marks.
    """
    text = file.read_text(encoding="utf-8")
    if OPENING not in text or CLOSING not in text:
        message = f"{file} lacks the lines '{OPENING}' and '{CLOSING}'; put them where it belongs"
        raise ValueError(message)
    before, rest = text.split(OPENING)
    file.write_text(
        f"{before}{OPENING}\n{told}\n{CLOSING}{rest.split(CLOSING)[1]}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
