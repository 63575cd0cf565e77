"""Every metric of an evaluation, described once: reports, cards and comparisons read it here.

A result names a metric by ``recall`` or, cut at k places, by ``recall@10``.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from fashionclip.metrics import classification as labels
from fashionclip.metrics import ranking
from fashionclip.metrics.audit_metrics import AUDIT_METRICS
from fashionclip.metrics.metric import Metric


def _ndcg(ranked: np.ndarray, n_relevant: np.ndarray, k: int) -> np.ndarray:
    ideal = np.arange(k) < n_relevant[:, None]
    return ranking.ndcg_at(ranked.astype(np.float64), ideal.astype(np.float64), k)


_ALL = (
    Metric(
        "weighted_f1",
        "Weighted F1",
        "F1 of each class, weighted by its share of the images (FashionCLIP's model card)",
        of_labels=labels.weighted_f1,
    ),
    Metric("macro_f1", "Macro F1", "mean F1 of the classes", of_labels=labels.macro_f1),
    Metric(
        "accuracy", "Accuracy", "share of images with the right label", of_labels=labels.accuracy
    ),
    Metric("top_5", "Top 5", "share of images whose label is among the five best"),
    Metric(
        "few_shot",
        "Few-shot F1",
        "weighted F1 of a classifier that learned from {k} images per class",
    ),
    Metric(
        "hit",
        "Hit rate",
        "share of queries with at least one relevant product in the first {k}",
        of_ranking=lambda ranked, n_relevant, k: ranking.hit_at(ranked, k),
        chance=ranking.expected_hit,
    ),
    Metric(
        "recall",
        "Recall",
        "share of a query's relevant products that are in the first {k}",
        of_ranking=ranking.recall_at,
        chance=ranking.expected_recall,
    ),
    Metric(
        "precision",
        "Precision",
        "share of the first {k} products that are relevant",
        of_ranking=lambda ranked, n_relevant, k: ranking.precision_at(ranked, k),
        chance=ranking.expected_precision,
    ),
    Metric(
        "mrr",
        "MRR",
        "one over the rank of the first relevant product within the first {k}, else 0",
        of_ranking=lambda ranked, n_relevant, k: ranking.reciprocal_rank_at(ranked, k),
        chance=ranking.expected_reciprocal_rank,
    ),
    Metric(
        "map",
        "MAP",
        "average precision within the first {k}",
        of_ranking=ranking.average_precision_at,
        chance=ranking.expected_average_precision,
    ),
    Metric(
        "ndcg",
        "nDCG",
        "discounted gain of the first {k}, as a share of the best possible",
        of_ranking=_ndcg,
        chance=ranking.expected_ndcg,
    ),
    Metric(
        "fine_recall",
        "Fine recall",
        "share of queries whose first result has the same category and all of its attributes",
    ),
    Metric(
        "coarse_recall",
        "Coarse recall",
        "share of queries whose first result has the same category",
    ),
    Metric(
        "win_rate",
        "Win rate",
        "share of wrong captions that the right one beats; by chance 0.5",
        chance=0.5,
    ),
    Metric(
        "right_first",
        "Right caption first",
        "share of pictures whose right captions are all closer than every wrong one",
    ),
    Metric(
        "text_only",
        "Text only",
        "the same without the picture: captions against the mean vector of the other pictures",
    ),
    Metric(
        "over_text_only",
        "Over text only",
        "right caption first less text only, picture by picture; 0 for a model that sees nothing",
    ),
    Metric("shorter", "Shorter first", "what always choosing the shorter caption would give"),
    Metric(
        "flips",
        "Flips to the word",
        "share of pictures whose label becomes a printed word {k} % of the picture's height",
        higher_is_better=False,
    ),
    Metric(
        "flips_shuffled",
        "Flips, letters shuffled",
        "the same where the letters of the word ({k} %) are shuffled",
        higher_is_better=False,
    ),
    Metric(
        "reads",
        "Flips by reading",
        "flips to the word less flips to its shuffled letters ({k} %), picture by picture",
        higher_is_better=False,
    ),
    Metric(
        "label_kept",
        "Label kept",
        "share of pictures whose label stays with a printed word of {k} %",
    ),
    Metric(
        "sensitivity",
        "Linguistic sensitivity",
        "largest less smallest average precision over the wordings of a query; 0 if wording makes "
        "no difference",
        higher_is_better=False,
    ),
    Metric(
        "average_precision",
        "Average precision",
        "over all products, mean over the wordings of a query",
    ),
    Metric("beats_all", "Beats all", "share of images whose right caption beats every wrong one"),
    *AUDIT_METRICS,
)
METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ALL})
"""By name, without the number of places."""


def find_metric(name: str) -> tuple[Metric, int | None]:
    """The metric of a result's name, and its number of places: ``recall@10`` to recall and 10.

    Raises:
        ValueError: there is no such metric, or the number is not one from 1.
    """
    base, at, k = name.partition("@")
    if base not in METRICS or (at and (not k.isdecimal() or not int(k))):
        message = f"there is no metric '{name}'; there are {', '.join(METRICS)}, with @K from 1"
        raise ValueError(message)
    return METRICS[base], int(k) if at else None


def title_of(name: str) -> str:
    """A metric's name as people write it: ``Recall@10``; a name that is unknown, in plain words."""
    base, _, k = name.partition("@")
    title = METRICS[base].title if base in METRICS else base.replace("_", " ").capitalize()
    return f"{title}@{k}" if k else title


def explain(name: str) -> str:
    """One clause on what a metric means; empty for an unknown name."""
    base, _, k = name.partition("@")
    if base not in METRICS:
        return ""
    text = METRICS[base].explanation.format(k=k or "k")
    return text[:1].upper() + text[1:]
