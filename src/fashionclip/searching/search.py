"""``search_many``: many queries over a store, with one pass of the model and one of the store."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from fashionclip.errors import FashionCLIPError, ProductNotFoundError
from fashionclip.images.fetch import FetchPolicy
from fashionclip.model import FashionCLIP
from fashionclip.product import Hit, Value
from fashionclip.relevance import scale_of
from fashionclip.searching.query import NEUTRAL, Query, several
from fashionclip.searching.ranking import (
    avoided_directions,
    demoted,
    fuse,
    group_column,
    one_per_group,
    unit,
)
from fashionclip.searching.results import Outcome, Results
from fashionclip.store import Store, require_model
from fashionclip.store.filters import Filter, parse_filter

MIN_POOL = 500
"""Hits that are ranked again together, where there is something to avoid or to match."""
BEST_BY_WORDS = 5
"""Hits by words whose words are looked at, for how much of the query they cover."""
GROUP_AHEAD = 4
"""Candidates for each group that is wanted, and how many times more where they are too few."""


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
        model: the model that made it; None will do for ``similar_to`` alone.
        queries: in any mixture.
        policy: how remote images may be fetched.

    Returns:
        For each query its results, or its error (``ValueError``, ``FilterError``,
        ``ProductNotFoundError``, ``ImageFetchError``, ``ImageError``). A score is the cosine of
        query and product, less the penalty; in the mode ``hybrid`` it is the fused score.

    Raises:
        ModelMismatchError: the store holds another model's vectors.
        StoreError: the store cannot be read.
    """
    if model is not None:
        require_model(store, model=model.name, fingerprint=model.fingerprint)
    search = _Search(store, model, queries, policy)
    search.prepare()
    search.encode()
    search.find()
    return search.outcomes()


@dataclass(slots=True, eq=False)
class _Pending:
    """A query on its way to its hits."""

    query: Query
    where: Filter | None
    group: str | None
    """The column by which hits are grouped, if they are."""
    depth: int
    """Candidates wanted; more if the groups among them are too few."""
    texts: dict[str, np.ndarray]
    """Vectors of the query's words and phrases, once they are encoded."""
    images: list[np.ndarray]
    """Vectors of its images."""
    unlike: list[np.ndarray]
    excluded_groups: set[Value] = field(default_factory=set)
    """The groups of the products that the query names."""
    vector: np.ndarray | None = None
    hits: Sequence[Hit] = ()

    @property
    def needed_texts(self) -> list[str]:
        words, phrases = self.query.words, self.query.phrases
        return [*([words] if words else []), *([*phrases, NEUTRAL] if phrases else [])]

    @property
    def excluded(self) -> frozenset[str]:
        return frozenset((*several(self.query.similar_to), *several(self.query.unlike)))


