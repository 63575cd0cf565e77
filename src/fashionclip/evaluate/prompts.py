"""Prompts: class names as texts by templates; which of six combinations suits a model best.

From the simplest: the bare label, one template, an ensemble of templates, the ensemble with and
without full stops, and the last two over every synonym. The style is chosen on development images.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Int

from fashionclip.engines.io import to_unit
from fashionclip.evaluate.results import Figure
from fashionclip.evaluate.scoring import label_figures
from fashionclip.evaluate.tasks import ClassLabel, Encoder
from fashionclip.text.captions import PROMPT_TEMPLATES
from fashionclip.text.captions import prompts as fill_in

BARE, PRODUCT, ENSEMBLE, SENTENCES = "bare", "product", "ensemble", "sentences"
SYNONYMS, SYNONYM_SENTENCES = "synonyms", "synonym-sentences"
STYLES = (BARE, PRODUCT, ENSEMBLE, SENTENCES, SYNONYMS, SYNONYM_SENTENCES)
"""The styles, the simplest first."""
DEFAULT_STYLE = ENSEMBLE
"""Used where there are no development images."""

_OVER_SYNONYMS: Mapping[str, str] = MappingProxyType(
    {SYNONYMS: ENSEMBLE, SYNONYM_SENTENCES: SENTENCES}
)
_Change = Callable[[ClassLabel], ClassLabel]


def check_style(style: str) -> None:
    """Refuse an unknown style.

    Raises:
        ValueError: it is none of ``STYLES``.
    """
    if style not in STYLES:
        message = f"there is no style of prompts {style!r}; the styles are {', '.join(STYLES)}"
        raise ValueError(message)


def class_prompts(label: ClassLabel, style: str) -> list[str]:
    """The prompts whose mean vector stands for a class.

    Bare, product, ensemble and sentences fill ``PROMPT_TEMPLATES`` of ``text.captions`` with the
    class's words, as ``FashionCLIP.classify`` does, so that both give the same labels. Synonyms
    fills the templates of the ensemble, and synonym-sentences those of sentences, with the words
    and every synonym.

    Raises:
        ValueError: an unknown style.
    """
    check_style(style)
    templates = PROMPT_TEMPLATES[_OVER_SYNONYMS.get(style, style)]
    phrases = (label.words, *label.synonyms) if style in _OVER_SYNONYMS else (label.words,)
    return [prompt for phrase in phrases for prompt in fill_in(phrase, templates)]


def class_vectors(
    classes: Sequence[ClassLabel], style: str, encoder: Encoder
) -> Float[np.ndarray, "c d"]:
    """A unit vector for each class: the mean of its prompts' unit vectors, of length 1 again.

    Raises:
        ValueError: an unknown style.

    Source: Radford et al. 2021, arXiv 2103.00020, section 3.1.4 (ensembling in embedding space).
    """
    return _mean_vectors([class_prompts(label, style) for label in classes], encoder)


def changed_vectors(
    classes: Sequence[ClassLabel], style: str, encoder: Encoder
) -> dict[str, Float[np.ndarray, "c d"]]:
    """Vectors of the classes after a small change of their words, by the name of the change.

    ``full stop`` ends every prompt with one; ``plural`` writes ``dresses``, ``capital`` ``Dress``;
    ``synonym`` uses the synonyms alone, the first in place of the words. A class that a change does
    not affect keeps its prompts, and a change that affects no class is left out.

    Raises:
        ValueError: an unknown style.
    """
    plain = [class_prompts(label, style) for label in classes]
    stopped = [[f"{prompt.removesuffix('.')}." for prompt in prompts] for prompts in plain]
    changed = {"full stop": stopped}
    for name, change in _CHANGES.items():
        changed[name] = [_changed_prompts(label, style, name, change) for label in classes]
    return {
        name: _mean_vectors(prompts, encoder)
        for name, prompts in changed.items()
        if prompts != plain
    }


def usable_styles(classes: Sequence[ClassLabel]) -> tuple[str, ...]:
    """The styles that differ: without any synonym, ``synonyms`` would be the ensemble again."""
    has_synonyms = any(label.synonyms for label in classes)
    return tuple(style for style in STYLES if has_synonyms or style not in _OVER_SYNONYMS)


def style_scores(
    classes: Sequence[ClassLabel],
    images: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    encoder: Encoder,
    *,
    styles: Sequence[str] = STYLES,
) -> dict[str, Figure]:
    """Weighted F1 of each style with its interval, on images given as unit vectors.

    Raises:
        ValueError: an unknown style, or a label without a class.
    """
    found = {}
    for style in styles:
        predicted = np.argmax(images @ class_vectors(classes, style, encoder).T, axis=1)
        figures = label_figures(labels, predicted, len(classes), ("weighted_f1",), seed=0)
        found[style] = figures["weighted_f1"]
    return found


def choose_style(scores: Mapping[str, Figure]) -> str:
    """The style with the best development score; of equal ones the simpler.

    Args:
        scores: weighted F1 on development images by style, the simplest style first.
    """
    return max(scores, key=lambda style: scores[style].value)


def plural(words: str) -> str:
    """The plural of English words for a garment: ``dress`` to ``dresses``.

    Plural words (``trousers``), mass nouns (``knitwear``) and adjectives (``striped``) stay as they
    are, and so does what follows a preposition: ``sets of clothes``.
    """
    head, preposition, rest = words, "", ""
    for between in _PREPOSITIONS:
        before, found, after = words.partition(f" {between} ")
        if found and len(before) < len(head):
            head, preposition, rest = before, found, after
    for joint in (" or ", " and "):
        if joint in head:
            return joint.join(plural(part) for part in head.split(joint)) + preposition + rest
    *front, last = head.split(" ")
    return " ".join([*front, _plural_word(last)]) + preposition + rest


_PREPOSITIONS = ("with", "without", "of", "for", "on", "in", "from")
_UNCHANGED_ENDINGS = ("wear", "ed", "less")  # swimwear, striped, sleeveless


@cache
def _plurals() -> tuple[dict[str, str], frozenset[str]]:
    """Irregular plurals, and words without a plural."""
    text = files("fashionclip.evaluate").joinpath("plurals.toml").read_text("utf-8")
    words = tomllib.loads(text)
    return words["irregular"], frozenset((*words["colours"], *words["others_without_plural"]))


def _plural_word(word: str) -> str:
    plain = word.casefold()
    irregular, without_plural = _plurals()
    if plain in irregular:
        return word[:1] + irregular[plain][1:]
    is_plural = plain.endswith("s") and not plain.endswith("ss")
    if not word or is_plural or plain in without_plural or plain.endswith(_UNCHANGED_ENDINGS):
        return word
    if plain.endswith(("ch", "sh", "ss", "x", "z")):
        return f"{word}es"
    if plain.endswith("y") and not plain.endswith(("ay", "ey", "oy", "uy")):
        return f"{word[:-1]}ies"
    return f"{word}s"


def _in_plural(label: ClassLabel) -> ClassLabel:
    synonyms = tuple(plural(synonym) for synonym in label.synonyms)
    return replace(label, words=plural(label.words), synonyms=synonyms)


def _with_capital(label: ClassLabel) -> ClassLabel:
    words, *synonyms = (s[:1].upper() + s[1:] for s in (label.words, *label.synonyms))
    return replace(label, words=words, synonyms=tuple(synonyms))


def _by_synonym(label: ClassLabel) -> ClassLabel:
    if not label.synonyms:
        return label
    return replace(label, words=label.synonyms[0], synonyms=label.synonyms[1:])


_CHANGES: Mapping[str, _Change] = MappingProxyType(
    {"plural": _in_plural, "capital": _with_capital, "synonym": _by_synonym}
)


def _changed_prompts(label: ClassLabel, style: str, name: str, change: _Change) -> list[str]:
    before, after = class_prompts(label, style), class_prompts(change(label), style)
    if name != "plural":
        return after
    # "a photo of a dress" becomes "a photo of dresses"; what did not change keeps its article
    return [
        new if new == old else new.replace("photo of a ", "photo of ", 1)
        for old, new in zip(before, after, strict=True)
    ]


def _mean_vectors(prompts: Sequence[Sequence[str]], encoder: Encoder) -> Float[np.ndarray, "c d"]:
    encoded = encoder.encode_text([prompt for some in prompts for prompt in some])
    starts = np.cumsum([0, *(len(some) for some in prompts[:-1])])
    return to_unit(np.add.reduceat(encoded, starts, axis=0))  # a sum points where the mean does
