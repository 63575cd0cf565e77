"""Garments of street photographs: boxes against masks, and what their crops find in a shop.

    python benchmarks/garments.py                # the test half: boxes, labels, hits, time
    python benchmarks/garments.py development    # the table that the detector's settings are from

``data/street``: photographs with masks and garment tags (Clothing Co-Parsing, Yang et al. 2014).
Photographs whose name has an even SHA-1 are for development; the figures are of the others. Half
of those have chosen the attention of the maps too (``benchmarks/localization.py``). ``data/kagl``:
Kaggle's Fashion Product Images, the shop that is searched.

Garments are compared by kind: street tags, article types of the shop and garment words each belong
to one. Precision: a found garment is right if its box overlaps a mask of its kind with an IoU of
0.3. Chance: the same words at windows drawn at random, in photographs drawn at random. Intervals
are 95 % bootstrap intervals over found garments or photographs. Nearest label: whether the nearest
garment word is of a kind that the photograph is tagged with; of a true box, of its own kind.
Article type: the share of hits of the garment's own kind; 0 for a garment that the photograph has
not. Prints Markdown.
"""

import argparse
import csv
import hashlib
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fashionclip.evaluate.cache import CachedEncoder
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.garments import (
    DetectedGarment,
    WordDetector,
    crop_garments,
    detector,
    garment_words,
    regions,
)
from fashionclip.garments.regions import overlaps, windows_of
from fashionclip.images.decode import open_image
from fashionclip.localization import Box
from fashionclip.metrics.intervals import mean_interval, paired_means
from fashionclip.model import FashionCLIP

