"""Everything that page and API ask of a store and its model, as coroutines.

Searches that arrive together are computed together: one pass of the model for all texts, and one
product with all vectors. Other calls run in a bounded pool of threads, whose calls of the model
are batched too. Calls beyond a queue are rejected (429).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32

from fashionclip.errors import FashionCLIPError, ProductNotFoundError, StoreError
from fashionclip.images.fetch import FetchPolicy
from fashionclip.model import FashionCLIP
from fashionclip.product import Hit, Kind, Roles
from fashionclip.relevance import calibrate
from fashionclip.searching import Query, Results, group_column, named_column, search_many
from fashionclip.serve.batching import (
    BatchingEngine,
    BoundedExecutor,
    MicroBatcher,
    log_store_error,
)
from fashionclip.serve.cache import LRUCache
from fashionclip.serve.facets import Facet, Facets
from fashionclip.serve.images import ImageDecoder, Thumbnails, fetch_image, thumbnail_tag
from fashionclip.serve.localizing import Localizer
from fashionclip.serve.memory_index import InMemoryIndex
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.near_ids import no_product
from fashionclip.serve.settings import Settings
from fashionclip.serve.views import further_views
from fashionclip.serve.writes import Change, Outcome, StoreWriter
from fashionclip.store import Store, StoreMeta, open_store, require_model
from fashionclip.store.blobs import read_stored_image
from fashionclip.store.filters import parse_filter
from fashionclip.store.snapshot import Snapshot

BUILTIN = "builtin"  # the name of the package's own model in a store
THREADS_PER_BATCH_ITEM = 2  # so that one batch fills while another is computed
IMAGE_THREADS = 16  # images that are fetched or made small at once
WRITE_THREADS = 16  # writes that are prepared at once, and then written together
STALE_S = 10.0  # without news of the store: the network is down, or a large change is being read
MAX_COUNTED_FILTERS = 256  # filters whose facet counts are cached


State = Literal["ready", "stale", "outdated", "other_model"]
"""``stale`` while the store cannot be read, and ``outdated`` once that has lasted too long;
``other_model`` if another model has made the store anew. Answers come from memory then."""

_NUMBERS = count()


@dataclass(frozen=True, slots=True)
class FoundPage(Results):
    """The results of one search, with facets if they were asked for."""

    facets: tuple[Facet, ...] | None = None
    """Of the products that fit, in the order in which they were asked for."""


class _FacetCounts:
    """Facets of one snapshot, with those of the filters that were used last."""

    def __init__(self, snapshot: Snapshot, before: "_FacetCounts | None") -> None:
        self.facets: Facets = Facets(snapshot, None if before is None else before.facets)
        self.by_filter: LRUCache[str, tuple[Facet, ...]] = LRUCache(MAX_COUNTED_FILTERS)

    @cached_property
    def all(self) -> tuple[Facet, ...]:
        return self.facets.counted(None)

    @cached_property
    def suggestions(self) -> tuple[str, ...]:
        return self.facets.suggestions()


class SearchService:
    """A store and its model, open for searches and writes."""

    def __init__(self, store: str | Path, settings: Settings, metrics: Metrics) -> None:
        """Open both, and search once, so that the first request does not wait for what loads late.

        Args:
            store: the store's URI.
            settings: the service's limits, the model's device and precision.
            metrics: counts queues and batches.

        Raises:
            FashionCLIPError: the store or its model cannot be opened, or do not belong together.
        """
        self._settings = settings
        max_batch, queue = settings.max_batch, settings.queue
        self._number = next(_NUMBERS)
        opened = open_store(
            store, read_only=settings.read_only, storage_options=settings.storage_options
        )
        self._index = InMemoryIndex(opened, metrics=metrics, saved_in=settings.snapshot_dir)
        try:
            model = _open_model(self._index, settings)
        except FashionCLIPError:
            self._index.close()
            raise
        self._search_model = model  # its calls come in batches already
        self._engine = BatchingEngine(model.engine, metrics, max_batch=max_batch)
        self._model = FashionCLIP(model.checkpoint, engine=self._engine)
        if self._index.meta.relevance_threshold is None:
            self._index.default_threshold = calibrate(self._index, model)
        search_many(self._index, model, [Query(text="product")])
        self._decoder = ImageDecoder(model.checkpoint.preprocess, max_pixels=settings.pixels)
        self.localizer = Localizer(self._index, self._model, self._decoder, metrics)
        policy = FetchPolicy(
            allow_private=settings.allow_private, storage_options=settings.storage_options
        )
        self._thumbnails = Thumbnails(
            lambda location: read_stored_image(location, self._index.blobs, policy=policy)
        )
        self._writer = StoreWriter(self._index, self._engine, self._decoder, metrics)
        self._facet_counts: _FacetCounts | None = None
        self._text_searches, self._searches = (
            MicroBatcher[Query, FoundPage](
                self._search_many,
                name=name,
                metrics=metrics,
                max_batch=max_batch,
                max_pending=queue,
            )
            for name in ("text_searches", "searches")  # searches by text alone are the fastest
        )
        n_threads = THREADS_PER_BATCH_ITEM * max_batch
        self._calls = BoundedExecutor("calls", metrics, n_threads=n_threads, max_pending=queue)
        self._images = BoundedExecutor(
            "images", metrics, n_threads=IMAGE_THREADS, max_pending=queue
        )
        self._writes = BoundedExecutor(
            "writes", metrics, n_threads=WRITE_THREADS, max_pending=queue
        )

    @property
    def columns(self) -> Mapping[str, Kind]:
        """The catalogue's columns and their kinds."""
        return self._index.meta.columns

    @property
    def roles(self) -> Roles:
        """Which column plays which part."""
        return self._index.meta.roles

    @property
    def version(self) -> str:
        """Changes whenever the products change; two services never have the same."""
        return f"{self._number}-{self._index.revision}"

    @property
    def count(self) -> int:
        """How many products there are."""
        return len(self._index)

    @property
    def meta(self) -> StoreMeta:
        """Model, roles and columns."""
        return self._index.meta

    @property
    def state(self) -> State:
        """Whether searches are answered from what the store holds."""
        if self._index.is_of_other_model:
            return "other_model"
        if self._index.stale_s > self._settings.max_stale_seconds:
            return "outdated"
        is_stale = self._index.fault or self._index.stale_s > STALE_S
        return "stale" if is_stale else "ready"

    async def search(
        self, query: Query, facets: Sequence[str] | Literal["all"] | None = None
    ) -> FoundPage:
        """Find products, or list them if the query has nothing to rank by.

        Args:
            query: its image is given as bytes.
            facets: columns or roles to count the values of among the products that fit; the facets
                of a list are those of all its products.

        Raises:
            BusyError: too many searches are pending.
            FilterError, ImageError, ProductNotFoundError, StoreError: as
                ``search_many``.
            ValueError: a number is out of range, or a column, facet or cursor is none.
        """
        query = replace(query, total=query.total or query.is_list or facets is not None)
        if query.is_list:
            found = await self._calls.run(self._search_one, query)
        else:
            others = query.image or query.avoid or query.similar_to or query.unlike or query.but
            batcher = self._searches if others or query.diversity else self._text_searches
            if isinstance(query.image, bytes):
                vector = await self._calls.run(self._encode_image, query.image)
                query = replace(query, image=None, image_vector=vector)
            found = await batcher.submit(query)
        if facets is None:
            return found
        counted = await self._calls.run(self._facets_of, query, found, facets)
        return replace(found, facets=counted)

    async def facets(self, where: str | None) -> Sequence[Facet]:
        """The facets of the products that pass a filter.

        Raises:
            FilterError: the filter does not fit the columns.
        """
        return await self._calls.run(self._facets, where)

    async def suggestions(self) -> Sequence[str]:
        """A few queries that find something here."""
        return (await self._calls.run(self._count_facets)).suggestions

    async def product(self, product_id: str) -> Hit | None:
        """One product; None if there is none of that id."""
        return self._index.snapshot.hit(product_id)

    async def classify(
        self, image: bytes, labels: Sequence[str], templates: str | Sequence[str] | None
    ) -> Sequence[tuple[str, float]]:
        """Score labels against an image: each with its probability, in their order.

        Raises:
            ImageError: it is not an image.
            ValueError: no labels, or a template without ``{}``.
        """
        return await self._calls.run(self._classify, image, labels, templates)

    async def embed(self, inputs: Sequence[str | bytes]) -> Float32[np.ndarray, "n dim"]:
        """Encode texts (str) and images (bytes) to unit vectors, in their order.

        Raises:
            ImageError: one is not an image; the message says which.
        """
        return await self._calls.run(self._embed, inputs)

    def thumbnail_tag(self, product_id: str, width_px: int) -> str | None:
        """The entity tag of a product's thumbnail; None if the product has no image."""
        found = self._image_of(product_id)
        return None if found is None else thumbnail_tag(found[1], width_px)

    async def thumbnail(self, product_id: str, width_px: int) -> bytes | None:
        """A product's image as a JPEG of about this width; None if there is none."""
        found = self._image_of(product_id)
        if found is None:
            return None
        return await self._images.run(self._thumbnails.get, *found, width_px)

    def n_views(self, product: Hit) -> int:
        """How many further views of a product may be shown."""
        return len(self._views_of(product))

    async def view(self, product_id: str, number: int, width_px: int) -> bytes | None:
        """A further view of a product as a JPEG of about this width; None if there is none.

        Args:
            product_id: the product.
            number: of the view, from 1.
            width_px: a smaller image keeps its own width.
        """
        product = self._index.snapshot.hit(product_id)
        views = [] if product is None else self._views_of(product)
        if not 1 <= number <= len(views):
            return None
        location = views[number - 1]
        key = blake2b(location.encode("utf-8", "replace"), digest_size=16).digest()
        return await self._images.run(self._thumbnails.get, location, key, width_px)

    async def fetch(self, url: str) -> bytes:
        """The encoded image behind a URL of a request.

        Raises:
            BusyError: too many images are pending.
            ImageFetchError: refused, unreachable, too slow or too large.
        """
        return await self._images.run(fetch_image, url, self._settings)

    async def write(self, changes: Sequence[Change]) -> Sequence[Outcome]:
        """Store, patch and delete products; searches find what was written from then on.

        Returns:
            What became of each change, in their order.

        Raises:
            StoreError: the store cannot be written to; then nothing is changed.
        """
        deadline = time.monotonic() + self._settings.write_seconds
        return await self._writes.run(self._writer.write, changes, deadline)

    def no_product(self, product_id: str) -> str:
        """What to say of an id that no product has: it names ids that look like it."""
        now = self._index.snapshot
        return no_product(product_id, lambda name: now.row_of(name) is not None)

    async def ids(self, where: str) -> Sequence[str]:
        """The products that pass a filter.

        Raises:
            FilterError: the filter does not fit the columns.
        """
        return await self._calls.run(self._ids, where)

    def stop_following(self) -> None:
        """Look no more for what others write to the store; another service takes over."""
        self._index.stop_following()

    def close(self) -> None:
        """Finish what is pending."""
        for executor in (self._calls, self._images, self._writes, self.localizer):
            executor.close()
        self._text_searches.close()
        self._searches.close()
        self._writer.close()
        self._index.close()
        self._engine.close()

    def _image_of(self, product_id: str) -> tuple[str, bytes] | None:
        """Location and content key of a product's image."""
        rows = self._index.fetch([product_id], vectors=False, columns=False)
        location = rows.images[0] if rows.ids else None
        return None if location is None else (location, rows.content_keys[0])

    def _views_of(self, product: Hit) -> list[str]:
        main = self._index.snapshot.image(product.product_id)
        return further_views(product.columns, self.roles, main)

    def _search_many(self, queries: Sequence[Query]) -> list[FoundPage | Exception]:
        try:
            outcomes = search_many(self._index, self._search_model, queries)
        except StoreError as exc:
            log_store_error(exc)
            raise
        pairs = zip(queries, outcomes, strict=True)
        return [
            self._not_found(query)
            if isinstance(outcome, ProductNotFoundError)
            else FoundPage(*(getattr(outcome, one.name) for one in fields(Results)))
            if isinstance(outcome, Results)
            else outcome
            for query, outcome in pairs
        ]

    def _not_found(self, query: Query) -> ProductNotFoundError:
        """The error of a query for a product that does not exist, without the store's place."""
        ids = (*query.similar_to, *query.unlike)
        missing = next((name for name in ids if self._index.snapshot.hit(name) is None), ids[0])
        return ProductNotFoundError(self.no_product(missing))

    def _search_one(self, query: Query) -> FoundPage:
        (outcome,) = self._search_many([query])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _facets_of(
        self, query: Query, found: Results, names: Sequence[str] | Literal["all"]
    ) -> tuple[Facet, ...]:
        """The facets of the products that fit a query.

        Raises:
            FilterError: the filter does not fit the columns any more.
            ValueError: a name is no column's, or its column is no facet.
        """
        where = None if query.where is None else str(query.where)
        counts = self._count_facets()
        if found.relevant_ids is not None or query.group:
            now = counts.facets.snapshot
            if found.relevant_ids is None:
                passing = None if where is None else self._mask(where, now)
                mask = now.firsts(passing, group_column(now.meta))
            else:
                mask = now.mask_of(found.relevant_ids)
            facets = counts.facets.counted(mask)
        else:
            facets = self._facets(where)
        if names == "all":
            return facets
        wanted = [named_column(name, self.meta) for name in names]
        by_name = {facet.name: facet for facet in facets}
        missing = [name for name in wanted if name not in by_name]
        if missing:
            known = ", ".join(by_name)
            message = f"{missing[0]!r} is no facet: its values do not repeat; facets: {known}"
            raise ValueError(message)
        return tuple(by_name[name] for name in wanted)

    def _ids(self, where: str) -> list[str]:
        now = self._index.snapshot
        parsed = parse_filter(where, now.meta.columns, now.meta.roles)
        hits = now.list_hits(now.mask(parsed), k=max(1, len(now)), columns=())
        return [hit.product_id for hit in hits]

    def _mask(self, where: str, now: Snapshot) -> np.ndarray | None:
        return now.mask(parse_filter(where, now.meta.columns, now.meta.roles))

    def _count_facets(self) -> _FacetCounts:
        now = self._index.snapshot
        counts = self._facet_counts
        if counts is None or counts.facets.snapshot is not now:
            counts = self._facet_counts = _FacetCounts(now, counts)
        return counts

    def _facets(self, where: str | None) -> tuple[Facet, ...]:
        counts = self._count_facets()
        if where is None:
            return counts.all
        facets = counts.by_filter.get(where)
        if facets is None:
            facets = counts.facets.counted(self._mask(where, counts.facets.snapshot))
            counts.by_filter.put(where, facets)
        return facets

    def _encode_image(self, image: bytes) -> Float32[np.ndarray, " dim"]:
        (vector,) = self._engine.encode_pixels(self._decoder.preprocess(image)[None])
        return np.asarray(vector, dtype=np.float32)

    def _classify(
        self, image: bytes, labels: Sequence[str], templates: str | Sequence[str] | None
    ) -> list[tuple[str, float]]:
        vectors = self._engine.encode_pixels(self._decoder.preprocess(image)[None])
        label_vectors = self._model.encode_text(labels, templates=templates)
        (probabilities,) = self._model.label_probabilities(vectors, label_vectors)
        return list(zip(labels, probabilities.tolist(), strict=True))

    def _embed(self, inputs: Sequence[str | bytes]) -> np.ndarray:
        vectors = np.empty((len(inputs), self._model.dim), dtype=np.float32)
        texts = {i: one for i, one in enumerate(inputs) if isinstance(one, str)}
        pixels = {}
        for i, one in enumerate(inputs):
            if isinstance(one, bytes):
                try:
                    pixels[i] = self._decoder.preprocess(one)
                except FashionCLIPError as exc:
                    message = f"input {i}: {exc}"
                    raise type(exc)(message) from exc
        if texts:
            vectors[list(texts)] = self._model.encode_text(texts.values())
        if pixels:
            vectors[list(pixels)] = self._engine.encode_pixels(np.stack(list(pixels.values())))
        return vectors


def _open_model(store: Store, settings: Settings) -> FashionCLIP:
    """The model of a store.

    Raises:
        FashionCLIPError: it cannot be opened, or is another one.
    """
    name = settings.model or store.meta.model
    model = FashionCLIP.from_pretrained(
        None if name == BUILTIN else name, device=settings.device, precision=settings.precision
    )
    require_model(store, model=model.name, fingerprint=model.fingerprint)
    return model
