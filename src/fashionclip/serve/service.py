"""Everything that page and API ask of a store and its model, as coroutines.

Searches by text alone, which are most, are computed in batches: one pass of the model and one
product with all vectors. Other calls run in a bounded pool of threads, whose calls of the model
and of the index are batched too. Calls beyond a queue are rejected (429).
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from fashionclip.errors import FashionCLIPError
from fashionclip.images.fetch import FetchPolicy, read_image_bytes
from fashionclip.index import Manifest, Snapshot, rows
from fashionclip.model import FashionCLIP
from fashionclip.product import Hit, Kind, Roles
from fashionclip.search import search
from fashionclip.serve.batching import BatchingEngine, BoundedExecutor, MicroBatcher
from fashionclip.serve.cache import LRUCache
from fashionclip.serve.facets import Facet, Facets
from fashionclip.serve.filters import parse_filter
from fashionclip.serve.images import ImageDecoder, Thumbnails, fetch_image, thumbnail_tag
from fashionclip.serve.memory_index import InMemoryIndex
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.settings import Settings
from fashionclip.serve.writes import NewProduct, Rejection, StoreWriter

BUILTIN = "builtin"  # the name of the package's own model in a store
THREADS_PER_BATCH_ITEM = 2  # so that one batch fills while another is computed
IMAGE_THREADS = 16  # images that are fetched or made small at once
WRITE_THREADS = 16  # writes that are prepared at once, and then written together
MAX_COUNTED_FILTERS = 256  # filters whose facet counts are cached


@dataclass(frozen=True, slots=True)
class Query:
    """A search; see :func:`fashionclip.search.search`. Without a query it lists products."""

    text: str = ""
    image: bytes | None = None
    """Encoded."""
    avoid: Sequence[str] = ()
    similar_to: Sequence[str] = ()
    unlike: Sequence[str] = ()
    where: str | None = None
    weight: float = 0.5
    k: int = 10
    offset: int = 0
    hybrid: bool = False

    @property
    def is_text_alone(self) -> bool:
        """Whether products are ranked by a text and nothing else."""
        others = self.image or self.avoid or self.similar_to or self.unlike or self.hybrid
        return bool(self.text.strip()) and not others

    @property
    def is_ranked(self) -> bool:
        """Whether products are ranked, not just listed."""
        return bool(self.text or self.image or self.avoid or self.similar_to or self.unlike)


@dataclass(frozen=True, slots=True)
class Page:
    """Hits, and whether there are more."""

    hits: Sequence[Hit]
    has_more: bool
    total: int | None = None
    """How many products pass the filter if they are listed; None if they are ranked."""


class _FacetCounts:
    """Facets of one snapshot, with those of the filters that were used last."""

    def __init__(self, snapshot: Snapshot, roles: Roles) -> None:
        self.facets = Facets(snapshot, roles)
        self.all = self.facets.counted(None)
        self.suggestions = self.facets.suggestions()
        self.by_filter: LRUCache[str, tuple[Facet, ...]] = LRUCache(MAX_COUNTED_FILTERS)


class SearchService:
    """A store and its model, open for searches and writes."""

    def __init__(self, store: Path, settings: Settings, metrics: Metrics) -> None:
        """Open both, and encode one text, so that the first request does not wait for that.

        Args:
            store: the index folder.
            settings: the service's limits, the model's device and precision.
            metrics: counts queues and batches.

        Raises:
            FashionCLIPError: the store or its model cannot be opened, or do not belong together.
        """
        self._settings = settings
        max_batch, queue = settings.max_batch, settings.queue
        self._index = InMemoryIndex(store, max_batch=max_batch, metrics=metrics)
        name = settings.model or self._index.manifest.model
        model = FashionCLIP.from_pretrained(
            None if name == BUILTIN else name, device=settings.device, precision=settings.precision
        )
        self._index.require_model(model.name, model.fingerprint)
        self._text_model = model  # its calls come in batches already
        self._engine = BatchingEngine(model.engine, metrics, max_batch=max_batch)
        self._model = FashionCLIP(model.checkpoint, engine=self._engine)
        self._model.encode_text("product")
        self._decoder = ImageDecoder(model.checkpoint.preprocess, max_pixels=settings.pixels)
        policy = FetchPolicy(allow_private=settings.allow_private)
        self._thumbnails = Thumbnails(lambda place: read_image_bytes(place, policy=policy))
        self._writer = StoreWriter(self._index, self._engine, self._decoder, metrics)
        self._facet_counts: _FacetCounts | None = None
        self._text_searches: MicroBatcher[Query, Page] = MicroBatcher(
            self._search_texts,
            name="text_searches",
            metrics=metrics,
            max_batch=max_batch,
            max_pending=queue,
        )
        n_threads = THREADS_PER_BATCH_ITEM * max_batch
        self._searches = BoundedExecutor(
            "searches", metrics, n_threads=n_threads, max_pending=queue
        )
        self._images = BoundedExecutor(
            "images", metrics, n_threads=IMAGE_THREADS, max_pending=queue
        )
        self._writes = BoundedExecutor(
            "writes", metrics, n_threads=WRITE_THREADS, max_pending=queue
        )

    @property
    def columns(self) -> Mapping[str, Kind]:
        """The catalogue's columns and their kinds."""
        return self._index.columns

    @property
    def roles(self) -> Roles:
        """Which column plays which part."""
        return self._index.roles

    @property
    def version(self) -> str:
        """Changes whenever the products change."""
        return str(self._index.now.version)

    @property
    def count(self) -> int:
        """How many products there are."""
        return self._index.now.count

    @property
    def manifest(self) -> Manifest:
        """Which model the index belongs to."""
        return self._index.manifest

    @property
    def fault(self) -> str:
        """Why the store cannot be read at present; empty if it can."""
        return self._index.fault

    async def search(self, query: Query) -> Page:
        """Find products, or list them where nothing is asked.

        Raises:
            BusyError: too many searches are pending.
            FilterError, ImageError, StoreError: as :func:`fashionclip.search.search`.
            ValueError: a number is out of range.
        """
        if query.is_text_alone:
            return await self._text_searches.submit(query)
        return await self._searches.run(self._search, query)

    async def facets(self, where: str | None) -> Sequence[Facet]:
        """The facets of the products that pass a filter.

        Raises:
            FilterError: the filter does not fit the columns.
        """
        return await self._searches.run(self._facets, where)

    async def suggestions(self) -> Sequence[str]:
        """A few queries that find something here."""
        return (await self._searches.run(self._count_facets)).suggestions

    async def product(self, product_id: str) -> Hit | None:
        """One product; None if there is none of that id."""
        return self._index.now.get(product_id)

    async def similar(self, product_id: str, k: int, *, where: str | None = None) -> Sequence[Hit]:
        """The products that resemble one most.

        Raises:
            ProductNotFoundError: no product has this id.
            FilterError: the filter does not fit the columns.
        """
        page = await self.search(Query(similar_to=(product_id,), k=k, where=where))
        return page.hits

    async def classify(
        self, image: bytes, labels: Sequence[str], templates: str | Sequence[str] | None
    ) -> Sequence[tuple[str, float]]:
        """Score labels against an image: each with its probability, in their order.

        Raises:
            ImageError: it is not an image.
            ValueError: no labels, or a template without ``{}``.
        """
        return await self._searches.run(self._classify, image, labels, templates)

    async def embed(self, inputs: Sequence[str | bytes]) -> Float32[np.ndarray, "n dim"]:
        """Encode texts (str) and images (bytes) to unit vectors, in their order.

        Raises:
            ImageError: one is not an image; the message says which.
        """
        return await self._searches.run(self._embed, inputs)

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

    async def fetch(self, url: str) -> bytes:
        """The encoded image behind a URL of a request.

        Raises:
            BusyError: too many images are pending.
            ImageFetchError: refused, unreachable, too slow or too large.
        """
        return await self._images.run(fetch_image, url, self._settings)

    async def put(self, products: Sequence[NewProduct]) -> Sequence[Rejection]:
        """Store products, replacing those of the same ids; searches find them from then on.

        Returns:
            Those that could not be stored, and why.

        Raises:
            StoreError: the store cannot be written to; then none is stored.
        """
        deadline = time.monotonic() + self._settings.write_seconds
        return await self._writes.run(self._writer.put, products, deadline)

    async def remove(self, product_ids: Sequence[str]) -> int:
        """Delete products.

        Returns:
            How many of them were stored.

        Raises:
            StoreError: the store cannot be written to.
        """
        deadline = time.monotonic() + self._settings.write_seconds
        return await self._writes.run(self._writer.remove, product_ids, deadline)

    def close(self) -> None:
        """Finish what is pending."""
        self._text_searches.close()
        for executor in (self._searches, self._images, self._writes):
            executor.close()
        self._writer.close()
        self._index.close()
        self._engine.close()

    def _image_of(self, product_id: str) -> tuple[str, bytes] | None:
        """Location and content key of a product's image."""
        now = self._index.now
        place = now.places.get(product_id)
        location = None if place is None else now.table.column(rows.IMAGE)[place].as_py()
        return None if location is None else (location, now.table.column(rows.KEY)[place].as_py())

    def _search_texts(self, queries: Sequence[Query]) -> list[Page | Exception]:
        """Answer searches by text alone, each as ``_search`` would."""
        seen = self._index.now
        answers: dict[int, Page | Exception] = {}
        masks: dict[int, np.ndarray | None] = {}
        for i, query in enumerate(queries):
            try:
                masks[i] = self._mask(query, seen)
            except FashionCLIPError as exc:  # a wrong filter concerns its own client only
                answers[i] = exc
        if masks:
            vectors = self._text_model.encode_text([queries[i].text for i in masks])
            ks = [queries[i].offset + queries[i].k + 1 for i in masks]
            rankings = seen.best(vectors, ks, list(masks.values()))
            for i, hits in zip(masks, rankings, strict=True):
                answers[i] = _page(hits[queries[i].offset :], queries[i].k)
        return [answers[i] for i in range(len(queries))]

    def _mask(self, query: Query, seen: Snapshot) -> np.ndarray | None:
        """The rows that pass a query's filter; None for all."""
        if query.where is None:
            return None
        return self._index.mask(parse_filter(query.where, seen.columns), seen)

    def _search(self, query: Query) -> Page:
        seen = self._index.now
        where = None if query.where is None else parse_filter(query.where, seen.columns)
        wanted = query.k + 1  # one more shows whether there are more
        if not query.is_ranked:
            mask = None if where is None else self._index.mask(where, seen)
            total = seen.count if mask is None else int(mask.sum())
            hits = seen.listed(mask, k=wanted, offset=query.offset)
            return Page(hits[: query.k], has_more=len(hits) > query.k, total=total)
        with ExitStack() as stack:
            image = query.image
            hits = search(
                self._index,
                self._model,
                text=query.text,
                image=stack.enter_context(self._decoder.opened(image)) if image else None,
                similar_to=query.similar_to,
                unlike=query.unlike,
                weight=query.weight,
                avoid=query.avoid,
                where=where,
                k=wanted,
                offset=query.offset,
                hybrid=query.hybrid,
            )
        return _page(hits, query.k)

    def _count_facets(self) -> _FacetCounts:
        seen = self._index.now
        counts = self._facet_counts
        if counts is None or counts.facets.snapshot is not seen:
            counts = self._facet_counts = _FacetCounts(seen, self.roles)
        return counts

    def _facets(self, where: str | None) -> tuple[Facet, ...]:
        counts = self._count_facets()
        if where is None:
            return counts.all
        facets = counts.by_filter.get(where)
        if facets is None:
            seen = counts.facets.snapshot
            mask = self._index.mask(parse_filter(where, seen.columns), seen)
            facets = counts.facets.counted(mask)
            counts.by_filter.put(where, facets)
        return facets

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


def _page(hits: Sequence[Hit], k: int) -> Page:
    """The first hits; one beyond them shows that there are more."""
    return Page(hits[:k], has_more=len(hits) > k)
