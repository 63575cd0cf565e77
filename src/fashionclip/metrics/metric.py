"""What a metric is: how it is computed, its level by chance, and how a report describes it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fashionclip.metrics import classification as labels

RankingMetric = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""``ranked`` as in ``metrics.ranking``, relevant documents of each query, k → value per query."""
RankingChance = Callable[[np.ndarray, int, int], np.ndarray]
"""Relevant documents of each query, all documents, k → what a random order is expected to give."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: how it is computed, and how a report describes it."""

    name: str
    title: str
    explanation: str
    """A clause without a full stop; ``{k}`` stands for the number of places or images."""
    of_labels: labels.LabelMetric | None = None
    of_ranking: RankingMetric | None = None
    chance: float | RankingChance | None = None
    """A number, or a function of the ranking; None where it depends on the labels (see
    ``classification.majority_baseline``) or is not known."""
    higher_is_better: bool = True
