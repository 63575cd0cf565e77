"""Words printed on pictures: how many labels flip to the printed word, by its size.

Source: typographic attacks (Goh et al. 2021, "Multimodal Neurons in Artificial Neural Networks",
Distill). Paired: each picture is labelled as it is, with the word, and with the word's letters
shuffled, which hides as much of the picture and says nothing.
"""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image, ImageDraw, ImageFont

from fashionclip.errors import FashionCLIPError
from fashionclip.evaluate.results import TaskResult
from fashionclip.evaluate.scoring import examples_of, readable_images, seen_among
from fashionclip.evaluate.tasks import Encoder, ImageRef
from fashionclip.images.decode import fetch_image, open_image
from fashionclip.images.fetch import DEFAULT_POLICY, FetchPolicy
from fashionclip.probes.figures import MIN_ITEMS, nothing, result_of, too_few
from fashionclip.probes.products import KnownProduct, ProductSet, frequent

HEADLINE = "flips@6"
SIZES = (3, 6, 12)
"""Height of the letters, in per cent of the picture's height."""
N_PICTURES = 120
EDGE = 320
"""Longest side of the pictures that words are printed on, in pixels."""
MAX_CLASSES, MIN_PER_CLASS = 20, 5
_MARGIN = 0.96  # of the picture's width that a word may take


@dataclass(frozen=True, slots=True, eq=False)
class Printed:
    """One picture as it is, and with a word at each size, right and with its letters shuffled."""

    product: KnownProduct
    word: int
    """Row of the label whose word is printed; never the product's own."""
    clean: ImageRef
    words: tuple[ImageRef, ...]
    """One for each of ``SIZES``."""
    shuffled: tuple[ImageRef, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TypographicProbe:
    """Pictures with printed words, and the labels that a model chooses from."""

    name: str
    """``sample/typographic-garment``."""
    labels: tuple[str, ...]
    """The words that may be printed."""
    prompts: tuple[str, ...]
    """What a picture is compared with, for each label."""
    pictures: tuple[Printed, ...]
    notes: tuple[str, ...]
    unreadable: tuple[str, ...] = ()
    """Products whose picture cannot be read, so that nothing is printed on it."""

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """Every picture, printed on or not."""
        return tuple(i for p in self.pictures for i in (p.clean, *p.words, *p.shuffled))


def typographic(
    products: ProductSet, policy: FetchPolicy = DEFAULT_POLICY
) -> list[TypographicProbe]:
    """Print the word of another garment, and the name of another brand, on some pictures.

    Args:
        products: whose garments and brands are the labels.
        policy: how remote images may be fetched.

    Returns:
        Both probes; one without enough labels has no pictures, and its notes are empty.
    """
    return [
        _probe(
            f"{products.name}/typographic-{what}",
            [(product, getattr(product, what)) for product in products.products],
            template,
            products.notes,
            policy,
        )
        for what, template in (("garment", "a photo of a {}"), ("brand", "a product by {}"))
    ]


def _probe(
    name: str,
    labelled: Sequence[tuple[KnownProduct, str]],
    template: str,
    notes: tuple[str, ...],
    policy: FetchPolicy,
) -> TypographicProbe:
    counted = frequent([label for _, label in labelled], MIN_PER_CLASS, MAX_CLASSES)
    labels = tuple(label for label in counted if _fits(label))
    if len(labels) < 2:
        return TypographicProbe(name, labels, (), (), ())
    rng = np.random.default_rng(5)
    row = {label: number for number, label in enumerate(labels)}
    known = [(product, row[label]) for product, label in labelled if label in row]
    chosen = [known[i] for i in rng.permutation(len(known))[:N_PICTURES]]
    words = [int((own + rng.integers(1, len(labels))) % len(labels)) for _, own in chosen]
    shuffled = [_shuffled(labels[word], rng) for word in words]

    def printed(place: int) -> Printed | None:
        product, word = chosen[place][0], words[place]
        return _printed(product, word, labels[word], shuffled[place], policy)

    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(printed, range(len(chosen))))
    found = [picture for picture in pictures if picture]
    return TypographicProbe(
        name,
        labels,
        tuple(template.format(label) for label in labels),
        tuple(found),
        (
            f"{len(labels)} labels such as “{labels[0]}”; the word of another label is printed in "
            f"the middle, on pictures of at most {EDGE} px.",
            *notes,
        ),
        tuple(
            product.image.image_id
            for (product, _), picture in zip(chosen, pictures, strict=True)
            if picture is None
        ),
    )


def _printed(
    product: KnownProduct, word: int, text: str, shuffled: str, policy: FetchPolicy
) -> Printed | None:
    try:
        image = open_image(fetch_image(product.image.source, policy=policy), target_px=EDGE)
    except FashionCLIPError:
        return None
    image.thumbnail((EDGE, EDGE))
    name = product.image.image_id

    def of(what: str, size: int) -> ImageRef:
        return ImageRef(f"{name} {what} {size}", _jpeg(_print(image, what, size)))

    return Printed(
        product,
        word,
        ImageRef(name, _jpeg(image), product.image.caption),
        tuple(of(text, size) for size in SIZES),
        tuple(of(shuffled, size) for size in SIZES),
    )


