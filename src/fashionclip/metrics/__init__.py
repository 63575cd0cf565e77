"""Metrics of labels and rankings, their confidence intervals, and the splits they are taken on."""

from fashionclip.metrics.splits import percentile

__all__ = ["percentile"]
