"""Image files with less of the metadata that a decoder may refuse the whole file for."""

import zlib
from collections.abc import Iterator

from fashionclip.images.parts import JPEG, JPEG_SCAN, PNG, jpeg_segments, png_chunks

_PNG_COLOR_TYPE = slice(25, 26)
_PNG_TRANSPARENCY_BYTES = {b"\0": range(2, 3), b"\2": range(6, 7), b"\3": range(1, 257)}
"""Right lengths of tRNS, by the header's colour type: grey, RGB and palette."""
_PNG_READ = frozenset({b"eXIf", b"iCCP"})
_JPEG_METADATA = frozenset({*range(0xE0, 0xF0), 0xFE})  # APP0 to APP15, comments
_JPEG_COLORS = ((0xE0, b"JFIF\0", 14), (0xEE, b"Adobe", 12))
_JPEG_READ = ((0xE1, b"Exif\0\0", 14), (0xE2, b"ICC_PROFILE\0", 14))
"""Marker, how the segment begins, and its least length: shorter ones libjpeg passes over too."""


def with_less_metadata(data: bytes) -> Iterator[bytes]:
    """Give a PNG or JPEG file as it is, with what pixels depend on of its metadata, and with less.

    The second file keeps transparency, colour profile, orientation, and what says which colours a
    JPEG has; the last has neither profile nor orientation. Damaged parts are left out of both. A
    file that would be given twice, and one of another format, is given once.
    """
    yield data
    for keeps_read in (True, False):
        if data.startswith(PNG):
            less = _pare_png(data, keeps_read=keeps_read)
        elif data.startswith(JPEG):
            less = _pare_jpeg(data, keeps_read=keeps_read)
        else:
            return
        if less != data:
            yield less
            data = less


def _pare_png(data: bytes, *, keeps_read: bool) -> bytes:
    right_lengths = _PNG_TRANSPARENCY_BYTES.get(data[_PNG_COLOR_TYPE], range(0))
    parts, rest = [PNG], len(PNG)
    for kind, start, rest in png_chunks(data):
        is_needed = not kind[:1].islower()
        is_read = (keeps_read and kind in _PNG_READ) or (
            kind == b"tRNS" and rest - start - 12 in right_lengths
        )
        if is_needed or (is_read and _is_whole(data[start + 4 : rest])):
            parts.append(data[start:rest])
    return b"".join(parts) + data[rest:]


def _is_whole(chunk: bytes) -> bool:
    return zlib.crc32(chunk[:-4]) == int.from_bytes(chunk[-4:], "big")


def _pare_jpeg(data: bytes, *, keeps_read: bool) -> bytes:
    kept = (*_JPEG_COLORS, *(_JPEG_READ if keeps_read else ()))
    parts = [JPEG]
    for marker, start, end in jpeg_segments(data):
        if marker == JPEG_SCAN:
            return b"".join(parts) + data[start:]
        is_read = any(
            marker == one and data.startswith(name, start + 4) and end - start - 4 >= least
            for one, name, least in kept
        )
        if is_read or marker not in _JPEG_METADATA:
            parts.append(data[start:end])
    return data  # without pixels
