"""Diversity: products that look like earlier ones are put back."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float


def diverse_order(
    scores: Float[np.ndarray, " n"], vectors: Float[np.ndarray, "n dim"], *, diversity: float
) -> Iterator[int]:
    """Rows by maximal marginal relevance: fitting, and unlike the rows before them.

    The next row is the one with the largest

        ``(1 - diversity) * relevance - diversity * max over rows before it of alikeness``

    where ``relevance`` is the score, scaled to 0…1 over all rows, and ``alikeness`` the cosine of
    two rows, scaled so that 0 is that of the median row with the best one, and 1 the same image. A
    row is only chosen when it is asked for.

    Args:
        scores: how well each row fits.
        vectors: unit vectors.
        diversity: 0 (by score) to 1 (by alikeness alone, after the best).

    Source: Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering
        documents and producing summaries", SIGIR 1998, with lambda = 1 - diversity.
    """
    if not len(scores):
        return
    spread = max(float(np.ptp(scores)), 1e-9)
    relevance = (1 - diversity) * (scores - scores.min()) / spread
    row = int(np.argmax(scores))  # scaled, two scores may be equal
    usual = min(float(np.median(vectors @ vectors[row])), 1 - 1e-6)
    alikeness = np.zeros(len(scores))
    is_left = np.ones(len(scores), dtype=bool)
    for _ in range(len(scores)):
        yield row
        is_left[row] = False
        likeness = (vectors @ vectors[row] - usual) / (1 - usual)
        np.maximum(alikeness, likeness, out=alikeness)
        row = int(np.argmax(np.where(is_left, relevance - diversity * alikeness, -np.inf)))
