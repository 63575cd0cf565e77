"""``search_many``: many queries over a store, with one pass of the model and one of the store."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import chain

import numpy as np
from jaxtyping import Float, Int

from fashionclip.errors import FashionCLIPError, ProductNotFoundError
from fashionclip.images.fetch import FetchPolicy
from fashionclip.model import FashionCLIP
from fashionclip.product import Hit, Product
from fashionclip.relevance import scale_of
from fashionclip.searching.candidates import Candidates, fill_cosines, merge_rankings, penalties
from fashionclip.searching.cursors import vector_print, write_cursor
from fashionclip.searching.directions import kept_category, leaves_category, with_category
from fashionclip.searching.encoding import encode_queries
from fashionclip.searching.explanation import explained, stored_products
from fashionclip.searching.lists import list_page
from fashionclip.searching.pages import EXACT, FITTING, POOL, SCORED_BY_WORDS, WEAKER, Page, page_of
from fashionclip.searching.pending import Pending, prepared
from fashionclip.searching.query import Query, several
from fashionclip.searching.ranking import fuse, match_words, word_shares
from fashionclip.searching.results import Outcome, Results
from fashionclip.searching.variants import with_values, with_variants
from fashionclip.store import Store, require_model
from fashionclip.store.filter_hints import MAX_VALUES, filter_hint
from fashionclip.store.filters import Column
from fashionclip.store.fulltext import product_text

DEEPER = 4
"""How many times more candidates are taken where those before were too few."""
BEST_BY_WORDS = 3
"""Candidates whose words are looked at, for how much of the query the best by words cover."""
TEXT_THREADS = 2
"""Full-text searches at the same time, beside the model and the vectors."""


def search_many(
    store: Store,
    model: FashionCLIP | None,
    queries: Sequence[Query],
    *,
    policy: FetchPolicy | None = None,
) -> list[Outcome]:
    """Answer several queries; one that cannot be answered costs only itself.

    Args:
        store: what is searched.
        model: the model that made it; None will do for lists, words and ``similar_to`` alone.
        queries: in any mixture.
        policy: how remote images may be fetched.

    Returns:
        For each query its results, or its error (``ValueError``, ``FilterError``,
        ``ProductNotFoundError``, ``ImageFetchError``, ``ImageError``). A score is the cosine of
        query and product, less the penalty; in the mode ``hybrid`` it is the fused score, in the
        mode ``words`` that of full-text search, and 1 in a list.

    Raises:
        ModelMismatchError: the store holds another model's vectors.
        StoreError: the store cannot be read.
    """
    if model is not None:
        require_model(store, model=model.name, fingerprint=model.fingerprint)
    with ThreadPoolExecutor(TEXT_THREADS) as threads:
        search = _Search(store, model, queries, policy, threads)
        search.prepare()
        search.match_words()
        search.encode()
        search.find()
        return search.outcomes()


class _Search:
    """One call of ``search_many``."""

    def __init__(
        self,
        store: Store,
        model: FashionCLIP | None,
        queries: Sequence[Query],
        policy: FetchPolicy | None,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._store, self._model, self._queries, self._policy = store, model, queries, policy
        self._threads = threads
        self._pending: dict[int, Pending] = {}
        self._errors: dict[int, FashionCLIPError | TypeError | ValueError] = {}

    def prepare(self) -> None:
        """Check the queries, parse their filters, and fetch the products that they name."""
        meta = self._store.meta
        for i, query in enumerate(self._queries):
            try:
                self._pending[i] = prepared(query, meta, has_model=self._model is not None)
            except (FashionCLIPError, TypeError, ValueError) as exc:
                self._errors[i] = exc
        named = [name for one in self._pending.values() for name in one.excluded]
        if not named:
            return
        has_columns = any(one.layout.group or one.changes for one in self._pending.values())
        rows = self._store.fetch(list(dict.fromkeys(named)), columns=has_columns)
        values = dict(zip(rows.ids, rows.columns.to_pylist(), strict=True)) if has_columns else {}
        category = meta.roles.category
        stored = dict(zip(rows.ids, rows.vectors if rows.vectors is not None else (), strict=True))
        for i, one in list(self._pending.items()):
            missing = next((name for name in one.excluded if name not in stored), None)
            if missing is not None:
                self._fail(i, ProductNotFoundError(not_found(self._store, missing)))
                continue
            one.images += [stored[name] for name in several(one.query.similar_to)]
            one.unlike += [stored[name] for name in several(one.query.unlike)]
            if one.changes and category is not None:
                one.categories = [
                    values[name].get(category) for name in several(one.query.similar_to)
                ]
            if one.layout.group is not None:
                groups = {values[name][one.layout.group] for name in one.excluded} - {None}
                one.layout = replace(one.layout, excluded_groups=frozenset(groups))

    def match_words(self) -> None:
        """Begin the full-text searches, which run beside the model and the vectors."""
        begun: dict[object, Future[list[Hit]]] = {}
        for one in self._pending.values():
            if one.query.matches_words:
                key = (one.query.words, one.where, one.columns, one.n_candidates)
                if key not in begun:
                    begun[key] = self._threads.submit(self._by_words, one)
                one.by_words = begun[key]

    def _by_words(self, one: Pending) -> list[Hit]:
        return self._store.text_search(
            one.query.words or "",
            k=max(one.n_candidates, SCORED_BY_WORDS),
            where=one.where,
            columns=one.columns,
        )

    def encode(self) -> None:
        """Encode all texts, and all images, and combine them to a vector per query."""
        errors = encode_queries(self._pending, self._model, self._policy)
        for i, error in errors.items():
            self._fail(i, error)
        for one in self._pending.values():
            if one.changes and one.start is not None:
                kept = kept_category(self._store, one.start, one.categories, one.where)
                if kept is not None and not leaves_category(one.applied, kept, self._store):
                    one.kept = kept
            if one.kept is not None:
                one.where = with_category(one.where, one.kept, self._store)
                one.by_words = None  # which began without it

    def find(self) -> None:
        """List products, or find the neighbours of all queries; deeper where they are too few."""
        for one in self._pending.values():
            if one.query.is_list:
                one.results = list_page(self._store, one)
        waiting = [one for one in self._pending.values() if one.results is None]
        while waiting:
            waiting = self._find(waiting)

    def _find(self, waiting: Sequence[Pending]) -> list[Pending]:
        """Find the hits of some queries; returns those that need more candidates."""
        by_vectors: dict[int, list[Hit]] = {}
        alike: dict[object, list[Pending]] = {}
        for one in waiting:
            if one.vector is not None:
                # queries for about as many hits are searched together
                key = (one.n_candidates.bit_length(), one.query.exact, one.columns)
                alike.setdefault(key, []).append(one)
        for some in alike.values():
            k = max(one.n_candidates for one in some)
            rankings = self._store.nearest(
                np.stack([one.vector for one in some if one.vector is not None]),
                k=k,
                where=[one.where for one in some],
                exact=some[0].query.exact,
                columns=some[0].columns,
            )
            for one, hits in zip(some, rankings, strict=True):
                by_vectors[id(one)] = hits[: one.n_candidates]
        merged = [self._merged(one, by_vectors.get(id(one), [])) for one in waiting]
        self._fill_cosines(waiting, merged)
        best = self._best_texts(waiting, merged)
        short = []
        for one, candidates, texts in zip(waiting, merged, best, strict=True):
            if self._ranked(one, candidates, texts):
                short.append(one)
                one.depth *= DEEPER
                one.by_words = None
        return short

    def _merged(self, one: Pending, by_vectors: list[Hit]) -> Candidates:
        """The candidates of a query: those by vectors and those by words."""
        k = one.n_candidates
        by_words: list[Hit] = []
        if one.query.matches_words:
            by_words = one.by_words.result() if one.by_words else self._by_words(one)
        near = {hit.product_id for hit in by_vectors}
        return merge_rankings(
            by_vectors,
            by_words[:k],
            known_words=[
                *(hit for hit in by_words[k:] if hit.product_id in near),
                *self._further_words(one, by_vectors, by_words),
            ],
            excluded=one.excluded,
            goes_on=(len(by_vectors) >= k, len(by_words) >= k),
        )

    def _fill_cosines(self, some: Sequence[Pending], merged: Sequence[Candidates]) -> None:
        """Compute the cosines of what was found by words alone, with one read of the vectors."""
        filled = [
            (one.vector, candidates)
            for one, candidates in zip(some, merged, strict=True)
            if one.vector is not None and one.query.matches_words
        ]
        if filled:
            fill_cosines(self._store, filled, scale_of(self._store))

    def _best_texts(
        self, some: Sequence[Pending], merged: Sequence[Candidates]
    ) -> list[Sequence[str]]:
        """The words of the best products by words of each query, with one read of them all."""
        names = [
            candidates.best_by_words(BEST_BY_WORDS) if one.query.matches_words else []
            for one, candidates in zip(some, merged, strict=True)
        ]
        products = stored_products(self._store, list(dict.fromkeys(chain.from_iterable(names))))
        roles = self._store.meta.roles
        texts = {name: product_text(product, roles) for name, product in products.items()}
        return [[texts[name] for name in own if name in texts] for own in names]

    def _threshold(self, one: Pending) -> float | None:
        """The relevance threshold of a query; None where it has none.

        It is measured on texts, and no text is as far from its start as a moved vector.
        """
        if one.query.has_image or one.query.similar_to or one.changes:
            return None
        return self._store.meta.relevance_threshold

    def _ranked(self, one: Pending, candidates: Candidates, best_texts: Sequence[str]) -> bool:
        """Rank the candidates of a query; returns whether it needs more of them."""
        query = one.query
        scores, bands = self._scored(one, candidates, best_texts)
        page = page_of(one.layout, candidates, scores, bands, self._vectors)
        is_all = bool((bands[candidates.last_rows] == WEAKER).all())
        n_counted = len(page.counted)
        is_short = not page.has_more or (
            one.layout.group is not None and query.total and not is_all and n_counted < POOL
        )
        if is_short and candidates.last_rows:
            return True
        one.results = self._results(one, candidates, scores, page, is_all=is_all)
        return False

    def _further_words(
        self, one: Pending, by_vectors: Sequence[Hit], by_words: Sequence[Hit]
    ) -> list[Hit]:
        """Hits by words among those by vectors, where more products match than were asked for.

        That matters only where the last of them match nearly as well as the first.
        """
        meta, is_cut = self._store.meta, len(by_words) >= max(one.n_candidates, SCORED_BY_WORDS)
        is_level = is_cut and 2 * by_words[-1].score > by_words[0].score
        found = {hit.product_id for hit in by_words}
        ids = tuple(hit.product_id for hit in by_vectors if hit.product_id not in found)
        if not (is_level and ids) or "id" in meta.columns:  # then id is another column to filters
            return []
        where = with_values(one.where, Column("id", "string"), ids)
        return self._store.text_search(
            one.query.words or "", k=len(ids), where=where, columns=one.columns
        )

    def _scored(
        self, one: Pending, candidates: Candidates, best_texts: Sequence[str]
    ) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """The scores of a query's candidates, and their bands."""
        query, meta = one.query, self._store.meta
        threshold = self._threshold(one)
        scores = candidates.cosines
        is_relevant = np.full(len(scores), threshold is None)
        if threshold is not None and one.vector is not None:
            is_relevant |= scores >= threshold
        if query.matches_words:
            scale = scale_of(self._store)
            coverage = scale.coverage(query.words or "", best_texts)
            shares = word_shares(candidates.word_scores, coverage)
            is_relevant |= match_words(shares, coverage)
            if one.vector is None:
                scores = candidates.word_scores
            else:
                mean, std = scale.moments(one.vector)
                scores = fuse(scores, shares, mean=mean, std=std)
        if query.has_penalty:
            shown = penalties(self._store, query, candidates.ids, one.texts, one.unlike)
            spread = float(np.std(scores)) if len(scores) else 0.0
            scores = scores - query.avoid_weight * spread * shown
        bands = np.where(is_relevant, FITTING, WEAKER)
        if query.matches_words:
            bands[candidates.named(query.words or "", meta.roles)] = EXACT
        return scores, bands

    def _results(
        self,
        one: Pending,
        candidates: Candidates,
        scores: Float[np.ndarray, " n"],
        page: Page,
        *,
        is_all: bool,
    ) -> Results:
        query = one.query
        hits = [replace(candidates.hits[row], score=float(scores[row])) for row in page.rows]
        if one.layout.group is not None:
            hits = with_variants(self._store, hits, one.layout.group, one.where)
        if query.explain:
            cosines = candidates.cosines[list(page.rows)].tolist()
            one.cosines = dict(zip([hit.product_id for hit in hits], cosines, strict=True))
        cursor = None
        if page.has_more:
            image_print = None
            if query.has_image and one.vector is not None:
                image_print = vector_print(one.vector)
            cursor = write_cursor(page.place, one.digest, image_print)
        return Results(
            hits,
            n_relevant=page.n_relevant,
            has_more=page.has_more,
            cursor=cursor,
            total=len(page.counted) if query.total else None,
            is_total_exact=is_all or not query.total,
            relevant_ids=[candidates.hits[row].product_id for row in page.counted],
            changes=one.applied,
            kept=one.kept,
        )

    def outcomes(self) -> list[Outcome]:
        """Results or error of each query, in their order, with the columns of their hits."""
        # an ungrouped list has its columns already
        bare = [
            one
            for one in self._pending.values()
            if not one.query.is_list or one.query.group or one.query.explain
        ]
        rows = self._rows(bare)
        for one in bare:
            if one.results is not None:
                one.results = self._filled(one, one.results, rows)
        found: dict[int, Outcome] = {**self._errors}
        for i, one in self._pending.items():
            if one.results is not None:
                found[i] = replace(one.results, hint=self._hint(one, one.results))
        return [found[i] for i in range(len(self._queries))]

    def _hint(self, one: Pending, results: Results) -> str:
        """How to mend the filter of a query; empty where a product passes it."""
        if results.hits or one.where is None or self._store.count(one.where):
            return ""
        return filter_hint(one.where, lambda name: self._store.values(name, k=MAX_VALUES))

    def _rows(self, some: Sequence[Pending]) -> dict[str, Product]:
        """The products that are hits of some queries, in one read."""
        hits = [hit for one in some if one.results is not None for hit in one.results.hits]
        return stored_products(self._store, list(dict.fromkeys(hit.product_id for hit in hits)))

    def _filled(self, one: Pending, results: Results, rows: Mapping[str, Product]) -> Results:
        """Results with the columns of their hits, less products that have just been deleted."""
        hits = []
        n_relevant = 0
        for i, hit in enumerate(results.hits):
            product = rows.get(hit.product_id)
            if product is None:
                continue
            n_relevant += i < results.n_relevant
            columns = one.chosen(product.columns)
            hits.append(replace(hit, columns=columns))
        if one.query.explain:
            hits = explained(
                hits,
                rows,
                one.cosines,
                text=one.query.text or "",
                vector=one.vector,
                scale=scale_of(self._store),
                roles=self._store.meta.roles,
            )
        return replace(results, hits=hits, n_relevant=n_relevant)

    def _vectors(self, ids: Sequence[str]) -> Float[np.ndarray, "n dim"]:
        """The vectors of some products, in their order; zeros where there is none."""
        rows = self._store.fetch(ids, columns=False)
        found = np.zeros((len(ids), self._store.meta.dim), np.float32)
        places = {name: row for row, name in enumerate(ids)}
        if rows.vectors is not None and rows.ids:
            found[[places[name] for name in rows.ids]] = rows.vectors
        return found

    def _fail(self, i: int, error: FashionCLIPError | ValueError) -> None:
        self._errors[i] = error
        del self._pending[i]


def not_found(store: Store, product_id: str) -> str:
    """What to say of an id that is not stored, with the ids that are spelled alike."""
    similar = store.similar_ids(product_id)
    hint = f"; similar ids: {', '.join(similar)}" if similar else ""
    return f"the index {store.meta.uri} has no product {product_id!r}{hint}"
