"""Which files a path means, and which format their table has.

A path is a table, a sheet of a workbook, the shards of tars, or a folder: with one table in it,
Kaggle's (``styles.csv`` beside ``images/``), a saved data set, or pictures. A URL is a table, or in
object storage a folder of one, which is copied to this machine first, without images, so that it
can be read more than once.
"""

import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fashionclip.catalog.tables.delimited import DelimitedTable
from fashionclip.catalog.tables.folders import (
    PictureFolder,
    dataset_files,
    has_pictures,
    is_clutter,
    is_of_dataset,
)
from fashionclip.catalog.tables.json_documents import JsonTable
from fashionclip.catalog.tables.table import Table, UsualRole
from fashionclip.catalog.tables.tars import TarTable, expand_shards, is_tar
from fashionclip.catalog.tables.text import open_plain, reading
from fashionclip.catalog.tables.xml_feeds import XmlTable
from fashionclip.errors import CatalogError, ImageFetchError
from fashionclip.images.fetch import FetchPolicy, copy_bytes, is_url
from fashionclip.object_storage import is_object_storage, open_files, why_failed

KAGGLE_TABLE = "styles.csv"
IMAGES_FOLDER = "images"
COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz")
WORKBOOK_SUFFIXES = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
SHEET_SIGN = "#"
MAX_REMOTE_TABLE_BYTES = 8 << 30
TABLE_TIMEOUT_S = 600.0

_XML = re.compile(rb"<\?xml|<rss|<feed", re.IGNORECASE)
_JSON = re.compile(rb"[\[{]\s*([\[{\"]|$)")
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class TableFiles:
    """A table's files, and the folder that its relative image names start from."""

    files: tuple[Path, ...]
    folder: str
    """Folder or URL that holds the table."""
    sheet: str = ""
    """The sheet of a workbook, if one is named; see ``SHEET_SIGN``."""
    images: str | None = None
    """The folder of images beside the table, if that is in object storage."""
    temporary: Path | None = None
    """The folder of a remote table's local copy, to be removed in the end."""


def find_table(path: str, *, policy: FetchPolicy) -> TableFiles:
    """Find the table that a path or URL means.

    Raises:
        CatalogError: there is no table or more than one, or it cannot be copied.
    """
    path, sheet = _split_sheet(path)
    if is_url(path) and not path.lower().startswith("file:"):
        if is_object_storage(path) and not names_table(path):
            found = _find_in_bucket(path.rstrip("/"), policy)
            if found is not None:
                return found
        return replace(
            _copy_tables(path.partition("?")[0].rpartition("/")[0], [path], policy), sheet=sheet
        )
    if is_tar(path) and not Path(path).is_file():  # a pattern of shards
        shards = tuple(map(Path, expand_shards(path)))
        return TableFiles(shards, str(shards[0].absolute().parent))
    local = Path(path)
    with reading(local):
        if not local.is_dir():
            return TableFiles((local,), str(local.absolute().parent), sheet)
        return _find_in_folder(local)


def _find_in_folder(local: Path) -> TableFiles:
    """The table in a folder.

    Raises:
        CatalogError: there is none, or more than one.
        OSError: the folder cannot be read.
    """
    folder = str(local.absolute())
    found = sorted(entry for entry in local.iterdir() if _is_table(entry) and entry.is_file())
    if files := _one_table(found or dataset_files(local), where=local):
        is_one = len(files) == 1
        return TableFiles(tuple(files), str(files[0].absolute().parent) if is_one else folder)
    if has_pictures(local):
        return TableFiles((local,), folder)
    expected = ", ".join(TABLE_SUFFIXES)
    message = f"{local}: no table in this folder; expected one of {expected}, or pictures"
    raise CatalogError(message)


