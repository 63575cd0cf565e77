"""The five kinds of task, each plain data.

A benchmark reads its files and makes tasks. A scorer of the same kind turns a task and a model's
vectors into figures. Neither depends on the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, slots=True, eq=False)
class ImageRef:
    """One image of a benchmark: its id, where it is, and its caption."""

    image_id: str
    """Unique within its task, and the same in every run: results of two models are paired by it."""
    source: str | Path | bytes | np.ndarray
    """A path or URL, the encoded image, or pixels (uint8, ``(h, w)`` or ``(h, w, 3)``)."""
    caption: str = ""
    """For the leakage check, and for documents of image and text."""


@dataclass(frozen=True, slots=True)
class ClassLabel:
    """One class of a classification."""

    name: str
    """As the data set writes it: ``T-shirt/top``."""
    words: str
    """As in a sentence, without "a": ``t-shirt``."""
    synonyms: tuple[str, ...] = ()
    """Other words for the same class; never another class's words."""


def _no_labels() -> np.ndarray:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class ZeroShot:
    """Classify images by the names of the classes alone."""

    name: str
    """Benchmark and question: ``kagl/article-type``."""
    classes: tuple[ClassLabel, ...]
    images: tuple[ImageRef, ...]
    labels: Int[np.ndarray, " image"]
    """Row of ``classes`` for each image."""
    development: str = ""
    """In words, where the development images come from; empty if there are none."""
    development_images: tuple[ImageRef, ...] = ()
    development_labels: Int[np.ndarray, " development"] = field(default_factory=_no_labels)
    notes: tuple[str, ...] = ()
    """What a reader must know: cuts, how images were changed, what was left out and why."""


@dataclass(frozen=True, slots=True, eq=False)
class Retrieval:
    """Find images by text."""

    name: str
    queries: tuple[str, ...]
    documents: tuple[ImageRef, ...]
    relevant: tuple[Int[np.ndarray, " _"], ...]
    """For each query the rows of ``documents`` that answer it, at least one. Products with the same
    caption, other views and colourways of one product are all relevant to it."""
    figures: tuple[str, ...] = ("mrr@10", "recall@1", "recall@10")
    """Names of the metrics to report, the task's headline first."""
    image_weight: float = 1.0
    """Documents are ``unit(w * image + (1 - w) * caption)``, both of unit length; 1 leaves the
    captions out."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Garment:
    """An image with what is known of the garment on it."""

    image: ImageRef
    category: str
    attributes: frozenset[str] = frozenset()
    """Such as ``{"colour: red", "sleeve: long"}``."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageToImage:
    """Find images of the same kind of garment by an image."""

    name: str
    queries: tuple[Garment, ...]
    documents: tuple[Garment, ...]
    """A document with the query's own ``image_id`` is left out of that query's ranking."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """Learn classes by a linear classifier on frozen vectors: from all images, and from few."""

    name: str
    classes: tuple[ClassLabel, ...]
    training_images: tuple[ImageRef, ...]
    training_labels: Int[np.ndarray, " training"]
    images: tuple[ImageRef, ...]
    labels: Int[np.ndarray, " image"]
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Images per class that the few-shot probes learn from."""
    seeds: int = 5
    """Number of samples of those images that each few-shot figure is the mean of."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class WrongAttribute:
    """Compare the right caption with the same caption with one word changed."""

    name: str
    attribute: str
    """What is changed: ``colour``."""
    images: tuple[ImageRef, ...]
    values: tuple[str, ...]
    """The right value of each image: ``red``."""
    right: tuple[str, ...]
    """The right caption of each image: ``a red t-shirt``."""
    wrong: tuple[tuple[str, ...], ...]
    """For each image, captions that differ in the attribute alone: ``a blue t-shirt``, …"""
    notes: tuple[str, ...] = ()


Task = ZeroShot | Retrieval | ImageToImage | Probe | WrongAttribute


@runtime_checkable
class Encoder(Protocol):
    """Vectors of images and texts, from a model, a cache or a test."""

    dim: int
    logit_scale: float
    """Factor of a cosine before a softmax."""

    def encode_images(self, images: Sequence[ImageRef]) -> Float[np.ndarray, "image dim"]:
        """Unit vectors of images, float32; a row of NaN for an image that cannot be read."""

    def encode_text(
        self, texts: Sequence[str], *, templates: str | Sequence[str] | None = None
    ) -> Float[np.ndarray, "text dim"]:
        """Unit vectors of texts, float32; with templates, the unit mean of each text's prompts."""


def images_of(task: Task) -> tuple[ImageRef, ...]:
    """Every image that a task needs the vector of."""
    match task:
        case ZeroShot():
            return (*task.images, *task.development_images)
        case Retrieval():
            return task.documents
        case ImageToImage():
            return tuple(garment.image for garment in (*task.queries, *task.documents))
        case Probe():
            return (*task.training_images, *task.images)
        case WrongAttribute():
            return task.images


def scored_images(task: Task) -> Sequence[ImageRef]:
    """The images that a task's figures are about: the leakage check compares them."""
    match task:
        case ZeroShot() | Probe() | WrongAttribute():
            return task.images
        case Retrieval():
            return task.documents
        case ImageToImage():
            return [garment.image for garment in task.queries]
