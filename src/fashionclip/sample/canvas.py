"""The canvas of the sample catalogue: antialiased shapes, and the cloths that fill them.

Masks are drawn at three times the size and reduced; everything else is computed at the image's own
size, so a product takes a few milliseconds. Coordinates are pixels of a board 240 wide and 320
high. x is counted from its middle axis, so that garments can be mirrored.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 240, 320
MIDDLE = WIDTH / 2
_OVERSAMPLING = 3
_BACKGROUND = 255.0
_SOFT_EDGE = 8  # width in pixels of the shading at a shape's edge

Number = int | float
Point = tuple[Number, Number]
Path = list[Point]
Rgb = tuple[Number, Number, Number]
Array = NDArray[np.floating[Any]]
Cloth = Callable[[Array, Array], Array]
"""Coordinates x and y, each (h, w), to colours (h, w, 3) in 0…255."""


@cache
def grid() -> tuple[Array, Array]:
    """Coordinates of every pixel: x from the middle axis, y from the top; each (h, w)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    return x - np.float32(MIDDLE), y


def smooth(points: Sequence[Point], *, closed: bool = True, rounds: int = 3) -> Path:
    """Round a polygon's corners (Chaikin's algorithm); repeated points give sharper corners."""
    path = np.asarray(points, dtype=np.float64)
    for _ in range(rounds):
        following = np.roll(path, -1, axis=0)
        near, far = 0.75 * path + 0.25 * following, 0.25 * path + 0.75 * following
        cut = np.stack([near, far], axis=1).reshape(-1, 2)
        path = cut if closed else np.concatenate([path[:1], cut[:-2], path[-1:]])
    return [(float(x), float(y)) for x, y in path]


def mirror(points: Sequence[Point]) -> Path:
    """Reflect a path in the middle axis, and reverse it, so that its orientation stays."""
    return [(-x, y) for x, y in reversed(points)]


def symmetric(right_half: Sequence[Point], *, rounds: int = 2) -> Path:
    """Close the right half of an outline, from top to bottom, with its mirror image."""
    return smooth([*right_half, *mirror(right_half)], rounds=rounds)


def arc(center: Point, radii: Point, start: Number, stop: Number, *, steps: int = 24) -> Path:
    """Points on an ellipse between two angles in degrees, clockwise from the right."""
    angles = np.radians(np.linspace(start, stop, steps))
    return [
        (float(center[0] + radii[0] * np.cos(a)), float(center[1] + radii[1] * np.sin(a)))
        for a in angles
    ]


def box(left: Number, top: Number, right: Number, bottom: Number) -> Path:
    """The corners of a rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


class Board:
    """An image in progress, on white."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Start with a white board; ``rng`` places the folds."""
        self._rng = rng
        self._pixels = np.full((HEIGHT, WIDTH, 3), _BACKGROUND, dtype=np.float32)

    def shape(
        self,
        path: Sequence[Point],
        cloth: Cloth | Rgb,
        *,
        folds: Number = 0.0,
        volume: Number = 0.22,
        holes: Sequence[Sequence[Point]] = (),
    ) -> None:
        """Fill a closed shape.

        Args:
            path: its outline.
            cloth: a colour or a cloth.
            folds: contrast of its folds, 0…1.
            volume: strength of the shading at its edges, 0…1.
            holes: outlines that are cut out.
        """
        window = _Window([path], margin=_SOFT_EDGE)
        mask = window.mask(lambda draw: _fill(draw, window, path, holes))
        alpha = np.asarray(mask, dtype=np.float32) / np.float32(255)
        x, y = (axis[window.rows, window.columns] for axis in grid())
        colour = cloth(x, y) if callable(cloth) else channels(cloth)
        shade = np.ones_like(alpha)
        if volume:
            soft = mask.filter(ImageFilter.BoxBlur(_SOFT_EDGE - 1))
            inner = np.asarray(soft, dtype=np.float32) / np.float32(255)
            shade -= np.float32(volume) * (1 - np.clip(inner * 1.9 - 0.9, 0, 1))
        if folds:
            shade += np.float32(folds) * self._folds(x, y)
        lit = colour * shade[..., None]
        here = self._pixels[window.rows, window.columns]
        here += (lit - here) * alpha[..., None]

    def line(
        self,
        path: Sequence[Point],
        colour: Rgb,
        *,
        width: Number = 1.0,
        strength: Number = 1.0,
        dash: Number = 0.0,
    ) -> None:
        """Draw an open line, such as a seam or a handle; ``dash`` is the length of a stitch."""
        thick = max(1, round(width * _OVERSAMPLING))
        window = _Window([path], margin=int(width) + 2)
        pieces = [window.enlarged(piece) for piece in (_dashes(path, dash) if dash else [path])]

        def stroke(draw: ImageDraw.ImageDraw) -> None:
            for piece in pieces:
                draw.line(piece, fill=255, width=thick, joint="curve")

        alpha = np.asarray(window.mask(stroke), dtype=np.float32) * np.float32(strength / 255)
        here = self._pixels[window.rows, window.columns]
        here += (channels(colour) - here) * alpha[..., None]

    def dot(self, center: Point, radius: Number, colour: Rgb) -> None:
        """Draw a small disc with a highlight: a button, a rivet, an eyelet."""
        self.shape(arc(center, (radius, radius), 0, 345), shaded(colour, 0.72), volume=0)
        lit = (center[0] - radius * 0.15, center[1] - radius * 0.15)
        self.shape(arc(lit, (radius * 0.75, radius * 0.75), 0, 345), colour, volume=0)

    def shadow(self, center: Point, radii: Point, *, strength: Number = 0.28) -> None:
        """Draw a soft shadow on the floor."""
        x, y = grid()
        distance = ((x - center[0]) / radii[0]) ** 2 + ((y - center[1]) / radii[1]) ** 2
        self._pixels *= (1 - np.float32(strength) * np.exp(-2 * distance))[..., None]

    def image(self) -> Image.Image:
        """The image so far, RGB."""
        return Image.fromarray(np.clip(np.rint(self._pixels), 0, 255).astype(np.uint8))

    def _folds(self, x: Array, y: Array) -> Array:
        """Brightness of random, mostly vertical folds, in about -1…1."""
        total = np.zeros_like(x)
        for _ in range(3):
            across, down = self._rng.uniform(0.04, 0.13), self._rng.uniform(-0.035, 0.035)
            phase = self._rng.uniform(0, 2 * np.pi)
            total += np.sin(np.float32(across) * x + np.float32(down) * y + np.float32(phase))
        return total / 3


