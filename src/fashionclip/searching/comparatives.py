"""Changes as people write them, ``darker`` or ``long skirt / short skirt``, as pairs of texts."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MAX_NOUN_WORDS = 4
_SIDES = re.compile(r"\s+/\s+|^/\s*|\s*/$|\s*(?:->|→)\s*")
"""A slash between two words is part of them: "w/o sleeves"."""
_DEGREES = {
    0.5: ("slightly", "a bit", "a little bit", "a little", "a touch", "somewhat", "a shade"),
    2.0: ("much", "a lot", "lots", "far", "way", "very much", "considerably"),
}
_PLAIN_DEGREES = ("even", "rather", "still", "just", "a tad")
_LEADING = re.compile(r"^(?:but|and|with|in|of|make it|only)\s+")
_TRAILING = re.compile(r"(?:\s+(?:please|than (?:this|that|these|those|it|here)(?: one)?))+$")
_ARTICLES = frozenset({"a", "an", "the", "its", "with", "in", "of", "some"})
_EMPTY_NOUNS = frozenset(
    {"one", "ones", "piece", "item", "version", "garment", "clothes", "clothing", "product"}
)
_SEPARATE = frozenset(
    {"but", "and", "or", "not", "never", "more", "less", "without", "no", "than", "by", "make"}
)
"""Words of which no noun has one: another change begins, or a sentence."""
_NOUN_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*(?:\Ws)?")
_OPPOSITE = re.compile(r"^(?:not (?:so|as|too|that|very|quite)|not|less|too)$")


@dataclass(frozen=True, slots=True)
class Change:
    """One way in which hits should differ from the start of a search."""

    text: str
    """As it was asked for."""
    pairs: tuple[tuple[str, str], ...]
    """What it leads from, and what it leads to; of several pairs one counts."""
    kinds: tuple[tuple[str, tuple[str, str]], ...] = ()
    """Kinds of product that have a pair of their own, "skirt", and that pair."""
    degree: float = 1.0
    """0.5 for "slightly", 2 for "much"."""


@dataclass(frozen=True, slots=True)
class _Word:
    """An adjective or comparative of the table."""

    scale: int
    is_high: bool


@dataclass(frozen=True, slots=True)
class _Scale:
    low: str
    high: str
    pairs: tuple[tuple[str, str], ...]
    kinds: tuple[tuple[str, tuple[str, str]], ...]
    nouns: frozenset[str]
    unlike: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Table:
    scales: tuple[_Scale, ...]
    adjectives: dict[str, _Word]
    comparatives: dict[str, _Word]
    kinds: tuple[str, ...]


def read_change(text: str) -> Change:
    """A change as people write it.

    Args:
        text: a pair, ``long skirt / short skirt``, or a comparative: ``longer``, ``shorter
            sleeves``, ``much darker``, ``less formal``, ``not so bright``, ``too short``.

    Raises:
        ValueError: it is empty, both sides of a pair are the same, or it is no comparative of
            ``comparatives.toml``; the message has those that are known.
    """
    words = " ".join(text.split())
    sides = _SIDES.split(words)
    if not words:
        message = "a change is empty: write one such as 'darker', or 'long skirt / short skirt'"
        raise ValueError(message)
    if len(sides) > 1:
        return Change(words, (_pair(words, sides),))
    return _comparative(words)


def known_changes() -> list[str]:
    """A comparative for each end of each scale, such as ``shorter`` and ``longer``."""
    shown: dict[tuple[int, bool], str] = {}
    for words in (_table().comparatives, {f"more {a}": w for a, w in _table().adjectives.items()}):
        for name, word in words.items():
            shown.setdefault((word.scale, word.is_high), name)
    return [shown[key] for key in sorted(shown)]


def product_kinds() -> tuple[str, ...]:
    """The kinds of product that starts are told apart by, such as ``skirt`` and ``watch``."""
    return _table().kinds


def _pair(text: str, sides: Sequence[str]) -> tuple[str, str]:
    if len(sides) != 2 or not all(sides):
        message = f"{text!r:.80} is no pair: write from and to, such as 'long skirt / short skirt'"
        raise ValueError(message)
    before, after = sides
    if before.casefold() == after.casefold():
        message = f"{text!r:.80} changes nothing: from and to are the same"
        raise ValueError(message)
    return before, after


def _comparative(text: str) -> Change:
    degree, words = _degree(_bare(text))
    table = _table()
    for start in range(len(words)):
        for end in range(len(words), start, -1):
            found = _end_of_scale(" ".join(words[start:end]), table)
            if found is None:
                continue
            scale = table.scales[found.scale]
            degree_before, before = _degree(words[:start])
            noun = [one for one in (*before, *words[end:]) if one not in _ARTICLES]
            if not table.comparatives.keys().isdisjoint(noun):
                raise ValueError(_not_understood(text))
            pairs, kinds = _pairs(scale, noun, text)
            if not found.is_high:
                pairs = tuple((high, low) for low, high in pairs)
                kinds = tuple((kind, (high, low)) for kind, (low, high) in kinds)
            return Change(text, pairs, kinds, degree * degree_before)
    message = (
        f"no change is known as {text!r:.60}: write from and to, such as 'long skirt / short "
        f"skirt', or one of {', '.join(known_changes())}"
    )
    raise ValueError(message)


def _bare(text: str) -> list[str]:
    """Its words, less those that say nothing."""
    plain = " ".join(re.sub(r"[.,;:!?\"]", " ", text.casefold()).split())
    while (left := _TRAILING.sub("", _LEADING.sub("", plain))) != plain:
        plain = left
    return plain.split()


def _degree(words: Sequence[str]) -> tuple[float, list[str]]:
    """How much of a change words ask for, and the words without it."""
    text = f" {' '.join(words)} "
    found = 1.0
    for degree, names in (*_DEGREES.items(), (1.0, _PLAIN_DEGREES)):
        for name in names:
            if f" {name} " in text:
                text = text.replace(f" {name} ", " ", 1)
                found *= degree
    return found, text.split()


def _end_of_scale(phrase: str, table: _Table) -> _Word | None:
    """Which end of which scale a phrase leads to."""
    if phrase in table.comparatives:
        return table.comparatives[phrase]
    how, _, adjective = phrase.rpartition(" ")
    word = table.adjectives.get(adjective)
    if word is not None and how == "more":
        return word
    if word is not None and _OPPOSITE.match(how):
        return _Word(word.scale, not word.is_high)
    return None


def _pairs(
    scale: _Scale, noun: Sequence[str], text: str
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, tuple[str, str]], ...]]:
    """The pairs of a scale, and those of kinds: of the table, or a noun at both ends.

    Raises:
        ValueError: what should be a noun is more than that.
    """
    left = [one for one in noun if one not in scale.nouns | _EMPTY_NOUNS]
    if not left:
        return scale.pairs, scale.kinds
    is_noun = len(left) <= MAX_NOUN_WORDS and all(map(_NOUN_WORD.fullmatch, left))
    if not is_noun or not (_SEPARATE | scale.unlike).isdisjoint(left):
        raise ValueError(_not_understood(text))
    name = " ".join(left)
    return ((f"{scale.low} {name}", f"{scale.high} {name}"),), ()


def _not_understood(text: str) -> str:
    return (
        f"{text!r:.80} is not understood: pass each change as one of its own, such as 'darker' and "
        "'longer sleeves', or as a pair, such as 'round neck / v-neck'"
    )


@cache
def _table() -> _Table:
    path = Path(__file__).with_name("comparatives.toml")
    read = tomllib.loads(path.read_text(encoding="utf-8"))
    entries = read["scale"]
    adjectives: dict[str, _Word] = {}
    comparatives: dict[str, _Word] = {}
    for i, entry in enumerate(entries):
        for end in ("low", "high"):
            word = _Word(i, end == "high")
            adjectives |= dict.fromkeys(entry[end]["adjectives"], word)
            comparatives |= dict.fromkeys(entry[end]["comparatives"], word)
    scales = tuple(
        _Scale(
            low=entry["low"]["adjectives"][0],
            high=entry["high"]["adjectives"][0],
            pairs=tuple((low, high) for low, high in entry["pairs"]),
            kinds=tuple(
                (kind, (pair["low"], pair["high"]))
                for pair in entry.get("kinds", ())
                for kind in pair["of"]
            ),
            nouns=frozenset(entry["nouns"]),
            unlike=frozenset(entry.get("unlike", ())),
        )
        for entry in entries
    )
    named = [kind for scale in scales for kind, _ in scale.kinds]
    kinds = tuple(dict.fromkeys([*named, *read["other_kinds"]]))
    return _Table(scales, adjectives, comparatives, kinds)
