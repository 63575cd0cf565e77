"""What a benchmark is, and the steps that several of them share."""

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.tasks import ClassLabel, ImageRef, Task, WrongAttribute, ZeroShot

MIN_IMAGES = 10
"""Images that an attribute's word must be right for to be a class or a caption."""
_N_EXAMPLES = 3  # ids that a warning gives
_PLURAL_NOUNS = (
    *("jeans", "trousers", "shorts", "pants", "sunglasses", "leggings", "tights", "stockings"),
    *("socks", "shoes", "sandals", "heels", "gloves", "booties", "boots", "flops", "sneakers"),
    *("cufflinks", "earrings", "briefs", "capris", "jeggings", "trunks", "boxers", "pyjamas"),
    *("underpants", "flats", "trainers", "loafers", "slippers", "chinos", "joggers", "sweatpants"),
    *("pumps", "ballerinas", "shades"),
)
"""Nouns that are plural for one product."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A benchmark's tasks, and what was wrong with its files."""

    tasks: tuple[Task, ...]
    warnings: tuple[str, ...] = ()
    """One line each: how many rows or images were left out, and why."""


@runtime_checkable
class Benchmark(Protocol):
    """A data set with tasks."""

    name: str
    """As ``--on`` takes it: ``fmnist``."""
    title: str
    """In words: ``Fashion-MNIST, 10,000 test images``."""
    how_to_get: str
    """One line: where its owners publish it, and where its files go."""
    places: tuple[str, ...]
    """Folders that may hold it: names under the data folder, or absolute paths, in order. Empty for
    a benchmark without files."""

    def load(self, folder: Path) -> Loaded:
        """Read the files and make the tasks.

        Raises:
            BenchmarkError: files are missing, half unpacked or contradict each other.
        """


@cache
def label_words(benchmark: str) -> Mapping[str, Any]:
    """The section of ``words.toml`` for a benchmark."""
    text = files("fashionclip.evaluate.benchmarks").joinpath("words.toml").read_text("utf-8")
    section: dict[str, Any] = tomllib.loads(text)[benchmark]
    return section


def choose(n_all: int, n_chosen: int, *, seed: int = 0) -> Int[np.ndarray, " chosen"]:
    """Rows sampled without repetition, in ascending order; all rows if there are no more."""
    if n_all <= n_chosen:
        return np.arange(n_all)
    return np.sort(np.random.default_rng(seed).choice(n_all, n_chosen, replace=False))


def class_labels(
    names: Sequence[str], words: Mapping[str, Sequence[str]]
) -> tuple[ClassLabel, ...]:
    """Make the classes of a task.

    Args:
        names: as the data set writes them.
        words: the usual words for each, then synonyms. A name that is missing here stands for
            itself, in lower case. A synonym that belongs to two classes is dropped.
    """
    phrases = {name: tuple(words.get(name) or (name.casefold(),)) for name in names}
    n_classes = Counter(phrase for some in phrases.values() for phrase in set(some))
    return tuple(
        ClassLabel(name, first, tuple(phrase for phrase in others if n_classes[phrase] == 1))
        for name, (first, *others) in phrases.items()
    )


def zero_shot_task(
    name: str,
    classes: tuple[ClassLabel, ...],
    test: Sequence[tuple[ImageRef, str]],
    development: Sequence[tuple[ImageRef, str]],
    *,
    development_from: str,
    notes: tuple[str, ...],
) -> ZeroShot:
    """Make a classification of images with the names of their classes.

    Args:
        name: of the task.
        classes: in the order of the confusion matrix.
        test: images to classify.
        development: images to choose prompts on; may be empty.
        development_from: in words, where they come from.
        notes: of the task.
    """
    row = {label.name: number for number, label in enumerate(classes)}

    def rows_of(labelled: Sequence[tuple[ImageRef, str]]) -> np.ndarray:
        return np.array([row[label] for _, label in labelled], dtype=np.int64)

    return ZeroShot(
        name=name,
        classes=classes,
        images=tuple(image for image, _ in test),
        labels=rows_of(test),
        development=development_from if development else "",
        development_images=tuple(image for image, _ in development),
        development_labels=rows_of(development),
        notes=notes,
    )


def group_by(values: Sequence[str]) -> dict[str, Int[np.ndarray, " _"]]:
    """The rows of each value, in the order in which values first occur; empty values have none."""
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        if value:
            rows.setdefault(value, []).append(row)
    return {value: np.array(found) for value, found in rows.items()}


