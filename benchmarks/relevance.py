"""What searches find, and what they say does not fit, on queries with known answers.

    python benchmarks/relevance.py ranking      # vectors, words and both: nDCG@10 with intervals
    python benchmarks/relevance.py threshold    # how often "nothing here fits" is wrong
    python benchmarks/relevance.py statistics   # other scores that a threshold could be set for

Catalogues: the products of Kaggle's Fashion Product Images whose brands the built-in model never
saw (``kagl/``), the same with titles and brands as their only words, and a women's fashion shop
(``womens/``). ``relevance_questions.py`` makes queries and answers from the rows. Every value is a
mean over queries with its 95 % bootstrap interval; differences are paired. Prints Markdown.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from relevance_questions import (
    COLOURS,
    NOT_SOLD,
    Question,
    Shop,
    kagl_questions,
    nonsense,
    not_sold_here,
    read_shops,
    womens_questions,
)

from fashionclip.metrics.intervals import mean_interval, paired_means
from fashionclip.metrics.ranking import ndcg_at, recall_at
from fashionclip.model import FashionCLIP
from fashionclip.relevance import unrelated_queries
from fashionclip.searching import Query, Results, search_many
from fashionclip.store.memory import MemoryStore

K = 10

Scores = NDArray[np.float64]


# rankings


class Ranker:
    """Every product of a store, scored for one query in several ways."""

    def __init__(self, store: MemoryStore, model: FashionCLIP) -> None:
        """Read a store, whose model encodes the queries."""
        rows = [*store.scan()]
        self.ids = [name for some in rows for name in some.ids]
        self._vectors = np.concatenate([some.vectors for some in rows if some.vectors is not None])
        self._place = {name: row for row, name in enumerate(self.ids)}
        self._store, self._model = store, model

    def parts(self, text: str, vector: NDArray[np.float32]) -> tuple[Scores, Scores]:
        """Cosines and scores by words; 0 where no word matches."""
        by_words = np.zeros(len(self.ids))
        for hit in self._store.text_search(text, k=len(self.ids), columns=()):
            by_words[self._place[hit.product_id]] = hit.score
        return (self._vectors @ vector).astype(np.float64), by_words

    def hybrid(self, texts: Sequence[str], k: int) -> list[list[str]]:
        """What the package's own search shows."""
        queries = [Query(text=text, mode="hybrid", k=k) for text in texts]
        outcomes = search_many(self._store, self._model, queries)
        found = [one for one in outcomes if isinstance(one, Results)]
        return [[hit.product_id for hit in results.hits] for results in found]


def reciprocal_ranks(scores: Scores, is_ranked: NDArray[np.bool_]) -> Scores:
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return np.where(is_ranked, 1 / (60 + ranks), 0)


def fused_by_ranks(cosines: Scores, words: Scores) -> Scores:
    return reciprocal_ranks(cosines, words >= 0) + reciprocal_ranks(words, words > 0)


def convex(cosines: Scores, words: Scores) -> Scores:
    """Half of each, from the lowest to the highest score (Bruch, Gai and Ingber 2023)."""
    spread = max(float(np.ptp(cosines)), 1e-9)
    return (cosines - cosines.min()) / spread + words / max(float(words.max()), 1e-9)


RANKINGS: Mapping[str, Callable[[Scores, Scores], Scores]] = {
    "vectors": lambda cosines, _: cosines,
    "words": lambda cosines, words: words + 1e-9 * cosines,
    "RRF": fused_by_ranks,
    "convex": convex,
}


def measures(gains: Sequence[bool], n_answers: int) -> tuple[float, float]:
    """nDCG@10, and the share of the answers among as many first places."""
    ranked = np.array([gains[: max(K, n_answers)]], dtype=np.float64)
    ideal = np.ones((1, min(n_answers, K)))
    recall = recall_at(ranked > 0, np.array([n_answers]), n_answers)
    return float(ndcg_at(ranked, ideal, K)[0]), float(recall[0])


def rankings_table(
    shop: Shop, questions: Mapping[str, Sequence[Question]], model: FashionCLIP
) -> str:
    ranker = Ranker(shop.store(model), model)
    rows = []
    for name, asked in questions.items():
        values: dict[str, list[tuple[float, float]]] = defaultdict(list)
        texts = [question.text for question in asked]
        depth = max([K, *(len(question.answers) for question in asked)])
        hybrid = ranker.hybrid(texts, depth)
        for question, vector, ids in zip(asked, model.encode_text(texts), hybrid, strict=True):
            parts = ranker.parts(question.text, vector)
            orders = {"hybrid": ids}
            for rule, score in RANKINGS.items():
                best = np.argsort(-score(*parts), kind="stable")[:depth]
                orders[rule] = [ranker.ids[row] for row in best]
            for order, found in orders.items():
                gains = [one in question.answers for one in found]
                values[order].append(measures(gains, len(question.answers)))
        both = [(name, 0)] + ([("all of a brand's first", 1)] if name == "brand" else [])
        for label, measure in both:
            series = {order: np.array(found)[:, measure] for order, found in values.items()}
            cells = [shown(series[order]) for order in RANKINGS]
            gain = paired_means(series["vectors"], series["hybrid"])
            cells += [f"**{shown(series['hybrid'])}**", f"{gain.low:+.2f} … {gain.high:+.2f}"]
            rows.append([label, str(len(asked)), *cells])
    head = ["queries", "n", *RANKINGS, "hybrid", "hybrid less vectors"]
    return f"{len(shop.products):,} products, {shop.name}:\n\n" + table(head, rows)


