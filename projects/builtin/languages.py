"""Phrases of fashion in other languages, each with the English phrase that says the same.

``languages.tsv`` holds the words, one row per value of an attribute and one column per language;
``|`` parts words that mean the same, the usual one first. In it,

- a noun has its gender and number: ``Kleid:n``, ``chaussures:fp`` (m, f, n; p is plural);
- ``rot~`` takes a German ending;
- ``noir,noire`` are the masculine and the feminine form, whose plurals follow the rules of the
  language; irregular ones come third and fourth: ``bianco,bianca,bianchi,bianche``.
"""

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from labels import as_adjective, category_names, normalize
from sources import CATEGORY_ATTRIBUTES

LANGUAGES = ("de", "fr", "es", "it", "ja")
TABLE = Path(__file__).with_name("languages.tsv")
_PROBABILITIES: Mapping[str, float] = {
    **{"usage": 0.1, "pattern": 0.35, "material": 0.15, "sleeve": 0.25, "colour": 0.65},
    **{"neckline": 0.15, "gender": 0.25},
}
"""How often a phrase names an attribute, in the order of English: from the noun outwards."""
_GERMAN_ENDINGS = {"m": "er", "f": "e", "n": "es", "p": "e"}
_GERMAN_PREPOSITIONS = ("mit", "aus", "für", "im", "ohne", "zum")
_PLURAL_ENDINGS: Mapping[str, Sequence[tuple[str, str]]] = {
    "fr": (*((letter, letter) for letter in "sxz"), ("eau", "eaux"), ("", "s")),
    "es": (
        *(("ón", "ones"), ("z", "ces"), ("s", "ses"), ("y", "ys")),
        *((letter, f"{letter}es") for letter in "nrldj"),
        ("", "s"),
    ),
    "it": (
        *(("ca", "che"), ("ga", "ghe"), ("co", "chi"), ("go", "ghi"), ("io", "i")),
        *(("o", "i"), ("e", "i"), ("a", "e")),
    ),
}
"""Endings and what they become; the first that fits decides."""
_PLURALS = 0.2
"""Ratio of phrases whose noun is put into the plural, in languages that have a rule for it."""
_KEYWORDS = 0.25
"""Ratio of phrases that are bare words, as people type them into a search field."""


def translated_phrase(
    attributes: Mapping[str, str], language: str, rng: np.random.Generator
) -> tuple[str, str] | None:
    """A phrase in English and the same in another language, such as "red dress", "rotes Kleid".

    Args:
        attributes: values by the names of attributes, as labels or by their usual names.
        language: one of ``LANGUAGES``.
        rng: decides which attributes are named, and by which words.

    Returns:
        The two phrases; None if no word is known for the category.
    """
    noun = _category(attributes)
    if noun is None:
        return None
    named = {"category": noun}
    for kind, probability in _PROBABILITIES.items():
        value = normalize(attributes.get(kind, ""))
        if value in words(language)[kind] and value not in noun and rng.random() < probability:
            named[kind] = value
    return english_phrase(named, rng), foreign_phrase(named, language, rng)


def english_phrase(named: Mapping[str, str], rng: np.random.Generator) -> str:
    """The phrase that names these attributes in English."""
    before, after = [], []
    for kind in ("usage", "pattern", "material", "sleeve", "colour", "gender", "neckline"):
        if kind not in named:
            continue
        value, is_first = named[kind], rng.random() < 0.5
        if kind == "gender" and not is_first:
            after = ["for", value, *after]
        elif kind == "neckline" or (kind == "sleeve" and " " in value and not is_first):
            after += ["with", value]
        else:
            before.insert(0, as_adjective(value) if kind == "sleeve" else value)
    return " ".join([*before, named["category"], *after])


