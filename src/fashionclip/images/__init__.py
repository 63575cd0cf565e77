"""Images: locations to bytes (``fetch``, ``web``), bytes to pixels, and the formats that are read.

The one list of formats serves decoding, catalogues, archives and the service. Nothing else is ever
opened, so that no decoder starts another program, as Pillow's does for EPS. To read another format,
add it here. Formats without suffixes are decoded, but not looked for by name. A format that Pillow
lacks is opened in ``decode``, as HEIF is.
"""

from typing import NamedTuple


class ImageFormat(NamedTuple):
    """One format: its name in Pillow, its file names and its media types."""

    name: str
    suffixes: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ()


IMAGE_FORMATS = (
    ImageFormat("JPEG", (".jpg", ".jpeg"), ("image/jpeg",)),  # MPO, which phones write, too
    ImageFormat("PNG", (".png",), ("image/png",)),
    ImageFormat("WEBP", (".webp",), ("image/webp",)),
    ImageFormat("GIF", (".gif",), ("image/gif",)),
    ImageFormat("AVIF", (".avif",), ("image/avif",)),
    ImageFormat("HEIF", (".heic", ".heif"), ("image/heic", "image/heif")),  # the extra ``heic``
    ImageFormat("TIFF", (".tif", ".tiff"), ("image/tiff",)),
    ImageFormat("BMP", (".bmp",), ("image/bmp",)),
    ImageFormat("JPEG2000"),
    ImageFormat("PPM"),
    ImageFormat("DIB"),
    ImageFormat("ICO"),
    ImageFormat("PCX"),
    ImageFormat("TGA"),
)
IMAGE_SUFFIXES = tuple(suffix for image in IMAGE_FORMATS for suffix in image.suffixes)
"""Of file names, lower case, the most common first."""
IMAGE_MEDIA_TYPES = frozenset(kind for image in IMAGE_FORMATS for kind in image.media_types)