def shown(values: Scores) -> str:
    low, high = mean_interval(values)
    return f"{values.mean():.2f} ({low:.2f} … {high:.2f})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


# the threshold


def is_empty(store: MemoryStore, model: FashionCLIP, texts: Sequence[str], mode: str) -> Scores:
    """1 where a search says that nothing fits."""
    queries = [Query(text=text, mode=mode, k=1) for text in texts]
    outcomes = search_many(store, model, queries)
    return np.array([one.n_relevant == 0 for one in outcomes if isinstance(one, Results)], float)


def threshold_table(
    shop: Shop, questions: Mapping[str, Sequence[Question]], model: FashionCLIP, column: str
) -> str:
    store = shop.store(model)
    without = not_sold_here(shop, model, column)
    colours = random.Random(2)
    coloured = [f"{colours.choice(COLOURS)} {text}" for text in NOT_SOLD]
    rows = []
    for name, asked in questions.items():
        texts = [question.text for question in asked]
        cells = [shown(is_empty(store, model, texts, mode)) for mode in ("vectors", "hybrid")]
        rows.append([name, str(len(texts)), "none fits", *cells])
    wrong = {"unrelated": NOT_SOLD, "unrelated, with a colour": coloured, "nonsense": nonsense()}
    for name, texts in wrong.items():
        cells = [shown(1 - is_empty(store, model, texts, mode)) for mode in ("vectors", "hybrid")]
        rows.append([name, str(len(texts)), "something fits", *cells])
    cells = [
        shown(1 - np.concatenate([is_empty(one, model, texts, mode) for one, texts in without]))
        for mode in ("vectors", "hybrid")
    ]
    n_asked = sum(len(texts) for _, texts in without)
    rows.append(["a category that is not sold", str(n_asked), "something fits", *cells])
    head = ["queries", "n", "wrong answer", "vectors", "hybrid"]
    return f"{len(shop.products):,} products, {shop.name}:\n\n" + table(head, rows)


def statistics_table(
    shops: Sequence[tuple[Shop, Mapping[str, Sequence[Question]]]], model: FashionCLIP
) -> str:
    """What could be compared with a threshold instead of the cosine of the best hit."""
    neutral = model.encode_text(["product"])[0]

    def measured(shop: Shop, texts: Sequence[str]) -> dict[str, Scores]:
        cosines = model.encode_text(texts) @ shop.vectors.T
        best, mean, std = cosines.max(axis=1), cosines.mean(axis=1), cosines.std(axis=1)
        there = shop.vectors[cosines.argmax(axis=1)] @ neutral
        return {
            "cosine of the best hit": best,
            "less the mean cosine": best - mean,
            "less the mean, in standard deviations": (best - mean) / std,
            "less the median cosine": best - np.median(cosines, axis=1),
            "less the cosine with a neutral text": best - there,
        }

    rows: dict[str, list[str]] = defaultdict(list)
    for shop, questions in shops:
        asked = [
            question.text
            for name in questions
            if "colour" in name or "other" in name
            for question in questions[name]
        ]
        limits = measured(shop, unrelated_queries())
        right, wrong = measured(shop, asked), measured(shop, [*NOT_SOLD, *nonsense()])
        for name, found in limits.items():
            limit = np.percentile(found, 90)
            rows[name] += [
                shown((right[name] < limit).astype(float)),
                shown((wrong[name] >= limit).astype(float)),
            ]
    head = ["compared with the threshold"]
    for shop, _ in shops:
        head += [f"{shop.name}: false empty", "false full"]
    return table(head, ([name, *cells] for name, cells in rows.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=["ranking", "threshold", "statistics"])
    parser.add_argument("--data", type=Path, default=Path("data"))
    options = parser.parse_args()
    model = FashionCLIP()
    rich, poor, womens = read_shops(options.data, model)
    asked = [
        (rich, kagl_questions(rich)),
        (poor, kagl_questions(poor)),
        (womens, womens_questions(womens)),
    ]
    if options.part == "ranking":
        print("\n\n".join(rankings_table(shop, questions, model) for shop, questions in asked))
    elif options.part == "threshold":
        columns = ("articleType", "category")
        some = zip((asked[0], asked[2]), columns, strict=True)
        print("\n\n".join(threshold_table(*one, model, column) for one, column in some))
    else:
        print(statistics_table([asked[0], asked[2]], model))


if __name__ == "__main__":
    main()