def _find_in_bucket(url: str, policy: FetchPolicy) -> TableFiles | None:
    """The table in a folder of object storage; None if there is no such folder.

    Raises:
        CatalogError: there is no table in it or more than one, or it cannot be read.
    """
    try:
        system, root = open_files(url, policy.storage_options)
        entries = system.ls(root, detail=True)
    except (ImportError, FileNotFoundError):
        return None  # copying reports it
    except Exception as exc:  # the client of each provider has errors of its own
        message = f"{url}: {why_failed(exc, policy.storage_options)}"
        raise CatalogError(message) from exc
    below = {entry["name"].rstrip("/").rpartition("/")[2]: entry["type"] for entry in entries}
    if below == {root.rpartition("/")[2]: "file"}:  # the URL is one of a file without a suffix
        return None
    names = sorted(name for name, kind in below.items() if kind == "file" and _is_table(Path(name)))
    files = _one_table(list(map(Path, names)), where=url)
    if not files:
        message = f"{url}: no table in this folder; expected one of {', '.join(TABLE_SUFFIXES)}"
        raise CatalogError(message)
    copied = _copy_tables(url, [f"{url}/{name}" for name in files], policy)
    has_images = below.get(IMAGES_FOLDER) == "directory"
    return replace(copied, images=f"{url}/{IMAGES_FOLDER}" if has_images else None)


def _one_table(files: Sequence[Path], *, where: str | Path) -> Sequence[Path]:
    """The files of the one table among those of a folder; none if there are none.

    Raises:
        CatalogError: there are several tables.
    """
    kaggle = [entry for entry in files if _uncompressed_name(entry) == KAGGLE_TABLE]
    files = kaggle[:1] or files
    suffixes = {entry.suffix.lower() for entry in files}
    if len(files) < 2 or (len(suffixes) == 1 and all(map(_is_shard, files))):
        return files
    folder = Path(where)
    names = (one.relative_to(folder) if folder in one.parents else one for one in files[:10])
    listed = ", ".join(name.as_posix() for name in names)
    message = f"{where}: several tables in this folder ({listed}); name the one you mean"
    raise CatalogError(message)


def _split_sheet(path: str) -> tuple[str, str]:
    """A path without the sheet that is named behind a workbook's: ``shop.xlsx#Spring``."""
    book, sign, sheet = path.rpartition(SHEET_SIGN)
    if sign and book.lower().endswith(WORKBOOK_SUFFIXES) and not Path(path).exists():
        return book, sheet
    return path, ""


def names_table(path: str) -> bool:
    """Whether a path or URL is one of a table, told by its suffix alone."""
    name = _uncompressed_name(Path(_split_sheet(path)[0]))
    return name.endswith((*TABLE_SUFFIXES, ".txt"))


def _is_table(entry: Path) -> bool:
    name = _uncompressed_name(entry)
    if is_clutter(entry.name) or is_of_dataset(entry.name):
        return False
    return name.endswith(TABLE_SUFFIXES)


def _is_shard(entry: Path) -> bool:
    return any(entry.suffix.lower() in found.suffixes for found in FORMATS if found.has_shards)


def _uncompressed_name(entry: Path) -> str:
    """A file's name in lower case, without the suffix of its compression."""
    name = entry.name.lower()
    return name.rpartition(".")[0] if name.endswith(COMPRESSED_SUFFIXES) else name


def _copy_tables(folder: str, urls: Sequence[str], policy: FetchPolicy) -> TableFiles:
    """The files of a remote table, copied to this machine.

    Raises:
        CatalogError: one of them cannot be copied.
    """
    temporary = Path(tempfile.mkdtemp(prefix="fashionclip-"))
    generous = replace(policy, max_bytes=MAX_REMOTE_TABLE_BYTES, timeout_s=TABLE_TIMEOUT_S)
    copied = []
    try:
        for i, url in enumerate(urls):
            name = url.partition("?")[0].rstrip("/").rpartition("/")[2]
            copied.append(temporary / f"{i}-{name[-60:]}")
            with copied[-1].open("w+b") as file:
                copy_bytes(url, file, policy=generous)
    except BaseException as exc:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(exc, ImageFetchError | OSError):
            raise CatalogError(str(exc)) from exc
        raise
    return TableFiles(tuple(copied), folder, temporary=temporary)


