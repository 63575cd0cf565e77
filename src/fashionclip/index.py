"""``Index``, the public index: open it by its address, search it, see the hits as images.

>>> index = fashionclip.Index.open("shop.lance")
>>> index.search("red dress", where="price < 50")
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, overload

from fashionclip.errors import ImageError, ImageFetchError, ProductNotFoundError
from fashionclip.garments import Detector, Garment
from fashionclip.images.decode import thumbnail_uri
from fashionclip.images.fetch import FetchPolicy
from fashionclip.model import FashionCLIP, ImageSource
from fashionclip.product import Hit
from fashionclip.searching import (
    BUT_STRENGTH,
    Mode,
    Query,
    Results,
    not_found,
    search_garments,
    search_many,
)
from fashionclip.store import Store, StoreMeta, open_store, require_model
from fashionclip.store.blobs import read_stored_image
from fashionclip.store.filters import Filter

BUILTIN = "builtin"  # what a store calls the model that is part of the package
THUMBNAIL_PX = 240
FETCH_THREADS = 8
MAX_TITLE_CHARS = 48
NOTHING_FITS = "nothing here fits; the closest products:"
WEAKER = "weaker matches:"


class Index:
    """A store of products, and the model that made it."""

    def __init__(
        self, store: Store, *, model: FashionCLIP | None = None, policy: FetchPolicy | None = None
    ) -> None:
        """Hold an open store; ``open`` opens one by its address.

        Args:
            store: vectors and products.
            model: the model that made them; by default it is opened by its name when it is first
                needed.
            policy: how remote images may be fetched.

        Raises:
            ModelMismatchError: another model made the store.
            TypeError: the store is not an open one, or the model none.
        """
        if isinstance(store, str | Path):  # a check against the protocol would read the store
            message = f"{store!r:.60} is no open store: Index.open takes its address"
            raise TypeError(message)
        if model is not None and not isinstance(model, FashionCLIP):
            message = f"model must be a FashionCLIP, not {model!r:.60}; FashionCLIP(NAME) opens one"
            raise TypeError(message)
        self.store = store
        self.policy = policy or FetchPolicy()
        self._model = model
        if model is not None:
            require_model(store, model=model.name, fingerprint=model.fingerprint)

    @classmethod
    def open(
        cls,
        uri: str | Path,
        *,
        model: FashionCLIP | None = None,
        storage_options: Mapping[str, str] | None = None,
    ) -> "Index":
        """Open an index.

        Args:
            uri: a folder, ``s3://bucket/path``, ``postgresql://…`` or ``memory://NAME``.
            model: the model that made it, where it is open already.
            storage_options: credentials, endpoint and region of object storage, for the index and
                its images; see ``open_store``.

        Raises:
            StoreError: there is none, or it cannot be opened.
            ModelMismatchError: another model made it.
            ValueError: a storage option is not known.
        """
        policy = FetchPolicy(storage_options=storage_options or {})
        return cls(open_store(uri, storage_options=storage_options), model=model, policy=policy)

    @property
    def meta(self) -> StoreMeta:
        """Where the index is, its model, and the roles and kinds of its columns."""
        return self.store.meta

    @property
    def model(self) -> FashionCLIP:
        """The model that made the index.

        Raises:
            CheckpointError: it is not found.
            ModelMismatchError: a model of this name is found, but it is not the same one.
        """
        if self._model is None:
            name = model_name(self.meta)
            model = FashionCLIP.from_pretrained(name)
            require_model(self.store, model=model.name, fingerprint=model.fingerprint)
            self._model = model
        return self._model

    def __len__(self) -> int:
        """The number of products."""
        return len(self.store)

    def __repr__(self) -> str:
        """Address, size and model."""
        meta = self.meta
        return f"<Index {meta.uri}: {len(self):,} products, model {meta.model}>"

    def get(self, product_id: str) -> Hit:
        """One product, with a score of 1.

        Raises:
            ProductNotFoundError: no product has this id; the message names those spelled alike.
        """
        rows = self.store.fetch([product_id], vectors=False)
        if not rows.ids:
            raise ProductNotFoundError(not_found(self.store, product_id))
        return Hit(product_id, 1.0, rows.columns.to_pylist()[0])

    def search(
        self,
        text: str | None = None,
        *,
        image: ImageSource | None = None,
        similar_to: str | Sequence[str] = (),
        unlike: str | Sequence[str] = (),
        weight: float = 0.5,
        avoid: str | Sequence[str] = (),
        avoid_weight: float = 1.0,
        but: str | Sequence[str] = (),
        but_strength: float = BUT_STRENGTH,
        where: str | Filter | None = None,
        k: int = 10,
        offset: int = 0,
        cursor: str | None = None,
        mode: Mode | None = None,
        sort: str | None = None,
        group: bool = False,
        diversity: float = 0.0,
        total: bool = False,
        explain: bool = False,
        fields: Sequence[str] | None = None,
        templates: str | Sequence[str] | None = None,
        exact: bool | None = None,
    ) -> "Hits":
        """The products that fit a query best; ``Query`` has the formula.

        Without text, image and ``similar_to`` it lists the products that pass ``where``, in the
        order of their ids, or sorted.

        Args:
            text: words.
            image: a path, URL, bytes, Pillow image or array.
            similar_to: ids of products of this index to search with; left out of the hits.
            unlike: ids of products that hits should not look like; left out too.
            weight: share of the words where there are words and an image, in 0…1.
            avoid: phrases for what hits should not show.
            avoid_weight: how much avoiding counts, 0 or more.
            but: how hits should differ from the words, the image or the products: ``darker``,
                ``less formal``, ``shorter sleeves``, or a pair, ``long skirt / short skirt``. Hits
                keep the category, unless ``where`` names one.
            but_strength: how far these changes go, above 0 and up to 5.
            where: a filter over the catalogue's columns or roles, such as ``price < 50``.
            k: hits wanted, at least 1.
            offset: hits to leave out at the start, for pages.
            cursor: ``Hits.cursor`` of the page before; pages then fit together while products
                come, go and change.
            mode: what the words are compared with: ``vectors``, ``words`` or ``hybrid`` (both).
                None for both, and for vectors where there are images too.
            sort: a column or role to sort the fitting hits by, ascending; descending with ``-``
                before it: ``-price``.
            group: only the best hit of each group of variants, by the column of that role.
            diversity: how much hits that look like earlier ones are put back, in 0…1.
            total: whether to count the products that fit (``Hits.total``).
            explain: whether hits say why they are there (``Hit.explanation``).
            fields: columns or roles that hits carry; None for all.
            templates: prompt templates, as in ``FashionCLIP.encode_text``.
            exact: True compares every vector even where there is an approximate index.

        Raises:
            ValueError: parts that contradict each other, a number out of range, a column or
                cursor that is none.
            FilterError: the filter is not understood, or does not fit the columns.
            ProductNotFoundError: no product has an id that is named.
            ImageFetchError, ImageError: the image cannot be fetched or decoded.
            ModelMismatchError, CheckpointError: the index's model cannot be opened.
        """
        query = Query(
            text=text,
            image=image,
            similar_to=similar_to,
            unlike=unlike,
            weight=weight,
            avoid=avoid,
            avoid_weight=avoid_weight,
            but=but,
            but_strength=but_strength,
            where=where,
            k=k,
            offset=offset,
            cursor=cursor,
            mode=mode,
            sort=sort,
            group=group,
            diversity=diversity,
            total=total,
            explain=explain,
            fields=fields,
            templates=templates,
            exact=exact,
        )
        query.check()
        model = self.model if query.needs_model else self._model
        (outcome,) = search_many(self.store, model, [query], policy=self.policy)
        if isinstance(outcome, Exception):
            raise outcome
        return Hits(outcome, self)

    def search_garments(
        self,
        image: ImageSource,
        words: Sequence[str] | None = None,
        *,
        detector: Detector | None = None,
        where: str | Filter | None = None,
        k: int = 10,
        group: bool = False,
        fields: Sequence[str] | None = None,
    ) -> "list[tuple[Garment, Hits]]":
        """Find the garments of a photograph, and for each the products that look like it.

        Args:
            image: a path, URL, bytes, Pillow image or array.
            words: garments to look for, such as the shop's own categories; None for
                ``garments.garment_words()``.
            detector: finds garments in place of the model.
            where: as in ``search``, for the hits of every garment.
            k: hits wanted for each garment, at least 1.
            group: as in ``search``.
            fields: as in ``search``.

        Returns:
            Garments with their hits, the strongest garment first; empty where none stands out.

        Raises:
            ValueError, FilterError, ImageFetchError, ImageError, ModelMismatchError,
            CheckpointError: as ``search``.
        """
        query = Query(where=where, k=k, group=group, fields=fields)
        found = search_garments(
            self.store,
            self.model,
            image,
            words,
            detector=detector,
            query=query,
            policy=self.policy,
        )
        return [(one.garment, Hits(one.results, self)) for one in found]

    def read_images(self, product_ids: Sequence[str]) -> list[bytes | None]:
        """The encoded images of some products; None for one that cannot be read."""
        rows = self.store.fetch(product_ids, vectors=False, columns=False)
        locations = dict(zip(rows.ids, rows.images, strict=True))

        def read(product_id: str) -> bytes | None:
            location = locations.get(product_id)
            if location is None:
                return None
            try:
                return read_stored_image(location, self.store.blobs, policy=self.policy)
            except ImageFetchError:
                return None

        with ThreadPoolExecutor(FETCH_THREADS) as pool:
            return list(pool.map(read, product_ids))


class Hits(Sequence[Hit]):
    """The hits of a search, best first; a notebook shows them with their images."""

    def __init__(self, results: Results, index: Index) -> None:
        """Hold results of an index."""
        self.results = results
        """The hits, how many of them fit, their total, and the cursor of the next page."""
        self._hits = list(results.hits)
        self._index = index

    @overload
    def __getitem__(self, i: int) -> Hit: ...
    @overload
    def __getitem__(self, i: slice) -> "Hits": ...
    def __getitem__(self, i: int | slice) -> "Hit | Hits":
        """One hit by its rank, counted from 0, or some of them."""
        if not isinstance(i, slice):
            return self._hits[i]
        hits = self._hits[i]
        n_relevant = len(range(self.results.n_relevant)[i])
        return Hits(replace(self.results, hits=hits, n_relevant=n_relevant), self._index)

    def __len__(self) -> int:
        """The number of hits."""
        return len(self._hits)

    def __eq__(self, other: object) -> bool:
        """Whether these are the same hits in the same order."""
        return self._hits == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # a sequence that compares by its items

    def __repr__(self) -> str:
        """A table: rank, score, id and title; a line between hits that fit and weaker ones."""
        if not self._hits:
            return f"no hits: {self.results.hint}" if self.results.hint else "no hits"
        width = max(len(hit.product_id) for hit in self._hits)
        lines = [
            f"{rank:3}  {hit.score:6.3f}  {hit.product_id:{width}}  {self._title(hit)}".rstrip()
            for rank, hit in enumerate(self._hits, start=1)
        ]
        if self._line:
            lines.insert(self.results.n_relevant, f"     {self._line}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Cards with images, for a notebook."""
        images = self._index.read_images([hit.product_id for hit in self._hits])
        cards = [self._card(hit, image) for hit, image in zip(self._hits, images, strict=True)]
        if self._line:
            line = f'<div style="flex-basis:100%">{self._line}</div>'
            cards.insert(self.results.n_relevant, line)
        style = "display:flex;flex-wrap:wrap;gap:12px"
        return f'<div style="{style}">{"".join(cards) or "no hits"}</div>'

    @property
    def _line(self) -> str:
        """What stands before the first hit that is below the relevance threshold."""
        if self.results.n_relevant >= len(self._hits):
            return ""
        return WEAKER if self.results.n_relevant else NOTHING_FITS

    def _card(self, hit: Hit, image: bytes | None) -> str:
        shown = "<div style='height:180px'>no image</div>"
        if image is not None:
            try:
                uri = thumbnail_uri(image, max_px=THUMBNAIL_PX)
                style = "width:150px;height:180px;object-fit:contain"
                shown = f'<img style="{style}" alt="" src="{uri}">'
            except ImageError:
                pass  # the title is still worth showing
        title = escape(self._title(hit) or hit.product_id)
        score = f"<small>{hit.score:.3f}</small>"
        return f'<div style="width:150px">{shown}<div>{title}</div>{score}</div>'

    def _title(self, hit: Hit) -> str:
        title = str(hit.columns.get(self._index.meta.roles.title or "") or "")
        return title if len(title) <= MAX_TITLE_CHARS else title[: MAX_TITLE_CHARS - 1] + "…"


def search(
    index: Index | Store | str | Path,
    text: str | None = None,
    *,
    model: FashionCLIP | None = None,
    **options: Any,  # noqa: ANN401  # those of Index.search
) -> Hits:
    """Search an index, a store, or what is at an address; see ``Index.search``.

    Args:
        index: what is searched.
        text: words.
        model: the model that made the index, where it is open already.
        options: as in ``Index.search``.

    Raises:
        FashionCLIPError, ValueError: as ``Index.search``.
    """
    if isinstance(index, str | Path):
        index = Index.open(index, model=model)
    elif not isinstance(index, Index):
        index = Index(index, model=model)
    elif model is not None and model is not index._model:
        index = Index(index.store, model=model, policy=index.policy)
    return index.search(text, **options)


def model_name(meta: StoreMeta) -> str | None:
    """The name under which ``FashionCLIP.from_pretrained`` opens the model of a store."""
    return None if meta.model == BUILTIN else meta.model
