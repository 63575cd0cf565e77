"""What the page and the API ask of an index and its model, as coroutines.

Every question runs in one of a few threads, through the same ``search`` as the command line's;
what those threads ask of the model and of the index at the same time is put together (see
``batching``). So many may wait; one more is told to come back.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float32
from PIL import Image

from fashionclip.errors import BusyError, FashionCLIPError
from fashionclip.images import decode_image
from fashionclip.index import Manifest
from fashionclip.kinds import Kind
from fashionclip.model import FashionCLIP
from fashionclip.pictures import FetchPolicy
from fashionclip.product import Hit
from fashionclip.search import search
from fashionclip.serve.batching import BatchingEngine
from fashionclip.serve.facets import Facet, Facets
from fashionclip.serve.filters import parse_filter
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.resident import Resident
from fashionclip.serve.settings import Settings
from fashionclip.serve.thumbnails import Thumbnail, Thumbnails
from fashionclip.serve.updates import NewProduct, Refusal, Updates

BUILTIN = "builtin"  # what an index calls the model that lies in the package
THREADS_A_BATCH = 2  # threads for each place in a batch: one is worked on while the next gathers

T = TypeVar("T")


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
        self._settings, self._metrics = settings, metrics
        self._resident = Resident(store, most=settings.max_batch)
        named = settings.model or self._resident.manifest.model
        model = FashionCLIP.from_pretrained(
            None if named == BUILTIN else named,
            device=settings.device,
            precision=settings.precision,
        )
        self._resident.require_model(model.name, model.fingerprint)
        self._engine = BatchingEngine(model.engine, metrics, most=settings.max_batch)
        self._model = FashionCLIP(model.checkpoint, self._engine)
        self._model.encode_text("product")
        self._thumbnails = Thumbnails(FetchPolicy(allow_private=settings.allow_private))
        self._updates = Updates(self._resident, self._model, settings)
        self._counted: _Counted | None = None
        self._in_hand = 0
        self._threads = ThreadPoolExecutor(
            THREADS_A_BATCH * settings.max_batch, thread_name_prefix="fashionclip-ask"
        )

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
        return await self._ask(self._search, query)

    async def facets(self, where: str | None) -> Sequence[Facet]:
        """What products that pass a filter can be filtered by.

        Raises:
            FilterError: the filter does not fit the columns.
        """
        return await self._ask(self._facets, where)

    async def suggestions(self) -> Sequence[str]:
        """A few searches that find something here."""
        return (await self._ask(self._count)).suggestions

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
        return await self._ask(self._classify, picture, labels, templates)

    async def embed(self, inputs: Sequence[str | bytes]) -> Float32[np.ndarray, "n dim"]:
        """Encode texts (str) and pictures (bytes) to unit vectors, in their order.

        Raises:
            ImageError: one is no picture; the message says which.
        """
        return await self._ask(self._embed, inputs)

    async def thumbnail(self, product_id: str, width_px: int) -> bytes | None:
        """A product's picture as a JPEG of about this width; None where there is none."""
        found = await self.thumbnail_with_tag(product_id, width_px)
        return None if found is None else found.jpeg

    def thumbnail_tag(self, product_id: str, width_px: int) -> str | None:
        """What tells this picture at this width from any other; None where there is none."""
        return self._thumbnails.tag(self._resident.now, product_id, width_px)

    async def thumbnail_with_tag(self, product_id: str, width_px: int) -> Thumbnail | None:
        """A product's picture with its tag."""
        return await self._ask(self._thumbnails.get, self._resident.now, product_id, width_px)

    async def put(self, products: Sequence[NewProduct]) -> Sequence[Refusal]:
        """Store products, replacing those of the same ids; searches find them from then on.

        Returns:
            Those that could not be stored, and why.

        Raises:
            StoreError: the index cannot be written to; then none is stored.
        """
        return await self._ask(self._updates.put, products)

    async def remove(self, product_ids: Sequence[str]) -> int:
        """Take products out.

        Returns:
            How many of them there were.

        Raises:
            StoreError: the index cannot be written to.
        """
        return await self._ask(self._updates.remove, product_ids)

    def close(self) -> None:
        """Finish what was begun."""
        self._threads.shutdown()
        self._updates.close()
        self._resident.close()
        self._engine.close()

    async def _ask(self, work: Callable[..., T], *args: object) -> T:
        """Do some work in a thread.

        Raises:
            BusyError: too many wait already.
        """
        if self._in_hand >= self._settings.queue:
            message = f"more than {self._settings.queue} requests are waiting; try again shortly"
            raise BusyError(message)
        self._in_hand += 1
        self._metrics.queued(self._in_hand)
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, work, *args)
        finally:
            self._in_hand -= 1
            self._metrics.queued(self._in_hand)

    def _search(self, query: Query) -> Page:
        where = None if query.where is None else parse_filter(query.where, self.columns)
        wanted = query.k + 1  # one more tells whether there are more
        total = None
        if query.is_question:
            hits = search(
                self._resident,
                self._model,
                text=query.text,
                image=None if query.image is None else self._opened(query.image),
                similar_to=query.like,
                unlike=query.unlike,
                weight=query.weight,
                avoid=query.avoid,
                where=where,
                k=wanted,
                offset=query.offset,
                hybrid=query.hybrid,
            )
        else:
            mask = None if where is None else self._resident.mask(where)
            now = self._resident.now
            hits = now.listed(mask, k=wanted, offset=query.offset)
            total = now.count if mask is None else int(mask.sum())
        return Page(hits[: query.k], has_more=len(hits) > query.k, total=total)

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
        if where not in counted.by_filter:
            mask = self._resident.mask(parse_filter(where, self.columns))
            if len(mask) != counted.facets.seen.count:  # the index has changed in between
                return self._facets(where)
            if len(counted.by_filter) > self._settings.queue:
                counted.by_filter.clear()
            counted.by_filter[where] = counted.facets.counted(mask)
        return counted.by_filter[where]

    def _classify(
        self, picture: bytes, labels: Sequence[str], templates: str | Sequence[str] | None
    ) -> list[tuple[str, float]]:
        outcome = self._model.classify(self._opened(picture), labels, templates=templates)
        return list(zip(outcome.label_names, outcome.probabilities[0].tolist(), strict=True))

    def _embed(self, inputs: Sequence[str | bytes]) -> np.ndarray:
        vectors = np.empty((len(inputs), self._model.dim), dtype=np.float32)
        texts = [i for i, one in enumerate(inputs) if isinstance(one, str)]
        pictures = [i for i, one in enumerate(inputs) if isinstance(one, bytes)]
        if texts:
            vectors[texts] = self._model.encode_text([str(inputs[i]) for i in texts])
        opened = []
        for i in pictures:
            try:
                opened.append(self._opened(bytes(inputs[i])))  # type: ignore[arg-type]
            except FashionCLIPError as exc:
                message = f"input {i}: {exc}"
                raise type(exc)(message) from exc
        if pictures:
            vectors[pictures] = self._model.encode_images(opened, workers=1)
        return vectors

    def _opened(self, picture: bytes) -> Image.Image:
        size = self._model.checkpoint.preprocess.size_px
        return decode_image(picture, target_px=size, max_pixels=self._settings.pixels)