class _Search:
    """One call of ``search_many``."""

    def __init__(
        self,
        store: Store,
        model: FashionCLIP | None,
        queries: Sequence[Query],
        policy: FetchPolicy | None,
    ) -> None:
        self._store, self._model, self._queries, self._policy = store, model, queries, policy
        self._pending: dict[int, _Pending] = {}
        self._errors: dict[int, FashionCLIPError | TypeError | ValueError] = {}

    def prepare(self) -> None:
        """Check the queries, parse their filters, and fetch the products that they name."""
        meta = self._store.meta
        for i, query in enumerate(self._queries):
            try:
                query.check(has_model=self._model is not None)
                where = query.where
                if isinstance(where, str):
                    where = parse_filter(where, meta.columns, meta.roles)
                column = group_column(meta) if query.group else None
            except (FashionCLIPError, TypeError, ValueError) as exc:
                self._errors[i] = exc
            else:
                vector = query.image_vector
                images = [] if vector is None else [vector]
                last = (query.offset + query.k + 1) * (GROUP_AHEAD if query.group else 1)
                depth = -(-last // MIN_POOL) * MIN_POOL if query.is_reranked else last
                self._pending[i] = _Pending(query, where, column, depth, {}, images, [])
        named = [name for one in self._pending.values() for name in one.excluded]
        if not named:
            return
        has_groups = any(one.group for one in self._pending.values())
        rows = self._store.fetch(list(dict.fromkeys(named)), columns=has_groups)
        values = dict(zip(rows.ids, rows.columns.to_pylist(), strict=True)) if has_groups else {}
        stored = dict(zip(rows.ids, rows.vectors if rows.vectors is not None else (), strict=True))
        for i, one in list(self._pending.items()):
            missing = next((name for name in one.excluded if name not in stored), None)
            if missing is not None:
                self._fail(i, ProductNotFoundError(not_found(self._store, missing)))
                continue
            one.images += [stored[name] for name in several(one.query.similar_to)]
            one.unlike += [stored[name] for name in several(one.query.unlike)]
            if one.group is not None:
                one.excluded_groups = {values[name][one.group] for name in one.excluded} - {None}

    def encode(self) -> None:
        """Encode all texts, and all images, and combine them to a vector per query."""
        model = self._model
        by_templates: dict[object, list[_Pending]] = {}
        for one in self._pending.values():
            templates = one.query.templates
            key = templates if isinstance(templates, str | None) else tuple(templates)
            by_templates.setdefault(key, []).append(one)
        for some in by_templates.values():
            texts = list(dict.fromkeys(text for one in some for text in one.needed_texts))
            if model is None or not texts:
                continue
            vectors = model.encode_text(texts, templates=some[0].query.templates)
            encoded = dict(zip(texts, vectors, strict=True))
            for one in some:
                one.texts = {text: encoded[text] for text in one.needed_texts}
        images = {i: one.query.image for i, one in self._pending.items()}
        given = {i: image for i, image in images.items() if image is not None}
        if model is not None and given:
            found = model.iter_images(
                given.values(),
                batch_size=len(given),
                workers=min(len(given), 8),
                policy=self._policy,
            )
            for i, vector in zip(given, found, strict=True):
                if isinstance(vector, FashionCLIPError):
                    self._fail(i, vector)
                else:
                    self._pending[i].images.append(vector)
        for one in self._pending.values():
            words = one.query.words
            text = one.texts[words] if words else None
            one.vector = _combine(text, one.images, one.query.weight)

    def find(self) -> None:
        """Find the neighbours of all queries, and rank them again where it is needed."""
        waiting = list(self._pending)
        while waiting:
            waiting = self._find(waiting)

    def _find(self, waiting: Sequence[int]) -> list[int]:
        """Find the hits of some queries; returns those that need more, for want of groups."""
        alike: dict[tuple[int, bool | None], list[int]] = {}
        short: list[int] = []
        for i in waiting:
            one = self._pending[i]
            k = one.depth + len(one.excluded)
            # queries for about as many hits are searched together
            alike.setdefault((k.bit_length(), one.query.exact), []).append(i)
        for (_, exact), rows in alike.items():
            some = [self._pending[i] for i in rows]
            k = max(one.depth + len(one.excluded) for one in some)
            rankings = self._store.nearest(
                np.stack([one.vector for one in some if one.vector is not None]),
                k=k,
                where=[one.where for one in some],
                exact=exact,
            )
            for i, one, hits in zip(rows, some, rankings, strict=True):
                kept = [hit for hit in hits if hit.product_id not in one.excluded]
                one.hits = self._reranked(one, kept[: one.depth])
                if one.group is not None:
                    one.hits = one_per_group(one.hits, one.group, one.excluded_groups)
                    if len(one.hits) <= one.query.offset + one.query.k and len(hits) >= k:
                        one.depth *= GROUP_AHEAD
                        short.append(i)
        return short

    def outcomes(self) -> list[Outcome]:
        """Results or error of each query, in their order."""
        return [
            self._errors[i] if i in self._errors else self._results(self._pending[i])
            for i in range(len(self._queries))
        ]

    def _results(self, one: _Pending) -> Results:
        first, last = one.query.offset, one.query.offset + one.query.k
        hits = one.hits[first:last]
        return Results(hits, n_relevant=len(hits), has_more=len(one.hits) > last)

    def _reranked(self, one: _Pending, hits: list[Hit]) -> Sequence[Hit]:
        query = one.query
        if query.mode != "vectors" and query.words:
            by_words = self._store.text_search(query.words, k=one.depth, where=one.where)
            hits = self._fused(
                one, hits, [hit for hit in by_words if hit.product_id not in one.excluded]
            )
        if (query.phrases or one.unlike) and query.avoid_weight:
            hits = demoted(hits, self._penalties(one, hits), query.avoid_weight)
        return hits

    def _fused(self, one: _Pending, by_vectors: list[Hit], by_words: list[Hit]) -> list[Hit]:
        """Candidates by vectors and by words in one ranking."""
        scale, words, vector = scale_of(self._store), one.query.words, one.vector
        if words is None or vector is None:
            return by_vectors
        known = {hit.product_id for hit in by_vectors}
        missing = {hit.product_id: hit for hit in by_words if hit.product_id not in known}
        rows = self._store.fetch(list(missing), columns=False)
        if rows.vectors is not None:
            cosines = zip(rows.ids, (rows.vectors @ vector).tolist(), strict=True)
            by_vectors += [replace(missing[name], score=cosine) for name, cosine in cosines]
        best = (
            " ".join((hit.product_id, *map(str, hit.columns.values())))
            for hit in by_words[:BEST_BY_WORDS]
        )
        mean, std = scale.moments(vector)
        return fuse(by_vectors, by_words, coverage=scale.coverage(words, best), mean=mean, std=std)

    def _penalties(self, one: _Pending, hits: Sequence[Hit]) -> dict[str, float]:
        """How much each candidate shows of what is to be avoided, in standard deviations."""
        names = [hit.product_id for hit in hits]
        rows = self._store.fetch(names, columns=False)  # damaged vectors are not among them
        if rows.vectors is None or not rows.ids:
            return {}
        vectors, directions = rows.vectors, []
        if one.query.phrases:
            directions.append(avoided_directions(one.texts, one.query.words, one.query.phrases))
        if one.unlike:
            directions.append(unit(np.stack(one.unlike) - vectors.mean(axis=0)))
        shown = vectors @ np.concatenate(directions).T
        above = shown - np.median(shown, axis=0)
        z = above / np.maximum(shown.std(axis=0), 1e-9)
        return dict(zip(rows.ids, np.maximum(z, 0.0).sum(axis=1).tolist(), strict=True))

    def _fail(self, i: int, error: FashionCLIPError | ValueError) -> None:
        self._errors[i] = error
        del self._pending[i]


def not_found(store: Store, product_id: str) -> str:
    """What to say of an id that is not stored, with the ids that are spelled alike."""
    similar = store.similar_ids(product_id)
    hint = f"; similar ids: {', '.join(similar)}" if similar else ""
    return f"the index {store.meta.uri} has no product {product_id!r}{hint}"


def _combine(
    text: np.ndarray | None, images: Sequence[np.ndarray], weight: float
) -> Float[np.ndarray, " dim"]:
    if not images and text is not None:
        return text
    image = unit(np.mean(images, axis=0))
    combined = image if text is None else weight * text + (1.0 - weight) * image
    return unit(combined).astype(np.float32)
