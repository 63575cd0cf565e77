"""Colours of an embedded ICC profile to sRGB, which is what models and browsers see.

Most profiles are sRGB and change nothing; they cost a look into a cache. A profile that is broken,
too large or of another colour space than the pixels is ignored.
"""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 4 << 20
MAX_LEVELS = 2
"""A profile that moves no colour further than this, of 255, counts as sRGB."""
_SPACES = {"RGB": b"RGB ", "RGBA": b"RGB ", "L": b"GRAY", "CMYK": b"CMYK"}
"""Colour space in a profile's header (ICC.1, section 7.2.6) that belongs to a mode."""
_STEPS = np.linspace(0, 255, 9).astype(np.uint8)


def to_srgb(image: Image.Image, profile: object) -> Image.Image:
    """Convert an image with an embedded profile to sRGB.

    Args:
        image: RGB or RGBA, L or CMYK.
        profile: what Pillow found as its profile; None, or no bytes at all, if there is none.

    Returns:
        An image of the mode RGBA if it had transparency, else RGB; or the same image, if it is sRGB
        already or there is no telling.
    """
    space = profile[16:20] if isinstance(profile, bytes) else b""
    if image.mode == "L" and space == b"RGB ":
        image = image.convert("RGB")
    if image.mode == "RGBA" and space == b"GRAY":
        grey = to_srgb(image.getchannel("R"), profile).convert("RGB")
        grey.putalpha(image.getchannel("A"))
        return grey
    transform = srgb_transform(profile, image.mode)
    return image if transform is None else transform.apply(image)


def srgb_transform(profile: object, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform of a profile's colours to sRGB; None if they are sRGB or cannot be told."""
    if not isinstance(profile, bytes) or len(profile) > MAX_PROFILE_BYTES:
        return None
    return _transform(profile, mode) if profile[16:20] == _SPACES.get(mode) else None


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        out_mode = "RGBA" if mode == "RGBA" else "RGB"
        transform = ImageCms.ImageCmsTransform(source, srgb, mode, out_mode)
        return None if mode != "CMYK" and _changes_nothing(transform, mode) else transform
    except Exception:  # a profile is metadata: a broken one never decides about an image
        return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    colours = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS), axis=-1).reshape(27, 27, 3)
    before = Image.fromarray(colours).convert(mode)
    after = transform.apply(before).convert("RGB")
    gaps = np.asarray(after, np.int16) - np.asarray(before.convert("RGB"), np.int16)
    return bool(np.abs(gaps).max() <= MAX_LEVELS)
