"""Queries over a store: by text, image or stored product; things to avoid, fusion with words.

A query becomes one unit vector, the store returns its neighbours, and they are ranked again where
the query has things to avoid (``avoid``, ``unlike``) or should also match the captions' words
(``hybrid``). ``search_many`` answers many queries with one pass of the model for all texts, one for
all images, and one search of the store; every search of this package goes through it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from fashionclip.errors import FashionCLIPError, ProductNotFoundError
from fashionclip.images.fetch import FetchPolicy
from fashionclip.model import FashionCLIP, ImageSource
from fashionclip.product import Hit, Value
from fashionclip.store import Store, StoreMeta, require_model
from fashionclip.store.filters import Filter, parse_filter

MIN_POOL = 500
"""Hits that are ranked again together, where there is something to avoid or to match."""
GROUP_AHEAD = 4
"""Candidates for each group that is wanted, and how many times more where they are too few."""
FUSION_RANK = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher 2009)."""
NEUTRAL = "product"
"""A text that names nothing in particular: the origin from which texts' meanings are measured."""

Outcome = list[Hit] | FashionCLIPError | TypeError | ValueError
"""What becomes of one of many queries: its hits, or what is wrong with it."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Query:
    """One search.

    Its vector is ``unit(weight * text + (1 - weight) * unit(mean of images))``, each part a unit
    vector; the images are ``image`` and the stored ones of ``similar_to``. Where there are only
    things to avoid, the text is ``NEUTRAL``.

    With things to avoid, the best candidates (at least ``MIN_POOL`` of them) are ranked again by

        ``score - avoid_weight * spread * sum over phrases a of max(0, z_a)``

    where ``z_a`` is how much more than the median candidate a product shows what ``a`` adds to the
    query, in standard deviations over the candidates, and ``spread`` is the standard deviation of
    their scores, so that 1 means the same for every model and query. What ``a`` adds is the
    direction ``a - n`` without its part along ``q - n``, for the text ``q`` of the query and a
    neutral text ``n``: red is not held against red dresses in "red dress" without "red shoes".
    Subtracting the vector of ``a`` from the query's instead would push the query away from images
    of clothes altogether. What a product of ``unlike`` adds is the difference between its vector
    and the mean of the candidates.

    With ``hybrid``, the ranking by vectors and the full-text ranking of the captions are fused:
    ``score = sum over rankings of 1 / (60 + rank)``.

    Source: fusion after Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms
        Condorcet and individual rank learning methods", SIGIR 2009, equation 1.
    """

    text: str | None = None
    image: ImageSource | None = None
    """A path, URL, bytes, Pillow image or array."""
    image_vector: Float32[np.ndarray, " dim"] | None = None
    """The unit vector of an image that is encoded already; it counts as ``image`` does."""
    similar_to: str | Sequence[str] = ()
    """Ids of stored products; they themselves are left out."""
    unlike: str | Sequence[str] = ()
    """Ids of stored products that hits should not look like; left out too."""
    weight: float = 0.5
    """Share of the text where there are text and images, in 0…1."""
    avoid: str | Sequence[str] = ()
    """Phrases for what hits should not show."""
    avoid_weight: float = 1.0
    """How much avoiding counts, 0 or more."""
    where: str | Filter | None = None
    """A filter over the catalogue's columns, applied before the vectors are compared."""
    k: int = 10
    """Hits wanted, at least 1."""
    offset: int = 0
    """Hits to leave out at the start, for pages. Pages fit together up to ``MIN_POOL`` hits, and
    without ``avoid`` and ``hybrid`` at any depth."""
    hybrid: bool = False
    """Also match the text with the captions."""
    templates: str | Sequence[str] | None = None
    """Prompt templates, as in ``FashionCLIP.encode_text``."""
    group: bool = False
    """Only the best hit of each group: products with one value in the column of the role
    ``group`` are variants of one another. A product without a value is a group of its own."""
    exact: bool | None = None
    """True compares every vector even where there is an approximate index."""

    @property
    def phrases(self) -> list[str]:
        """What to avoid, without blanks."""
        return [phrase.strip() for phrase in _several(self.avoid) if phrase.strip()]

    @property
    def words(self) -> str | None:
        """The text to search with; ``NEUTRAL`` where there are only things to avoid."""
        text = (self.text or "").strip()
        has_other = self.has_image or bool(_several(self.similar_to))
        is_penalised = bool(self.phrases or _several(self.unlike))
        return text or (NEUTRAL if is_penalised and not has_other else None)

    @property
    def has_image(self) -> bool:
        """Whether there is an image, encoded or not."""
        return self.image is not None or self.image_vector is not None

    @property
    def is_reranked(self) -> bool:
        """Whether more candidates are needed than hits are wanted."""
        has_penalty = bool(self.phrases or _several(self.unlike)) and self.avoid_weight > 0
        return self.hybrid or has_penalty

    @property
    def needs_model(self) -> bool:
        """Whether anything has to be encoded."""
        return bool(self.words or self.phrases) or self.image is not None

    def check(self, *, has_model: bool = True) -> None:
        """Refuse a query that makes no sense.

        Raises:
            TypeError: a value is of another type than its field.
            ValueError: nothing to search for, a number out of range, or no model to encode with.
        """
        self._check_types()
        faults = {
            "nothing to look for: give text, image or similar_to": (
                self.words is None and not self.has_image and not _several(self.similar_to)
            ),
            "hybrid matches words with captions: give text too": self.hybrid and not self.words,
            f"weight is {self.weight}; it is the share of the words, 0 to 1": (
                not 0 <= self.weight <= 1
            ),
            f"avoid_weight is {self.avoid_weight}; it must be 0 or more": (
                not 0 <= self.avoid_weight < np.inf
            ),
            f"k is {self.k}: ask for at least 1 hit": self.k < 1,
            f"offset is {self.offset}; it must be 0 or more": self.offset < 0,
            "words and images need the model that made the index; similar_to alone does not": (
                self.needs_model and not has_model
            ),
        }
        for message, is_wrong in faults.items():
            if is_wrong:
                raise ValueError(message)

    def _check_types(self) -> None:
        """Refuse values of another type than their fields.

        Raises:
            TypeError: there is one.
        """
        wanted: dict[str, tuple[Any, str]] = {
            "text": (str | None, "text"),
            "where": (str | Filter | None, "a filter's text, such as 'price < 50'"),
            "weight": (Real, "a number"),
            "avoid_weight": (Real, "a number"),
            "k": (Integral, "a whole number"),
            "offset": (Integral, "a whole number"),
        }
        faults = [
            (name, what)
            for name, (kind, what) in wanted.items()
            if not isinstance(getattr(self, name), kind)
        ]
        for name in ("similar_to", "unlike", "avoid"):
            value: Any = getattr(self, name)
            is_sequence = isinstance(value, Iterable) and not isinstance(value, bytes)
            if not is_sequence or not all(isinstance(one, str) for one in value):
                faults.append((name, "text, or a list of texts"))
        for name, what in faults:
            message = f"{name} must be {what}, not {getattr(self, name)!r:.60}"
            raise TypeError(message)


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
        For each query its hits, best first, equal scores by id, or its error (``ValueError``,
        ``FilterError``, ``ProductNotFoundError``, ``ImageFetchError``, ``ImageError``). A score is
        the cosine of query and product, less the penalty; with ``hybrid`` it is the fused score.

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
        return frozenset((*_several(self.query.similar_to), *_several(self.query.unlike)))


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
                last = (query.offset + query.k) * (GROUP_AHEAD if query.group else 1)
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
            one.images += [stored[name] for name in _several(one.query.similar_to)]
            one.unlike += [stored[name] for name in _several(one.query.unlike)]
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
                    if len(one.hits) < one.query.offset + one.query.k and len(hits) >= k:
                        one.depth *= GROUP_AHEAD
                        short.append(i)
        return short

    def outcomes(self) -> list[Outcome]:
        """Hits or error of each query, in their order."""
        found: list[Outcome] = []
        for i in range(len(self._queries)):
            if i in self._errors:
                found.append(self._errors[i])
            else:
                query = self._pending[i].query
                found.append(list(self._pending[i].hits[query.offset : query.offset + query.k]))
        return found

    def _reranked(self, one: _Pending, hits: list[Hit]) -> Sequence[Hit]:
        query = one.query
        rankings = [hits]
        if query.hybrid and query.words:
            by_words = self._store.text_search(query.words, k=one.depth, where=one.where)
            rankings.append([hit for hit in by_words if hit.product_id not in one.excluded])
        if (query.phrases or one.unlike) and query.avoid_weight:
            penalties = self._penalties(one, rankings)
            rankings = [_demoted(some, penalties, query.avoid_weight) for some in rankings]
        return rankings[0] if len(rankings) == 1 else fuse(rankings)

    def _penalties(self, one: _Pending, rankings: Sequence[Sequence[Hit]]) -> dict[str, float]:
        """How much each candidate shows of what is to be avoided, in standard deviations."""
        names = list(dict.fromkeys(hit.product_id for hits in rankings for hit in hits))
        rows = self._store.fetch(names, columns=False)  # damaged vectors are not among them
        if rows.vectors is None or not rows.ids:
            return {}
        vectors, directions = rows.vectors, []
        if one.query.phrases:
            directions.append(avoided_directions(one.texts, one.query.words, one.query.phrases))
        if one.unlike:
            directions.append(_unit(np.stack(one.unlike) - vectors.mean(axis=0)))
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


