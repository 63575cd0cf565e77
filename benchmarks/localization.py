"""Where words are in street photographs: each method against masks, with its passes and time.

    python benchmarks/localization.py --street data/street
    python benchmarks/localization.py --street data/street garments
    python benchmarks/localization.py --street data/street variants
    python benchmarks/localization.py --products data/kagl products

``data/street`` holds ``photos.csv`` (image, mask, garments), ``labels.txt``, and masks whose value
is the line of the label, from 0 (Clothing Co-Parsing, Yang et al. 2014). Photographs whose name has
an even CRC-32 are for development: ``variants`` measures every attention of the last layer on
them. The other tables are of the test half, on which nothing was chosen. ``products`` is on
photographs of products (Kaggle's), one kind each: whether strengths tell the kinds apart.

Maps are compared with masks on a raster of 112 cells along the long side. Pointing: whether the
highest cell lies on the garment, without tolerance. AUC: of cells on the garment against the
others. IoU: of the cells above the fixed threshold. Box IoU: of the strongest box with the box
around the garment, 0 without one. Present: AUC of a word's strength, photographs that show the
garment against those that do not. Figures are means over photographs of the mean over garments,
with 95 % bootstrap intervals over photographs. CPU ms: processor time of all cores for one word in
one photograph, decoded.
"""

import argparse
import csv
import itertools
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from occlusion_strips import bands_of, strips_map
from PIL import Image

from fashionclip import FashionCLIP
from fashionclip.checkpoint import AttentionKind, PatchAttention
from fashionclip.images.decode import open_image
from fashionclip.localization import THRESHOLD, Localization
from fashionclip.localization.boxes import boxes_of
from fashionclip.localization.frames import windows_of
from fashionclip.metrics.intervals import mean_interval, paired_means
from fashionclip.metrics.maps import auc, box_iou, iou, mask_box, pixel_auc, pointing

