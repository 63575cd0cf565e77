"""Signs that propose candidates before exact scoring: a bit per number of a vector.

Comparing the signs of a query with those of every vector reads a sixteenth of what half floats
take. The vectors that agree with it in most of their signs are then scored whole. The best ones are
nearly always among them, but need not be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt16, UInt64

CANDIDATES_PER_HIT, MIN_CANDIDATES = 100, 1_000
BITS = 64  # of a word
ROWS_PER_PART = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class SignPruning:
    """The signs of vectors."""

    words: UInt64[np.ndarray, "word n"]
    """Word i holds the signs of 64 numbers of every vector; the last one is filled up with 0."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.words.nbytes

    def updated(
        self, is_kept: Bool[np.ndarray, " n"], added: Float32[np.ndarray, "more dim"]
    ) -> "SignPruning":
        """The rows that are kept, with added vectors after them."""
        return SignPruning(np.concatenate([self.words[:, is_kept], sign_words(added)], axis=1))

    def likely(
        self,
        queries: Float32[np.ndarray, "query dim"],
        *,
        k: int,
        masks: Sequence[Bool[np.ndarray, " n"] | None],
    ) -> list[Int[np.ndarray, " _"]]:
        """For each query, in order, the rows that agree with it in most signs.

        Args:
            queries: of any length.
            k: rows wanted; nearly all of the k best are among ``CANDIDATES_PER_HIT`` times as many.
            masks: for each query, True for the rows to choose from; None for all.
        """
        n_wanted = max(MIN_CANDIDATES, CANDIDATES_PER_HIT * k)
        found = []
        for words, mask in zip(sign_words(queries).T, masks, strict=True):
            differences = self._differences(words)
            rows = np.arange(len(differences)) if mask is None else np.flatnonzero(mask)
            if n_wanted < len(rows):
                own = differences[rows]
                rows = rows[own <= np.partition(own, n_wanted - 1)[n_wanted - 1]]
            found.append(rows)
        return found

    def _differences(self, query: UInt64[np.ndarray, " word"]) -> UInt16[np.ndarray, " n"]:
        """In how many signs each row differs from a query."""
        differences = np.zeros(self.words.shape[1], np.uint16)
        for own, word in zip(self.words, query, strict=True):
            differences += np.bitwise_count(own ^ word)
        return differences


def sign_words(vectors: Float[np.ndarray, "n dim"]) -> UInt64[np.ndarray, "word n"]:
    """The signs of vectors, 64 in a word."""
    n_words = -(-vectors.shape[1] // BITS)
    words = np.empty((n_words, len(vectors)), np.uint64)
    for start in range(0, len(vectors), ROWS_PER_PART):
        rows = slice(start, start + ROWS_PER_PART)
        packed = np.packbits(vectors[rows] > 0, axis=1)
        filled = np.zeros((len(packed), n_words * BITS // 8), np.uint8)
        filled[:, : packed.shape[1]] = packed
        words[:, rows] = filled.view(np.uint64).T
    return words
