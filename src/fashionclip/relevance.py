"""What fits a query: scales of scores measured on the catalogue itself, and a relevance threshold.

A cosine of 0.3 between a text and an image says nothing alone: another text has another mean and
another spread over the same catalogue. A ``Scale`` measures both on a sample of the store.
``calibrate`` finds what queries score that have nothing to do with the catalogue.
"""

import math
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Bool, Float, Float32

from fashionclip.model import FashionCLIP
from fashionclip.store import Store
from fashionclip.store.fulltext import words_of

SAMPLE = 2_000
"""Products that a scale is measured on: the percentiles of their cosines are off by 1 % at most."""
REMEASURE_AFTER = 0.1
"""A scale is measured again once this share of the products came or went."""
MIN_LETTERS = 4
"""Letters of a word that may be misspelt."""
MIN_LIKENESS = 0.75
"""Likeness (Ratcliff and Obershelp) from which a word is another one, misspelt."""
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for from has have i in into is it its my no not of on or our"
        " s so some that the their them then there these they this to too very was we were which"
        " will with you your",
    )
)
"""Words that say nothing about a product."""


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """What is usual in a catalogue: a sample of its vectors, and how frequent its words are."""

    vectors: Float32[np.ndarray, "n dim"]
    frequencies: Mapping[str, int]
    """How many of the sampled products have a word."""

    def moments(self, query_vector: Float[np.ndarray, " dim"]) -> tuple[float, float]:
        """Mean and standard deviation of a query's cosines over the catalogue."""
        if not len(self.vectors):
            return 0.0, 1.0
        cosines = self.vectors @ query_vector
        return float(cosines.mean()), max(float(cosines.std()), 1e-6)

    def percentiles(
        self, query_vector: Float[np.ndarray, " dim"], scores: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """How many products fit the query less well than those of some cosines, in 0…100."""
        cosines = np.sort(self.vectors @ query_vector)
        return np.searchsorted(cosines, scores) * (100.0 / max(len(cosines), 1))

    def is_relevant(
        self,
        query_vector: Float[np.ndarray, " dim"],
        scores: Float[np.ndarray, " n"],
        threshold: float,
    ) -> Bool[np.ndarray, " n"]:
        """Which cosines are higher than those of unrelated queries."""
        mean, std = self.moments(query_vector)
        return (np.asarray(scores) - mean) / std >= threshold

    def weight(self, word: str) -> float:
        """How much a word tells products apart: its idf, as BM25 has it; 0 for a stop word."""
        if word in STOP_WORDS:
            return 0.0
        n, frequency = len(self.vectors), self.frequencies.get(word, 0)
        return math.log(1 + (n - frequency + 0.5) / (frequency + 0.5))

    def coverage(self, text: str, products: Iterable[str]) -> float:
        """How much of a text the words of the best of some products cover, in 0…1.

        Args:
            text: a query; each of its words counts by its weight.
            products: their words, as ``product_text`` has them.
        """
        weights = {word: self.weight(word) for word in words_of(text)}
        total = sum(weights.values())
        if not total:
            return 0.0
        return max(
            (sum(weights[word] for word in self._shared(weights, of)) / total for of in products),
            default=0.0,
        )

    def _shared(self, words: Iterable[str], product: str) -> list[str]:
        there = set(words_of(product))
        return [
            word
            for word in words
            if word in there or (not self.frequencies.get(word) and _is_misspelt(word, there))
        ]


def _is_misspelt(word: str, there: Iterable[str]) -> bool:
    if len(word) < MIN_LETTERS or re.search(r"\d", word):
        return False
    return any(
        abs(len(word) - len(other)) <= 2
        and SequenceMatcher(None, word, other, autojunk=False).ratio() >= MIN_LIKENESS
        for other in there
    )


_SCALES: WeakKeyDictionary[Store, tuple[str, int, Scale]] = WeakKeyDictionary()
_LOCK = threading.Lock()


def scale_of(store: Store) -> Scale:
    """The scale of a store, measured once, and again when many products came or went.

    Scores of one query stay comparable as long as the scale does.

    Raises:
        StoreError: the store cannot be read.
    """
    made, count = store.meta.created, len(store)
    with _LOCK:
        known = _SCALES.get(store)
    if known and known[0] == made and abs(count - known[1]) <= REMEASURE_AFTER * known[1]:
        return known[2]
    scale = _measure(store)
    with _LOCK:
        _SCALES[store] = made, count, scale
    return scale


def _measure(store: Store) -> Scale:
    rows = store.sample(SAMPLE)
    vectors = rows.vectors if rows.vectors is not None else np.empty((0, store.meta.dim))
    frequencies = Counter(word for caption in rows.captions for word in set(words_of(caption)))
    return Scale(np.ascontiguousarray(vectors, np.float32), frequencies)


UNRELATED: Sequence[str] = ("lawn mower", "quarterly tax report", "car tyre", "dishwasher")


def calibrate(store: Store, model: FashionCLIP) -> float:
    """The relevance threshold of a store: what the best hits of unrelated queries score.

    Raises:
        StoreError: the store cannot be read.
    """
    scale = scale_of(store)
    vectors = model.encode_text(list(UNRELATED))
    best = []
    for vector, hits in zip(vectors, store.nearest(vectors, k=1, columns=()), strict=True):
        mean, std = scale.moments(vector)
        best += [(hit.score - mean) / std for hit in hits]
    return float(np.percentile(best, 95)) if best else 0.0
