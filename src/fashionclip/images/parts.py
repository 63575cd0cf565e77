"""The parts of PNG and JPEG files, chunks and segments, and whether there are too many to read.

Decoders read each part, and each scan of a JPEG, however little of the file it takes: a few bytes
can keep them busy for minutes.
"""

import itertools
import re
from collections.abc import Iterable, Iterator

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"
JPEG_SCAN = 0xDA
_JPEG_SCAN_START = b"\xff\xda"
_JPEG_END = 0xD9
_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")  # of segments, and the end's
_MAX_PARTS = 100_000  # each takes Pillow up to 6 microseconds
_MAX_PADDING = 1_000_000  # bytes between segments, for which Pillow takes 1 microsecond each


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Give each whole chunk's kind, the place where it starts, and that where it ends."""
    at = len(PNG)
    while at + 12 <= len(data):  # length, kind, body, checksum
        start, at = at, at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield data[start + 4 : start + 8], start, at


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Give each segment's marker, the place where it starts, and that where it ends.

    What lies between segments, such as the coded pixels of a scan, is passed over as libjpeg does.
    """
    at = len(JPEG)
    while (found := _JPEG_MARKER.search(data, at)) is not None and found[1][0] != _JPEG_END:
        start = found.start()
        at = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        yield found[1][0], start, at


def has_too_many_parts(data: bytes) -> bool:
    """Whether a PNG or JPEG file has more parts, or padding between them, than any writer makes."""
    if data.startswith(PNG):
        return _are_more(png_chunks(data), _MAX_PARTS)
    if not data.startswith(JPEG):
        return False
    at, n_padding = len(JPEG), 0
    for n_segments, (marker, start, end) in enumerate(jpeg_segments(data)):
        n_padding += start - at
        if n_segments > _MAX_PARTS or n_padding > _MAX_PADDING:
            return True
        if marker == JPEG_SCAN:
            return False
        at = end
    return False


def has_more_scans(data: bytes, n_scans: int) -> bool:
    """Whether a JPEG file has more scans than ``n_scans``."""
    if data.count(_JPEG_SCAN_START) <= n_scans:  # most files, in a thousandth of the time
        return False
    scans = (start for marker, start, _ in jpeg_segments(data) if marker == JPEG_SCAN)
    return _are_more(scans, n_scans)


def _are_more(parts: Iterable[object], count: int) -> bool:
    return next(itertools.islice(parts, count, None), None) is not None