def foreign_phrase(
    named: Mapping[str, str], language: str, rng: np.random.Generator | None = None
) -> str:
    """The phrase that names these attributes in another language.

    Args:
        named: values of ``languages.tsv`` by their kinds; one is a category.
        language: one of ``LANGUAGES``.
        rng: chooses between words and forms that mean the same; None for the usual ones.
    """
    known = words(language)
    noun, _, form = _choice(known["category"][named["category"]], rng).partition(":")
    is_bare = rng is not None and rng.random() < _KEYWORDS
    if (
        rng is not None
        and form in ("m", "f")
        and language in _PLURAL_ENDINGS
        and rng.random() < _PLURALS
    ):
        first, *rest = noun.split(" ")
        noun, form = " ".join([_plural(first, language), *rest]), form + "p"
    said = {
        kind: _choice(known[kind][value], rng) for kind, value in named.items() if kind in known
    }
    order = [kind for kind in ("colour", "pattern", "sleeve", "material") if kind in said]
    order += [kind for kind in ("usage", "neckline", "gender") if kind in said]
    parts = [said[kind] for kind in order]
    if language == "ja":
        return _japanese(noun, parts, is_bare=is_bare)
    if language == "de":
        return _german(noun, form, parts, is_bare=is_bare)
    return " ".join([noun, *(inflect(part, form, language) for part in parts)])


def inflect(word: str, form: str, language: str) -> str:
    """An adjective of the table in the form of its noun.

    Args:
        word: as in the table: ``rot~``, ``noir,noire``; others stay as they are.
        form: gender and number of the noun: m, f, n, p, mp, fp.
        language: one of ``LANGUAGES``.
    """
    if language == "de":
        ending = _GERMAN_ENDINGS[form] if word.endswith("~") else ""
        return word.removesuffix("~") + ending
    forms = word.split(",")
    if len(forms) == 1:
        return word
    i = 1 if form.startswith("f") else 0
    if not form.endswith("p"):
        return forms[i]
    return forms[i + 2] if len(forms) == 4 else _plural(forms[i], language)


@cache
def words(language: str) -> Mapping[str, Mapping[str, Sequence[str]]]:
    """The words of a language as the table has them, by kind and by English value."""
    found: dict[str, dict[str, Sequence[str]]] = {"category": {}}
    with TABLE.open(encoding="utf-8", newline="") as file:
        for record in csv.DictReader(file, delimiter="\t"):
            if record[language]:
                kind = found.setdefault(record["kind"], {})
                kind[record["english"]] = record[language].split("|")
    return found


def _category(attributes: Mapping[str, str]) -> str | None:
    """The usual English name of the first category that the table knows."""
    for kind in CATEGORY_ATTRIBUTES:
        label = attributes.get(kind, "")
        for name in (normalize(label), *category_names(label)) if label else ():
            if name in words(LANGUAGES[0])["category"]:
                return name
    return None


def _german(noun: str, form: str, parts: Sequence[str], *, is_bare: bool) -> str:
    after = [part for part in parts if part.split()[0] in _GERMAN_PREPOSITIONS]
    before = [part for part in parts if part not in after]
    if is_bare:
        return " ".join([*(part.removesuffix("~") for part in before), noun, *after])
    nouns = [part for part in before if part[0].isupper() and not part.endswith("~")]
    adjectives = [inflect(part, form, "de") for part in before if part not in nouns]
    return " ".join([*adjectives, *nouns, noun, *after])


def _japanese(noun: str, parts: Sequence[str], *, is_bare: bool) -> str:
    if is_bare:
        return " ".join([*parts, noun])
    return "".join([*(part if part.endswith("い") else f"{part}の" for part in parts), noun])


def _plural(word: str, language: str) -> str:
    """The plural of a noun or an adjective by the rules of a language, which have exceptions."""
    for ending, plural in _PLURAL_ENDINGS[language]:
        if word.endswith(ending):
            return word.removesuffix(ending) + plural
    return word


def _choice(some: Sequence[str], rng: np.random.Generator | None) -> str:
    """One of the words, the usual one more often, or always without ``rng``."""
    if rng is None or len(some) == 1 or rng.random() < 0.4:
        return some[0]
    return some[int(rng.integers(1, len(some)))]
