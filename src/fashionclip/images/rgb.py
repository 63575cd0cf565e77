"""Pillow images of any mode to upright sRGB, with transparency on white."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64
from PIL import Image

from fashionclip.images.color import srgb_transform, to_srgb

BAND_PIXELS = 4_000_000
"""Larger images are converted to RGB in bands of about so many pixels."""
_ORIENTATION_TAG = 0x0112  # EXIF 2.3, section 4.6.4
_TURNS = dict(
    enumerate(
        (
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ),
        start=2,
    )
)
"""What makes an image of each orientation upright."""
_WHITE = (255, 255, 255)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a Pillow image of any mode to upright sRGB, with transparency on white.

    Covers palettes with transparency, CMYK, 16-bit and float greys, colour profiles, EXIF rotation,
    and the current frame of an animation. Large images are converted in bands of rows, so that the
    copies in between stay small.
    """
    image.load()
    image = _upright(image)
    profile = image.info.get("icc_profile")
    is_opaque_rgb = image.mode == "RGB" and "transparency" not in image.info
    if is_opaque_rgb and srgb_transform(profile, "RGB") is None:
        return image
    top = max(map(_top, _bands(image))) if _is_deep(image) else 0.0
    if image.width * image.height <= BAND_PIXELS:
        return _convert(image, profile, top)
    canvas, row = Image.new("RGB", image.size), 0
    for band in _bands(image):
        canvas.paste(_convert(band, profile, top), (0, row))
        row += band.height
    return canvas


def _bands(image: Image.Image) -> Iterator[Image.Image]:
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _convert(image: Image.Image, profile: bytes | None, top: float) -> Image.Image:
    """Convert a band of rows; ``top`` is the largest value of a deep grey image."""
    if _is_deep(image):
        image = _grey_of_deep(image, top)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in {"RGB", "L", "CMYK"}:
        image = image.convert("RGB")
    image = to_srgb(image, profile)
    if image.mode != "RGBA":
        return image if image.mode == "RGB" else image.convert("RGB")
    canvas = Image.new("RGB", image.size, _WHITE)
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # EXIF is metadata: a broken one never decides about an image
        return image
    if turn is None:
        return image
    upright = image.transpose(turn)
    kept = ("icc_profile", "transparency")  # not the rotation that has been undone
    upright.info = {key: image.info[key] for key in kept if key in image.info}
    return upright


def _is_deep(image: Image.Image) -> bool:
    return image.mode in {"I", "F"} or image.mode.startswith("I;")


def _top(image: Image.Image) -> float:
    return float(_finite(image).max(initial=0.0))


def _finite(image: Image.Image) -> Float64[np.ndarray, "h w"]:
    return np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _grey_of_deep(image: Image.Image, top: float) -> Image.Image:
    """Convert 16-bit, 32-bit and float greys to 8 bits; the scale is inferred from their range."""
    if image.mode == "F":
        scale = 255.0 if top <= 1.0 else 1.0 if top <= 255.0 else 255.0 / top
    else:
        scale = 1.0 if top <= 255.0 and image.mode == "I" else 255.0 / max(65535.0, top)
    return Image.fromarray(np.clip(np.rint(_finite(image) * scale), 0, 255).astype(np.uint8))
