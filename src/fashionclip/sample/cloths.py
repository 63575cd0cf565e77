"""Colours and cloths of the sample products: patterns, denim, knits."""

import numpy as np

from fashionclip.sample.canvas import Array, Cloth, Number, Rgb, channels

COLOURS: dict[str, Rgb] = {
    "black": (38, 38, 42),
    "white": (246, 246, 244),
    "grey": (148, 150, 154),
    "navy": (32, 44, 86),
    "blue": (44, 98, 190),
    "light blue": (150, 190, 228),
    "red": (196, 36, 44),
    "burgundy": (110, 26, 48),
    "pink": (236, 150, 178),
    "orange": (232, 122, 40),
    "yellow": (244, 204, 66),
    "green": (42, 132, 76),
    "olive": (108, 112, 62),
    "purple": (112, 62, 146),
    "brown": (112, 72, 46),
    "beige": (216, 196, 164),
}
PATTERNS = ("solid", "striped", "checked", "dotted", "floral", "graphic")
_LEAF: Rgb = (70, 120, 70)
_HEART: Rgb = (245, 205, 90)


def is_dark(colour: Rgb) -> bool:
    """Whether details on this colour must be light to be visible."""
    return 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] < 90


def weave(
    pattern: str, colour: Rgb, accent: Rgb, rng: np.random.Generator, *, tilt: Number = 0.0
) -> Cloth:
    """A cloth with a pattern.

    Args:
        pattern: one of ``PATTERNS``; the background of a graphic is solid.
        colour: the main colour.
        accent: the pattern's colour.
        rng: chooses the pattern's scale and variant.
        tilt: rotation of the pattern in degrees, as on a sleeve.
    """
    cos, sin = np.float32(np.cos(np.radians(tilt))), np.float32(np.sin(np.radians(tilt)))
    scale = np.float32(rng.uniform(0.85, 1.25))
    kind = int(rng.integers(0, 3))

    def cloth(x: Array, y: Array) -> Array:
        along, down = x * cos + y * sin, y * cos - x * sin
        down = down + np.float32(0.0009) * along * along  # a slight sag
        share = _share(pattern, along / scale, down / scale, kind)
        mixed: Array = channels(colour) + (channels(accent) - channels(colour)) * share[..., None]
        return _flowers(mixed, along / scale, down / scale) if pattern == "floral" else mixed

    return cloth


def denim(colour: Rgb, rng: np.random.Generator) -> Cloth:
    """Denim: a twill of light and dark threads, washed out along the middle of the legs."""
    grain = rng.standard_normal((320, 240)).astype(np.float32)
    wash = np.float32(rng.uniform(10, 42))

    def cloth(x: Array, y: Array) -> Array:
        rows, columns = y.astype(int), (x + 120).astype(int)
        threads = 3 * np.sin(2.1 * (x + y)) + 5 * grain[rows, columns]
        worn = wash * np.exp(-(((np.abs(x) - 30) / 15) ** 2)) * np.exp(-(((y - 160) / 75) ** 2))
        lit: Array = channels(colour) + (threads + worn)[..., None].astype(np.float32)
        return lit

    return cloth


def knit(cloth: Cloth, *, depth: Number = 0.05) -> Cloth:
    """A cloth with the relief of knitted stitches."""

    def knitted(x: Array, y: Array) -> Array:
        relief = np.sin(1.6 * x) * np.sin(1.25 * y + 0.8 * np.cos(1.6 * x))
        lit: Array = cloth(x, y) * (1 + np.float32(depth) * relief)[..., None].astype(np.float32)
        return lit

    return knitted


def ribbed(colour: Rgb, *, depth: Number = 0.1) -> Cloth:
    """A ribbed band, as at cuffs and hems."""

    def cloth(x: Array, y: Array) -> Array:
        relief = np.float32(1) + np.float32(depth) * np.sin(1.5 * x)
        lit: Array = channels(colour) * relief[..., None].astype(np.float32)
        return lit

    return cloth


def _share(pattern: str, x: Array, y: Array, kind: int) -> Array:
    """The share of the accent colour at each pixel, 0…1."""
    if pattern == "striped":
        across = (y, y, x)[kind]
        spacing, width = ((17, 0.0), (26, 0.45), (11, 0.1))[kind]
        return _edge(np.sin(2 * np.pi * across / spacing) - width, 3.5)
    if pattern == "checked":
        period = (22.0, 30.0, 38.0)[kind]
        warp = _edge(np.sin(2 * np.pi * x / period), 4)
        weft = _edge(np.sin(2 * np.pi * y / period), 4)
        both: Array = 0.46 * (warp + weft)
        return both
    if pattern == "dotted":
        period = (16.0, 20.0, 13.0)[kind]
        row = np.floor(y / period)
        shifted = x + (row % 2) * (period / 2)
        dx, dy = shifted % period - period / 2, y % period - period / 2
        return _edge(period * 0.24 - np.hypot(dx, dy), 1.0)
    return np.zeros_like(x)


def _edge(signed: Array, steepness: Number) -> Array:
    share: Array = np.clip(0.5 + steepness * signed, 0, 1).astype(np.float32)
    return share


def _flowers(ground: Array, x: Array, y: Array) -> Array:
    """Add five-petalled flowers with leaves to a cloth."""
    period = 30.0
    row = np.floor(y / period)
    dx = (x + (row % 2) * 15.0) % period - period / 2
    dy = y % period - period / 2
    column = np.floor((x + (row % 2) * 15.0) / period)
    turn = 2.4 * row + 1.7 * column
    radius, angle = np.hypot(dx, dy), np.arctan2(dy, dx) + turn
    petals = _edge(7.0 + 2.6 * np.cos(5 * angle) - radius, 0.9)
    leaf = np.hypot(
        (dx * np.cos(turn) + dy * np.sin(turn) - 12) / 1.9, dx * -np.sin(turn) + dy * np.cos(turn)
    )
    leaves = _edge(3.0 - leaf, 0.9)
    light = np.where((row + column) % 2 == 0, 1.0, 0.0)[..., None]
    blossom = light * channels((250, 240, 236)) + (1 - light) * channels((232, 120, 140))
    if ground.mean() > 190:  # dark flowers on pale cloth
        blossom = light * channels((206, 70, 100)) + (1 - light) * channels((120, 90, 170))
    out: Array = ground + (channels(_LEAF) - ground) * leaves[..., None]
    out = out + (blossom - out) * petals[..., None]
    out = out + (channels(_HEART) - out) * _edge(2.6 - radius, 0.9)[..., None]
    return out
