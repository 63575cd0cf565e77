"""``Catalog``: a table and its images as one stream of products and rejects."""

import shutil
import weakref
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from fashionclip.catalog.feeds.feed import find_feed
from fashionclip.catalog.feeds.reading import read_feed
from fashionclip.catalog.image_cells import image_locations_of, unused_images
from fashionclip.catalog.image_locations import ImageLocations
from fashionclip.catalog.money import currency_of, read_amount, without_currency
from fashionclip.catalog.roles import find_roles, usual_role
from fashionclip.catalog.sale_prices import SaleTable
from fashionclip.catalog.survey import Survey, take_survey
from fashionclip.catalog.tables.formats import find_table, open_table
from fashionclip.catalog.tables.table import BrokenRow, Cell, Row, Table, clean_text
from fashionclip.catalog.values import (
    ColumnType,
    as_text,
    parse_highlights,
    parse_id,
    reader_of,
    without_html,
)
from fashionclip.errors import ImageFetchError
from fashionclip.images.fetch import DEFAULT_POLICY, FetchPolicy, read_image_bytes
from fashionclip.product import ROLE_SPELLINGS, Kind, Product, Reject, Roles, Value, image_location
from fashionclip.text.captions import CaptionRecipe, build_caption

MAX_CAPTION_CHARS = 100_000
"""Longer captions are rejected."""
MAX_ID_CHARS = 1_000
CURRENCY = "currency"
"""The column for currencies that stand in the cells of prices, if the table has none."""


