"""The segments of a JPEG file, and how many scans it has."""

import itertools
import re
from collections.abc import Iterator

START = b"\xff\xd8"
SCAN = 0xDA
_SCAN_START = b"\xff\xda"
_END = 0xD9
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")  # those that begin a segment, and the end's


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Give each segment's marker, the place where it starts, and that where it ends.

    What lies between segments, such as the coded pixels of a scan, is passed over as libjpeg does.
    """
    at = len(START)
    while (found := _MARKER.search(data, at)) is not None and found[1][0] != _END:
        start = found.start()
        at = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        yield found[1][0], start, at


def has_more_scans(data: bytes, n_scans: int) -> bool:
    """Whether a JPEG file has more scans than ``n_scans``."""
    if data.count(_SCAN_START) <= n_scans:  # most files, in a thousandth of the time
        return False
    scans = (start for marker, start, _ in jpeg_segments(data) if marker == SCAN)
    return next(itertools.islice(scans, n_scans, None), None) is not None
