"""Full-text search of captions in memory: an inverted index, ranked by BM25."""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

K1, B = 1.2, 0.75  # Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009
_WORD = re.compile(r"\w+")
_SIBILANTS = ("sses", "xes", "zes", "ches", "shes")


class CaptionIndex:
    """The words of some captions, by caption."""

    def __init__(self, captions: Sequence[str]) -> None:
        """Index captions; row i of every answer is caption i."""
        postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        lengths = np.zeros(len(captions), np.float32)
        for row, caption in enumerate(captions):
            counts = Counter(words_of(caption))
            lengths[row] = counts.total()
            for word, count in counts.items():
                postings[word].append((row, count))
        self._postings = {word: np.array(pairs, np.int64) for word, pairs in postings.items()}
        mean_length = float(lengths.mean()) if len(captions) else 1.0
        self._norms = K1 * (1 - B + B * lengths / max(1.0, mean_length))

    def scores(self, text: str) -> dict[int, float]:
        """BM25 of the captions that hold a word of a text, by row.

        Source: Robertson and Zaragoza 2009, equation 3.12, with the idf of Lucene, which is never
            negative.
        """
        found: dict[int, float] = defaultdict(float)
        for word in set(words_of(text)):
            pairs = self._postings.get(word)
            if pairs is None:
                continue
            rows, counts = pairs[:, 0], pairs[:, 1]
            n_rows = len(self._norms)
            idf = math.log(1 + (n_rows - len(rows) + 0.5) / (len(rows) + 0.5))
            weights = idf * counts * (K1 + 1) / (counts + self._norms[rows])
            for row, weight in zip(rows.tolist(), weights.tolist(), strict=True):
                found[row] += weight
        return dict(found)


def words_of(text: str) -> list[str]:
    """The words of a text, without case, accents and the plural's s."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    return [_singular(word) for word in _WORD.findall(plain)]


def _singular(word: str) -> str:
    """A word without the plural's ending (after Harman, "How effective is suffixing?", 1991)."""
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(_SIBILANTS) else word[:-1]