class Catalog:
    """A shop's products, read from a table while they are iterated over.

    Iterating gives a ``Product`` or a ``Reject`` for each row, in the table's order, and can be
    repeated; of a shop system's export, for each product. Memory does not grow with the table,
    except for 24 to 48 bytes per identifier during a pass, by which duplicates are found.

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
        images: ImageLocations,
        *,
        caption: CaptionRecipe,
        policy: FetchPolicy,
        locale: str | None = None,
        format: str | None = None,
        n_rows: int | None = None,
    ) -> None:
        """Use ``Catalog.open``."""
        self.location = location
        """The table, or its folder, as it was named."""
        self.format = format
        """The kind of export that it is read as, such as "Shopify product export", if any."""
        self.n_rows = survey.n_rows if n_rows is None else n_rows
        """Rows of the table, before those of a feed become products."""
        named = survey.currency_columns if _takes_currencies(survey, roles) else ()
        if named and roles.currency is None:
            roles = replace(roles, currency=CURRENCY)
        self.roles = roles
        """Which column plays which part; the currency's may be one that was made of prices."""
        self.types: Mapping[str, ColumnType] = MappingProxyType(dict(survey.types))
        """How each column of the table is read, blank ones included."""
        kinds = {name: found.kind for name, found in survey.types.items() if found.kind}
        if named:
            kinds[str(roles.currency)] = "string"
        self.columns: Mapping[str, Kind] = MappingProxyType(kinds)
        """The columns that products carry, and their kinds."""
        self.images = images.by_id_base
        """Folder or URL of the images, if it was named or is beside the table."""
        self.policy = policy
        """How images are fetched."""
        self.len_hint = survey.n_rows
        """Products and rejects that iterating gives."""
        self.notes = table.notes + survey.notes
        """Sentences on how the table was read: its encoding, prices, fields that were joined."""
        if survey.n_mended:
            rows = "1 row has" if survey.n_mended == 1 else f"{survey.n_mended:,} rows have"
            self.notes += (f"{rows} surplus fields, joined to their '{table.names[-1]}'",)
        if roles.id is None:
            why = "no column of a usual name for ids, so each product's id is its row's number"
            self.notes += (f"{why}; name a column with --column id=NAME",)
        self._table = table
        self._images = images
        self._caption = caption
        self._currency_columns, self._locale = named, locale
        self._readers = {
            name: reader_of(found) for name, found in survey.types.items() if found.kind
        }
        self._blanks: Mapping[str, Value] = dict.fromkeys(self._readers)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        images: str | Path | None = None,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        encoding: str | None = None,
        locale: str | None = None,
        format: str | None = None,
        caption: CaptionRecipe = build_caption,
        policy: FetchPolicy = DEFAULT_POLICY,
        storage_options: Mapping[str, str] | None = None,
    ) -> "Catalog":
        """Open a catalogue. This reads its table once, and none of its images.

        Args:
            path: a table (CSV, JSON, XML, Excel, Parquet, tars; ``.gz`` too), a sheet of a workbook
                (``shop.xlsx#Sheet``), a folder that holds a table or pictures, or a table's URL.
            images: folder or URL that relative image names start from. If the table has no column
                of images, they are ``<images>/<id>.jpg`` (or .png, …).
            columns: role to column, where a name is unusual: ``{"id": "my_sku"}``. An empty name
                leaves the role without a column; ``further_images`` may name several.
            encoding: of a text table, such as ``cp1251``; None to decide by its bytes.
            locale: a language or region such as ``de``, ``en_GB`` or ``ch``, whose way of writing
                decides what the cells leave open: whether ``1.299`` is a thousand, which dollar
                ``$`` is, whether day or month comes first in ``5/12/2026``.
            format: the shop system whose export the table is, such as ``shopify``, a TOML file
                with the rules of another, or ``plain`` for none; None to decide by the header.
                Of a system with views in several languages, ``locale`` chooses the words.
            caption: makes the caption of highlights and short description.
            policy: how images, and the table, may be fetched.
            storage_options: credentials, endpoint and region of object storage, for the table and
                the images; in place of those of the policy.

        Raises:
            CatalogError: there is no table, it cannot be read, or it lacks a necessary column;
                or the locale or the format is not known.
            ValueError: a storage option is not known.
        """
        if storage_options is not None:
            policy = replace(policy, storage_options=storage_options)
        mapping: Mapping[str, str | Sequence[str]] = {
            ROLE_SPELLINGS.get(role, role): names for role, names in (columns or {}).items()
        }
        source = find_table(str(path), policy=policy)

        try:
            locations = ImageLocations(source, None if images is None else str(images))
            table = open_table(
                source, usual_role=partial(usual_role, mapping=mapping), encoding=encoding
            )
            preferred: Mapping[str, Sequence[str]] = {}
            notes: tuple[str, ...] = ()
            n_rows = None
            if (feed := find_feed(table.names, format, where=str(path))) is not None:
                reading = read_feed(table, feed, mapping, view=locale)
                table, preferred, mapping = reading.table, reading.roles, reading.mapping
                notes, n_rows = reading.notes, reading.n_rows
            roles = find_roles(
                table.names,
                mapping,
                preferred=preferred,
                where=str(path),
                has_images_by_id=locations.by_id_base is not None,
            )
            sales = SaleTable(table, roles.sale_price) if roles.sale_price else None
            table = sales or table
            survey = take_survey(table, roles, locale=locale)
            notes += survey.notes
            if sales is not None and sales.n_zeros:
                notes += (sales.note(),)
            if "image" not in mapping:
                examples = {name: found.examples for name, found in survey.types.items()}
                notes += tuple(unused_images(examples, roles.image, roles.further_images))
            survey = replace(survey, notes=notes)
        except BaseException:
            if source.temporary is not None:
                shutil.rmtree(source.temporary, ignore_errors=True)
            raise
        catalog = cls(
            str(path),
            table,
            survey,
            roles,
            locations,
            caption=caption,
            policy=policy,
            locale=locale,
            format=None if feed is None else feed.title,
            n_rows=n_rows,
        )
        if source.temporary is not None:
            weakref.finalize(catalog, shutil.rmtree, source.temporary, ignore_errors=True)
        return catalog

    def __repr__(self) -> str:
        """Location, number of rows, and the columns of the roles."""
        roles = {role: column for role, column in self.roles.as_dict().items() if column}
        return f"<Catalog {self.location!r}: {self.len_hint:,} rows, roles {roles}>"

    def __iter__(self) -> Iterator[Product | Reject]:
        """Read products and rejects from the top.

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
                    item = Reject(item.row, item.product_id, image_location(item.image), why)
            yield item

    def image_sources(self, product: Product) -> tuple[str | bytes, ...]:
        """Where a product's image is, or the image itself; later ones if the first is not there.

        Raises:
            ImageFetchError: the row names none.
        """
        if product.image is None:
            mend = "name their column: --column image=NAME, or their folder: --images DIR"
            if self.roles.image is not None:
                mend = f"fill the column '{self.roles.image}'"
            message = f"row {product.row}: names no image; {mend}"
            raise ImageFetchError(message)
        if self.roles.image is not None or not isinstance(product.image, str):
            return (product.image,)
        return product.image, *self._images.others_by_id(product.image)

    def read_image(self, product: Product) -> bytes:
        """Fetch a product's image, still encoded; safe to call from several threads.

        Raises:
            ImageFetchError: the row names none, or it cannot be fetched.
        """
        first, *others = self.image_sources(product)
        try:
            return read_image_bytes(first, policy=self.policy)
        except ImageFetchError:
            for location in others:
                with suppress(ImageFetchError):
                    return read_image_bytes(location, policy=self.policy)
            raise

    def _reject_broken(self, row: BrokenRow) -> Reject:
        is_first = bool(self._table.names) and self._table.names[0] == self.roles.id
        found = clean_text(row.first_cell or "")[:MAX_ID_CHARS] if is_first else ""
        return Reject(row.number, found or None, None, row.reason)

    def _product(self, row: Row) -> Product | Reject:
        cells, roles = row.cells, self.roles
        product_id = clean_text(parse_id(cells.get(roles.id))) if roles.id else str(row.number)
        image, further = self._images_of(row, product_id)
        location = image_location(image)
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
        title = str(columns.get(roles.title or roles.description or "") or "")
        caption = self._caption(parse_highlights(cells.get(roles.highlights or "")), title)
        if len(caption) > MAX_CAPTION_CHARS:
            n_chars = f"{len(caption):,}"
            why = f"the caption has {n_chars} characters; shorten it to {MAX_CAPTION_CHARS:,}"
            return Reject(row.number, product_id, location, why)
        return Product(product_id, clean_text(caption), image, row.number, columns, further)

    def _columns(self, row: Row, product_id: str) -> Mapping[str, Value]:
        cells, readers = row.cells, self._readers
        columns = dict(self._blanks)
        for name, cell in cells.items():
            if name in readers and cell is not None and cell != "":
                columns[name] = readers[name](cell)
        if self.roles.id in columns:
            columns[self.roles.id] = product_id
        if self._currency_columns:
            currency = str(self.roles.currency)
            columns[currency] = columns.get(currency) or self._currency(cells)
        return columns

    def _currency(self, cells: Mapping[str, Cell]) -> str | None:
        """The currency that the prices of a row name; that of the main price first."""
        for name in self._currency_columns:
            amount = read_amount(as_text(without_html(cells.get(name))))
            named = without_currency(name)[1]
            if amount is not None and (amount.currency or named):
                return currency_of(amount, self._locale) if amount.currency else named
        return None

    def _images_of(
        self, row: Row, product_id: str
    ) -> tuple[str | bytes | None, tuple[str | bytes, ...]]:
        """The main image, and the other views: the rest of its cell and the further columns."""
        roles = self.roles
        cells = [row.cells.get(name) for name in (roles.image, *roles.further_images) if name]
        names = dict.fromkeys(name for cell in cells for name in image_locations_of(cell))
        images = [
            self._images.locate(clean_text(name)) if isinstance(name, str) else name
            for name in names
        ]
        if roles.image is None:
            return self._images.locate_by_id(
                product_id
            ) if product_id and roles.id else None, tuple(images)
        return (images[0] if images else None), tuple(images[1:])


def _takes_currencies(survey: Survey, roles: Roles) -> bool:
    """Whether there is a column for the currencies of prices, or a name for a new one."""
    if roles.currency is None:
        return CURRENCY not in survey.types
    return roles.currency in survey.types and survey.types[roles.currency].kind in {None, "string"}


class SeenIds:
    """The row of each identifier's first occurrence, by a digest of 64 bits.

    A hash table in two arrays: 16 bytes per slot, at most two thirds full. Two different
    identifiers among a million share a digest with a probability of 3e-8.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._keys = array("Q", bytes(8 * 1024))
        self._rows = array("Q", bytes(8 * 1024))
        self._count = 0

    def first_row(self, product_id: str, row: int) -> int:
        """The row of an identifier's first occurrence; ``row`` itself if this is the first."""
        key = hash(product_id) % 2**64  # keyed, so that no feed can aim at a collision
        slot = self._slot(key)
        if self._rows[slot]:
            return self._rows[slot]
        self._keys[slot], self._rows[slot] = key, row
        self._count += 1
        if self._count * 3 > len(self._rows) * 2:
            self._grow()
        return row

    def _slot(self, key: int) -> int:
        mask = len(self._rows) - 1
        slot = key & mask
        while self._rows[slot] and self._keys[slot] != key:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        keys, rows = self._keys, self._rows
        self._keys = array("Q", bytes(16 * len(keys)))
        self._rows = array("Q", bytes(16 * len(rows)))
        for key, row in zip(keys, rows, strict=True):
            if row:  # rows start at 1; 0 is an empty slot
                slot = self._slot(key)
                self._keys[slot], self._rows[slot] = key, row
