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

from fashionclip.catalog.tables.encodings import ENCODINGS, SUPERSETS, guess_encoding
from fashionclip.catalog.tables.table import MAX_ROW_CHARS
from fashionclip.errors import CatalogError

BLOCK_BYTES = 1 << 18

_OPENERS: Mapping[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}
"""First bytes of a compressed file to what opens it."""

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE = ("utf-16", "utf-32")
MIN_ZERO_SHARE = 0.1
MIN_ZEROS = 8
"""Characters whose upper byte is zero, and their share, from which a file may be UTF-16."""

UNDECODED = re.compile("[\udc80-\udcff]")
"""What ``surrogateescape`` makes of bytes that are not of the encoding."""
_BEYOND_ASCII = re.compile("[^\x00-\x7f]")
_BEYOND_ASCII_LINE = re.compile(rb"[^\r\n]*[\x80-\xff][^\r\n]*")
SAMPLE_BYTES = 1 << 16  # of such lines, by which the encoding is guessed


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
    has_backslash: bool = True
    """Whether a backslash may be in it."""

    @contextmanager
    def open(self) -> Iterator[io.TextIOWrapper]:
        """Open it as a stream of text, with its line ends as they are.

        Raises:
            CatalogError: the file cannot be read on.
        """
        with reading(self.path), open_plain(self.path) as binary:
            yield io.TextIOWrapper(cast(IO[bytes], binary), self.encoding, self.errors, newline="")

    def lines(self) -> Iterator[str]:
        r"""Lines with their ends (``\n``, ``\r\n`` or ``\r``).

        Raises:
            CatalogError: the file cannot be read on.
        """
        with self.open() as text:
            while line := text.readline(MAX_ROW_CHARS + 1):
                if len(line) > MAX_ROW_CHARS and not line.endswith(("\n", "\r")):
                    yield _skip_rest(text, line)
                elif "\0" in line:
                    yield BadLine(line, "holds NUL bytes; save the table as text again")
                elif self.errors == "surrogateescape" and UNDECODED.search(line):
                    name = "UTF-8" if self.encoding.startswith("utf-8") else self.encoding
                    why = (
                        f"holds bytes that are not {name}, unlike the rest of the table; mend them"
                    )
                    yield BadLine(UNDECODED.sub("\ufffd", line), why)
                else:
                    yield line


def open_text(path: Path, encoding: str | None = None) -> TextFile:
    """Decide a text file's encoding; reads it through.

    A byte-order mark decides. Without one the file is UTF-16 or UTF-32 if its zero bytes lie so,
    UTF-8 if most of its bytes beyond ASCII are valid UTF-8, and else what its letters say.

    Args:
        path: the file, perhaps compressed.
        encoding: its encoding, where that is known; None to decide.

    Raises:
        CatalogError: the file cannot be read to its end, or there is no such encoding.
    """
    if encoding is not None:
        return _named(path, encoding)
    with reading(path), open_plain(path) as file:
        head = file.read(BLOCK_BYTES)
        wide = next((name for mark, name in _MARKS if head.startswith(mark)), None)
        wide = wide or _wide_encoding(head[:4096])
        if wide:
            has_backslash = _read_on(file, head)
            return TextFile(path, wide, "replace", (f"read as {wide.upper()}",), has_backslash)
        n_valid, n_invalid, has_backslash = _count_beyond_ascii(file, head)
    has_mark = head.startswith(codecs.BOM_UTF8)
    utf8 = "utf-8-sig" if has_mark else "utf-8"
    if not n_invalid:
        return TextFile(path, utf8, "strict", has_backslash=has_backslash)
    if has_mark or n_valid > n_invalid:
        shown = "1 byte is" if n_invalid == 1 else f"{n_invalid:,} bytes are"
        note = f"{shown} not UTF-8; the rows that hold them are rejected"
        return TextFile(path, utf8, "surrogateescape", (note,), has_backslash)
    with reading(path), open_plain(path) as file:
        found = guess_encoding(_lines_beyond_ascii(file))
    note = (
        f"read as {ENCODINGS[found]}, for it is not UTF-8; if letters are wrong, name its encoding "
        "(--encoding NAME)"
    )
    return TextFile(path, found, "surrogateescape", (note,), has_backslash)


def _named(path: Path, encoding: str) -> TextFile:
    try:
        "".encode(encoding)  # codecs that are no text encodings, such as base64, are refused too
        name = codecs.lookup(encoding).name
        name = SUPERSETS.get(name, name)
        errors = "replace" if name.startswith(_WIDE) else "surrogateescape"
        b"id,title\n".decode(name, errors)  # punycode and its like read no text
    except (LookupError, ValueError) as exc:
        message = f"no encoding '{encoding}'; names are utf-8, utf-16, {', '.join(ENCODINGS)}, …"
        raise CatalogError(message) from exc
    with reading(path), open_plain(path) as file:
        has_backslash = _read_on(file, head := file.read(BLOCK_BYTES))
    if name == "utf-8" and head.startswith(codecs.BOM_UTF8):
        name = "utf-8-sig"
    if name in _WIDE and not head.startswith(tuple(mark for mark, _ in _MARKS)):
        name = _wide_encoding(head[:4096]) or f"{name}-le"
    return TextFile(path, name, errors, has_backslash=has_backslash)


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
    except UnicodeError as exc:  # some decoders know no other way, whatever they are told to do
        message = f"{path}: its text is not in this encoding ({exc}); name its own: --encoding NAME"
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


def _read_on(file: io.BufferedIOBase, block: bytes) -> bool:
    """Read to the end, for a compressed file may break off; whether there is a backslash."""
    has_backslash = False
    while block:
        has_backslash = has_backslash or b"\\" in block
        block = file.read(BLOCK_BYTES)
    return has_backslash


def _wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, told by where the zero bytes are."""
    n_chars = len(head) // 4
    zeros = [head[i : n_chars * 4 : 4].count(0) for i in range(4)]
    if n_chars and min(zeros[2:]) == n_chars and zeros[0] == 0:
        return "utf-32-le"
    if n_chars and min(zeros[:2]) == n_chars and zeros[3] == 0:
        return "utf-32-be"
    even, odd = head[::2].count(0), head[1::2].count(0)
    if min(even, odd) * 10 > max(even, odd) or max(even, odd) < MIN_ZEROS:
        return None
    if max(even, odd) * 2 < len(head) * MIN_ZERO_SHARE or 0 not in head[:2]:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _lines_beyond_ascii(file: io.BufferedIOBase) -> bytes:
    """Some of a file's lines with bytes beyond ASCII."""
    found: list[bytes] = []
    n_bytes = 0
    while n_bytes < SAMPLE_BYTES and (block := file.read(BLOCK_BYTES)):
        for line in _BEYOND_ASCII_LINE.findall(block):
            found.append(line)
            n_bytes += len(line)
            if n_bytes >= SAMPLE_BYTES:
                break
    return b"\n".join(found)[:SAMPLE_BYTES]


def _count_beyond_ascii(file: io.BufferedIOBase, head: bytes) -> tuple[int, int, bool]:
    """Characters beyond ASCII that are valid UTF-8, bytes that are not, and has it a backslash."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    n_valid = n_invalid = 0
    has_backslash = False
    block = head
    while True:
        text = decoder.decode(block, final=not block)
        has_backslash = has_backslash or "\\" in text
        if not text.isascii():
            bad = len(UNDECODED.findall(text))
            n_invalid += bad
            n_valid += len(_BEYOND_ASCII.findall(text)) - bad
        if not block:
            return n_valid, n_invalid, has_backslash
        block = file.read(BLOCK_BYTES)
