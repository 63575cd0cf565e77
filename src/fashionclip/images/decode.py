"""Encoded pictures to upright RGB to the square of pixels that a checkpoint wants.

Pure functions: bytes in, arrays out, nothing read or written. Pixels stay uint8
here; scaling and normalising belong to the engines, which fold them into their
first layer. Pillow does the work and lets go of Python's lock meanwhile, so
threads decode in parallel.
"""

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from fashionclip.errors import ImageError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # Radford et al. 2021, released code
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)  # Radford et al. 2021, released code
MAX_PIXELS = 80_000_000  # below the size at which Pillow itself begins to warn of a bomb
DRAFT_MARGIN = 2.0
"""JPEGs are decoded at 1/2, 1/4 or 1/8 only while they stay this many times larger than needed."""

Fit = Literal["crop", "pad", "stretch"]
Resample = Literal["nearest", "bilinear", "bicubic", "lanczos"]
_ORIENTATION_TAG = 0x0112  # EXIF 2.3, section 4.6.4
_BORDER_SHARE = 0.02
_WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a checkpoint wants its pictures, as its ``preprocessor_config.json`` says."""

    size_px: int
    """Side of the square that the picture tower takes."""
    fit: Fit = "crop"
    """``crop``: CLIP's own, the middle square; ``pad``: the whole picture on its background
    colour; ``stretch``: the whole picture, its sides forced equal."""
    resample: Resample = "bicubic"
    shortest_edge_px: int | None = None
    """For ``crop``: length of the short side before the cut; None means ``size_px``."""
    mean: tuple[float, float, float] = CLIP_MEAN
    """Subtracted from each channel of pixels in 0…1."""
    std: tuple[float, float, float] = CLIP_STD
    """What each channel is divided by after that."""


def preprocess(
    picture: bytes | Image.Image | np.ndarray, pre: Preprocess
) -> UInt8[np.ndarray, "size size 3"]:
    """Turn one picture into the square of pixels that ``pre`` describes.

    Args:
        picture: an encoded picture (JPEG, PNG, WebP, GIF, …), a Pillow image of any mode, or an
            array: ``(h, w)``, ``(h, w, 1)``, ``(h, w, 3)`` or ``(h, w, 4)``, uint8 in 0…255 or
            float in 0…1.
        pre: size, fit and resampling.

    Raises:
        ImageError: the bytes are no picture, or the array has no such shape.
        TypeError: ``picture`` is none of the three.
    """
    edge = pre.size_px if pre.fit != "crop" else pre.shortest_edge_px or pre.size_px
    return fit_image(open_image(picture, target_px=edge), pre)


def open_image(
    picture: bytes | Image.Image | np.ndarray,
    *,
    target_px: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Bring a picture in any of its forms to upright RGB.

    Args:
        picture: as ``preprocess`` takes it.
        target_px: as ``decode_image`` takes it.
        max_pixels: as ``decode_image`` takes it.

    Raises:
        ImageError: the bytes are no picture, or the array has no such shape.
        TypeError: ``picture`` is none of the three.
    """
    if isinstance(picture, bytes | bytearray | memoryview):
        return decode_image(bytes(picture), target_px=target_px, max_pixels=max_pixels)
    if isinstance(picture, np.ndarray):
        return to_rgb(_image_of_array(picture))
    if isinstance(picture, Image.Image):
        try:
            return to_rgb(picture)
        except Exception as exc:  # a lazily opened file is decoded only now
            raise ImageError(_why_undecodable(exc)) from exc
    message = f"a picture is bytes, a Pillow image or an array, not {type(picture).__name__}"
    raise TypeError(message)


