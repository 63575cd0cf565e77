"""What a benchmark asks of a model: five kinds of task, each plain data.

A benchmark reads its files and makes tasks; a scorer of the same kind turns a task and a model's
vectors into figures. Neither knows the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One picture of a benchmark."""

    picture_id: str
    """Unique within its task, and the same in every run: results of two models are paired by it."""
    source: str | Path | bytes | np.ndarray
    """A path or URL, the encoded picture, or pixels (uint8, ``(h, w)`` or ``(h, w, 3)``)."""
    caption: str = ""
    """The picture's own words, if it has any: for the leakage check, and for documents of picture
    and text."""


@dataclass(frozen=True, slots=True)
class ClassLabel:
    """One class that pictures are sorted into."""

    name: str
    """As the data set writes it: ``T-shirt/top``."""
    words: str
    """As a person would say it in a sentence, without an article: ``t-shirt``."""
    synonyms: tuple[str, ...] = ()
    """Other words for the same class; never another class's words."""


def _no_labels() -> np.ndarray:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class ZeroShot:
    """Sort pictures into classes by their names alone."""

    name: str
    """Benchmark and question: ``kagl/article-type``."""
    classes: tuple[ClassLabel, ...]
    pictures: tuple[Picture, ...]
    labels: Int[np.ndarray, " picture"]
    """Row of ``classes`` for each picture."""
    development: str = ""
    """In words, where the development pictures come from; empty if there are none."""
    development_pictures: tuple[Picture, ...] = ()
    development_labels: Int[np.ndarray, " development"] = field(default_factory=_no_labels)
    notes: tuple[str, ...] = ()
    """What a reader must know: cuts, how pictures were changed, what was left out and why."""


@dataclass(frozen=True, slots=True, eq=False)
class Retrieval:
    """Find pictures by words."""

    name: str
    queries: tuple[str, ...]
    documents: tuple[Picture, ...]
    relevant: tuple[Int[np.ndarray, " _"], ...]
    """For each query the rows of ``documents`` that answer it, at least one. Products with the same
    caption, other views and colourways of one product are all relevant to it."""
    figures: tuple[str, ...] = ("mrr@10", "recall@1", "recall@10")
    """Names of the metrics to report, the first being the task's headline."""
    image_weight: float = 1.0
    """Documents are ``unit(w * picture + (1 - w) * caption)``, both of unit length; 1 leaves the
    captions out."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Garment:
    """A picture with what is known of the garment on it."""

    picture: Picture
    category: str
    attributes: frozenset[str] = frozenset()
    """Such as ``{"colour: red", "sleeve: long"}``."""


@dataclass(frozen=True, slots=True, eq=False)
class PictureToPicture:
    """Find pictures of the same kind of garment by a picture."""

    name: str
    queries: tuple[Garment, ...]
    documents: tuple[Garment, ...]
    """A document with the query's own ``picture_id`` is left out of that query's ranking."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """Learn classes by a linear classifier on frozen vectors: from all pictures, and from few."""

    name: str
    classes: tuple[ClassLabel, ...]
    training_pictures: tuple[Picture, ...]
    training_labels: Int[np.ndarray, " training"]
    pictures: tuple[Picture, ...]
    labels: Int[np.ndarray, " picture"]
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Pictures a class that the few-shot probes learn from."""
    seeds: int = 5
    """How many draws of those pictures each few-shot figure is the mean of."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class WrongAttribute:
    """Does the right caption win against the same caption with one word changed?"""

    name: str
    attribute: str
    """What is changed: ``colour``."""
    pictures: tuple[Picture, ...]
    values: tuple[str, ...]
    """The right value of each picture: ``red``."""
    right: tuple[str, ...]
    """The right caption of each picture: ``a red t-shirt``."""
    wrong: tuple[tuple[str, ...], ...]
    """For each picture, captions that differ in the attribute alone: ``a blue t-shirt``, …"""
    notes: tuple[str, ...] = ()


Task = ZeroShot | Retrieval | PictureToPicture | Probe | WrongAttribute


@runtime_checkable
class Vectors(Protocol):
    """A model's vectors for pictures and words, from wherever they come."""

    dim: int
    logit_scale: float
    """What a cosine is multiplied by before a softmax."""

    def pictures(self, pictures: Sequence[Picture]) -> Float[np.ndarray, "picture dim"]:
        """Unit vectors of pictures, float32; a row of NaN for a picture that cannot be read."""

    def texts(
        self, texts: Sequence[str], *, templates: str | Sequence[str] | None = None
    ) -> Float[np.ndarray, "text dim"]:
        """Unit vectors of texts, float32; with templates, the unit mean of each text's prompts."""
