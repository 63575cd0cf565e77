"""Products of one colour, in another one: the same texture and shading under a named colour.

A picture of a red bag and the same one in green differ in nothing but what the word names. Only
products cut out on a white page are recoloured, and only those of nearly one colour: what differs
from it, such as a print, a buckle or a label, stays as it is.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from lab import to_lab, to_rgb
from PIL import Image
from scenes import solid_mask
from scipy import ndimage

from fashionclip.images.decode import open_image

COLOURS: Mapping[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "black": ((9, 19), (0, 2), (0, 360)),
    "white": ((85, 92), (0, 3), (60, 110)),
    "grey": ((42, 66), (0, 3), (0, 360)),
    "blue": ((32, 55), (30, 50), (265, 290)),
    "red": ((34, 45), (50, 70), (22, 36)),
    "green": ((35, 58), (28, 50), (135, 160)),
    "yellow": ((78, 87), (50, 78), (86, 96)),
    "pink": ((66, 80), (22, 42), (350, 368)),
    "brown": ((22, 36), (15, 28), (48, 68)),
    "beige": ((72, 83), (11, 20), (74, 88)),
    "purple": ((28, 48), (32, 55), (308, 325)),
    "orange": ((58, 67), (58, 78), (50, 64)),
    "navy": ((12, 22), (14, 28), (278, 295)),
    "maroon": ((18, 28), (26, 38), (12, 26)),
    "olive": ((34, 46), (22, 34), (100, 114)),
    "teal": ((36, 50), (22, 32), (190, 212)),
}
"""Ranges of lightness L*, chroma and hue in degrees (CIELAB) of each colour.

Chosen by eye on recoloured pictures, so that the name is right at first sight.
"""
SHARES = (0.05, 0.95)
"""Range of the product's share of the page."""
MIN_PLAIN = 0.85
"""Least share of the product's pixels that is near its colour."""
MAX_LIGHTNESS = 84.0
"""The edge of a lighter product is lost on its white page."""
SHADE_WEIGHT = 0.5
"""Of lightness in a pixel's distance from the product's colour, and of chroma if that is vivid."""
VIVID = 30.0
"""Chroma from which a colour is vivid."""
NEAR, FAR = 18.0, 30.0
"""Distances up to which a pixel is recoloured, and from which it stays."""
SKIN_HUES, SKIN_CHROMAS, SKIN_LIGHTNESS = (30.0, 75.0), (12.0, 45.0), (35.0, 88.0)
MAX_SKIN = 0.02
"""Largest share of the product's pixels that may be skin."""
SPREADS = (4.0, 11.0)
"""Range that the deviation of a recoloured product's lightness is brought into."""
KEPT_CHROMA = 0.25
"""Part of a pixel's deviation in a* and b* that stays."""
RIM_PX = 2
"""Width, on both sides of the product's edge, in which the old colour is mixed with white."""
WHITE = np.full(3, 255.0, np.float32)


@dataclass(frozen=True)
class Recolouring:
    """A colour's name, and the seed of the tone."""

    colour: str
    seed: int


def sample_recolourings(files: Sequence[Path], *, seed: int) -> list[Recolouring | None]:
    """A random colour for each product that can be recoloured, the same ones for a seed.

    Args:
        files: pictures of products.
        seed: of the colours.

    Returns:
        For each file its recolouring; None where the product cannot be recoloured, see
        ``plain_mask``. The new colour is not near the old one.
    """
    with ThreadPoolExecutor() as pool:
        return list(pool.map(partial(_sample, seed), files))


def _sample(seed: int, file: Path) -> Recolouring | None:
    rng = np.random.default_rng([seed, *file.stem.encode()])
    image = open_image(file.read_bytes())
    mask = plain_mask(image)
    if mask is None:
        return None
    old = np.median(to_lab(np.asarray(image)[mask]), axis=0)
    others = [
        name
        for name, ranges in COLOURS.items()
        if np.linalg.norm(_tone(ranges, np.full(3, 0.5)) - old) > FAR
    ]
    return Recolouring(others[int(rng.integers(len(others)))], int(rng.integers(2**31)))


