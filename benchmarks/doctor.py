"""What the doctor finds of faults that are planted into a shop, and how much it finds untouched.

    python benchmarks/doctor.py plant     # precision and recall of each kind on KAGL's products
    python benchmarks/doctor.py shops     # findings of three shops as they are

``plant`` puts each fault into 2 % of the products of Kaggle's Fashion Product Images (``kagl/``),
by other drawings than those that the doctor learns from: other words and fonts, products cut out
and placed, photographs' grounds, street photographs for what does not belong. Brands are halved:
the defaults were chosen on one half, and the table shows the other (``--half chosen``: the first),
except that ``TWICE_COSINE``, ``CLEAR_KAPPA`` and ``CERTAIN`` were changed after both had been seen.
A finding is right if its product has the planted fault of its kind. It is left out of the count if
the product has another planted fault, and wrong otherwise, although many of these are real faults
of the shop: ``shops`` counts them without anything planted. Of attributes, only the column that was
spoilt is counted. Intervals are 95 % bootstrap intervals
over findings or planted faults. ``--sheet DIR`` writes contact sheets to look at. Prints Markdown.
"""

import argparse
import csv
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from fashionclip import Catalog, FashionCLIP
from fashionclip.doctor import KINDS, Finding, Report, examine_catalog
from fashionclip.metrics.intervals import mean_interval

SHARE = 0.02
SHOPS = ("kagl", "womens", "secondhand")
FONTS = Path("/usr/share/fonts/truetype/dejavu")
BANNERS = ("Mega Deal", "2 for 1", "HURRY", "70% OFF TODAY", "Shop now", "Only online", "#trend")
MARKS = ("(c) 2026 Lookbook", "DO NOT COPY", "example.org", "Agency X", "Catalogue")
COLUMNS = {"category": "articleType", "attribute": "subCategory"}

Plant = Callable[[Image.Image, "Others"], Image.Image]


class Others:
    """What plants take from: chance, other products' pictures, photographs."""

    def __init__(self, pictures: Sequence[Path], scenes: Sequence[Path], seed: int) -> None:
        """Take from some files."""
        self.chance = random.Random(seed)
        self._pictures, self._scenes = pictures, scenes

    def picture(self) -> Image.Image:
        """The picture of some product."""
        return Image.open(self.chance.choice(self._pictures)).convert("RGB")

    def scene(self) -> Image.Image:
        """Some street photograph."""
        return Image.open(self.chance.choice(self._scenes)).convert("RGB")


# plants


def cut_out(image: Image.Image) -> Image.Image:
    """The product without its white border, with an alpha channel."""
    pixels = np.asarray(image).astype(np.int16)
    mask = Image.fromarray(((255 - pixels).max(axis=2) > 14).astype(np.uint8) * 255)
    mask = mask.filter(ImageFilter.MedianFilter(3))
    image = image.copy()
    image.putalpha(mask)
    return image.crop(mask.getbbox() or (0, 0, *image.size))


