"""Images to upright RGB, resized, cropped or padded to a checkpoint's square of pixels; to JPEG.

Pixels stay uint8: the engines fold scaling and normalisation into their first layer. Pillow
releases the GIL while it decodes, so threads decode in parallel.
"""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from fashionclip.errors import ImageError
from fashionclip.images import IMAGE_FORMATS
from fashionclip.images.fetch import DEFAULT_POLICY, FetchPolicy, read_image_bytes
from fashionclip.images.foreign import describe_foreign, is_heif
from fashionclip.images.metadata import with_less_metadata
from fashionclip.images.parts import has_more_scans, has_too_many_parts
from fashionclip.images.rgb import to_rgb
from fashionclip.images.strips import MAX_ASPECT, resized_middle, resized_to_square
from fashionclip.lines import reason_of

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # Radford et al. 2021, released code
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)  # Radford et al. 2021, released code
MAX_PIXELS = 80_000_000  # below the size at which Pillow warns of a decompression bomb
MAX_SIDE_PX = 1_000_000
MAX_SCANS = 100  # of a progressive JPEG, as in libtiff; encoders write about 10
MAX_SCANNED_PIXELS = 2_000_000_000
"""Pixels times scans of a JPEG, since decoding passes over all its pixels in every scan."""
DRAFT_MARGIN = 2.0
"""JPEGs decoded at 1/2, 1/4 or 1/8 of their size stay at least this many times too large."""

DecodedOrBytes = bytes | Image.Image | np.ndarray
"""Encoded bytes, a Pillow image of any mode, or an array: ``(h, w)``, ``(h, w, 1)``, ``(h, w, 3)``
or ``(h, w, 4)``, uint8 in 0…255 or float in 0…1."""
ImageSource = str | Path | DecodedOrBytes
"""Also a location: a local path, or an http(s) or fsspec URL."""
Fit = Literal["crop", "pad", "stretch"]
Resample = Literal["nearest", "bilinear", "bicubic", "lanczos"]
_FORMATS = tuple(image.name for image in IMAGE_FORMATS if image.name != "HEIF")
_BORDER_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a checkpoint's images are prepared, as its ``preprocessor_config.json`` says."""

    size_px: int
    """Side of the square that the image tower takes."""
    fit: Fit = "crop"
    """``crop``: the middle square, as in CLIP; ``pad``: the whole image on its background colour;
    ``stretch``: the whole image, with its aspect ratio changed."""
    resample: Resample = "bicubic"
    shortest_edge_px: int | None = None
    """For ``crop``: length of the short side before cropping; None means ``size_px``."""
    mean: tuple[float, float, float] = CLIP_MEAN
    """Subtracted from each channel of pixels in 0…1."""
    std: tuple[float, float, float] = CLIP_STD
    """Divides each channel after that."""


def preprocess(image: DecodedOrBytes, pre: Preprocess) -> UInt8[np.ndarray, "size size 3"]:
    """Turn one image into the square of pixels that ``pre`` describes.

    Raises:
        ImageError: the bytes are not an image, or the array has another shape or type.
        TypeError: ``image`` has another type.
    """
    edge = pre.size_px if pre.fit != "crop" else pre.shortest_edge_px or pre.size_px
    return fit_image(open_image(image, target_px=edge), pre)


def fetch_image(source: ImageSource, *, policy: FetchPolicy = DEFAULT_POLICY) -> DecodedOrBytes:
    """Read the bytes of an image that is given by its location; return any other unchanged.

    Raises:
        ImageFetchError: the location cannot be read.
    """
    return (
        read_image_bytes(str(source), policy=policy) if isinstance(source, str | Path) else source
    )


def open_image(
    image: DecodedOrBytes, *, target_px: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Convert an image in any form to upright RGB.

    Args:
        image: bytes, a Pillow image or an array.
        target_px: as in ``decode_image``.
        max_pixels: as in ``decode_image``.

    Raises:
        ImageError: the bytes are not an image, or the array has another shape or type.
        TypeError: ``image`` has another type.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image), target_px=target_px, max_pixels=max_pixels)
    if isinstance(image, np.ndarray):
        return to_rgb(_image_of_array(image))
    if isinstance(image, Image.Image):
        if image.format == "EPS" and getattr(image, "tile", None):  # loading it runs Ghostscript
            message = "the image is an EPS drawing, which is never run; save it as PNG"
            raise ImageError(message)
        try:
            return to_rgb(image)
        except Exception as exc:  # a lazily opened file is decoded only now
            raise ImageError(_why_undecodable(exc)) from exc
    message = f"an image is bytes, a Pillow image or an array, not {type(image).__name__}"
    raise TypeError(message)


