"""Image files without the metadata that a decoder may refuse the whole file for."""

import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_METADATA = frozenset({b"acTL", b"iCCP", b"iTXt", b"pHYs", b"tEXt", b"zTXt"})
_JPEG = b"\xff\xd8"
_JPEG_SCAN = 0xDA
_JPEG_METADATA = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})  # APP1 to APP13, APP15, comments


def without_metadata(data: bytes) -> bytes:
    """A PNG or JPEG file without its metadata, as far as its parts can be told apart.

    A PNG loses its texts, colour profile and animation, and damaged chunks that no decoder needs; a
    JPEG its application data except for its profile (APP2), JFIF's and Adobe's, which say what the
    colours are. Files of other formats are returned as they are.
    """
    if data.startswith(_PNG):
        return _strip_png(data)
    return _strip_jpeg(data) if data.startswith(_JPEG) else data


def _strip_png(data: bytes) -> bytes:
    parts, at = [_PNG], len(_PNG)
    while at + 12 <= len(data):  # length, kind, body, checksum
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        is_whole = zlib.crc32(data[at + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")
        is_needed = not kind[:1].islower() or (kind == b"tRNS" and end > at + 12)
        if is_needed or (is_whole and kind not in _PNG_METADATA | {b"tRNS"}):
            parts.append(data[at:end])
        at = end
    return b"".join(parts) + data[at:]


def _strip_jpeg(data: bytes) -> bytes:
    parts, at = [_JPEG], len(_JPEG)
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _JPEG_SCAN:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        is_profile = data[at + 4 : at + 16] == b"ICC_PROFILE\0"
        if data[at + 1] not in _JPEG_METADATA or is_profile:
            parts.append(data[at:end])
        at = end
    return b"".join(parts) + data[at:]