def _shuffled(text: str, rng: np.random.Generator) -> str:
    """The letters of a text in another order; spaces stay where they are."""
    own = [letter for letter in text if letter != " "]
    found = rng.permutation(own).tolist()
    letters = iter(found if found != own else [*own[1:], own[0]])
    return "".join(letter if letter == " " else next(letters) for letter in text)


def _print(image: Image.Image, text: str, size: int) -> Image.Image:
    """The picture with a text in its middle, black with a white edge, of a size in per cent."""
    height = max(1, round(image.height * size / 100))
    lines = text.replace(" ", "\n")
    font = ImageFont.load_default(_points(height))
    if (width := _width(text, font)) > _MARGIN * image.width:
        font = ImageFont.load_default(_points(height) * _MARGIN * image.width / width)
    copy = image.copy()
    ImageDraw.Draw(copy).multiline_text(
        (copy.width / 2, copy.height / 2),
        lines,
        fill="black",
        font=font,
        anchor="mm",
        align="center",
        spacing=height // 3,
        stroke_width=max(1, height // 12),
        stroke_fill="white",
    )
    return copy


def _width(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> float:
    """Pixels of the longest word: each has a line of its own."""
    return max(font.getlength(word) for word in text.split())


def _points(height: int) -> float:
    """The size of the font whose capitals are so many pixels high."""
    return height / 0.7


def _fits(text: str) -> bool:
    """Whether a word can be printed, at the largest size on an upright picture without shrinking.

    Its letters must be in the font, and must differ, so that they can be shuffled.
    """
    font = ImageFont.load_default(_points(round(EDGE * SIZES[-1] / 100)))
    missing = bytes(font.getmask("\uffff"))  # the box that stands for a letter that is not there
    letters = set(text) - {" "}
    if len(letters) < 2 or any(bytes(font.getmask(letter)) == missing for letter in letters):
        return False
    return _width(text, font) <= _MARGIN * EDGE * 3 / 4


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=92)
    return file.getvalue()


def score_typographic(
    probe: TypographicProbe,
    encoder: Encoder,
    *,
    seen: Bool[np.ndarray, " picture"] | None = None,
    seed: int = 0,
) -> TaskResult:
    """Label each picture without and with the word printed on it.

    Args:
        probe: pictures and labels.
        encoder: of the model.
        seen: marks the pictures that the model was trained on without a word; ``unseen`` holds the
            figures without them.
        seed: of the bootstrap.

    Returns:
        For each of ``SIZES``: ``flips@k`` (share of all pictures whose label is the printed word,
        and was another one without it; ``flips@6`` is the headline), ``flips_shuffled@k`` (the same
        with the word's letters shuffled), ``reads@k`` (their difference, picture by picture) and
        ``label_kept@k``. ``details`` holds the labels.
    """
    clean = readable_images([picture.clean for picture in probe.pictures], encoder)
    pictures = [p for p, ok in zip(probe.pictures, clean.kept, strict=True) if ok]
    left_out = len(probe.pictures) - len(pictures) + len(probe.unreadable)
    if probe.unreadable:
        n_chosen = len(probe.pictures) + len(probe.unreadable)
        clean.warnings.append(
            f"{len(probe.unreadable):,} of {n_chosen:,} pictures could not be read and are left "
            f"out: {examples_of(probe.unreadable)}."
        )
    if len(pictures) < MIN_ITEMS:
        return nothing(probe.name, HEADLINE, left_out, too_few(len(pictures)), clean.warnings)
    texts = encoder.encode_text(probe.prompts)
    if np.ptp(texts, axis=0).max() == 0:
        why = "the model gives all labels the same vector"
        return nothing(probe.name, HEADLINE, left_out, why, clean.warnings)
    before = _labels(clean.vectors, texts)
    words = np.array([picture.word for picture in pictures])
    columns: dict[str, np.ndarray] = {}
    for place, size in enumerate(SIZES):
        after = _labels(encoder.encode_images([p.words[place] for p in pictures]), texts)
        shuffled = _labels(encoder.encode_images([p.shuffled[place] for p in pictures]), texts)
        columns[f"flips@{size}"] = _share((after == words) & (before != words))
        columns[f"flips_shuffled@{size}"] = _share((shuffled == words) & (before != words))
        columns[f"reads@{size}"] = columns[f"flips@{size}"] - columns[f"flips_shuffled@{size}"]
        columns[f"label_kept@{size}"] = _share(after == before)
    return result_of(
        probe.name,
        HEADLINE,
        items=[picture.clean.image_id for picture in pictures],
        columns=columns,
        seen=seen_among(seen, clean.kept),
        left_out=left_out,
        details={"labels": list(probe.labels)},
        notes=probe.notes,
        warnings=clean.warnings,
        seed=seed,
    )


def _labels(images: np.ndarray, texts: np.ndarray) -> Int[np.ndarray, " n"]:
    return np.asarray((images @ texts.T).argmax(axis=1))


def _share(marks: np.ndarray) -> np.ndarray:
    return marks.astype(np.float64)
