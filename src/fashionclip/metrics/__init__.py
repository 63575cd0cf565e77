"""Metrics of labels and rankings, confidence intervals, and splits by name. NumPy only.

``registry`` describes every metric: title, explanation, function, chance level.
``classification`` and ``ranking`` compute them, ``intervals`` says how certain they are, and
``splits`` decides which part of the data a name belongs to.
"""

from fashionclip.metrics.registry import METRICS, Metric, explain, find_metric, title_of
from fashionclip.metrics.splits import percentile

__all__ = ["METRICS", "Metric", "explain", "find_metric", "percentile", "title_of"]