def several(image: Image.Image, others: Others) -> Image.Image:
    canvas = Image.new("RGB", image.size, "white")
    for i, part in enumerate((image, others.picture(), others.picture())):
        if i == 2 and others.chance.random() < 0.6:
            break
        small = cut_out(part)
        small.thumbnail((int(image.width * 0.55), int(image.height * 0.55)))
        x = (0, image.width - small.width, (image.width - small.width) // 2)[i]
        y = (0, image.height - small.height, others.chance.randrange(image.height // 3))[i]
        canvas.paste(small, (x, y), small)
    return canvas


def none(image: Image.Image, others: Others) -> Image.Image:
    what = others.chance.choice(("grey", "logo", "cloth", "box"))
    if what == "cloth":
        x, y = image.width // 2, int(image.height * 0.45)
        return image.crop((x - 20, y - 25, x + 20, y + 25)).resize(image.size)
    canvas = Image.new("RGB", image.size, (230, 230, 235) if what == "grey" else "white")
    draw = ImageDraw.Draw(canvas)
    middle = (image.width // 2, image.height // 2)
    if what == "logo":
        draw.text(
            middle, "FASHION\nSTORE", font=font("DejaVuSerif-Bold", 26), fill="black", anchor="mm"
        )
    if what == "box":
        draw.polygon([(40, 110), (110, 80), (130, 130), (60, 165)], fill=(190, 150, 100))
    return canvas


def font(name: str, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    file = FONTS / f"{name}.ttf"
    return ImageFont.truetype(str(file), size) if file.exists() else ImageFont.load_default(size)


def overlay(image: Image.Image, others: Others) -> Image.Image:
    canvas, chance = image.copy(), others.chance
    draw = ImageDraw.Draw(canvas)
    words, y = chance.choice(BANNERS), chance.choice((0.1, 0.3, 0.7, 0.9)) * image.height
    place = (image.width / 2, y)
    kind = font(chance.choice(("DejaVuSans-Bold", "DejaVuSerif")), chance.randint(16, 30))
    ink = chance.choice(((230, 60, 120), (255, 140, 0), (10, 10, 10), (60, 0, 120)))
    if chance.random() < 0.5:
        left, top, right, bottom = draw.textbbox(place, words, font=kind, anchor="mm")
        draw.ellipse((left - 12, top - 12, right + 12, bottom + 12), fill=(255, 225, 0))
    draw.text(place, words, font=kind, fill=ink, anchor="mm")
    return canvas


def watermark(image: Image.Image, others: Others) -> Image.Image:
    chance = others.chance
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    words, alpha = chance.choice(MARKS), chance.randint(70, 140)
    kind = font("DejaVuSans-Bold", chance.randint(14, 26))
    for y in chance.choice(((0.5,), (0.2, 0.5, 0.8), (0.1, 0.3, 0.5, 0.7, 0.9))):
        place = (image.width / 2, y * image.height)
        draw.text(place, words, font=kind, fill=(110, 110, 120, alpha), anchor="mm")
    layer = layer.rotate(chance.choice((0, 30, -30, 50)))
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def cut_off(image: Image.Image, others: Others) -> Image.Image:
    """A tight frame at a side that the product did not touch, which cuts through it."""
    product = cut_out(image)
    part, side = others.chance.uniform(0.2, 0.45), others.chance.choice(("left", "top", "right"))
    box = [0, 0, product.width, product.height]
    if side == "top":
        box[1] = int(product.height * part)
    else:
        box[0 if side == "left" else 2] = int(
            product.width * (part if side == "left" else 1 - part)
        )
    rest = product.crop((*box[:2], max(box[0] + 4, box[2]), max(box[1] + 4, box[3])))
    scale = min(image.width / rest.width, image.height / rest.height)
    rest = rest.resize((max(1, int(rest.width * scale)), max(1, int(rest.height * scale))))
    canvas = Image.new("RGB", image.size, "white")
    x = {"left": 0, "right": image.width - rest.width}.get(side, (image.width - rest.width) // 2)
    canvas.paste(rest, (x, 0 if side == "top" else image.height - rest.height), rest)
    return canvas


def small(image: Image.Image, others: Others) -> Image.Image:
    scale = others.chance.uniform(0.15, 0.45)
    return image.resize((int(image.width * scale), int(image.height * scale)))


def blurred(image: Image.Image, others: Others) -> Image.Image:
    return image.filter(ImageFilter.BoxBlur(others.chance.uniform(2.5, 5)))


def dark(image: Image.Image, others: Others) -> Image.Image:
    light = others.chance.uniform(0.2, 0.45)
    return Image.fromarray((np.asarray(image) ** 1.1 * light / 255**0.1).astype(np.uint8))


def other_ground(image: Image.Image, others: Others) -> Image.Image:
    scene = others.scene()
    x, y = scene.width // 8, scene.height // 2
    ground = scene.crop((x, y, x + scene.width // 2, scene.height)).resize(image.size)
    ground = ground.filter(ImageFilter.GaussianBlur(others.chance.uniform(0, 6)))
    product = cut_out(image)
    place = ((image.width - product.width) // 2, (image.height - product.height) // 2)
    ground.paste(product, place, product)
    return ground


def outlier(image: Image.Image, others: Others) -> Image.Image:
    """A part of a street photograph without a product in its middle."""
    scene = others.scene()
    left = others.chance.choice((0, scene.width * 2 // 3))
    return scene.crop((left, 0, left + scene.width // 3, scene.height // 2)).resize(image.size)


def again(image: Image.Image, others: Others) -> Image.Image:
    """The same picture, encoded again at another size."""
    return image.resize((int(image.width * 0.8), int(image.height * 0.8)))


def second_shot(image: Image.Image, others: Others) -> Image.Image:
    """The same product photographed again: mirrored, nearer, in other light."""
    chance, margin = others.chance, others.chance.uniform(0.02, 0.05)
    box = (image.width * margin, image.height * margin, image.width * (1 - margin), image.height)
    near = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize(image.size, box=box)
    light = chance.uniform(0.92, 1.05)
    return near.point([min(255, round(level * light)) for level in range(256)] * 3)


PICTURES: Mapping[str, Plant] = {
    "several_products": several,
    "no_product": none,
    "text_overlay": overlay,
    "watermark": watermark,
    "cut_off": cut_off,
    "low_resolution": small,
    "blurred": blurred,
    "dark": dark,
    "other_ground": other_ground,
    "outlier": outlier,
}
COPIES: Mapping[str, Plant] = {"same_picture": again, "same_product": second_shot}


def write_planted(data: Path, folder: Path, seed: int) -> Mapping[str, set[str]]:
    """Write KAGL's table and pictures with faults; the ids that have each fault."""
    with (data / "kagl" / "styles.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    chance = random.Random(seed)
    (folder / "images").mkdir()
    for row in rows:
        name = f"images/{row['id']}.jpg"
        (folder / name).symlink_to((data / "kagl" / name).resolve())
    scenes = sorted((data / "street" / "photos").glob("*.jpg"))
    pictures = [data / "kagl" / "images" / f"{row['id']}.jpg" for row in rows]
    others = Others(pictures, scenes, seed)
    order = chance.sample(range(len(rows)), len(rows))
    n = round(SHARE * len(rows))
    planted: dict[str, set[str]] = {}
    kinds = [*PICTURES, *COPIES, "caption", "category", "attribute"]
    for k, kind in enumerate(kinds):
        chosen = [rows[i] for i in order[k * n : (k + 1) * n]]
        planted[kind] = {row["id"] for row in chosen}
        if kind in PICTURES:
            for row in chosen:
                replace(folder / "images" / f"{row['id']}.jpg", PICTURES[kind], others)
        elif kind in COPIES:
            copies = [
                add_copy(folder, kind, row, f"9{k}{i:05d}", others) for i, row in enumerate(chosen)
            ]
            rows += copies
            planted[kind] |= {row["id"] for row in copies}
        elif kind == "caption":
            words = [dict(row) for row in chosen]
            for i, row in enumerate(chosen):
                other = words[(i + 1) % len(words)]
                row |= {name: other[name] for name in ("productDisplayName", "articleAttributes")}
        else:
            labels = sorted({row[COLUMNS[kind]] for row in rows})
            for row in chosen:
                row[COLUMNS[kind]] = chance.choice([x for x in labels if x != row[COLUMNS[kind]]])
    with (folder / "styles.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    return planted


def add_copy(
    folder: Path, kind: str, row: Mapping[str, str], name: str, others: Others
) -> dict[str, str]:
    """A product again, under another id."""
    target = folder / "images" / f"{name}.jpg"
    target.symlink_to((folder / "images" / f"{row['id']}.jpg").resolve())
    replace(target, COPIES[kind], others)
    return {**row, "id": name}


def replace(path: Path, plant: Plant, others: Others) -> None:
    """Replace the link to a picture by that picture with a fault."""
    with Image.open(path) as image:
        changed = plant(image.convert("RGB"), others)
    path.unlink()
    changed.save(path, "JPEG", quality=90)


# figures


def is_chosen_half(brand: str) -> bool:
    """Whether a brand is of the half that the defaults were chosen on."""
    return crc32(brand.casefold().encode()) % 2 == 0


def judged(
    report: Report, planted: Mapping[str, set[str]], brands: Mapping[str, str], *, chosen: bool
) -> list[tuple[str, ...]]:
    """A row for each kind: planted, recall, findings, precision."""
    every = set[str]().union(*planted.values())
    rows = []
    for kind in KINDS:
        wanted = {i for i in planted[kind] if is_chosen_half(brands[i]) == chosen}
        found = [
            one
            for one in report.findings
            if one.kind == kind
            and one.column in {None, COLUMNS.get(kind)}
            and is_chosen_half(brands[one.product_ids[0]]) == chosen
        ]
        hit = {i for one in found for i in one.product_ids}
        recall = np.array([float(i in hit) for i in sorted(wanted)])
        right = [_is_right(one, planted[kind], every) for one in found]
        precision = np.array([float(one) for one in right if one is not None])
        cells = (f"{len(wanted):,}", figure(recall), f"{len(precision):,}", figure(precision))
        rows.append((kind, *cells))
    return rows


def _is_right(one: Finding, planted: set[str], every: set[str]) -> bool | None:
    """Whether a finding names a planted fault of its kind; None for a fault of another kind."""
    if planted & {*one.product_ids}:
        return True
    return None if every & {*one.product_ids} else False


def figure(values: np.ndarray) -> str:
    if not len(values):
        return "none"
    low, high = mean_interval(values)
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})"


def show(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"| {' | '.join(headings)} |")
    print(f"|{'|'.join(['---'] * len(headings))}|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def write_sheets(report: Report, base: Path, folder: Path, *, n: int = 24) -> None:
    """A contact sheet of each kind: its findings at even distances, the most certain first."""
    for kind in KINDS:
        found = [one for one in report.findings if one.kind == kind]
        shown = found[:: max(1, len(found) // n)][:n]
        if not shown:
            continue
        sheet = Image.new("RGB", (8 * 190, -(-len(shown) // 8) * 200), (120, 120, 120))
        for i, one in enumerate(shown):
            x, y = i % 8 * 190, i // 8 * 200
            for j, place in enumerate(one.images[:2]):
                with Image.open(base / str(place)) as image:
                    small = image.convert("RGB")
                small.thumbnail((92 if len(one.images) > 1 else 180, 180))
                sheet.paste(small, (x + 94 * j, y))
            text = f"{one.confidence:.2f} {one.label or ''}"
            ImageDraw.Draw(sheet).text((x, y + 184), text, fill="white")
        sheet.save(folder / f"{kind}.png")


def is_judged(report: Report, kind: str) -> bool:
    """Whether a kind was judged in a shop; for attributes, in any column."""
    judged = [not one.reason for one in report.pictures if one.kind == kind]
    if kind == "caption":
        judged = [not one.reason for one in report.texts if one.name == "caption"]
    if kind in {"category", "attribute"}:
        judged = [not one.reason for one in report.texts if one.name != "caption"]
    return any(judged) or not judged


def plant(arguments: argparse.Namespace, model: FashionCLIP) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planted = write_planted(arguments.data, folder, seed=0)
        catalog = Catalog.open(folder)
        report = examine_catalog(catalog, model, cache=arguments.cache, least=arguments.confidence)
        with (folder / "styles.csv").open(encoding="utf-8", newline="") as file:
            brands = {row["id"]: row["brandName"] for row in csv.DictReader(file)}
        if arguments.sheet:
            write_sheets(report, folder, arguments.sheet)
    rows = judged(report, planted, brands, chosen=arguments.half == "chosen")
    show(("kind", "planted", "recall", "findings", "precision"), rows)


def shops(arguments: argparse.Namespace, model: FashionCLIP) -> None:
    reports: dict[str, Report] = {}
    for shop in SHOPS:
        catalog = Catalog.open(arguments.data / shop)
        reports[shop] = examine_catalog(
            catalog, model, cache=arguments.cache, least=arguments.confidence
        )
        if arguments.sheet:
            (arguments.sheet / shop).mkdir(exist_ok=True)
            write_sheets(reports[shop], arguments.data / shop, arguments.sheet / shop)
    rows = []
    for kind in KINDS:
        cells = []
        for report in reports.values():
            n = sum(one.kind == kind for one in report.findings)
            cells.append(
                f"{n:,} ({n / report.n_products:.2%})" if is_judged(report, kind) else "not judged"
            )
        rows.append((kind, *cells))
    show(("kind", *(f"{s} ({r.n_products:,})" for s, r in reports.items())), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("plant", "shops"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/doctor"))
    parser.add_argument("--confidence", type=float, default=0.5)
    parser.add_argument("--half", choices=("chosen", "measured"), default="measured")
    parser.add_argument("--sheet", type=Path, help="folder for contact sheets")
    arguments = parser.parse_args()
    (plant if arguments.what == "plant" else shops)(arguments, FashionCLIP.from_pretrained())


if __name__ == "__main__":
    main()