def group_column(meta: StoreMeta) -> str:
    """The column of the role ``group``.

    Raises:
        ValueError: there is none.
    """
    if meta.roles.group in meta.columns:
        return str(meta.roles.group)
    message = "this index has no column of groups; index with --column group=NAME"
    raise ValueError(message)


def one_per_group(
    hits: Iterable[Hit], column: str, seen: Collection[Value] = frozenset()
) -> list[Hit]:
    """The first hit of each value of a column, and all that have none.

    Args:
        hits: best first.
        column: whose values are the groups.
        seen: groups whose products are left out.
    """
    groups, found = set(seen), []
    for hit in hits:
        group = hit.columns.get(column)
        if group is None or group not in groups:
            groups.add(group)
            found.append(hit)
    return found


def fuse(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Reciprocal rank fusion of rankings, best first; see ``Query``."""
    scores: dict[str, float] = {}
    products: dict[str, Hit] = {}
    for hits in rankings:
        for rank, hit in enumerate(hits, start=1):
            scores[hit.product_id] = scores.get(hit.product_id, 0.0) + 1.0 / (FUSION_RANK + rank)
            products.setdefault(hit.product_id, hit)
    return _sorted(replace(products[name], score=score) for name, score in scores.items())


def avoided_directions(
    vectors: Mapping[str, Float[np.ndarray, " dim"]], text: str | None, phrases: Sequence[str]
) -> Float[np.ndarray, "phrase dim"]:
    """What each phrase adds to the query's text, as unit vectors; see ``Query``.

    Args:
        vectors: unit vectors of the text, the phrases and ``NEUTRAL``.
        text: the query's text, if it has any.
        phrases: what to avoid.
    """
    neutral = vectors[NEUTRAL].astype(np.float64)
    added = np.stack([vectors[phrase] for phrase in phrases]) - neutral
    if text is not None:
        wanted = _unit(vectors[text] - neutral)
        # only the shared part goes; a phrase that means the opposite keeps its whole direction
        added -= np.maximum(added @ wanted, 0.0)[:, None] * wanted
    return _unit(added)


def _several(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _combine(
    text: np.ndarray | None, images: Sequence[np.ndarray], weight: float
) -> Float[np.ndarray, " dim"]:
    if not images and text is not None:
        return text
    image = _unit(np.mean(images, axis=0))
    combined = image if text is None else weight * text + (1.0 - weight) * image
    return _unit(combined).astype(np.float32)


def _demoted(hits: Sequence[Hit], penalties: Mapping[str, float], weight: float) -> list[Hit]:
    spread = float(np.std([hit.score for hit in hits])) if hits else 0.0
    return _sorted(
        replace(hit, score=hit.score - weight * spread * penalties.get(hit.product_id, 0.0))
        for hit in hits
    )


def _sorted(hits: Iterable[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.product_id))


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12))
