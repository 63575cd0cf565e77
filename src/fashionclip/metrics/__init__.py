"""Metrics of labels and rankings, confidence intervals, and splits by name. NumPy only.

``registry`` describes every metric: title, explanation, function, chance level.
``classification`` and ``ranking`` compute them, ``intervals`` says how certain they are.
"""

import hashlib

from fashionclip.metrics.metric import Metric
from fashionclip.metrics.registry import METRICS, explain, find_metric, title_of


def percentile(name: str) -> int:
    """A number in 0…99 that decides which part of the data a name belongs to.

    It is the MD5 of the name as an integer, modulo 100, and so does not depend on other names or on
    their order. The training data of the built-in model is split by this rule.
    """
    return int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16) % 100


__all__ = ["METRICS", "Metric", "explain", "find_metric", "percentile", "title_of"]