NOT_GARMENTS = {"null", "accessories", "hair", "intimate", "skin", "ring"}
MIN_PHOTOS = 10
"""Garments in fewer photographs of a half are left out."""
TABLES = ("methods", "garments", "variants", "products")
N_KINDS, PER_KIND = 24, 12
KIND_WORDS = {"Tshirts": "t-shirt"}
TIMED = 5
FIGURES = ("pointing", "auc", "iou", "box_iou")
PLAIN = PatchAttention("plain", residual=True, mlp=True)


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph and the masks of its garments on the raster of maps."""

    image: Image.Image
    masks: Mapping[str, np.ndarray]
    present: frozenset[str]


@dataclass(frozen=True, eq=False)
class Method:
    """A way to maps: ``locate`` gives heat of each word and its strength."""

    name: str
    locate: Callable[[Image.Image, Sequence[str]], tuple[np.ndarray, Sequence[float]]]
    passes: str


def read_photos(
    folder: Path, *, development: bool
) -> Iterator[tuple[str, Image.Image, np.ndarray]]:
    with (folder / "photos.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if (zlib.crc32(row["image"].encode()) % 2 == 0) == development:
                image = open_image((folder / row["image"]).read_bytes())
                yield row["image"], image, np.asarray(Image.open(folder / row["mask"]))


def load(folder: Path, *, development: bool, n_photos: int | None) -> tuple[list[Photo], list[str]]:
    labels = (folder / "labels.txt").read_text(encoding="utf-8").split()
    found = list(read_photos(folder, development=development))[:n_photos]
    shown = [{labels[i] for i in np.unique(mask)} - NOT_GARMENTS for _, _, mask in found]
    words = [word for word in labels if sum(word in some for some in shown) >= MIN_PHOTOS]
    photos = []
    for (_, image, mask), some in zip(found, shown, strict=True):
        scale = 112 / max(image.size)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        small = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
        masks = {word: small == labels.index(word) for word in words if word in some}
        photos.append(Photo(image, {w: m for w, m in masks.items() if m.any()}, frozenset(some)))
    return photos, words


def fast(
    model: FashionCLIP, *, windows: int = 1, attention: PatchAttention | None = None
) -> Method:
    config = model.checkpoint.config
    chosen = replace(config, patch_attention=attention or config.patch_attention)
    other = FashionCLIP(replace(model.checkpoint, config=chosen), engine=model.engine)

    def locate(image: Image.Image, words: Sequence[str]) -> tuple[np.ndarray, Sequence[float]]:
        found: Localization = other.localize(image, words, windows=windows)
        return found.cells, found.scores

    counts = {1 + (windows > 1) * len(windows_of(s, model.checkpoint.preprocess, 2)) for s in SIZES}
    passes = " to ".join(str(n) for n in sorted({min(counts), max(counts)}))
    return Method(f"this package, windows {windows}", locate, passes)


SIZES = ((340, 512), (512, 512))
"""Usual sizes of photographs, for the number of windows."""


def strips(model: FashionCLIP) -> Method:
    def locate(image: Image.Image, words: Sequence[str]) -> tuple[np.ndarray, Sequence[float]]:
        heat = strips_map(model, image, model.encode_text(words))
        return heat, [float("nan")] * len(words)

    return Method("the original's strips", locate, str(len(bands_of(15))))


def resized(heat: np.ndarray, like: np.ndarray) -> np.ndarray:
    if heat.shape == like.shape:
        return heat
    image = Image.fromarray(heat.astype(np.float32))
    return np.asarray(image.resize(like.shape[::-1], Image.Resampling.BILINEAR))


def measure(
    method: Method, photos: Sequence[Photo], words: Sequence[str], *, with_boxes: bool = True
) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
    """Figures by name and garment (NaN where a photograph lacks it), and strengths."""
    found = {name: {word: np.full(len(photos), np.nan) for word in words} for name in FIGURES}
    scores = np.zeros((len(photos), len(words)))
    for i, photo in enumerate(photos):
        heats, scores[i] = method.locate(photo.image, words)
        for word, mask in photo.masks.items():
            heat = resized(heats[words.index(word)], mask)
            boxes = boxes_of(heat, mask.shape[::-1], THRESHOLD) if with_boxes else []
            best = boxes and box_iou(
                np.array([boxes[0].left, boxes[0].top, boxes[0].right, boxes[0].bottom]),
                mask_box(mask),
            )
            values = (
                pointing(heat, mask),
                pixel_auc(heat, mask),
                iou(heat >= THRESHOLD, mask),
                best or 0.0,
            )
            for name, value in zip(FIGURES, values, strict=True):
                found[name][word][i] = value
    return found, scores


def by_photo(of_words: Mapping[str, np.ndarray]) -> np.ndarray:
    table = np.stack(list(of_words.values()))
    has = ~np.isnan(table)
    usable = has.any(axis=0)
    return np.nansum(table[:, usable], axis=0) / has[:, usable].sum(axis=0)


def with_interval(values: np.ndarray) -> str:
    low, high = mean_interval(values)
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def present_auc(scores: np.ndarray, photos: Sequence[Photo], words: Sequence[str]) -> str:
    """AUC of strengths over photographs, its mean over garments; intervals over garments."""
    if np.isnan(scores).any():
        return "none"
    is_there = np.array([[word in photo.present for word in words] for photo in photos])
    values = np.array([auc(scores[:, i], is_there[:, i]) for i in range(len(words))])
    return with_interval(values[~np.isnan(values)])


def time_of(method: Method, photos: Sequence[Photo], word: str) -> float:
    """Median milliseconds of processor time for one word in one photograph, after a first call."""
    method.locate(photos[0].image, [word])
    times = []
    for photo in photos[:TIMED]:
        begun = time.process_time()
        method.locate(photo.image, [word])
        times.append(1000 * (time.process_time() - begun))
    return float(np.median(times))


def say_methods(model: FashionCLIP, photos: list[Photo], words: list[str], n_strips: int) -> None:
    few = photos[:: max(1, len(photos) // n_strips)]
    methods = [
        (replace(fast(model, attention=PLAIN), name="CLIP's own attention"), photos),
        (strips(model), few),
        (fast(model), photos),
        (fast(model, windows=2), photos),
    ]
    masks = [m for photo in photos for m in photo.masks.values()]
    print(f"{model.name}: {len(photos)} photographs, {len(words)} garments, {len(masks)} masks;")
    print(f"the strips on {len(few)} of the photographs.\n")
    print("| method | pointing | AUC | IoU | box IoU | present | passes | CPU ms |")
    print("|---|---|---|---|---|---|---|---|")
    shares = {
        w: np.array([p.masks[w].mean() if w in p.masks else np.nan for p in photos]) for w in words
    }
    print(f"| chance | {with_interval(by_photo(shares))} | 0.5 | | | 0.5 | 0 | |")
    pointed = {}
    for method, some in methods:
        found, scores = measure(method, some, words)
        pointed[method.name] = by_photo(found["pointing"])
        cells = [with_interval(by_photo(found[name])) for name in FIGURES]
        if "strips" in method.name:
            cells[2:] = ["", ""]  # each picture has its own scale, so no threshold
        ms = time_of(method, some, words[0])
        row = [*cells, present_auc(scores, some, words), method.passes, f"{ms:,.0f}"]
        print(f"| {method.name} | " + " | ".join(row) + " |", flush=True)
        if "strips" in method.name:
            strips_ms = ms
        elif "package" in method.name:
            thinned = pointed[method.name][:: max(1, len(photos) // n_strips)]
            gap = paired_means(pointed["the original's strips"], thinned)
            said = (
                f"{method.name}: pointing {gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f}) "
                f"against the strips on the same {gap.n} photographs, "
                f"{strips_ms / ms:,.0f} times as fast"
            )
            pointed[f"said {method.name}"] = said
    print()
    print("\n".join(f"- {said}." for name, said in pointed.items() if name.startswith("said")))


def say_garments(model: FashionCLIP, photos: list[Photo], words: list[str]) -> None:
    found, scores = measure(fast(model), photos, words)
    print("| garment | photographs | chance | pointing | AUC | IoU | box IoU | present |")
    print("|---|---|---|---|---|---|---|---|")
    for i, word in enumerate(words):
        has = ~np.isnan(found["pointing"][word])
        share = np.mean([photo.masks[word].mean() for photo in photos if word in photo.masks])
        cells = [
            with_interval(found[name][word][has & ~np.isnan(found[name][word])]) for name in FIGURES
        ]
        is_there = np.array([word in photo.present for photo in photos])
        there = auc(scores[:, i], is_there)
        print(f"| {word} | {has.sum()} | {share:.3f} | " + " | ".join(cells) + f" | {there:.2f} |")


def say_variants(model: FashionCLIP, photos: list[Photo], words: list[str]) -> None:
    print(f"{model.name}: {len(photos)} photographs for development, {len(words)} garments.\n")
    print("| attention | residual | MLP | pointing | AUC |")
    print("|---|---|---|---|---|")
    for kind, residual, mlp in itertools.product(get_args(AttentionKind), *[(True, False)] * 2):
        variant = PatchAttention(kind, residual=residual, mlp=mlp)
        found, _ = measure(fast(model, attention=variant), photos, words, with_boxes=False)
        cells = [with_interval(by_photo(found[name])) for name in ("pointing", "auc")]
        marks = ["yes" if is_kept else "no" for is_kept in (residual, mlp)]
        is_chosen = variant == model.checkpoint.config.patch_attention
        name = f"**{kind}** (in use)" if is_chosen else kind
        print(f"| {name} | {' | '.join(marks)} | {' | '.join(cells)} |", flush=True)


def say_products(model: FashionCLIP, folder: Path) -> None:
    """Strengths of kinds of product on photographs of one product each."""
    with (folder / "styles.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if zlib.crc32(row["id"].encode()) % 2]
    kinds = [kind for kind, _ in Counter(row["articleType"] for row in rows).most_common(N_KINDS)]
    rng = np.random.default_rng(0)
    words, scores, truth = [KIND_WORDS.get(kind, kind.lower()) for kind in kinds], [], []
    for i, kind in enumerate(kinds):
        some = [row for row in rows if row["articleType"] == kind]
        for row in (some[j] for j in rng.permutation(len(some))[:PER_KIND]):
            image = (folder / "images" / f"{row['id']}.jpg").read_bytes()
            scores.append(model.localize(image, words).scores)
            truth.append(i)
    strengths, is_kind = np.array(scores), np.array(truth)[:, None] == np.arange(len(kinds))
    values = np.array([auc(strengths[:, i], is_kind[:, i]) for i in range(len(kinds))])
    found = (strengths >= THRESHOLD).astype(float)
    print(f"{model.name}: {len(truth)} photographs of products of {len(kinds)} kinds.\n")
    print("| figure | value |")
    print("|---|---|")
    print(f"| AUC of strengths, present against absent | {with_interval(values)} |")
    print(f"| present words at or above {THRESHOLD} | {with_interval(found[is_kind])} |")
    print(f"| absent words at or above {THRESHOLD} | {with_interval(found[~is_kind])} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("table", nargs="?", default="methods", choices=TABLES)
    parser.add_argument("--products", type=Path, help="folder in the layout of Kaggle's products")
    parser.add_argument("--street", type=Path, help="folder of photographs and masks")
    parser.add_argument(
        "--model", help="a folder or a hub repository; the built-in model if not given"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--n-photos", type=int, help="only so many photographs")
    parser.add_argument("--n-strips", type=int, default=40, help="photographs for the strips")
    options = parser.parse_args()
    if options.table == "products" and options.products is None:
        parser.error("the table products needs --products FOLDER")
    if options.table != "products" and options.street is None:
        parser.error("give --street FOLDER")
    model = FashionCLIP(options.model, device=options.device, threads=options.threads)
    if options.table == "products":
        say_products(model, options.products)
        return
    photos, words = load(
        options.street, development=options.table == "variants", n_photos=options.n_photos
    )
    if options.table == "methods":
        say_methods(model, photos, words, options.n_strips)
    elif options.table == "garments":
        say_garments(model, photos, words)
    else:
        say_variants(model, photos, words)


if __name__ == "__main__":
    main()