def decode_image(
    data: bytes, *, target_px: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decode an image: its first frame, upright, sRGB, with transparency on white.

    Metadata never decides whether an image is read: what cannot be read of it is skipped.

    Args:
        data: the file's bytes.
        target_px: length to which the caller will scale the short side. Large JPEGs are then
            decoded at a half, a quarter or an eighth of their size, which is faster and changes
            the embedding little (``benchmarks/encode.py`` prints the cosine).
        max_pixels: larger images are refused before they are decoded.

    Raises:
        ImageError: empty, truncated, in none of ``IMAGE_FORMATS``, larger than ``max_pixels``,
            longer than ``MAX_SIDE_PX``, or a JPEG of more scans than any encoder writes.
    """
    if not data:
        message = "the image file is empty (0 bytes); fetch it again"
        raise ImageError(message)
    for file in with_less_metadata(data):
        try:
            return _decode(file, target_px, max_pixels)
        except ImageError:
            raise
        except Exception as exc:  # decoders raise whatever their parsers run into
            cause = exc
    raise ImageError(_why_undecodable(cause, data)) from cause


def declared_pixels(data: bytes) -> int:
    """Pixels that an image's header declares; 0 where it cannot be read."""
    width, height = declared_size(data)
    return width * height


def declared_size(data: bytes) -> tuple[int, int]:
    """Width and height that an image's header declares, before it is turned upright.

    (0, 0) where it cannot be read.
    """
    try:
        width, height = _open(data).size
    except Exception:  # decoding says why
        return 0, 0
    return int(width), int(height)


def _decode(data: bytes, target_px: int | None, max_pixels: int) -> Image.Image:
    try:
        image = _open(data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ImageError(_why_too_large(str(exc), max_pixels)) from exc
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(_why_too_large(f"{width} x {height}", max_pixels))
    if max(width, height) > MAX_SIDE_PX:  # Pillow keeps a pointer for each row
        message = (
            f"the image is {width} x {height} pixels; cut it to at most {MAX_SIDE_PX:,} a side"
        )
        raise ImageError(message)
    n_scans = min(MAX_SCANS, MAX_SCANNED_PIXELS // (width * height or 1))
    if image.format in {"JPEG", "MPO"} and has_more_scans(data, n_scans):
        message = (
            f"the JPEG has more than {n_scans} scans, too many to decode safely at {width} x "
            f"{height} pixels; save it as a JPEG that is not progressive"
        )
        raise ImageError(message)
    if target_px is not None and image.format == "JPEG":
        edge = int(target_px * DRAFT_MARGIN)
        image.draft(None, (edge, edge))
    return to_rgb(image)


def _open(data: bytes) -> Image.Image:
    """Read an image's header. Only the listed formats are tried: Pillow runs programs for others.

    Raises:
        ImageError: HEIC without its extra, or a file of too many parts.
    """
    if has_too_many_parts(data):
        message = "the image has too many chunks or segments to read safely; save it again"
        raise ImageError(message)
    if not is_heif(data):
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    try:
        from pillow_heif import HeifImageFile  # opened by its class: Pillow's registry stays as is
    except ImportError as exc:
        message = "the image is HEIC, which needs an extra: pip install 'fashionclip[heic]'"
        raise ImageError(message) from exc
    opened: Image.Image = HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call, unused-ignore]
    return opened


def fit_image(image: Image.Image, pre: Preprocess) -> UInt8[np.ndarray, "size size 3"]:
    """Resize an upright RGB image to the checkpoint's square, as ``pre.fit`` says.

    ``crop`` agrees with ``transformers.CLIPImageProcessor`` to the pixel.
    """
    resample = Image.Resampling[pre.resample.upper()]
    if pre.fit == "stretch":
        return np.asarray(resized_to_square(image, pre.size_px, resample))
    if pre.fit == "pad":
        return _fit_whole(image, pre.size_px, resample)
    return _fit_middle(image, pre.shortest_edge_px or pre.size_px, pre.size_px, resample)


def thumbnail(
    image: DecodedOrBytes,
    *,
    max_px: int,
    max_width_px: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> bytes:
    """Encode a small copy of an image as JPEG, without its metadata.

    Args:
        image: bytes, a Pillow image or an array.
        max_px: longest side; a smaller image keeps its size.
        max_width_px: width, where that should be less.
        max_pixels: as in ``decode_image``.

    Raises:
        ImageError: the bytes are not an image, or it is too large.
    """
    small = open_image(image, target_px=max_px, max_pixels=max_pixels)
    if small is image:
        small = small.copy()
    small.thumbnail((max_width_px or max_px, max_px))
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=80, optimize=True)
    return encoded.getvalue()


def thumbnail_uri(image: DecodedOrBytes, *, max_px: int) -> str:
    """A thumbnail as a data URI, for pages that load nothing from elsewhere.

    Raises:
        ImageError: as ``thumbnail``.
    """
    jpeg = thumbnail(image, max_px=max_px)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def background_color(image: Image.Image) -> tuple[int, int, int]:
    """The background colour: the median of the border, per channel, 0…255."""
    pixels = np.asarray(image)
    band = max(1, round(min(pixels.shape[:2]) * _BORDER_SHARE))
    sides = (pixels[:band], pixels[-band:], pixels[:, :band], pixels[:, -band:])
    red, green, blue = np.median(np.concatenate([s.reshape(-1, 3) for s in sides]), axis=0)
    return round(float(red)), round(float(green)), round(float(blue))


def _fit_whole(image: Image.Image, size: int, resample: Image.Resampling) -> np.ndarray:
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = image.resize((width, height), resample)
    if width == height:
        return np.asarray(small)
    canvas = Image.new("RGB", (size, size), background_color(small))
    canvas.paste(small, ((size - width) // 2, (size - height) // 2))
    return np.asarray(canvas)


def _fit_middle(image: Image.Image, edge: int, size: int, resample: Image.Resampling) -> np.ndarray:
    width, height = image.size
    short = min(width, height)
    # transformers truncates the long side to a whole number of pixels before it crops
    full_width = edge if width == short else int(edge * width / short)
    full_height = edge if height == short else int(edge * height / short)
    if short < edge and size <= edge and max(width, height) > MAX_ASPECT * short:
        return resized_middle(image, (full_width, full_height), size, resample)
    left, top = (full_width - size) // 2, (full_height - size) // 2
    resized = image.resize((full_width, full_height), resample)  # resize(box=...) is off by one
    return np.asarray(resized.crop((left, top, left + size, top + size)))  # zeros beyond the edge


def _image_of_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    shape_is_known = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in {3, 4})
    if not shape_is_known or 0 in array.shape:
        message = f"an image array is (h, w), (h, w, 3) or (h, w, 4), not {array.shape}"
        raise ImageError(message)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0.0 or array.max() > 1.0:
            message = "a float image array has values in 0…1; divide by 255, or pass uint8"
            raise ImageError(message)
        array = np.rint(array * 255.0).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        message = f"an image array is uint8 (0…255) or float (0…1), not {array.dtype}"
        raise ImageError(message)
    return Image.fromarray(np.ascontiguousarray(array))


def _why_undecodable(cause: Exception, data: bytes = b"") -> str:
    detail = reason_of(cause, width=120)
    if isinstance(cause, UnidentifiedImageError):
        if (what := describe_foreign(data)) is not None:
            return f"the image cannot be decoded: the file is {what}"
        detail = "not in a known image format"
    what = "HEIC image" if is_heif(data) else "image"
    return f"the {what} cannot be decoded ({detail}); replace the file"


def _why_too_large(size: str, max_pixels: int) -> str:
    return (
        f"the image is too large to decode safely ({size}; the limit is {max_pixels:,} pixels); "
        "shrink it first"
    )