def plain_mask(image: Image.Image) -> np.ndarray | None:
    """The pixels of a product of one colour on a white page, ``(height, width)`` bool.

    None where the product fills too little or too much of the page, is too light to be told from
    it, has several colours, or shows skin beside its colour.
    """
    pixels = np.asarray(image)
    mask = solid_mask(image)
    if not SHARES[0] < mask.mean() < SHARES[1]:
        return None
    lab = to_lab(pixels[mask])
    median = np.median(lab, axis=0)
    distance = _distance(lab, median)
    is_skin = _is_skin(lab) & (distance > NEAR / 2)
    is_usable = (
        median[0] <= MAX_LIGHTNESS
        and (distance < NEAR).mean() >= MIN_PLAIN
        and is_skin.mean() <= MAX_SKIN
    )
    return mask if is_usable else None


def recolour(image: Image.Image, change: Recolouring) -> Image.Image:
    """A product in another colour; the same for a seed."""
    rng = np.random.default_rng(change.seed)
    mask = solid_mask(image)
    lab = to_lab(np.asarray(image))
    inside = lab[mask]
    median = np.median(inside, axis=0)
    near = np.clip((FAR - _distance(lab, median)) / (FAR - NEAR), 0, 1)
    tone = _tone(COLOURS[change.colour], rng.random(3))
    shade = lab[..., 0] - median[0]
    spread = float(shade[mask & (near > 0)].std())
    shade *= np.clip(spread, *SPREADS) / max(spread, 1e-3)
    lightness = (tone[0] + shade).clip(2, 98)
    # chroma falls with the light, as of one surface
    depth = (lightness / tone[0]).clip(0.5, 1.2)[..., None]
    hue = tone[1:] * depth + KEPT_CHROMA * (lab[..., 1:] - median[1:])
    painted = to_rgb(np.concatenate([lightness[..., None], hue], axis=-1))
    pixels = np.asarray(image, np.float32)
    changed = pixels + (painted - pixels) * near[..., None]
    rim = ndimage.binary_dilation(mask, iterations=RIM_PX) & ~ndimage.binary_erosion(
        mask, iterations=RIM_PX
    )
    old, new = to_rgb(median), to_rgb(tone)
    # a pixel of the rim is a mixture of the product and the page
    share = ((WHITE - pixels[rim]) @ (WHITE - old) / np.square(WHITE - old).sum()).clip(0, 1)
    changed[rim] = WHITE + share[:, None] * (new - WHITE)
    changed = np.where((mask | rim)[..., None], changed, pixels)
    return Image.fromarray(changed.round().clip(0, 255).astype(np.uint8))


def _distance(lab: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """How far pixels are from a colour, where light and shade count half: in L* and in chroma."""
    lightness, *chroma = np.moveaxis(lab - colour, -1, 0)
    strength = float(np.hypot(colour[1], colour[2]))
    direction = colour[1:] / max(strength, 1e-3)
    along = chroma[0] * direction[0] + chroma[1] * direction[1]
    across = chroma[0] * direction[1] - chroma[1] * direction[0]
    weight = 1 - (1 - SHADE_WEIGHT) * min(1.0, strength / VIVID)  # greys have no direction
    found: np.ndarray = np.sqrt((SHADE_WEIGHT * lightness) ** 2 + (weight * along) ** 2 + across**2)
    return found


def _is_skin(lab: np.ndarray) -> np.ndarray:
    chroma, hue = np.hypot(lab[:, 1], lab[:, 2]), np.degrees(np.arctan2(lab[:, 2], lab[:, 1]))
    found: np.ndarray = np.logical_and.reduce(
        [
            (low < values) & (values < high)
            for values, (low, high) in (
                (lab[:, 0], SKIN_LIGHTNESS),
                (chroma, SKIN_CHROMAS),
                (hue, SKIN_HUES),
            )
        ]
    )
    return found


def _tone(ranges: Sequence[tuple[float, float]], place: np.ndarray) -> np.ndarray:
    """A colour in CIELAB within the ranges, at a place in 0…1 of each."""
    low, high = np.array(ranges).T
    lightness, chroma, hue = low + place * (high - low)
    angle = np.radians(hue)
    return np.array([lightness, chroma * np.cos(angle), chroma * np.sin(angle)])
