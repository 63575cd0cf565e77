"""What the page and the API ask of an index and its model, as coroutines.

Searches by words alone are answered together, with one pass of the model and one product with
all vectors. Every other question runs in one of a few threads, through the same ``search`` as the
command line's; what those threads ask of the model and of the index at the same time is put
together (see ``batching``). So many may wait (see ``lines``); one more is told to come back.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from fashionclip.errors import FashionCLIPError
from fashionclip.images.fetch import FetchPolicy
from fashionclip.index import Manifest, Snapshot
from fashionclip.model import FashionCLIP
from fashionclip.product import Hit, Kind
from fashionclip.search import search
from fashionclip.serve.batching import BatchingEngine
from fashionclip.serve.decoding import Decoder
from fashionclip.serve.facets import Facet, Facets
from fashionclip.serve.fetching import fetch_image
from fashionclip.serve.filters import parse_filter
from fashionclip.serve.lines import Line, SharedLine
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.resident import Resident
from fashionclip.serve.settings import Settings
from fashionclip.serve.thumbnails import Thumbnail, Thumbnails
from fashionclip.serve.updates import NewProduct, Refusal, Updates

BUILTIN = "builtin"  # what an index calls the model that lies in the package
THREADS_A_BATCH = 2  # threads for each place in a batch: one is worked on while the next gathers
FETCHING = 16  # pictures that are fetched, or made small, at once
CHANGING = 16  # writes that are prepared at once, and then written together
MOST_COUNTED = 256  # filters over which the facets are remembered


@dataclass(frozen=True, slots=True)
class Query:
    """A search; see :func:`fashionclip.search.search`. Without a question it lists what passes."""

    text: str = ""
    image: bytes | None = None
    """An encoded picture."""
    avoid: Sequence[str] = ()
    like: Sequence[str] = ()
    unlike: Sequence[str] = ()
    where: str | None = None
    """SQL as a client wrote it; it is read and written anew."""
    weight: float = 0.5
    k: int = 10
    offset: int = 0
    hybrid: bool = False

    @property
    def is_words_alone(self) -> bool:
        """Whether words are all that products are ranked by."""
        others = self.image or self.avoid or self.like or self.unlike or self.hybrid
        return bool(self.text.strip()) and not others

    @property
    def is_question(self) -> bool:
        """Whether products are ranked, not just listed."""
        return bool(self.text or self.image or self.avoid or self.like or self.unlike)


@dataclass(frozen=True, slots=True)
class Page:
    """Hits, and whether there are more."""

    hits: Sequence[Hit]
    has_more: bool
    total: int | None = None
    """How many products pass the filter, where they are listed; None where they are ranked."""


@dataclass(slots=True)
class _Counted:
    """What was counted over one state of the index."""

    facets: Facets
    all: tuple[Facet, ...]
    suggestions: tuple[str, ...]
    by_filter: dict[str, tuple[Facet, ...]] = field(default_factory=dict)


class Shop:
    """An index and its model, open for questions and changes."""

    def __init__(self, store: Path, settings: Settings, metrics: Metrics) -> None:
        """Open both, and encode one text, so that the first customer does not wait.

        Args:
            store: the index folder.
            settings: the service's limits, the model's device and precision.
            metrics: told of queues and batches.

        Raises:
            FashionCLIPError: the index or its model cannot be opened, or do not belong together.
        """
        self._settings = settings
        self._resident = Resident(store, most=settings.max_batch, metrics=metrics)
        named = settings.model or self._resident.manifest.model
        model = FashionCLIP.from_pretrained(
            None if named == BUILTIN else named,
            device=settings.device,
            precision=settings.precision,
        )
        self._resident.require_model(model.name, model.fingerprint)
        self._words_model = model  # whose batches are those of the line
        self._engine = BatchingEngine(model.engine, metrics, most=settings.max_batch)
        self._model = FashionCLIP(model.checkpoint, engine=self._engine)
        self._model.encode_text("product")
        self._decoder = Decoder(model.checkpoint.preprocess, max_pixels=settings.pixels)
        self._thumbnails = Thumbnails(FetchPolicy(allow_private=settings.allow_private))
        self._updates = Updates(self._resident, self._engine, self._decoder)
        self._counted: _Counted | None = None
        threads, most = THREADS_A_BATCH * settings.max_batch, settings.queue
        self._words: SharedLine[Query, Page] = SharedLine(
            "words", metrics, self._search_words, at_once=settings.max_batch, most=most
        )
        self._questions = Line("questions", metrics, threads=threads, most=most)
        self._pictures = Line("pictures", metrics, threads=FETCHING, most=most)
        self._changes = Line("changes", metrics, threads=CHANGING, most=most)

    @property
    def columns(self) -> Mapping[str, Kind]:
        """The catalogue's columns and what they hold."""
        return self._resident.columns

    @property
    def version(self) -> str:
        """Changes with every change of the products."""
        return str(self._resident.now.version)

    @property
    def count(self) -> int:
        """How many products there are."""
        return self._resident.now.count

    @property
    def manifest(self) -> Manifest:
        """Which model the index belongs to."""
        return self._resident.manifest

    @property
    def fault(self) -> str:
        """Why the index on disk cannot be followed just now; empty where it can."""
        return self._resident.fault

    async def search(self, query: Query) -> Page:
        """Find products, or list them where nothing is asked.

        Raises:
            BusyError: too many wait already.
            FilterError, ImageError, StoreError: as :func:`fashionclip.search.search`.
            ValueError: a number is out of range.
        """
        if query.is_words_alone:
            return await self._words.do(query)
        return await self._questions.do(self._search, query)

    async def facets(self, where: str | None) -> Sequence[Facet]:
        """What products that pass a filter can be filtered by.

        Raises:
            FilterError: the filter does not fit the columns.
        """
        return await self._questions.do(self._facets, where)

    async def suggestions(self) -> Sequence[str]:
        """A few searches that find something here."""
        return (await self._questions.do(self._count)).suggestions

    async def product(self, product_id: str) -> Hit | None:
        """One product; None if there is none of that id."""
        return self._resident.now.get(product_id)

    async def similar(self, product_id: str, k: int, *, where: str | None = None) -> Sequence[Hit]:
        """The products that look most like one.

        Raises:
            ProductNotFoundError: no product has this id.
            FilterError: the filter does not fit the columns.
        """
        page = await self.search(Query(like=(product_id,), k=k, where=where))
        return page.hits

    async def classify(
        self, picture: bytes, labels: Sequence[str], templates: str | Sequence[str] | None
    ) -> Sequence[tuple[str, float]]:
        """How well labels fit a picture: each with its probability, in their order.

        Raises:
            ImageError: it is no picture.
            ValueError: no labels, or a template without ``{}``.
        """
        return await self._questions.do(self._classify, picture, labels, templates)

    async def embed(self, inputs: Sequence[str | bytes]) -> Float32[np.ndarray, "n dim"]:
        """Encode texts (str) and pictures (bytes) to unit vectors, in their order.

        Raises:
            ImageError: one is no picture; the message says which.
        """
        return await self._questions.do(self._embed, inputs)

    async def thumbnail(self, product_id: str, width_px: int) -> bytes | None:
        """A product's picture as a JPEG of about this width; None where there is none."""
        found = await self.thumbnail_with_tag(product_id, width_px)
        return None if found is None else found.jpeg

    def thumbnail_tag(self, product_id: str, width_px: int) -> str | None:
        """What tells this picture at this width from any other; None where there is none."""
        return self._thumbnails.tag(self._resident.now, product_id, width_px)

    async def thumbnail_with_tag(self, product_id: str, width_px: int) -> Thumbnail | None:
        """A product's picture with its tag."""
        now = self._resident.now
        return await self._pictures.do(self._thumbnails.get, now, product_id, width_px)

    async def fetch(self, url: str) -> bytes:
        """The encoded picture that a request names by URL.

        Raises:
            BusyError: too many wait already.
            ImageFetchError: refused, unreachable, too slow or too large.
        """
        return await self._pictures.do(fetch_image, url, self._settings)

    async def put(self, products: Sequence[NewProduct]) -> Sequence[Refusal]:
        """Store products, replacing those of the same ids; searches find them from then on.

        Returns:
            Those that could not be stored, and why.

        Raises:
            StoreError: the index cannot be written to; then none is stored.
        """
        due = time.monotonic() + self._settings.write_seconds
        return await self._changes.do(self._updates.put, products, due)

    async def remove(self, product_ids: Sequence[str]) -> int:
        """Take products out.

        Returns:
            How many of them there were.

        Raises:
            StoreError: the index cannot be written to.
        """
        due = time.monotonic() + self._settings.write_seconds
        return await self._changes.do(self._updates.remove, product_ids, due)

    def close(self) -> None:
        """Finish what was begun."""
        for line in (self._words, self._questions, self._pictures, self._changes):
            line.close()
        self._updates.close()
        self._resident.close()
        self._engine.close()

    def _search_words(self, queries: Sequence[Query]) -> list[Page | Exception]:
        """Answer searches by words alone, as ``_search`` would answer each."""
        seen = self._resident.now
        answers: dict[int, Page | Exception] = {}
        masks: dict[int, np.ndarray | None] = {}
        for i, query in enumerate(queries):
            try:
                masks[i] = self._mask(query, seen)
            except FashionCLIPError as exc:  # a filter that does not fit is its client's alone
                answers[i] = exc
        if masks:
            vectors = self._words_model.encode_text([queries[i].text for i in masks])
            ks = [queries[i].offset + queries[i].k + 1 for i in masks]
            rankings = seen.best(vectors, ks, list(masks.values()))
            for i, hits in zip(masks, rankings, strict=True):
                answers[i] = _page(hits[queries[i].offset :], queries[i].k)
        return [answers[i] for i in range(len(queries))]

    def _mask(self, query: Query, seen: Snapshot) -> np.ndarray | None:
        """The rows that pass a query's filter; None for all."""
        if query.where is None:
            return None
        return self._resident.mask(parse_filter(query.where, seen.columns), seen)

    def _search(self, query: Query) -> Page:
        seen = self._resident.now
        where = None if query.where is None else parse_filter(query.where, seen.columns)
        wanted = query.k + 1  # one more tells whether there are more
        if not query.is_question:
            mask = None if where is None else self._resident.mask(where, seen)
            total = seen.count if mask is None else int(mask.sum())
            hits = seen.listed(mask, k=wanted, offset=query.offset)
            return Page(hits[: query.k], has_more=len(hits) > query.k, total=total)
        with ExitStack() as stack:
            picture = query.image
            hits = search(
                self._resident,
                self._model,
                text=query.text,
                image=stack.enter_context(self._decoder.opened(picture)) if picture else None,
                similar_to=query.like,
                unlike=query.unlike,
                weight=query.weight,
                avoid=query.avoid,
                where=where,
                k=wanted,
                offset=query.offset,
                hybrid=query.hybrid,
            )
        return _page(hits, query.k)

    def _count(self) -> _Counted:
        seen = self._resident.now
        counted = self._counted
        if counted is None or counted.facets.seen is not seen:
            facets = Facets(seen)
            counted = _Counted(facets, facets.counted(None), facets.suggestions())
            self._counted = counted
        return counted

    def _facets(self, where: str | None) -> tuple[Facet, ...]:
        counted = self._count()
        if where is None:
            return counted.all
        known = counted.by_filter.get(where)
        if known is not None:
            return known
        seen = counted.facets.seen
        mask = self._resident.mask(parse_filter(where, seen.columns), seen)
        if len(counted.by_filter) >= MOST_COUNTED:
            counted.by_filter.clear()
        facets = counted.facets.counted(mask)
        counted.by_filter[where] = facets
        return facets

    def _classify(
        self, picture: bytes, labels: Sequence[str], templates: str | Sequence[str] | None
    ) -> list[tuple[str, float]]:
        vectors = self._engine.encode_pixels(self._decoder.fitted(picture)[None])
        words = self._model.encode_text(labels, templates=templates)
        (probabilities,) = self._model.label_probabilities(vectors, words)
        return list(zip(labels, probabilities.tolist(), strict=True))

    def _embed(self, inputs: Sequence[str | bytes]) -> np.ndarray:
        vectors = np.empty((len(inputs), self._model.dim), dtype=np.float32)
        texts = {i: one for i, one in enumerate(inputs) if isinstance(one, str)}
        pixels = {}
        for i, one in enumerate(inputs):
            if isinstance(one, bytes):
                try:
                    pixels[i] = self._decoder.fitted(one)
                except FashionCLIPError as exc:
                    message = f"input {i}: {exc}"
                    raise type(exc)(message) from exc
        if texts:
            vectors[list(texts)] = self._model.encode_text(texts.values())
        if pixels:
            vectors[list(pixels)] = self._engine.encode_pixels(np.stack(list(pixels.values())))
        return vectors


def _page(hits: Sequence[Hit], k: int) -> Page:
    """The first hits of those found; one beyond them tells whether there are more."""
    return Page(hits[:k], has_more=len(hits) > k)