RIGHT_IOU = 0.3
MIN_AREA = 0.004
"""Of a mask, as a share of the photograph; smaller garments are left out."""
MIN_STRIP = 0.2
"""Width of a strip without a person, as a share of the photograph, from which it is used."""
K = 10
THRESHOLDS = (0.15, 0.24, 0.35)
KINDS: Mapping[str, Mapping[str, Sequence[str]]] = tomllib.loads(
    Path(__file__).with_name("garment_kinds.toml").read_text(encoding="utf-8")
)
KIND_OF_TAG, KIND_OF_ARTICLE = (
    {name: kind for kind, names in KINDS.items() for name in names[which]}
    for which in ("tags", "articles")
)


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph, the boxes of its garments by kind, and a strip of it without a person."""

    image: Image.Image
    boxes: Mapping[str, np.ndarray]
    strip: Image.Image | None


def read_photos(folder: Path, *, development: bool) -> Iterator[Photo]:
    labels = (folder / "labels.txt").read_text(encoding="utf-8").split()
    with (folder / "photos.csv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            name = row["image"]
            if (hashlib.sha1(name.encode()).digest()[0] % 2 == 0) != development:
                continue
            image = open_image((folder / name).read_bytes())
            mask = np.asarray(Image.open(folder / row["mask"]))
            found: dict[str, list[tuple[int, ...]]] = {}
            for value in np.unique(mask):
                kind = KIND_OF_TAG.get(labels[value])
                rows, columns = np.nonzero(mask == value)
                if kind and len(rows) >= MIN_AREA * mask.size:
                    corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                    found.setdefault(kind, []).append(tuple(map(int, corners)))
            boxes = {kind: np.array(some) for kind, some in found.items()}
            yield Photo(image, boxes, strip_of(image, mask))


def strip_of(image: Image.Image, mask: np.ndarray) -> Image.Image | None:
    """The wider of the strips beside the person."""
    columns = np.flatnonzero((mask > 0).any(axis=0))
    left, right = int(columns[0]), int(columns[-1]) + 1
    ends = (0, left) if left >= image.width - right else (right, image.width)
    if ends[1] - ends[0] < MIN_STRIP * image.width:
        return None
    return image.crop((ends[0], 0, ends[1], image.height))


def box_of(corners: Sequence[int], score: float) -> Box:
    left, top, right, bottom = corners
    return Box(left, top, right, bottom, score)


def corners_of(box: Box) -> np.ndarray:
    return np.array([[box.left, box.top, box.right, box.bottom]])


def best_iou(box: Box, photo: Photo, kind: str | None) -> float:
    """The highest overlap of a box with the boxes of a kind; 0 without any."""
    if kind is None or kind not in photo.boxes:
        return 0.0
    return float(overlaps(corners_of(box), photo.boxes[kind])[0].max())


def shown(values: Sequence[float] | np.ndarray) -> str:
    found = np.asarray(values, np.float64)
    if not len(found):
        return "none"
    low, high = mean_interval(found)
    return f"{found.mean():.2f} ({low:.2f} to {high:.2f})"


Found = Sequence[Sequence[DetectedGarment]]


def precision(photos: Sequence[Photo], found: Found) -> tuple[list[float], list[float]]:
    """For each found garment its IoU with its kind, and whether the photograph has its kind."""
    pairs = [(photo, one) for photo, some in zip(photos, found, strict=True) for one in some]
    kinds = [KIND_OF_TAG.get(one.word) for _, one in pairs]
    ious = [best_iou(one.box, photo, kind) for (photo, one), kind in zip(pairs, kinds, strict=True)]
    is_there = [float(kind in photo.boxes) for (photo, _), kind in zip(pairs, kinds, strict=True)]
    return ious, is_there


def at_random(photos: Sequence[Photo], found: Found) -> Found:
    """The same words at random windows of random photographs."""
    rng = np.random.default_rng(0)
    placed: list[list[DetectedGarment]] = [[] for _ in photos]
    for one in (one for some in found for one in some):
        for _ in range(20):
            i = int(rng.integers(len(photos)))
            window = rng.choice(windows_of(*photos[i].image.size)).tolist()
            placed[i].append(DetectedGarment(one.word, box_of(window, 0.5)))
    return placed


def box_table(photos: Sequence[Photo], found: Found, strips: Found) -> None:
    rows = [("found", found), ("chance", at_random(photos, found))]
    print(f"| boxes | garments | kind is there | IoU ≥ {RIGHT_IOU} | mean IoU |")
    print("|---|---|---|---|---|")
    for name, some in rows:
        ious, is_there = precision(photos, some)
        right = [float(value >= RIGHT_IOU) for value in ious]
        n = len(ious) if name == "found" else len(ious) // 20
        print(f"| {name} | {n} | {shown(is_there)} | {shown(right)} | {shown(ious)} |")
    with_any = [float(bool(some)) for some in found]
    on_strips = [float(bool(some)) for some in strips]
    print(
        f"\nAt least one garment was found in {shown(with_any)} of {len(photos)} photographs, and "
        f"in {shown(on_strips)} of {len(strips)} strips of them without the person.\n"
    )
    print(f"| kind | tagged | found at IoU ≥ {RIGHT_IOU} | found as this kind | right of these |")
    print("|---|---|---|---|---|")
    for kind in KINDS:
        tagged = [i for i, photo in enumerate(photos) if kind in photo.boxes]
        if not tagged:
            continue
        named = [
            (photo, one)
            for photo, some in zip(photos, found, strict=True)
            for one in some
            if KIND_OF_TAG.get(one.word) == kind
        ]
        hits = [best_iou(one.box, photo, kind) >= RIGHT_IOU for photo, one in named]
        there = {id(photo) for (photo, _), hit in zip(named, hits, strict=True) if hit}
        recall = [float(id(photos[i]) in there) for i in tagged]
        print(f"| {kind} | {len(tagged)} | {shown(recall)} | {len(named)} | {shown(hits)} |")


def read_shop(folder: Path, model: FashionCLIP, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and kinds of a shop's products."""
    with (folder / "styles.csv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines)]
    images = [ImageRef(row["id"], folder / "images" / f"{row['id']}.jpg") for row in rows]
    there = [i for i, image in enumerate(images) if Path(str(image.source)).is_file()]
    vectors = CachedEncoder(model, folder=cache).encode_images([images[i] for i in there])
    return vectors, np.array([KIND_OF_ARTICLE.get(rows[i]["articleType"], "") for i in there])


Cut = tuple[int, list[str], list[str], Box]
"""A box to cut out: its photograph, the kinds that a label may have, those that a hit may have."""


def boxes_to_cut(photos: Sequence[Photo], found: Found) -> dict[str, list[Cut]]:
    sets: dict[str, list[Cut]] = {"found": [], "true": []}
    for i, (photo, some) in enumerate(zip(photos, found, strict=True)):
        for one in some:
            own = [kind for kind in photo.boxes if kind == KIND_OF_TAG.get(one.word)]
            sets["found"].append((i, list(photo.boxes), own, one.box))
        for kind, boxes in photo.boxes.items():
            sets["true"] += [(i, [kind], [kind], box_of(box.tolist(), 1.0)) for box in boxes]
    return sets


def agreement_tables(
    photos: Sequence[Photo], found: Found, model: FashionCLIP, shop: tuple[np.ndarray, np.ndarray]
) -> None:
    """Labels and hits of crops, against those of whole photographs and chance."""
    vectors, kinds = shop
    words = garment_words()
    texts = model.encode_text(words, templates="product")
    whole = model.encode_images([photo.image for photo in photos])

    def is_named(vector: np.ndarray, accepted: Sequence[str]) -> float:
        return float(KIND_OF_TAG[words[int((texts @ vector).argmax())]] in accepted)

    def share(vector: np.ndarray, accepted: Sequence[str]) -> float:
        return float(np.isin(kinds[np.argsort(-(vectors @ vector))[:K]], accepted).mean())

    def by_words(accepted: Sequence[str]) -> float:
        return float(np.mean([KIND_OF_TAG[word] in accepted for word in words]))

    def by_shop(accepted: Sequence[str]) -> float:
        return float(np.isin(kinds, accepted).mean())

    print("| boxes | n | figure | crop | whole photograph | crop less whole | chance |")
    print("|---|---|---|---|---|---|---|")
    for name, items in boxes_to_cut(photos, found).items():
        if not items:
            continue
        crops = [
            crop_garments(photos[i].image, [DetectedGarment(name, box)])[0].crop
            for i, _, _, box in items
        ]
        encoded = model.encode_images(crops)
        figures = (
            ("nearest label", is_named, by_words, [tags for _, tags, _, _ in items]),
            (f"article type of {K} hits", share, by_shop, [own for _, _, own, _ in items]),
        )
        for figure, measure, at_chance, accepted in figures:
            of_crop = np.array(list(map(measure, encoded, accepted)))
            of_whole = np.array(list(map(measure, whole[[item[0] for item in items]], accepted)))
            chance = float(np.mean(list(map(at_chance, accepted))))
            gap = paired_means(of_whole, of_crop)
            print(
                f"| {name} | {len(items)} | {figure} | {shown(of_crop)} | {shown(of_whole)} | "
                f"{gap.value:+.2f} ({gap.low:+.2f} to {gap.high:+.2f}) | {chance:.2f} |"
            )


def development_table(photos: Sequence[Photo], model: FashionCLIP) -> None:
    print("| heights of windows | power | threshold | a photograph | right | in strips |")
    print("|---|---|---|---|---|---|")
    for heights in ((0.6, 0.4), (0.6, 0.4, 0.25)):
        for power in (2.0, 3.0):
            regions.HEIGHTS, detector.NEIGHBOURS = heights, power
            finder = WordDetector(model, threshold=THRESHOLDS[0])
            found = [finder.detect(photo.image) for photo in photos]
            strips = [finder.detect(photo.strip) for photo in photos if photo.strip]
            for least in THRESHOLDS:
                kept, on_strips = above(found, least), above(strips, least)
                right = [float(value >= RIGHT_IOU) for value in precision(photos, kept)[0]]
                print(
                    f"| {', '.join(map(str, heights))} | {power:g} | {least} | "
                    f"{len(right) / len(photos):.2f} | {shown(right)} | "
                    f"{np.mean([bool(some) for some in on_strips]):.2f} |",
                    flush=True,
                )


def above(found: Found, least: float) -> Found:
    """What a higher threshold leaves: a weaker region never suppresses a stronger one."""
    return [[one for one in some if one.box.score >= least] for some in found]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("half", nargs="?", choices=("test", "development"), default="test")
    parser.add_argument("--street", type=Path, default=Path("data/street"))
    parser.add_argument("--kagl", type=Path, default=Path("data/kagl"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/embeddings"))
    parser.add_argument("--model", help="a folder or a repository; the built-in model if not given")
    args = parser.parse_args()
    model = FashionCLIP(args.model, threads=2)
    photos = list(read_photos(args.street, development=args.half == "development"))
    if args.half == "development":
        development_table(photos, model)
        return
    finder = WordDetector(model)
    finder.detect(photos[0].image)  # compiles
    begun, busy = time.perf_counter(), time.process_time()
    found = [finder.detect(photo.image) for photo in photos]
    seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    strips = [finder.detect(photo.strip) for photo in photos if photo.strip]
    box_table(photos, found, strips)
    print()
    agreement_tables(photos, found, model, read_shop(args.kagl, model, args.cache))
    ms, of_cpu = 1000 * seconds / len(photos), 1000 * busy / len(photos)
    print(f"\nA photograph took {ms:,.0f} ms, of processor time {of_cpu:,.0f} ms.")


if __name__ == "__main__":
    main()