def has_file(image: ImageRef) -> bool:
    """Whether an image's file exists; other sources than local files are not checked."""
    return not isinstance(image.source, Path) or image.source.is_file()


def split_missing(
    images: Iterable[ImageRef], *, noun: str = "picture", why: str = "no such file"
) -> tuple[set[str], list[str]]:
    """Ids of images whose files do not exist, and a warning about them, if there are any."""
    missing = [image.image_id for image in images if not has_file(image)]
    return set(missing), [left_out(missing, noun, why)] if missing else []


def left_out(names: Sequence[str], noun: str, why: str) -> str:
    """A warning: ``4 pictures left out: their files are missing (a, b, c, …)``."""
    shown = ", ".join(names[:_N_EXAMPLES]) + (", …" if len(names) > _N_EXAMPLES else "")
    if len(names) != 1:
        noun = noun.removesuffix("y") + "ies" if noun.endswith("y") else noun + "s"
    return f"{len(names):,} {noun} left out: {why} ({shown})"


def refuse(benchmark: Benchmark, problem: str) -> NoReturn:
    """Refuse a benchmark's files: what is wrong with them, and how to get the benchmark.

    Raises:
        BenchmarkError: always.
    """
    message = f"{benchmark.name}: {problem}; {benchmark.how_to_get}"
    raise BenchmarkError(message)


def wrong_attribute_task(
    name: str,
    attribute: str,
    known: Sequence[tuple[ImageRef, str, str]],
    *,
    alike: Iterable[Sequence[str]] = (),
    min_images: int = MIN_IMAGES,
    notes: tuple[str, ...] = (),
) -> WrongAttribute | None:
    """Make a task of images whose garment and attribute are known.

    A caption is the attribute's word and the garment: ``a red t-shirt``. The wrong words are those
    that are right for other images of the same garment.

    Args:
        name: of the task.
        attribute: what is changed: ``colour``.
        known: image, garment and the attribute's word.
        alike: groups of words that people use for each other, which are never wrong for another.
        min_images: images that a word must be right for.
        notes: of the task.

    Returns:
        The task; None if no image has a wrong word.
    """
    wrong = wrong_words(
        [(garment, word) for _, garment, word in known], alike=alike, min_images=min_images
    )
    kept = [(i, garment, word) for i, garment, word in known if wrong.get((garment, word))]
    if not kept:
        return None
    note = (
        f"{len(kept):,} of {len(known):,} pictures whose {attribute} is known. The wrong words are "
        "those of other pictures of the same kind of garment, except words that are right for "
        f"fewer than {min_images} pictures and words that people use for each other."
    )
    return WrongAttribute(
        name=name,
        attribute=attribute,
        images=tuple(image for image, _, _ in kept),
        values=tuple(word for _, _, word in kept),
        right=tuple(caption_of(word, garment) for _, garment, word in kept),
        wrong=tuple(
            tuple(caption_of(other, garment) for other in wrong[garment, word])
            for _, garment, word in kept
        ),
        notes=(note, *notes),
    )


def wrong_words(
    known: Sequence[tuple[str, str]],
    *,
    alike: Iterable[Sequence[str]] = (),
    min_images: int = MIN_IMAGES,
) -> dict[tuple[str, str], list[str]]:
    """The words that are wrong for an image, by its garment and its right word.

    They are those that are right for other images of the same garment.

    Args:
        known: garment and the attribute's word, for each image.
        alike: groups of words that people use for each other, which are never wrong for another.
        min_images: images that a word must be right for.
    """
    counts = Counter(word for _, word in known)
    words_of: dict[str, set[str]] = {}
    for garment, word in known:
        if counts[word] >= min_images:
            words_of.setdefault(garment, set()).add(word)
    groups = [set(words) for words in alike]
    return {
        (garment, word): sorted(
            other
            for other in words
            if other != word and not any(word in group and other in group for group in groups)
        )
        for garment, words in words_of.items()
        for word in words
    }


def is_plural(words: str) -> bool:
    """Whether words for one product are plural: ``sports shoes``."""
    return words.rpartition(" ")[2].rpartition("-")[2] in _PLURAL_NOUNS


def caption_of(word: str, garment: str) -> str:
    """A garment with one of its attributes: ``a red t-shirt``, ``an orange cap``, ``red shoes``."""
    article = "" if is_plural(garment) else "an " if word[0] in "aeiou" else "a "
    return f"{article}{word} {garment}"
