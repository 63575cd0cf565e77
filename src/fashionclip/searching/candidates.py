"""Candidates of a query: what the rankings by vectors and by words found, as one set of rows."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Bool, Float

from fashionclip.product import Hit, Roles, Value
from fashionclip.relevance import Scale
from fashionclip.searching.query import Query
from fashionclip.searching.ranking import avoided_directions, unit
from fashionclip.store import Store


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Products that may be hits; row i of each field is one product."""

    hits: Sequence[Hit]
    """The products, with the columns that ranking needs."""
    cosines: Float[np.ndarray, " n"]
    """Of query and product; NaN where it is not known."""
    word_scores: Float[np.ndarray, " n"]
    """0 where no word matches."""
    last_rows: Sequence[int]
    """The last row of each ranking that may go on after it."""

    @property
    def ids(self) -> list[str]:
        """The products' ids."""
        return [hit.product_id for hit in self.hits]

    def values(self, column: str) -> list[Value]:
        """The products' values of a column."""
        return [hit.columns[column] for hit in self.hits]

    def best_by_words(self, n: int) -> list[str]:
        """The ids of the n products whose words match best; fewer if fewer match."""
        best = np.argsort(-self.word_scores, kind="stable")[:n]
        return [self.hits[row].product_id for row in best if self.word_scores[row]]

    def named(self, text: str, roles: Roles) -> Bool[np.ndarray, " n"]:
        """Which products have a text as their id, SKU, barcode or group; letter case aside.

        Where each word of the text has a digit, each may be the code of a product.
        """
        whole = text.strip().casefold()
        words = [word.strip("#") for word in re.split(r"[\s,;]+", whole) if word]
        has_digits = all(any(map(str.isdigit, word)) for word in words)
        codes = {whole, *(words if has_digits else ())}
        names = [name for name in (roles.sku, roles.barcode, roles.group) if name]
        found = np.zeros(len(self.hits), dtype=bool)
        for row in np.flatnonzero(self.word_scores > 0).tolist():
            hit = self.hits[row]
            own = [hit.product_id.casefold(), *(_code(hit.columns.get(name)) for name in names)]
            found[row] = not codes.isdisjoint(own)
        return found


def _code(value: Value) -> str:
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    return str(whole).casefold()


def merge_rankings(
    by_vectors: Sequence[Hit],
    by_words: Sequence[Hit],
    *,
    known_words: Sequence[Hit],
    excluded: Collection[str],
    goes_on: tuple[bool, bool],
) -> Candidates:
    """The products of two rankings, each once.

    Args:
        by_vectors: hits with cosines, best first.
        by_words: hits with scores of full-text search, best first.
        known_words: hits of full-text search that are among those by vectors.
        excluded: ids of products that are left out.
        goes_on: for each ranking, whether the store has more.
    """
    rows: dict[str, int] = {}
    hits: list[Hit] = []
    for hit in (*by_vectors, *by_words):
        if hit.product_id not in rows and hit.product_id not in excluded:
            rows[hit.product_id] = len(hits)
            hits.append(hit)
    cosines = np.full(len(hits), np.nan)
    word_scores = np.zeros(len(hits))
    last_rows = []
    for ranking, scores, has_more in zip(
        (by_vectors, by_words), (cosines, word_scores), goes_on, strict=True
    ):
        kept = [hit for hit in ranking if hit.product_id not in excluded]
        scores[[rows[hit.product_id] for hit in kept]] = [hit.score for hit in kept]
        if has_more and kept:
            last_rows.append(rows[kept[-1].product_id])
    for hit in known_words:
        if hit.product_id in rows:
            word_scores[rows[hit.product_id]] = hit.score
    return Candidates(hits, cosines, word_scores, last_rows)


def fill_cosines(
    store: Store, some: Sequence[tuple[Float[np.ndarray, " dim"], Candidates]], scale: Scale
) -> None:
    """Compute the cosines that are not known, in place, with one read of the store.

    Args:
        store: has the vectors.
        some: queries' vectors, and the candidates whose cosines are filled in.
        scale: what is usual for a query, for products whose vectors are damaged.
    """
    unknown = [np.flatnonzero(np.isnan(candidates.cosines)).tolist() for _, candidates in some]
    names = [
        [candidates.hits[row].product_id for row in rows]
        for (_, candidates), rows in zip(some, unknown, strict=True)
    ]
    wanted = list(dict.fromkeys(chain.from_iterable(names)))
    fetched = store.fetch(wanted, columns=False) if wanted else None
    if fetched is None or fetched.vectors is None:
        return
    places = {name: place for place, name in enumerate(fetched.ids)}
    for (vector, candidates), rows, own in zip(some, unknown, names, strict=True):
        found = [(row, places[name]) for row, name in zip(rows, own, strict=True) if name in places]
        if found:
            filled, at = map(list, zip(*found, strict=True))
            candidates.cosines[filled] = np.clip(fetched.vectors[at] @ vector, -1.0, 1.0)
        if len(found) < len(rows):
            np.nan_to_num(candidates.cosines, copy=False, nan=scale.moments(vector)[0])


def penalties(
    store: Store,
    query: Query,
    ids: Sequence[str],
    texts: dict[str, np.ndarray],
    unlike: Sequence[np.ndarray],
) -> Float[np.ndarray, " n"]:
    """How much each candidate shows of what is to be avoided, in standard deviations.

    Args:
        store: has the vectors.
        query: what is to be avoided.
        ids: the candidates; one without a sound vector shows nothing.
        texts: vectors of the query's words and phrases.
        unlike: vectors of the products that hits should not look like.
    """
    found = np.zeros(len(ids))
    fetched = store.fetch(ids, columns=False)
    if fetched.vectors is None or not fetched.ids:
        return found
    vectors, directions = fetched.vectors, []
    if query.phrases:
        directions.append(avoided_directions(texts, query.words, query.phrases))
    if unlike:
        directions.append(unit(np.stack(unlike) - vectors.mean(axis=0)))
    shown = vectors @ np.concatenate(directions).T
    above = shown - np.median(shown, axis=0)
    z = above / np.maximum(shown.std(axis=0), 1e-9)
    rows = {name: row for row, name in enumerate(ids)}
    found[[rows[name] for name in fetched.ids]] = np.maximum(z, 0.0).sum(axis=1)
    return found
