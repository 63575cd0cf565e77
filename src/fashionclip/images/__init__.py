"""Images: locations to bytes (``fetch``, ``web``), bytes to pixels, and the formats that are read.

The one list of formats serves decoding, catalogues, archives and the service. To read another one,
add it here. Formats without suffixes are decoded, but not looked for by name. Pillow must know the
format: one that comes with a plugin (JPEG XL, HEIC) also needs the plugin among the dependencies
and its import in ``decode``.
"""

from typing import NamedTuple


class ImageFormat(NamedTuple):
    """One format: its name in Pillow, its file names and its media type."""

    name: str
    suffixes: tuple[str, ...] = ()
    media_type: str | None = None


IMAGE_FORMATS = (
    ImageFormat("JPEG", (".jpg", ".jpeg"), "image/jpeg"),  # MPO, which phones write, too
    ImageFormat("PNG", (".png",), "image/png"),
    ImageFormat("WEBP", (".webp",), "image/webp"),
    ImageFormat("GIF", (".gif",), "image/gif"),
    ImageFormat("AVIF", (".avif",), "image/avif"),
    ImageFormat("TIFF", (".tif", ".tiff"), "image/tiff"),
    ImageFormat("BMP", (".bmp",), "image/bmp"),
    ImageFormat("JPEG2000"),
    ImageFormat("PPM"),
    ImageFormat("DIB"),
    ImageFormat("ICO"),
    ImageFormat("PCX"),
    ImageFormat("TGA"),
)
IMAGE_SUFFIXES = tuple(suffix for image in IMAGE_FORMATS for suffix in image.suffixes)
"""Of file names, lower case, the most common first."""
IMAGE_MEDIA_TYPES = frozenset(image.media_type for image in IMAGE_FORMATS if image.media_type)