def shaded(colour: Rgb, factor: Number) -> Rgb:
    """Darken a colour (below 1), or lighten it towards white (above 1)."""
    if factor <= 1:
        return (colour[0] * factor, colour[1] * factor, colour[2] * factor)
    share = factor - 1
    return (
        colour[0] + (255 - colour[0]) * share,
        colour[1] + (255 - colour[1]) * share,
        colour[2] + (255 - colour[2]) * share,
    )


def channels(colour: Rgb) -> Array:
    """A colour as an array."""
    return np.asarray(colour, dtype=np.float32)


class _Window:
    """The part of the board around some paths, in which a mask is drawn."""

    def __init__(self, paths: Sequence[Sequence[Point]], *, margin: int) -> None:
        x = np.array([point[0] for path in paths for point in path]) + MIDDLE
        y = np.array([point[1] for path in paths for point in path])
        left, top = max(0, int(x.min()) - margin), max(0, int(y.min()) - margin)
        right = max(left + 1, min(WIDTH, int(x.max()) + margin + 1))
        bottom = max(top + 1, min(HEIGHT, int(y.max()) + margin + 1))
        self.rows, self.columns = slice(top, bottom), slice(left, right)

    def enlarged(self, path: Sequence[Point]) -> list[Point]:
        """A path in the pixels of the oversampled mask."""
        left, top = self.columns.start - MIDDLE, self.rows.start
        return [((x - left) * _OVERSAMPLING, (y - top) * _OVERSAMPLING) for x, y in path]

    def mask(self, draw: Callable[[ImageDraw.ImageDraw], None]) -> Image.Image:
        """Draw white on black at a larger size, and reduce it."""
        width = (self.columns.stop - self.columns.start) * _OVERSAMPLING
        height = (self.rows.stop - self.rows.start) * _OVERSAMPLING
        large = Image.new("L", (width, height))
        draw(ImageDraw.Draw(large))
        return large.reduce(_OVERSAMPLING)


def _fill(
    draw: ImageDraw.ImageDraw,
    window: _Window,
    path: Sequence[Point],
    holes: Sequence[Sequence[Point]],
) -> None:
    draw.polygon(window.enlarged(path), fill=255)
    for hole in holes:
        draw.polygon(window.enlarged(hole), fill=0)


def _dashes(path: Sequence[Point], length: Number) -> list[Path]:
    """Cut a line into dashes with gaps of the same length."""
    points = np.asarray(path, dtype=np.float64)
    steps = np.hypot(*np.diff(points, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    starts = np.arange(0.0, along[-1], 2 * length)
    ends = np.minimum(starts + length, along[-1])
    places = np.stack([starts, ends], axis=1)
    x, y = (np.interp(places, along, points[:, axis]) for axis in (0, 1))
    return [
        [(float(x0), float(y0)), (float(x1), float(y1))]
        for (x0, x1), (y0, y1) in zip(x, y, strict=True)
    ]


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
