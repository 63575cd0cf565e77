"""What a file that is no image is, and how to mend that."""

import codecs
import re

_TEXT_START = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*")
_HEAD_BYTES = 1024

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer instead of the image; run 'git lfs pull'"),
    (b"%PDF-", "a PDF document; save its page as PNG or JPEG"),
    (b"%!PS", "an EPS or PostScript drawing, which is never run; save it as PNG"),
    (b"\xc5\xd0\xd3\xc6", "an EPS drawing, which is never run; save it as PNG"),
    (b"8BPS", "a Photoshop file (PSD); save it as JPEG or PNG"),
    (b"PK\x03\x04", "a ZIP archive; unpack it and name the images in it"),
    (b"\x1f\x8b", "a gzip archive; unpack it"),
    (b"Rar!", "a RAR archive; unpack it and name the images in it"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it and name the images in it"),
    (b"\x1aE\xdf\xa3", "a video (WebM or Matroska); name an image of the product"),
    (b"FLV\x01", "a video (Flash); name an image of the product"),
    (b"\xff\x0a", "a JPEG XL image, which is not read yet; save it as JPEG or PNG"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image, which is not read yet; save it as JPEG or PNG"),
)
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"})
_HEIF_BRANDS = frozenset({b"mif1", b"msf1"})  # of AVIF files, too
"""Of ``ftyp`` boxes, ISO/IEC 23008-12, annex B."""
_WORDS = (
    (b"<svg", "an SVG drawing; save it as PNG"),
    (b"<!doctype html", "a web page (HTML) instead of an image; name the image's own address"),
    (b"<html", "a web page (HTML) instead of an image; name the image's own address"),
    (b"<head", "a web page (HTML) instead of an image; name the image's own address"),
    (b"<body", "a web page (HTML) instead of an image; name the image's own address"),
)
"""Of text that begins with ``<``, the first that it holds."""


def is_heif(data: bytes) -> bool:
    """Whether a file says that it is HEIC, as iPhones write it, or another HEIF but AVIF."""
    if data[4:8] != b"ftyp":
        return False
    brand, others = data[8:12], data[16 : min(int.from_bytes(data[:4], "big"), _HEAD_BYTES)]
    return brand in _HEIC_BRANDS or (brand in _HEIF_BRANDS and b"avi" not in others)


def describe_foreign(data: bytes) -> str | None:
    """Say what a file is that no decoder knows, with the remedy; None if it cannot be told.

    Args:
        data: the file's bytes, of no image format that is read.
    """
    for signature, what in _SIGNATURES:
        if data.startswith(signature):
            return what
    if data[4:8] == b"ftyp" and data[8:12] not in _HEIF_BRANDS | {b"avif", b"avis"}:
        return "a video (MP4 or QuickTime); name an image of the product"
    if data[:4] == b"RIFF" and data[8:12] in {b"AVI ", b"WAVE"}:
        return "a video or sound (RIFF); name an image of the product"
    if not data[:_HEAD_BYTES].strip(b"\0"):
        return "nothing but zero bytes, as a broken download leaves; fetch it again"
    return _describe_text(data)


def _describe_text(data: bytes) -> str | None:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data[: 2 * _HEAD_BYTES].decode("utf-16", "ignore").encode()
    start = _TEXT_START.match(data)
    head = data[start.end() if start else 0 :][:_HEAD_BYTES]
    lower = head.lower()
    if lower.startswith(b"<"):
        found = next((what for word, what in _WORDS if word in lower), None)
        return found or f"XML text ({_shown(head)}); name the image's own address"
    if head.startswith((b"{", b"[")):
        return f"JSON text ({_shown(head)}); name the image's own address"
    if head and not re.search(rb"[\x00-\x08\x0e-\x1f\x7f-\xff]", head):
        return f"text ({_shown(head)}); name an image"
    return None


def _shown(head: bytes) -> str:
    line = " ".join(head.decode("utf-8", "replace").split())
    line = "".join(char for char in line if char.isprintable())
    return line if len(line) <= 60 else line[:60] + "…"
