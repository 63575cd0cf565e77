"""``Catalog``: a table and its pictures as a repeatable stream of products and rejects.

Opening reads the table once, to learn what its columns hold and how many rows it has;
iterating reads it again, row by row. Of a row already read, eight bytes stay in memory:
the digest that finds a repeated id.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from fashionclip.catalog.columns import (
    Kind,
    KindFinder,
    Roles,
    convert,
    find_roles,
    read_highlights,
)
from fashionclip.catalog.tables import FORMATS, ParquetTable, RawRow, Table, open_table
from fashionclip.errors import CatalogError, PictureError
from fashionclip.pictures import FetchPolicy, read_picture, resolve_location
from fashionclip.product import Product, Reject
from fashionclip.texts import CaptionRecipe, build_caption, one_line

KAGGLE_TABLE = "styles.csv"
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Catalog:
    """A table of products and where their pictures are. Made by ``Catalog.open``.

    Iterating yields each row once, in order, as a ``Product`` or as a ``Reject`` with its reason.
    """

    location: str
    """The table, or the folder of tables."""
    table: Table
    roles: Roles
    images: str | None
    """Folder or URL that picture names are relative to; ``<id>.jpg`` where no column names them."""
    caption: CaptionRecipe
    policy: FetchPolicy

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        images: str | Path | None = None,
        columns: Mapping[str, str] | None = None,
        caption: CaptionRecipe = build_caption,
        policy: FetchPolicy | None = None,
    ) -> "Catalog":
        """Open a catalogue.

        Args:
            path: a CSV, TSV, JSON Lines or Parquet file (compressed or not, local or any fsspec
                URL), or a folder: Kaggle's layout (``styles.csv`` and ``images/<id>.jpg``), one
                table, or the parts of one Parquet table.
            images: folder or URL that picture names are relative to; None for the table's own.
            columns: role to column name, for tables with unusual names: ``{"id": "article"}``.
                Roles are ``id``, ``image``, ``title``, ``description`` and ``highlights``.
            caption: how captions are made of highlights and title.
            policy: how remote pictures may be fetched.

        Raises:
            CatalogError: not there, in no known format, or without the columns it takes.
        """
        location = str(path)
        folder = Path(location) if "://" not in location else None
        if folder is not None and folder.is_dir():
            table, home = _open_folder(folder)
        else:
            table, home = open_table(location), location.rpartition("/")[0] or "."
        has_folder = images is not None
        if images is None and folder is not None and (folder / "images").is_dir():
            names = {name.casefold() for name in table.names()}
            has_folder = not names & {"image", "filename", "file_name"}
            images = folder / "images" if has_folder else None
        base = str(images) if images is not None else home
        roles = find_roles(table.names(), columns or {}, place=location, has_folder=has_folder)
        return cls(location, table, roles, base, caption, policy or FetchPolicy())

    @cached_property
    def _survey(self) -> tuple[dict[str, Kind], int]:
        """What each column holds, and the number of rows; one pass over a table of text."""
        told = self.table.schema()
        if told is not None:
            kinds, n_rows = told
            return {name: _kind_but_id(name, kinds[name], self.roles) for name in kinds}, n_rows
        finders = {name: KindFinder() for name in self.table.names() if name != self.roles.id}
        blobs = set()
        n_rows = 0
        for item in self.table.rows():
            n_rows += 1
            if isinstance(item, Reject):
                continue
            for name, value in item.values.items():
                if _blob_of(value) is not None:
                    blobs.add(name)
                elif name in finders:
                    finders[name].see(value)
        found = {name: finder.kind for name, finder in finders.items()}
        kept = (name for name in self.table.names() if name not in blobs)
        return {n: _kind_but_id(n, found.get(n, "string"), self.roles) for n in kept}, n_rows

    @property
    def columns(self) -> Mapping[str, Kind]:
        """The catalogue's own columns and what they hold; columns of picture bytes left out."""
        return self._survey[0]

    @property
    def len_hint(self) -> int:
        """How many rows the table has, those that will be rejected included."""
        return self._survey[1]

    def __iter__(self) -> Iterator[Product | Reject]:
        """Read the table from its start."""
        kinds = self.columns
        first_rows: dict[int, int] = {}
        for item in self.table.rows():
            if isinstance(item, Reject):
                yield item
                continue
            product = self._product_of(item, kinds)
            if isinstance(product, Product):
                digest = blake2b(product.product_id.encode("utf-8", "replace"), digest_size=8)
                first = first_rows.setdefault(int.from_bytes(digest.digest(), "big"), item.row)
                if first != item.row:
                    reason = f"the id '{product.product_id}' was used before, in row {first}"
                    product = Reject(item.row, product.product_id, _shown(product.image), reason)
            yield product

    def read_image(self, product: Product) -> bytes:
        """Read a product's encoded picture from wherever it is.

        Raises:
            PictureError: the row names none, or it cannot be fetched.
        """
        if product.image is None:
            message = "the row names no picture"
            raise PictureError(message)
        if isinstance(product.image, bytes):
            return product.image
        return read_picture(product.image, policy=self.policy)

    def _product_of(self, item: RawRow, kinds: Mapping[str, Kind]) -> Product | Reject:
        values, roles = item.values, self.roles
        product_id = one_line(str(convert(values.get(roles.id), "string") or ""))
        if not product_id:
            return Reject(item.row, None, None, f"the id (column '{roles.id}') is empty")
        title = str(convert(values.get(roles.title), "string") or "") if roles.title else ""
        if not title and roles.description:
            title = str(convert(values.get(roles.description), "string") or "")
        highlights = read_highlights(values.get(roles.highlights)) if roles.highlights else []
        return Product(
            product_id=product_id,
            caption=self.caption(highlights, title),
            image=self._image_of(values, product_id),
            row=item.row,
            columns={name: convert(values.get(name), kind) for name, kind in kinds.items()},
        )

    def _image_of(self, values: Mapping[str, Any], product_id: str) -> str | bytes | None:
        if self.roles.image is None:
            return self._image_by_id(product_id)
        value = values.get(self.roles.image)
        blob = _blob_of(value)
        if blob is not None:
            return blob
        if isinstance(value, Mapping):
            value = value.get("path")
        name = str(value).strip() if value is not None else ""
        return resolve_location(name, base=self.images) if name else None

    def _image_by_id(self, product_id: str) -> str | None:
        if self.images is None:
            return None
        first = resolve_location(f"{product_id}{PICTURE_SUFFIXES[0]}", base=self.images)
        if "://" in self.images:
            return first
        stem = first.removesuffix(PICTURE_SUFFIXES[0])
        return next((stem + s for s in PICTURE_SUFFIXES if Path(stem + s).exists()), first)