def _open_delimited(source: TableFiles, usual_role: UsualRole, encoding: str | None) -> Table:
    return DelimitedTable(source.files[0], usual_role=usual_role, encoding=encoding)


def _open_json(source: TableFiles, usual_role: UsualRole, encoding: str | None) -> Table:
    return JsonTable(source.files[0], usual_role=usual_role, encoding=encoding)


def _open_xml(source: TableFiles, usual_role: UsualRole, encoding: str | None) -> Table:
    return XmlTable(source.files[0], usual_role=usual_role, encoding=encoding)


def _open_workbook(source: TableFiles, usual_role: UsualRole, encoding: str | None) -> Table:
    from fashionclip.catalog.tables.workbooks import WorkbookTable

    return WorkbookTable(source.files[0], usual_role=usual_role, sheet=source.sheet)


def _open_parquet(source: TableFiles, usual_role: UsualRole, encoding: str | None) -> Table:
    from fashionclip.catalog.tables.parquet import ParquetTable  # a quarter of a second to import

    return ParquetTable(source.files)


def _open_tars(source: TableFiles, usual_role: UsualRole, encoding: str | None) -> Table:
    return TarTable(list(map(str, source.files)))


@dataclass(frozen=True, slots=True)
class Format:
    """A table format: how it is recognised and opened."""

    suffixes: tuple[str, ...]
    open: Callable[[TableFiles, UsualRole, str | None], Table]
    """Takes the files, the usual roles of columns, and the text encoding if it is named."""
    magic: tuple[bytes, ...] = ()
    """First bytes of its files, which decide before the suffix does."""
    has_shards: bool = False
    """Whether all files of a folder may be one table."""


FORMATS = (
    Format((".csv", ".tsv", ".tab"), _open_delimited),
    Format((".jsonl", ".ndjson", ".json"), _open_json),
    Format((".xml", ".rss", ".atom"), _open_xml),
    Format(WORKBOOK_SUFFIXES, _open_workbook, magic=(b"PK\x03\x04", b"\xd0\xcf\x11\xe0")),
    Format(
        (".parquet", ".pq", ".arrow", ".feather"),
        _open_parquet,
        magic=(b"PAR1", b"ARROW1"),
        has_shards=True,
    ),
    Format((".tar",), _open_tars, has_shards=True),
)
"""The formats; a file that matches none is read as the first."""
TABLE_SUFFIXES = tuple(suffix for table_format in FORMATS for suffix in table_format.suffixes)


def open_table(source: TableFiles, *, usual_role: UsualRole, encoding: str | None = None) -> Table:
    """Open a table in the format that its first bytes or its name say.

    Args:
        source: its files.
        usual_role: the role that a column of a name usually has, by which headers are found.
        encoding: the encoding of a text table; None to decide.

    Raises:
        CatalogError: it cannot be read.
    """
    first = source.files[0]
    if first.is_dir():
        return PictureFolder(first)
    with reading(first), first.open("rb") as file:
        head = file.read(6)
    by_magic = [found for found in FORMATS if head.startswith(found.magic)]
    by_name = [found for found in FORMATS if _uncompressed_name(first).endswith(found.suffixes)]
    if head.startswith(_ZIP) and not _holds_workbook(first):
        message = f"{first}: a zip archive; unzip it and name the table or folder in it"
        raise CatalogError(message)
    if not by_magic and (not by_name or by_name[0].open is not _open_tars):
        by_name = _by_content(first) or by_name
    return (by_magic or by_name or FORMATS)[0].open(source, usual_role, encoding)


def _holds_workbook(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.startswith("xl/") or name == "mimetype" for name in archive.namelist())
    except zipfile.BadZipFile:
        return True  # which opening it will report


def _by_content(path: Path) -> list[Format]:
    """The format that the first characters of a text table say, whatever its name is."""
    with reading(path), open_plain(path) as file:
        start = bytes(byte for byte in file.read(400) if 0 < byte < 0x80).lstrip()
    suffix = ".xml" if _XML.match(start) else ".json" if _JSON.match(start) else ""
    return [found for found in FORMATS if suffix in found.suffixes]
