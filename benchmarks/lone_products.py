"""Garments in pictures of one product: is the named kind right, and is one product one row?

    python benchmarks/lone_products.py

The pictures are those of the sample catalogue (drawn, so that the kind is known), as they are and
on a larger page, and drawn outfits of two garments on a plain ground. "Before" looks for garments
in them as in a photograph of a person; "now" takes a product that is alone on its ground for one
garment or none. A kind is right if its words in garment_kinds.toml have the product's category. A
picture without a garment is one of shoes, a bag, a belt or a cap, which nobody looks for. Prints
Markdown.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from garments import KIND_OF_TAG, shown
from PIL import Image

from fashionclip.garments import DetectedGarment, WordDetector, detector, garment_words
from fashionclip.garments.ground import lone_product
from fashionclip.model import FashionCLIP
from fashionclip.sample import Attributes, generate_image
from fashionclip.sample.products import COLOURS, sample_products

KIND_OF_CATEGORY = {**{word: KIND_OF_TAG[word] for word in garment_words()}, "trousers": "trousers"}
KIND_OF_CATEGORY |= {"hoodie": KIND_OF_TAG["hoodie"]}
PAGE = (480, 640)
TOPS, BOTTOMS = ("t-shirt", "shirt", "sweater", "jacket"), ("jeans", "trousers", "skirt", "shorts")
Picture = tuple[Image.Image, frozenset[str]]
"""A picture, and the kinds of garments in it."""


def products(n: int) -> Iterable[Picture]:
    for product in sample_products(n):
        kind = KIND_OF_CATEGORY.get(product.attributes.category)
        image = generate_image(product.attributes, seed=product.seed)
        yield image, frozenset([kind] if kind else [])


def on_page(image: Image.Image) -> Image.Image:
    page = Image.new("RGB", PAGE, image.getpixel((0, 0)))
    page.paste(image, ((PAGE[0] - image.width) // 2, (PAGE[1] - image.height) // 2))
    return page


def outfits(n: int) -> Iterable[Picture]:
    """A top over the beginning of what is below it, in two colours chosen at random."""
    rng = np.random.default_rng(0)
    for _ in range(n):
        names = str(rng.choice(TOPS)), str(rng.choice(BOTTOMS))
        colours = rng.choice(list(COLOURS), size=2, replace=False)
        photo = Image.new("RGB", (360, 720), "white")
        places = ((60, 30, 300, 350), (75, 300, 285, 690))
        for name, colour, place in zip(names, colours, places, strict=True):
            drawn = generate_image(Attributes(name, str(colour)), seed=int(rng.integers(1_000)))
            rows, columns = np.nonzero(np.asarray(drawn).min(axis=2) < 245)
            cut = drawn.crop((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
            photo.paste(cut.resize((place[2] - place[0], place[3] - place[1])), place)
        yield photo, frozenset(KIND_OF_CATEGORY[name] for name in names)


Find = Callable[[Image.Image], Sequence[DetectedGarment]]


def product_row(name: str, find: Find, pictures: Sequence[Picture]) -> None:
    found = [([KIND_OF_TAG[one.word] for one in find(image)], kinds) for image, kinds in pictures]
    of_garments = [(some, kinds) for some, kinds in found if kinds]
    others = [float(bool(some)) for some, kinds in found if not kinds]
    right = [float(some[:1] == list(kinds)) for some, kinds in of_garments]
    wrong = [float(bool(set(some) - kinds)) for some, kinds in of_garments]
    several = [float(len(some) > 1) for some, _ in of_garments]
    figures = " | ".join(map(shown, (right, wrong, several, others)))
    print(f"| {name} | {len(of_garments)} | {figures} | {len(others)} |", flush=True)


def outfit_row(name: str, find: Find, pictures: Sequence[Picture]) -> None:
    found = [({KIND_OF_TAG[one.word] for one in find(image)}, kinds) for image, kinds in pictures]
    both = [float(some >= kinds) for some, kinds in found]
    two = [float(len(some) > 1) for some, _ in found]
    print(f"| {name} | {len(found)} | {shown(both)} | {shown(two)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=int, default=160)
    parser.add_argument("--outfits", type=int, default=40)
    parser.add_argument("--model", help="a folder or a repository; the built-in model if not given")
    args = parser.parse_args()
    finder = WordDetector(FashionCLIP(args.model))

    def before(image: Image.Image) -> Sequence[DetectedGarment]:
        detector.lone_product = lambda image: None
        try:
            return finder.detect(image)
        finally:
            detector.lone_product = lone_product

    drawn = list(products(args.products))
    print(
        "| pictures | garments | first is right | any is wrong | more than one | "
        "named without a garment | without |\n|---|---|---|---|---|---|---|"
    )
    for what, pictures in {
        "as they are": drawn,
        "on a larger page": [(on_page(image), kinds) for image, kinds in drawn],
    }.items():
        product_row(f"{what}, before", before, pictures)
        product_row(f"{what}, now", finder.detect, pictures)
    print("\n| outfits | n | both kinds are found | more than one |\n|---|---|---|---|")
    pictures = list(outfits(args.outfits))
    outfit_row("before", before, pictures)
    outfit_row("now", finder.detect, pictures)


if __name__ == "__main__":
    main()
