"""What fits a query: scales of scores measured on the catalogue itself, and a relevance threshold.

Some product is always the closest, also to ``lawn mower``. ``calibrate`` measures what queries
score that have nothing to do with the catalogue: a hit that scores no more does not fit. A
``Scale`` knows what is usual in the catalogue: how the cosines of a query are distributed, and how
much a word tells products apart.
"""

import math
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float

from fashionclip.model import FashionCLIP
from fashionclip.store import Store
from fashionclip.store.fulltext import SearchWord, closest, search_words, words_of

SAMPLE = 2_000
"""Products that a scale is measured on; the standard error of a percentile is 1.1 at most."""
ENOUGH_WEIGHT = 20.0
"""What the words of a long text have to weigh that cover it: about three rare words."""
MIN_VARIANCE = 1e-8
"""Of cosines, so that a catalogue of equal images has a scale too."""
REMEASURED_SHARE = 0.1
"""A scale is measured again once this share of the products came or went."""
UNRELATED_PERCENTILE = 90
"""One unrelated query in ten finds something that passes for fitting: fewer would cost too many
queries that the catalogue can answer (``benchmarks/relevance.py`` measures both)."""
MIN_UNRELATED = 50
"""Unrelated queries that a threshold needs at least."""
_STOP_WORDS = frozenset(
    words_of(
        "a an and are as at be but by for from has have i in into is it its my no not of on or our"
        " s so some that the their them then there these they this to too very was we were which"
        " will with you your"
    )
)
_SPELLED_RIGHT = frozenset(
    words_of(
        "bag belt blazer blouse boot bra brooch cape cardigan cloak coat corset denim dress earring"
        " flat glove gown heel hoodie jacket jeans jersey jumper kimono leggings loafer mule"
        " necklace pants parka polo poncho pump purse pyjamas ring robe sandal sari scarf shirt"
        " shoe shorts skirt slipper sneaker sock suit sunglasses sweater sweatshirt swimsuit tights"
        " trainer trousers tunic vest waistcoat wallet watch"
    )
)
"""No misspellings of other words: a skirt is no shirt."""


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """What is usual in a catalogue: a sample of its vectors, and how frequent its words are."""

    vectors: Float[np.ndarray, "n dim"]
    mean_vector: Float[np.ndarray, " dim"]
    covariance: Float[np.ndarray, "dim dim"]
    frequencies: Mapping[str, int]
    """How many of the sampled products have a word in their captions."""

    def moments(self, query_vector: Float[np.ndarray, " dim"]) -> tuple[float, float]:
        """Mean and standard deviation of a query's cosines over the catalogue."""
        variance = float(query_vector @ self.covariance @ query_vector)
        return float(self.mean_vector @ query_vector), math.sqrt(max(variance, MIN_VARIANCE))

    def percentiles(
        self, query_vector: Float[np.ndarray, " dim"], scores: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """The share of the catalogue that fits a query less well than some cosines, in 0…100."""
        cosines = np.sort(self.vectors @ query_vector)
        return np.searchsorted(cosines, scores) * (100.0 / max(len(cosines), 1))

    def weight(self, word: str) -> float:
        """How much a word tells products apart: its idf, as BM25 has it; 0 for a stop word."""
        if word in _STOP_WORDS:
            return 0.0
        n, frequency = len(self.vectors), self.frequencies.get(word, 0)
        return math.log(1 + (n - frequency + 0.5) / (frequency + 0.5))

    def coverage(self, text: str, products: Iterable[str]) -> float:
        """How much of a query the words of the best of some products cover, in 0…1.

        Args:
            text: the query; each of its words counts by its weight. Not all words of a long text
                are those of a product: there ``ENOUGH_WEIGHT`` is enough.
            products: their ``product_text``.
        """
        words = search_words(text)
        weights = [min(filter(None, map(self.weight, word.terms)), default=0.0) for word in words]
        total = min(sum(weights), ENOUGH_WEIGHT)
        best = 0.0
        for product in products if total else ():
            there = set(words_of(product))
            covered = (
                weight
                for word, weight in zip(words, weights, strict=True)
                if weight and self._is_there(word, there)
            )
            best = max(best, sum(covered) / total)
        return min(best, 1.0)

    def _is_there(self, word: SearchWord, there: set[str]) -> bool:
        """Whether a product has a word: the whole or all of its parts, joined, or misspelt."""
        whole, *parts = word.terms
        if (
            whole in there
            or (parts and there.issuperset(parts))
            or word.is_spelled_otherwise(there)
        ):
            return True
        is_right = whole in _SPELLED_RIGHT or bool(self.frequencies.get(whole))
        return not is_right and bool(closest(word.typed, there))


_SCALES: WeakKeyDictionary[Store, tuple[str, int, Scale]] = WeakKeyDictionary()
_LOCK = threading.Lock()


def scale_of(store: Store) -> Scale:
    """The scale of a store: measured once, and again when many products came or went.

    Scores of one query can be compared as long as the scale is the same.

    Raises:
        StoreError: the store cannot be read.
    """
    made, count = store.meta.created, len(store)
    with _LOCK:
        known = _SCALES.get(store)
    if known and known[0] == made and abs(count - known[1]) <= REMEASURED_SHARE * known[1]:
        return known[2]
    scale = _measure(store)
    with _LOCK:
        _SCALES[store] = made, count, scale
    return scale


def _measure(store: Store) -> Scale:
    rows = store.sample(SAMPLE)
    vectors = np.zeros((0, store.meta.dim)) if rows.vectors is None else rows.vectors
    mean = vectors.sum(axis=0) / max(len(vectors), 1)
    centred = vectors - mean
    frequencies = Counter(word for caption in rows.captions for word in set(words_of(caption)))
    return Scale(vectors, mean, centred.T @ centred / max(len(vectors), 1), frequencies)


def calibrate(store: Store, model: FashionCLIP) -> float | None:
    """The relevance threshold of a store: what the best hits of most unrelated queries score.

    The queries are texts that fashion shops do not sell anything for, and nonsense; those whose
    words the catalogue has are left out. Only texts can be judged by the threshold: the cosines of
    images are higher.

    Args:
        store: holds vectors of the model.
        model: encodes the queries.

    Returns:
        A cosine; None if the store is empty.

    Raises:
        ModelMismatchError: the vectors have another dimension.
        StoreError: the store cannot be read.
    """
    if not len(store):
        return None
    queries = unrelated_queries()
    known = scale_of(store).frequencies
    unknown = [text for text in queries if not all(word in known for word in words_of(text))]
    vectors = model.encode_text(unknown if len(unknown) >= MIN_UNRELATED else queries)
    best = [hits[0].score for hits in store.nearest(vectors, k=1, columns=()) if hits]
    return float(np.percentile(best, UNRELATED_PERCENTILE)) if best else None


def unrelated_queries() -> list[str]:
    """Texts that fashion shops do not sell anything for, and nonsense."""
    return (
        Path(__file__)
        .with_name("unrelated_queries.txt")
        .read_text(encoding="utf-8")
        .split("\n")[:-1]
    )
