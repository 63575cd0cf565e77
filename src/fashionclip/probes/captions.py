"""Right and wrong captions of products: half-truths, paraphrases, negation, swapped parts.

A wrong word is always one that is right for other products of the same garment. Which one is taken
is drawn once, so that every model meets the same captions.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from fashionclip.evaluate.benchmarks.base import caption_of, is_plural, wrong_words
from fashionclip.probes.pairs import CaptionProbe, Contest
from fashionclip.probes.products import FACETS, KnownProduct, ProductSet, alike

_PARAPHRASED = ("colour", "pattern", "sleeve")
_ABSENT = (
    ("sleeve", "sleeveless", "sleeves"),
    ("neckline", "hooded", "a hood"),
    ("pattern", "plain", "a pattern"),
)
"""Facet, a word of it, and what a product of that word lacks, or with ``hooded`` has."""
_HAS = frozenset({"hooded"})  # words that say that the thing is there


def half_truths(products: ProductSet) -> list[CaptionProbe]:
    """A short right caption against the same with one wrong detail, and two details as a control.

    Source: "Half-Truths Break Similarity-Based Retrieval" (arXiv 2602.23906): on COCO, CLIP
    prefers the right short caption in 40.6 % of cases only. A longer caption may be closer for its
    length, so the second probe gives both captions a detail, of which one is wrong.
    """
    rng = np.random.default_rng(1)
    short, both = [], []
    for product, facet, word, other in _changes(products, FACETS, rng):
        colour = product.words.get("colour") if facet != "colour" else None
        start = caption_of(colour, product.garment) if colour else _plain(product.garment)
        wrong = (f"{start}, {other}",)
        short.append(Contest(product.image, product.cluster, (start,), wrong, facet))
        right = (f"{start}, {word}",)
        both.append(Contest(product.image, product.cluster, right, wrong, facet))
    return [
        CaptionProbe(f"{products.name}/half-truth", tuple(short), products.notes),
        CaptionProbe(f"{products.name}/wrong-detail", tuple(both), products.notes),
    ]


def hard_positives(products: ProductSet) -> list[CaptionProbe]:
    """The caption and a paraphrase of it must both be closer than the caption with a wrong word.

    Source: "The Hard Positive Truth about Vision-Language Compositionality" (arXiv 2409.17958):
    tuning on wrong captions alone makes a model push paraphrases away too.
    """
    rng = np.random.default_rng(2)
    contests = []
    for product, facet, word, other in _changes(products, _PARAPHRASED, rng):
        ways = [(_that_is(product.garment, word), "other order")]
        if product.synonyms:
            ways.append((caption_of(word, product.synonyms[0]), "other noun"))
        paraphrase, way = ways[int(rng.integers(len(ways)))]
        original, wrong = (caption_of(w, product.garment) for w in (word, other))
        right = (original, paraphrase)
        name = f"{facet}, {way}"
        contests.append(Contest(product.image, product.cluster, right, (wrong,), name))
    return [
        CaptionProbe(
            f"{products.name}/hard-positives",
            tuple(contests),
            products.notes,
            heading="By attribute and paraphrase",
            right_names=("original", "paraphrase"),
        )
    ]


def negation(products: ProductSet) -> list[CaptionProbe]:
    """What a product has not: "a dress without sleeves", and "a cap that is not red".

    As many products lack a thing as have it, garment by garment, so that a model that always
    prefers one of the two captions is right half of the time.
    """
    rng = np.random.default_rng(3)
    colour = []
    for product, _, own, other in _changes(products, ("colour",), rng):
        right, wrong = (_that_is(product.garment, f"not {word}") for word in (other, own))
        colour.append(Contest(product.image, product.cluster, (right,), (wrong,)))
    without = tuple(_withouts(products, rng))
    return [
        CaptionProbe(f"{products.name}/negation-without", without, products.notes, "By the thing"),
        CaptionProbe(f"{products.name}/negation-colour", tuple(colour), products.notes),
    ]


def swapped_parts(products: ProductSet) -> list[CaptionProbe]:
    """The values of two parts of a product against their swap: "leather strap and steel dial"."""
    contests = []
    for product in products.products:
        for what, parts in product.parts.items() if product.garment else ():
            names = sorted(parts)
            found = next(
                ((a, b) for a in names for b in names if a < b and _differ(parts[a], parts[b])),
                None,
            )
            if found:
                a, b = found
                right, wrong = (
                    f"{_plain(product.garment)}, {one} {a} and {other} {b}"
                    for one, other in ((parts[a], parts[b]), (parts[b], parts[a]))
                )
                contests.append(Contest(product.image, product.cluster, (right,), (wrong,), what))
    name = f"{products.name}/swap"
    return [CaptionProbe(name, tuple(contests), products.notes, "By property")]


def _changes(
    products: ProductSet, facets: Sequence[str], rng: np.random.Generator
) -> Iterator[tuple[KnownProduct, str, str, str]]:
    """Each product with each facet that has a wrong word: product, facet, right and wrong word."""
    groups = alike()
    wrong = {
        facet: wrong_words(
            [(p.garment, p.words[facet]) for p in products.products if facet in p.words],
            alike=groups,
        )
        for facet in facets
    }
    for product in products.products:
        for facet in facets if product.garment else ():
            word = product.words.get(facet, "")
            if facet == "colour" and product.words.get("pattern", "plain") != "plain":
                continue  # a pattern's other colour may be the wrong word
            if others := wrong[facet].get((product.garment, word)):
                yield product, facet, word, others[int(rng.integers(len(others)))]


def _withouts(products: ProductSet, rng: np.random.Generator) -> Iterator[Contest]:
    for facet, word, thing in _ABSENT:
        has: dict[str, list[KnownProduct]] = defaultdict(list)
        lacks: dict[str, list[KnownProduct]] = defaultdict(list)
        for product in products.products:
            if product.garment and facet in product.words:
                is_there = (product.words[facet] == word) == (word in _HAS)
                (has if is_there else lacks)[product.garment].append(product)
        for garment in has:
            n = min(len(has[garment]), len(lacks[garment]))
            captions = {way: f"{_plain(garment)} {way} {thing}" for way in ("with", "without")}
            for kept, right, wrong in ((has, "with", "without"), (lacks, "without", "with")):
                for row in rng.permutation(len(kept[garment]))[:n]:
                    product = kept[garment][row]
                    yield Contest(
                        product.image,
                        product.cluster,
                        (captions[right],),
                        (captions[wrong],),
                        f"{right} {thing}",
                    )


def _plain(garment: str) -> str:
    """``a dress``, ``an anorak``, but ``boots``."""
    article = "" if is_plural(garment) else "an " if garment[0] in "aeiou" else "a "
    return f"{article}{garment}"


def _that_is(garment: str, words: str) -> str:
    """``a cap that is not red``, ``boots that are red``."""
    return f"{_plain(garment)} that {'are' if is_plural(garment) else 'is'} {words}"


def _differ(one: str, other: str) -> bool:
    return one != other and not any(one in group and other in group for group in alike())
