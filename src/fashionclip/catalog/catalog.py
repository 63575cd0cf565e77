"""``Catalog``: a table and its pictures as one stream of products and rejects."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from fashionclip.catalog.cells import (
    as_text,
    clean_text,
    convert,
    parse_highlights,
    parse_id,
    parse_image,
)
from fashionclip.catalog.places import Pictures, find_table, open_table
from fashionclip.catalog.roles import find_roles, is_usual
from fashionclip.catalog.rows import BrokenRow, Row, Survey, Table
from fashionclip.catalog.seen import SeenIds
from fashionclip.errors import ImageFetchError
from fashionclip.images.fetch import DEFAULT_POLICY, FetchPolicy, is_url, read_image_bytes
from fashionclip.product import Kind, Product, Reject, Roles, Value
from fashionclip.text.captions import CaptionRecipe, build_caption

MAX_CAPTION_CHARS = 100_000
"""Longer captions are rejected: nobody wrote them, and no model reads that far."""
MAX_ID_CHARS = 1_000


class Catalog:
    """A shop's products, read from a table as they are asked for.

    Iterating gives a :class:`Product` or a :class:`Reject` for each row, in the table's order,
    and can be repeated. Memory does not grow with the table, except for 24 to 48 bytes an
    identifier while a pass lasts, to find those that come twice.

    Example:
        >>> catalog = Catalog.open("shop.csv", images="photos")  # doctest: +SKIP
        >>> for product in catalog:  # doctest: +SKIP
        ...     print(product)
    """

    def __init__(
        self,
        location: str,
        table: Table,
        survey: Survey,
        roles: Roles,
        pictures: Pictures,
        *,
        caption: CaptionRecipe,
        policy: FetchPolicy,
    ) -> None:
        """Hold what ``Catalog.open`` has found."""
        self.location = location
        """The table, or its folder, as it was named."""
        self.roles = roles
        """Which column plays which part."""
        self.columns: Mapping[str, Kind] = MappingProxyType(_kinds(survey, roles))
        """The columns that products carry, and what they hold."""
        self.images = pictures.by_id_base
        """Folder or URL of the pictures, if there is one beside the table or it was named."""
        self.policy = policy
        """How pictures are fetched."""
        self._table = table
        self._n_rows = survey.n_rows
        self._n_mended = survey.n_mended
        self._pictures = pictures
        self._caption = caption

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        images: str | Path | None = None,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        caption: CaptionRecipe = build_caption,
        policy: FetchPolicy = DEFAULT_POLICY,
    ) -> "Catalog":
        """Open a catalogue; reads its table through once, its pictures not at all.

        Args:
            path: a table (CSV, TSV, JSON Lines, Parquet; ``.gz`` too), a folder that holds one,
                Kaggle's folder, or the URL of a table.
            images: folder or URL that relative picture names start from. Where the table has no
                column of pictures, they are ``<images>/<id>.jpg`` (or jpeg, png, webp).
            columns: role to column, where a name is unusual: ``{"id": "my_sku"}``. An empty name
                leaves the role without a column; ``further_images`` may name several.
            caption: highlights and short description in, caption out.
            policy: how pictures, and the table, may be fetched.

        Raises:
            CatalogError: there is no table, it cannot be read, or it lacks a necessary column.
        """
        mapping = dict(columns or {})
        place = find_table(str(path), policy=policy)

        def is_free_text(name: str) -> bool:
            return name == mapping["title"] if mapping.get("title") else is_usual(name, "title")

        try:
            pictures = Pictures(place, None if images is None else str(images))
            table = open_table(place, is_free_text=is_free_text)
            survey = table.survey()
            roles = find_roles(
                table.names,
                mapping,
                where=str(path),
                has_images_by_id=pictures.by_id_base is not None,
            )
        except BaseException:
            if place.copied is not None:
                place.copied.unlink(missing_ok=True)
            raise
        catalog = cls(str(path), table, survey, roles, pictures, caption=caption, policy=policy)
        if place.copied is not None:
            weakref.finalize(catalog, place.copied.unlink, missing_ok=True)
        return catalog

    @property
    def len_hint(self) -> int:
        """Rows of the table, those that are rejected included."""
        return self._n_rows

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be decided to read the table: its encoding, fields that were joined."""
        if not self._n_mended:
            return self._table.notes
        last = self._table.names[-1]
        rows = "1 row has" if self._n_mended == 1 else f"{self._n_mended:,} rows have"
        joined = f"{rows} surplus fields, joined to their '{last}'"
        return (*self._table.notes, joined)

    def __iter__(self) -> Iterator[Product | Reject]:
        """Read the products, and what cannot be one, from the top.

        Raises:
            CatalogError: the table cannot be read on.
        """
        seen = SeenIds()
        for row in self._table.rows():
            item = self._reject_broken(row) if isinstance(row, BrokenRow) else self._product(row)
            if isinstance(item, Product):
                first = seen.first_row(item.product_id, item.row)
                if first != item.row:
                    why = f"the id is a duplicate of row {first}; give each product its own"
                    item = Reject(item.row, item.product_id, _location(item.image), why)
            yield item

    def read_image(self, product: Product) -> bytes:
        """Fetch a product's picture, encoded as it is; safe to call from several threads.

        Raises:
            ImageFetchError: the row names none, or it cannot be fetched.
        """
        if product.image is None:
            message = f"row {product.row}: names no picture; fill its column"
            raise ImageFetchError(message)
        try:
            return read_image_bytes(product.image, policy=self.policy)
        except ImageFetchError:
            if self.roles.image is not None or not isinstance(product.image, str):
                raise
            found = self._read_by_id(product.image)
            if found is None:
                raise
            return found

    def _read_by_id(self, supposed: str) -> bytes | None:
        for location in self._pictures.others_by_id(supposed):
            try:
                return read_image_bytes(location, policy=self.policy)
            except ImageFetchError:
                continue
        return None

    def _reject_broken(self, row: BrokenRow) -> Reject:
        is_first = bool(self._table.names) and self._table.names[0] == self.roles.id
        found = clean_text(row.first_cell or "")[:MAX_ID_CHARS] if is_first else ""
        return Reject(row.number, found or None, None, row.reason)

    def _product(self, row: Row) -> Product | Reject:
        cells, roles = row.cells, self.roles
        product_id = clean_text(parse_id(cells.get(roles.id or "")))
        picture = self._picture(row, product_id)
        location = _location(picture)
        if not product_id:
            why = f"the id is empty; fill the column '{roles.id}'"
            return Reject(row.number, None, location, why)
        if len(product_id) > MAX_ID_CHARS:
            why = f"the id is longer than {MAX_ID_CHARS:,} characters; shorten it"
            return Reject(row.number, product_id[:80] + "…", location, why)
        try:
            columns = self._columns(row, product_id)
        except ValueError as exc:
            why = f"a value that does not fit its column: {exc}"
            if row.is_mended:
                why = "has more fields than the header; quote the fields that hold the delimiter"
            return Reject(row.number, product_id, location, why)
        title = as_text(cells.get(roles.title or roles.description or ""))
        caption = self._caption(parse_highlights(cells.get(roles.highlights or "")), title)
        if len(caption) > MAX_CAPTION_CHARS:
            n_chars = f"{len(caption):,}"
            why = f"the caption has {n_chars} characters; shorten it to {MAX_CAPTION_CHARS:,}"
            return Reject(row.number, product_id, location, why)
        return Product(product_id, clean_text(caption), picture, row.number, columns)

    def _columns(self, row: Row, product_id: str) -> Mapping[str, Value]:
        id_column = self.roles.id
        return {
            name: product_id if name == id_column else convert(row.cells.get(name), kind)
            for name, kind in self.columns.items()
        }

    def _picture(self, row: Row, product_id: str) -> str | bytes | None:
        if self.roles.image is None:
            return self._pictures.locate_by_id(product_id) if product_id else None
        picture = parse_image(row.cells.get(self.roles.image))
        return self._pictures.locate(clean_text(picture)) if isinstance(picture, str) else picture


def _kinds(survey: Survey, roles: Roles) -> dict[str, Kind]:
    """The columns' kinds; what is read as words or names stays text, numbers though it may be."""
    words = {roles.id, roles.image, roles.title, roles.description, roles.highlights}
    return {name: "string" if name in words else kind for name, kind in survey.kinds.items()}


def _location(picture: str | bytes | None) -> str | None:
    if not isinstance(picture, str):
        return None
    return picture[:60] + "…" if is_url(picture) and picture.startswith("data:") else picture