def _open_folder(folder: Path) -> tuple[Table, str]:
    if (folder / KAGGLE_TABLE).exists():
        return open_table(str(folder / KAGGLE_TABLE)), str(folder)
    found = sorted(p for p in folder.iterdir() if FORMATS.get(_suffix(p)) and p.is_file())
    if not found:  # the layout of data sets that come as data/train-00000-of-00004.parquet
        found = sorted(folder.glob("data/*.parquet"))
    if found and all(_suffix(path) == ".parquet" for path in found):
        return ParquetTable([str(path) for path in found]), str(folder)
    if len(found) == 1:
        return open_table(str(found[0])), str(folder)
    names = ", ".join(path.name for path in found[:5])
    what = (
        f"holds {len(found)} tables ({names}); name the one you mean"
        if found
        else (f"holds no table ({', '.join(FORMATS)}); name the file")
    )
    message = f"the folder {folder} {what}"
    raise CatalogError(message)


def _kind_but_id(name: str, kind: Kind, roles: Roles) -> Kind:
    return "string" if name == roles.id else kind


def _suffix(path: Path) -> str:
    suffixes = [s.lower() for s in path.suffixes]
    return next((s for s in reversed(suffixes) if s not in {".gz", ".bz2", ".xz"}), "")


def _blob_of(value: object) -> bytes | None:
    """Picture bytes in a cell, as they are or as Hugging Face stores them."""
    if isinstance(value, Mapping):
        value = value.get("bytes")
    return value if isinstance(value, bytes) and value else None


def _shown(image: str | bytes | None) -> str | None:
    return image if isinstance(image, str) else None


__all__: Sequence[str] = ["Catalog"]