def decode_image(
    data: bytes, *, target_px: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decode a picture: its first frame, upright, RGB, transparency laid on white.

    Args:
        data: the file's bytes.
        target_px: length to which the caller will bring the short side. Large JPEGs are then
            decoded at a half, a quarter or an eighth, which is faster and, while ``DRAFT_MARGIN``
            holds, leaves the embedding as it was (``benchmarks/encode.py`` prints the cosine).
        max_pixels: refuse pictures with more than this many pixels before decoding them.

    Raises:
        ImageError: empty, truncated, not a picture, or more than ``max_pixels`` pixels.
    """
    if not data:
        message = "the picture's file is empty (0 bytes); fetch it again"
        raise ImageError(message)
    try:
        image = Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ImageError(_why_too_large(str(exc), max_pixels)) from exc
    except Exception as exc:  # decoders raise whatever their parsers run into
        raise ImageError(_why_undecodable(exc)) from exc
    width, height = image.size
    if width * height > max_pixels:
        size = f"{width} x {height}"
        raise ImageError(_why_too_large(size, max_pixels))
    try:
        if target_px is not None and image.format == "JPEG":
            edge = int(target_px * DRAFT_MARGIN)
            image.draft(None, (edge, edge))
        return to_rgb(image)
    except Exception as exc:
        raise ImageError(_why_undecodable(exc)) from exc


def to_rgb(image: Image.Image) -> Image.Image:
    """Bring a Pillow image of any mode to upright RGB, transparency laid on white.

    Covers palettes with transparency, CMYK, 16-bit and float greys, EXIF rotation and, of an
    animation, the frame it stands at (the first, when just opened).
    """
    image.load()
    if image.getexif().get(_ORIENTATION_TAG, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in {"I", "F"} or image.mode.startswith("I;"):
        return _grey_of_deep(image).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGB", rgba.size, _WHITE)
        canvas.paste(rgba, mask=rgba.getchannel("A"))
        return canvas
    return image.convert("RGB")


def fit_image(image: Image.Image, pre: Preprocess) -> UInt8[np.ndarray, "size size 3"]:
    """Resize an upright RGB image to the checkpoint's square, in the way ``pre.fit`` names.

    ``crop`` agrees with ``transformers.CLIPImageProcessor`` to the pixel.
    """
    resample = Image.Resampling[pre.resample.upper()]
    if pre.fit == "stretch":
        return np.asarray(image.resize((pre.size_px, pre.size_px), resample))
    if pre.fit == "pad":
        return _fit_whole(image, pre.size_px, resample)
    return _fit_middle(image, pre.shortest_edge_px or pre.size_px, pre.size_px, resample)


def thumbnail(
    picture: bytes | Image.Image | np.ndarray,
    *,
    longest_px: int,
    widest_px: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> bytes:
    """Encode a picture anew as a small JPEG, without its metadata.

    Args:
        picture: as ``preprocess`` takes it.
        longest_px: longest side; a smaller picture keeps its size.
        widest_px: width, where that should be less.
        max_pixels: as ``decode_image`` takes it.

    Raises:
        ImageError: the bytes are no picture, or one that is too large.
    """
    image = open_image(picture, target_px=longest_px, max_pixels=max_pixels)
    image = image.copy()  # the caller's may be RGB already
    image.thumbnail((widest_px or longest_px, longest_px))
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=80, optimize=True)
    return encoded.getvalue()


def background_color(image: Image.Image) -> tuple[int, int, int]:
    """The colour a picture stands on: the median of its border, channel by channel, 0…255."""
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
    # transformers cuts the long side to a whole number of pixels before it crops
    full_width = edge if width == short else int(edge * width / short)
    full_height = edge if height == short else int(edge * height / short)
    left, top = (full_width - size) // 2, (full_height - size) // 2
    resized = image.resize((full_width, full_height), resample)  # resize(box=...) is off by one
    return np.asarray(resized.crop((left, top, left + size, top + size)))  # zeros beyond the edge


def _grey_of_deep(image: Image.Image) -> Image.Image:
    """Bring 16-bit, 32-bit and float greys to 8 bits; their scale is told from their range."""
    values = np.asarray(image).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    top = float(values.max(initial=0.0))
    if image.mode == "F":
        scale = 255.0 if top <= 1.0 else 1.0 if top <= 255.0 else 255.0 / top
    else:
        scale = 1.0 if top <= 255.0 and image.mode == "I" else 255.0 / max(65535.0, top)
    return Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))


def _image_of_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    shape_is_known = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in {3, 4})
    if not shape_is_known or 0 in array.shape:
        message = f"a picture array is (h, w), (h, w, 3) or (h, w, 4), not {array.shape}"
        raise ImageError(message)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0.0 or array.max() > 1.0:
            message = "a float picture array holds values in 0…1; divide by 255, or give uint8"
            raise ImageError(message)
        array = np.rint(array * 255.0).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        message = f"a picture array is uint8 (0…255) or float (0…1), not {array.dtype}"
        raise ImageError(message)
    return Image.fromarray(np.ascontiguousarray(array))


def _why_undecodable(cause: Exception) -> str:
    detail = " ".join(str(cause).split())[:120] or type(cause).__name__
    if "cannot identify image file" in detail:
        detail = "not in a picture format known here"
    return f"the picture cannot be decoded ({detail}); replace the file"


def _why_too_large(size: str, max_pixels: int) -> str:
    return (
        f"the picture is too large to decode safely ({size}; the limit is {max_pixels:,} pixels); "
        "shrink it first"
    )
