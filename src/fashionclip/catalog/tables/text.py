"""Lines of a text table, compressed or not, in the encoding that its bytes allow.

The encoding is decided once for the whole file. Lines longer than ``MAX_ROW_CHARS`` are cut. A
line that cannot be used becomes a ``BadLine`` with the reason.
"""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from fashionclip.catalog.tables.table import MAX_ROW_CHARS
from fashionclip.errors import CatalogError

BLOCK_BYTES = 1 << 18

_OPENERS: Mapping[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
"""First bytes of a compressed file to what opens it."""

_UNDECODED = re.compile("[\udc80-\udcff]")
_BEYOND_ASCII = re.compile("[^\x00-\x7f]")


class BadLine(str):
    """A line that no row can be made of, perhaps cut short."""

    __slots__ = ("is_cut", "n_quotes", "reason")
    reason: str
    is_cut: bool
    """Whether the line is longer than its text."""
    n_quotes: int
    """Quotation marks in the whole line."""

    def __new__(
        cls, text: str, reason: str, *, is_cut: bool = False, n_quotes: int | None = None
    ) -> "BadLine":
        """A bad line; ``n_quotes`` is counted in the text if it is not given."""
        line = super().__new__(cls, text)
        line.reason, line.is_cut = reason, is_cut
        line.n_quotes = text.count('"') if n_quotes is None else n_quotes
        return line


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text file and how its bytes are read."""

    path: Path
    encoding: str
    errors: str
    notes: tuple[str, ...] = ()
    """A remark for the user on the encoding, unless it is plain UTF-8."""

    def lines(self) -> Iterator[str]:
        r"""Lines with their ends (``\n``, ``\r\n`` or ``\r``).

        Raises:
            CatalogError: the file cannot be read on.
        """
        with reading(self.path), open_plain(self.path) as binary:
            text = io.TextIOWrapper(cast(IO[bytes], binary), self.encoding, self.errors, newline="")
            while line := text.readline(MAX_ROW_CHARS + 1):
                if len(line) > MAX_ROW_CHARS and not line.endswith(("\n", "\r")):
                    yield _skip_rest(text, line)
                elif "\0" in line:
                    yield BadLine(line, "holds NUL bytes; save the table as text again")
                elif self.errors == "surrogateescape" and _UNDECODED.search(line):
                    why = "holds bytes that are not UTF-8, unlike the rest of the table; mend them"
                    yield BadLine(_UNDECODED.sub("\ufffd", line), why)
                else:
                    yield line


def open_text(path: Path) -> TextFile:
    """Decide a text file's encoding; reads it through.

    A byte-order mark decides. Without one the file is UTF-8 if most of its bytes beyond ASCII are
    valid UTF-8, and Windows-1252 otherwise.

    Raises:
        CatalogError: the file cannot be read to its end, or is UTF-16 without a mark.
    """
    with reading(path), open_plain(path) as file:
        head = file.read(4)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            while file.read(BLOCK_BYTES):  # to the end: a compressed file may break off
                pass
            return TextFile(path, "utf-16", "replace", ("read as UTF-16",))
        if any(head) and b"\0\0" in (head[::2], head[1::2]):
            message = (
                f"{path}: looks like UTF-16 without a byte-order mark; "
                "save it as UTF-8 and read that"
            )
            raise CatalogError(message)
        n_valid, n_invalid = _count_beyond_ascii(file, head)
    has_mark = head.startswith(codecs.BOM_UTF8)
    encoding = "utf-8-sig" if has_mark else "utf-8"
    if not n_invalid:
        return TextFile(path, encoding, "strict")
    if has_mark or n_valid > n_invalid:
        note = f"{n_invalid} bytes are not UTF-8; the rows that hold them are rejected"
        return TextFile(path, encoding, "surrogateescape", (note,))
    return TextFile(path, "cp1252", "replace", ("read as Windows-1252, for it is not UTF-8",))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of reading a table into a ``CatalogError``.

    Raises:
        CatalogError: the file is missing, unreadable, or breaks off within its compression.
    """
    try:
        yield
    except FileNotFoundError as exc:
        message = f"{path}: no such file; check the path of the table"
        raise CatalogError(message) from exc
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as exc:
        message = f"{path}: the compressed table breaks off or is damaged; fetch it again ({exc})"
        raise CatalogError(message) from exc
    except OSError as exc:  # bz2 raises it for damaged data too
        message = f"{path}: cannot be read ({exc.strerror or exc})"
        raise CatalogError(message) from exc


def open_plain(path: Path) -> io.BufferedIOBase:
    """Open a file for reading, and decompress it if its first bytes say that it is compressed.

    Raises:
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(6)
    opener = next((_OPENERS[magic] for magic in _OPENERS if head.startswith(magic)), None)
    return opener(path) if opener else path.open("rb")


def _skip_rest(text: io.TextIOBase, line: str) -> BadLine:
    n_quotes = line.count('"')
    while rest := text.readline(MAX_ROW_CHARS):
        n_quotes += rest.count('"')
        if rest.endswith(("\n", "\r")):
            break
    why = f"longer than {MAX_ROW_CHARS:,} characters; shorten its fields"
    return BadLine(line[:1000], why, is_cut=True, n_quotes=n_quotes)


def _count_beyond_ascii(file: io.BufferedIOBase, head: bytes) -> tuple[int, int]:
    """Characters beyond ASCII that are valid UTF-8, and bytes that are not."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    n_valid = n_invalid = 0
    block = head
    while True:
        text = decoder.decode(block, final=not block)
        if not text.isascii():
            bad = len(_UNDECODED.findall(text))
            n_invalid += bad
            n_valid += len(_BEYOND_ASCII.findall(text)) - bad
        if not block:
            return n_valid, n_invalid
        block = file.read(BLOCK_BYTES)
