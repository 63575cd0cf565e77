"""Drawn pictures of several garments, whose truth is known: swapped colours, and counting."""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from PIL import Image

from fashionclip.evaluate.benchmarks.base import caption_of, is_plural, label_words
from fashionclip.evaluate.tasks import ImageRef
from fashionclip.probes.pairs import CaptionProbe, Contest
from fashionclip.probes.products import alike
from fashionclip.sample import SampleProduct, generate_image, sample_products

N_GARMENTS = 400
SEED = 23
"""Other products than those of the sample catalogue and of the built-in model's training."""
EDGE = 480
"""Width and height of a scene in pixels. It is square, so that no checkpoint crops a garment."""
_COUNTS = ("one", "two", "three")
_NOTES = ("Drawings, not photographs.",)


def swapped_colours(n_garments: int = N_GARMENTS) -> list[CaptionProbe]:
    """Two garments side by side: "red shoes and a black cap" against "black shoes and a red cap".

    Each garment is in one scene only, so that scenes are independent of each other.

    Args:
        n_garments: how many are drawn.
    """
    rng = np.random.default_rng(SEED)
    products = [_one_colour(product) for product in sample_products(n_garments, seed=SEED)]
    pairs = []
    while products:
        first = products.pop()
        partner = next((row for row, p in enumerate(products) if _can_swap(first, p)), None)
        if partner is not None:
            pairs.append((first, products.pop(partner)))
    images = _drawn([partial(_side_by_side, pair) for pair in pairs])
    contests = []
    for (left, right), data in zip(pairs, images, strict=True):
        (a, x), (b, y) = ((_noun(p), p.attributes.colour) for p in (left, right))
        if rng.integers(2):  # the order of the caption says nothing of the order in the picture
            (a, x), (b, y) = (b, y), (a, x)
        name = f"scene-{left.product_id}-{right.product_id}"
        contests.append(
            Contest(
                ImageRef(name, data),
                name,
                (f"{caption_of(x, a)} and {caption_of(y, b)}",),
                (f"{caption_of(y, a)} and {caption_of(x, b)}",),
            )
        )
    return [CaptionProbe("sample/swap", tuple(contests), _NOTES)]


def counting(n_garments: int = N_GARMENTS) -> list[CaptionProbe]:
    """One, two or three of a garment on a picture, against the two other numbers.

    The garments of a picture are as large whatever their number.

    Args:
        n_garments: how many pictures are drawn, a third of each number.
    """
    rng = np.random.default_rng(SEED + 1)
    products = sample_products(n_garments, seed=SEED)
    places = [rng.permutation(3)[: 1 + row % 3] for row in range(len(products))]
    images = _drawn([partial(_in_cells, *one) for one in zip(products, places, strict=True)])
    contests = []
    for product, cells, data in zip(products, places, images, strict=True):
        captions = [_counted(word, _noun(product)) for word in _COUNTS]
        right = captions.pop(len(cells) - 1)
        name = f"count-{product.product_id}"
        group = _COUNTS[len(cells) - 1]
        contests.append(Contest(ImageRef(name, data), name, (right,), tuple(captions), group))
    return [CaptionProbe("sample/counting", tuple(contests), _NOTES, "By true number")]


def _one_colour(product: SampleProduct) -> SampleProduct:
    return replace(product, attributes=replace(product.attributes, pattern="solid", accent=None))


def _can_swap(one: SampleProduct, other: SampleProduct) -> bool:
    colours = {one.attributes.colour, other.attributes.colour}
    is_alike = len(colours) == 1 or any(colours <= set(group) for group in alike())
    return one.attributes.category != other.attributes.category and not is_alike


def _noun(product: SampleProduct) -> str:
    category = product.attributes.category
    words: dict[str, list[str]] = label_words("sample")["category"]
    return words.get(category, [category])[0]


def _counted(number: str, noun: str) -> str:
    """``one dress``, ``two dresses``, ``three pairs of boots``."""
    if is_plural(noun):
        return f"{number} pair{'' if number == 'one' else 's'} of {noun}"
    plural = "es" if noun.endswith(("s", "sh", "ch")) else "s"
    return f"{number} {noun}{'' if number == 'one' else plural}"


def _drawn(scenes: Sequence[Callable[[], Image.Image]]) -> list[bytes]:
    """Encoded pictures, drawn by several threads."""

    def encoded(draw: Callable[[], Image.Image]) -> bytes:
        file = io.BytesIO()
        draw().save(file, "jpeg", quality=90)
        return file.getvalue()

    with ThreadPoolExecutor() as pool:
        return list(pool.map(encoded, scenes))


def _side_by_side(products: Sequence[SampleProduct]) -> Image.Image:
    board = Image.new("RGB", (EDGE, EDGE), "white")
    for column, product in enumerate(products):
        image = generate_image(product.attributes, seed=product.seed)
        board.paste(image, (column * EDGE // 2, (EDGE - image.height) // 2))
    return board


def _in_cells(product: SampleProduct, cells: np.ndarray) -> Image.Image:
    board = Image.new("RGB", (EDGE, EDGE), "white")
    image = generate_image(product.attributes, seed=product.seed)
    width = EDGE // 3
    image = image.resize((width, width * image.height // image.width), Image.Resampling.LANCZOS)
    for cell in cells.tolist():
        board.paste(image, (cell * width, (EDGE - image.height) // 2))
    return board
