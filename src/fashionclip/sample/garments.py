"""Rendering of garments: tops, dresses, skirts and trousers."""

import numpy as np

from fashionclip.sample.canvas import (
    Board,
    Cloth,
    Path,
    Rgb,
    arc,
    box,
    denim,
    is_dark,
    knit,
    mirror,
    ribbed,
    shaded,
    smooth,
    symmetric,
    weave,
)
from fashionclip.sample.products import Attributes

_STITCH = (206, 146, 72)  # the orange thread of jeans
_NECK_TOP = 44.0
_SHOULDER_TOP = 54.0
_ARMPIT = 108.0
_SLEEVE_TILT = {"short": 28.0, "long": 12.0}


class _Cut:
    """The measurements of a garment, in pixels."""

    def __init__(self, attributes: Attributes, rng: np.random.Generator) -> None:
        loose = attributes.category in {"hoodie", "sweater", "jacket"}
        womens = attributes.gender == "Women"
        self.neck = 19.0 + rng.uniform(-2, 3)
        self.shoulder = (55.0 if loose else 51.0) - (5 if womens else 0) + rng.uniform(-2, 2)
        self.chest = self.shoulder + (1.0 if loose else -3.0)
        self.waist = self.chest - (9.0 if womens and not loose else 1.0)
        self.hem = self.chest + (2.0 if womens else 0.0) + rng.uniform(-2, 2)
        self.bottom = (252.0 if not womens else 240.0) + rng.uniform(-8, 8)
        self.cuff = 212.0 + rng.uniform(-6, 10)


def draw_top(board: Board, attributes: Attributes, rng: np.random.Generator) -> None:
    """Draw a t-shirt, shirt, sweater, hoodie or jacket."""
    colour, accent = attributes.rgb(rng)
    cut = _Cut(attributes, rng)
    seed = int(rng.integers(1 << 30))
    cloths = [
        weave(attributes.pattern, colour, accent, np.random.default_rng(seed), tilt=tilt)
        for tilt in (0.0, *_tilts(attributes.sleeve))
    ]
    if attributes.category in {"sweater", "hoodie"}:
        cloths = [knit(c, depth=0.06 if attributes.category == "sweater" else 0.0) for c in cloths]
    body, left, right = cloths
    if attributes.category == "hoodie":
        _hood(board, cut, colour)
    _sleeves(board, attributes, cut, left, right, colour)
    _back_of_neck(board, attributes, cut, colour)
    outline = _body(attributes, cut)
    board.shape(outline, body, folds=0.07, volume=0.2)
    _hem(board, attributes, cut, colour)
    _neckline(board, attributes, cut, colour)
    _details(board, attributes, cut, colour, rng)
    if attributes.pattern == "graphic":
        _graphic(board, accent, rng)


def draw_dress(board: Board, attributes: Attributes, rng: np.random.Generator) -> None:
    """Draw a dress: bodice, waist seam and a flared or straight skirt."""
    colour, accent = attributes.rgb(rng)
    cut = _Cut(attributes, rng)
    cut.shoulder, cut.chest, cut.neck = 42.0, 37.0, 18.0
    cut.cuff = 190.0
    seed = int(rng.integers(1 << 30))
    body, left, right = (
        weave(attributes.pattern, colour, accent, np.random.default_rng(seed), tilt=tilt)
        for tilt in (0.0, *_tilts(attributes.sleeve))
    )
    flare, bottom = rng.uniform(44, 82), rng.uniform(250, 300)
    waist_y = 148.0
    _sleeves(board, attributes, cut, left, right, colour)
    _back_of_neck(board, attributes, cut, colour)
    skirt: Path = [(29, waist_y - 2), (29, waist_y - 2), (34, waist_y + 22), (flare, bottom - 4)]
    skirt += [(flare, bottom), (flare * 0.5, bottom + 6), (0, bottom + 7)]
    board.shape(symmetric(skirt), body, folds=0.11, volume=0.2)
    bodice = [*_neck_path(attributes, cut), (cut.shoulder - 2, _SHOULDER_TOP + 4)]
    if attributes.sleeve == "sleeveless":
        bodice = [*_neck_path(attributes, cut), (33, _SHOULDER_TOP), (31, 80)]
    bodice += [(cut.chest, _ARMPIT - 4), (cut.chest, _ARMPIT - 4), (30, waist_y - 8)]
    bodice += [(29, waist_y), (29, waist_y), (0, waist_y + 2)]
    board.shape(symmetric(bodice, rounds=2), body, folds=0.05, volume=0.22)
    board.line([(-29, waist_y), (0, waist_y + 2), (29, waist_y)], shaded(colour, 0.6), width=1.6)
    for x in (-0.55, -0.2, 0.2, 0.55):
        top, end = (x * 30, waist_y + 4), (x * flare * 1.2, bottom - 12)
        board.line([top, end], shaded(colour, 0.7), width=1.2, strength=0.45)
    if rng.random() < 0.45:
        belt = shaded(colour, 0.45) if not is_dark(colour) else shaded(colour, 1.35)
        board.shape(box(-30, waist_y - 4, 30, waist_y + 4), belt, volume=0.1)
        board.line([*box(-5, waist_y - 5, 5, waist_y + 5), (-5, waist_y - 5)], (200, 170, 90))
    _neckline(board, attributes, cut, colour)


def _tilts(sleeve: str | None) -> tuple[float, float]:
    tilt = _SLEEVE_TILT.get(sleeve or "", 0.0)
    return -tilt, tilt


def _neck_path(attributes: Attributes, cut: _Cut) -> Path:
    """The front edge of the neck, from the middle to the shoulder."""
    deep = {"round": 70.0, "v-neck": 98.0, "collar": 74.0, "turtleneck": 56.0, "hood": 70.0}
    bottom = deep[attributes.neckline or "round"]
    shoulder = (cut.neck + 1, _NECK_TOP + 3)
    if attributes.neckline in {"v-neck", "collar"}:
        return [(0, bottom), (0, bottom), (cut.neck * 0.62, bottom - 19), shoulder, shoulder]
    return [(0, bottom), (cut.neck * 0.62, bottom - 3), (cut.neck, 56), shoulder, shoulder]


def _body(attributes: Attributes, cut: _Cut) -> Path:
    half = [*_neck_path(attributes, cut)]
    if attributes.sleeve == "sleeveless":
        half += [(cut.shoulder - 14, _SHOULDER_TOP - 2), (cut.shoulder - 16, 84)]
    else:
        half += [(cut.shoulder - 4, _SHOULDER_TOP), (cut.shoulder, _SHOULDER_TOP + 10)]
    half += [(cut.chest, _ARMPIT), (cut.chest, _ARMPIT), (cut.waist, 170)]
    half += [(cut.hem, cut.bottom - 8), (cut.hem, cut.bottom), (cut.hem, cut.bottom)]
    drop = 7.0 if attributes.category == "shirt" else 2.0
    half += [(cut.hem * 0.5, cut.bottom + drop * 0.7), (0, cut.bottom + drop)]
    return symmetric(half)


def _sleeves(
    board: Board, attributes: Attributes, cut: _Cut, left: Cloth, right: Cloth, colour: Rgb
) -> None:
    if attributes.sleeve == "sleeveless":
        return
    top: Path = [(cut.shoulder - 12, _SHOULDER_TOP - 3), (cut.shoulder + 2, _SHOULDER_TOP + 3)]
    if attributes.sleeve == "short":
        outer, inner = (cut.shoulder + 28, 116.0), (cut.shoulder + 6, 132.0)
        bend = (cut.shoulder + 16, 76.0)
    else:
        outer, inner = (cut.shoulder + 38, cut.cuff), (cut.shoulder + 20, cut.cuff + 6)
        bend = (cut.shoulder + 20, 92.0)
    arm = [*top, bend, outer, outer, outer, inner, inner, inner]
    arm += [(cut.chest - 2, _ARMPIT + 8), (cut.chest - 12, _ARMPIT - 10)]
    arm = smooth(arm, rounds=2)
    board.shape(arm, right, folds=0.09, volume=0.26)
    board.shape(mirror(arm), left, folds=0.09, volume=0.26)
    dark = shaded(colour, 0.62)
    for side in (1, -1):
        edge = [(side * outer[0], outer[1]), (side * inner[0], inner[1])]
        if attributes.category in {"sweater", "hoodie"} and attributes.sleeve == "long":
            rise = 11.0
            band = [*edge, (edge[1][0] - side * 2, inner[1] - rise)]
            band += [(edge[0][0] - side * 3, outer[1] - rise)]
            board.shape(band, ribbed(shaded(colour, 0.9)), volume=0.1)
        inset = [(x - side * 1.2, y - 4.5) for x, y in edge]
        board.line(inset, dark, width=1, strength=0.55)


def _back_of_neck(board: Board, attributes: Attributes, cut: _Cut, colour: Rgb) -> None:
    """The inside of the back, visible through the neck."""
    if attributes.neckline == "turtleneck":
        return
    inside = arc((0, _NECK_TOP + 6), (cut.neck + 2, 7), 180, 360)
    inside += [(cut.neck + 2, 62), (8, 102), (-8, 102), (-cut.neck - 2, 62)]
    board.shape(inside, shaded(colour, 0.55 if not is_dark(colour) else 0.7), volume=0.1)
    if attributes.neckline != "collar":
        board.shape(box(-4, 49, 4, 55), (235, 235, 232), volume=0)


def _neckline(board: Board, attributes: Attributes, cut: _Cut, colour: Rgb) -> None:
    half = _neck_path(attributes, cut)
    edge = smooth([*mirror(half), *half], closed=False, rounds=2)
    band = shaded(colour, 0.84) if not is_dark(colour) else shaded(colour, 1.12)
    if attributes.neckline in {"round", "v-neck", "hood"}:
        width = 6.5 if attributes.category in {"sweater", "hoodie"} else 4.5
        board.line(edge, band, width=width)
        inner = [(x * 1.09, y + 2.6) for x, y in edge]
        board.line(inner, shaded(colour, 0.6), width=0.8, strength=0.6)
    elif attributes.neckline == "turtleneck":
        roll: Path = [(-cut.neck, 30), (-cut.neck, 30), (cut.neck, 30), (cut.neck, 30)]
        roll += [(cut.neck + 4, 58), (0, 66), (-cut.neck - 4, 58)]
        board.shape(smooth(roll, rounds=2), ribbed(colour), volume=0.3)
        board.line([(-cut.neck - 1, 48), (0, 52), (cut.neck + 1, 48)], shaded(colour, 0.65))
    elif attributes.neckline == "collar":
        flap: Path = [(cut.neck - 3, 40), (cut.neck + 5, 48), (cut.neck + 12, 70)]
        flap += [(cut.neck - 2, 84), (0.5, 74)]
        for outline in (flap, mirror(flap)):
            board.shape(outline, shaded(colour, 0.93), volume=0.16)
            board.line([*outline, outline[0]], shaded(colour, 0.58), width=1, strength=0.75)
        board.line(arc((0, 44), (cut.neck - 3, 6), 180, 360), shaded(colour, 0.8), width=5)


def _hem(board: Board, attributes: Attributes, cut: _Cut, colour: Rgb) -> None:
    if attributes.category in {"sweater", "hoodie"}:
        band: Path = [(-cut.hem, cut.bottom - 12), (cut.hem, cut.bottom - 12)]
        band += [(cut.hem - 3, cut.bottom + 3), (0, cut.bottom + 5), (-cut.hem + 3, cut.bottom + 3)]
        board.shape(smooth(band, rounds=1), ribbed(shaded(colour, 0.9)), volume=0.12)
        return
    drop = 7.0 if attributes.category == "shirt" else 2.0
    path = smooth(
        [(-cut.hem + 1, cut.bottom - 6), (0, cut.bottom + drop - 6), (cut.hem - 1, cut.bottom - 6)],
        closed=False,
        rounds=2,
    )
    board.line(path, shaded(colour, 0.62), width=0.9, strength=0.6)


def _details(
    board: Board, attributes: Attributes, cut: _Cut, colour: Rgb, rng: np.random.Generator
) -> None:
    dark = shaded(colour, 0.6)
    if attributes.sleeve != "sleeveless":
        seam: Path = [(cut.shoulder - 3, _SHOULDER_TOP + 4), (cut.chest - 5, 84)]
        seam = smooth([*seam, (cut.chest - 1, _ARMPIT)], closed=False)
        for line in (seam, mirror(seam)):
            board.line(line, dark, width=1, strength=0.7)
    if attributes.category == "shirt":
        board.line([(-5, 80), (-5, cut.bottom + 5)], dark, width=0.8, strength=0.6)
        board.line([(5, 78), (5, cut.bottom + 5)], dark, width=0.8, strength=0.6)
        button = (245, 245, 240) if is_dark(colour) else shaded(colour, 0.5)
        for y in np.arange(90, cut.bottom - 6, 24):
            board.dot((0, float(y)), 2.4, button)
        if rng.random() < 0.6:
            pocket: Path = [(14, 104), (36, 104), (36, 126), (25, 132), (14, 126), (14, 104)]
            board.line(pocket, dark, width=1, strength=0.8)
    elif attributes.category == "hoodie":
        pouch: Path = [(-20, 186), (20, 186), (34, 216), (34, 232), (-34, 232), (-34, 216)]
        board.shape(pouch, shaded(colour, 0.95), volume=0.12)
        board.line([*pouch, pouch[0]], dark, width=1, strength=0.7)
        cord = (240, 240, 238) if is_dark(colour) else shaded(colour, 0.45)
        for x in (-9.0, 9.0):
            end = 118 + float(rng.uniform(-6, 8))
            board.line([(x, 70), (x * 1.15, 92), (x * 1.05, end)], cord, width=2)
    elif attributes.category == "jacket":
        _jacket_front(board, cut, colour, rng)


def _jacket_front(board: Board, cut: _Cut, colour: Rgb, rng: np.random.Generator) -> None:
    dark = shaded(colour, 0.5) if not is_dark(colour) else shaded(colour, 1.25)
    metal: Rgb = (186, 188, 192)
    board.line([(0, 74), (0, cut.bottom + 1)], shaded(colour, 0.45), width=5)
    if rng.random() < 0.6:
        board.line([(0, 76), (0, cut.bottom - 1)], metal, width=1.8, dash=1.5)
        board.shape(box(-2, 84, 2, 96), metal, volume=0)
    else:
        for y in np.arange(92, cut.bottom - 8, 28):
            board.dot((0, float(y)), 4, metal)
    for side in (1, -1):
        board.line([(side * 20, 192), (side * 34, 214)], dark, width=2.4)
        board.line([(side * 16, 118), (side * 40, 118)], dark, width=1.4, strength=0.8)
        board.line([(side * 21, 72), (side * 18, cut.bottom - 2)], dark, width=0.8, strength=0.5)
    board.shape(
        box(-cut.hem + 1, cut.bottom - 12, cut.hem - 1, cut.bottom), ribbed(shaded(colour, 0.8))
    )


def _hood(board: Board, cut: _Cut, colour: Rgb) -> None:
    hood = symmetric(
        [(0, 14), (16, 15), (31, 28), (33, 46), (cut.neck + 10, 64), (0, 74)], rounds=2
    )
    board.shape(hood, shaded(colour, 0.92), folds=0.05, volume=0.3)
    opening = symmetric([(0, 24), (13, 27), (19, 42), (14, 62), (0, 70)], rounds=2)
    board.shape(opening, shaded(colour, 0.5), volume=0.2)


def _graphic(board: Board, accent: Rgb, rng: np.random.Generator) -> None:
    """Print one large motif on the chest."""
    kind = int(rng.integers(0, 5))
    cx, cy, r = 0.0, 132.0, float(rng.uniform(19, 25))
    if kind == 0:
        points = []
        for i in range(10):
            size = r if i % 2 == 0 else r * 0.42
            angle = np.pi * i / 5 - np.pi / 2
            points.append((float(cx + size * np.cos(angle)), float(cy + size * np.sin(angle))))
        board.shape(points, accent, volume=0)
    elif kind == 1:
        ring = arc((cx, cy), (r, r), 0, 350)
        board.shape(ring, accent, volume=0, holes=[arc((cx, cy), (r * 0.72, r * 0.72), 0, 350)])
        board.shape(arc((cx, cy), (r * 0.4, r * 0.4), 0, 350), accent, volume=0)
    elif kind == 2:
        board.shape([(-r - 6, 150), (-4, 112), (6, 130), (12, 122), (r + 6, 150)], accent, volume=0)
        board.shape(arc((14, 112), (5, 5), 0, 345), accent, volume=0)
    elif kind == 3:
        board.shape(
            [(4, 106), (-16, 136), (-2, 136), (-8, 162), (16, 126), (2, 126)], accent, volume=0
        )
    else:
        for i, half in enumerate((26.0, 26.0, 16.0)):
            y = 118.0 + i * 13
            board.shape(box(-half, y, half, y + 8), accent, volume=0)


def draw_skirt(board: Board, attributes: Attributes, rng: np.random.Generator) -> None:
    """Draw a skirt with a waistband and a few pleats."""
    colour, accent = attributes.rgb(rng)
    cloth = weave(attributes.pattern, colour, accent, rng)
    flare, bottom = float(rng.uniform(50, 92)), float(rng.uniform(205, 280))
    half: Path = [(34, 62), (34, 62), (44, 96), (flare, bottom - 6), (flare, bottom)]
    half += [(flare, bottom), (flare * 0.5, bottom + 7), (0, bottom + 9)]
    board.shape(symmetric(half), cloth, folds=0.12, volume=0.2)
    dark = shaded(colour, 0.66)
    n_pleats = int(rng.integers(0, 3)) * 2 + 2
    for place in np.linspace(-0.78, 0.78, n_pleats):
        top, end = (float(place) * 32, 70.0), (float(place) * flare, bottom + 2)
        board.line([top, end], dark, width=1.4, strength=0.5)
    edge = [(-flare + 2, bottom - 5), (0, bottom + 3), (flare - 2, bottom - 5)]
    board.line(smooth(edge, closed=False), dark, width=0.9, strength=0.6)
    board.shape(box(-35, 52, 35, 64), shaded(colour, 0.88), volume=0.14)
    board.line([(-35, 64), (35, 64)], dark, width=1, strength=0.7)


def draw_trousers(board: Board, attributes: Attributes, rng: np.random.Generator) -> None:
    """Draw trousers, jeans or shorts: two legs, fly, pockets and waistband."""
    colour, accent = attributes.rgb(rng)
    is_jeans = attributes.category == "jeans"
    cloth: Cloth = (
        denim(colour, rng) if is_jeans else weave(attributes.pattern, colour, accent, rng)
    )
    short = attributes.category == "shorts"
    top, waist, hip = (70.0, 44.0, 56.0) if short else (22.0, 37.0, 48.0)
    crotch = top + (74 if short else 78)
    bottom = float(rng.uniform(190, 218)) if short else float(rng.uniform(292, 302))
    width = float(rng.uniform(46, 54)) if short else float(rng.uniform(19, 31))
    inner = 7.0 if short else 8.0
    outer = inner + width
    leg: Path = [(-6, top + 4), (-6, top + 4), (waist, top + 8), (waist, top + 8), (hip, top + 52)]
    leg += [(max(hip - 3, outer), crotch + 14), (outer, bottom), (outer, bottom), (outer, bottom)]
    leg += [(inner, bottom + 2), (inner, bottom + 2), (inner, bottom + 2)]
    leg += [(4 if short else 5, crotch + 30), (0, crotch), (-1, crotch)]
    left = mirror(leg)
    board.shape(box(-12, top + 6, 12, crotch - 8), cloth, volume=0)  # between the rounded corners
    for outline in (smooth(left, rounds=2), smooth(leg, rounds=2)):
        board.shape(outline, cloth, folds=0.09, volume=0.24)
    dark = shaded(colour, 0.6)
    thread = _STITCH if is_jeans else dark
    dash = 2.0 if is_jeans else 0.0
    board.line([(0, top + 12), (0, crotch)], dark, width=1.2, strength=0.8)
    fly = smooth([(9, top + 12), (9, top + 40), (1, top + 54)], closed=False)
    board.line(fly, thread, width=1, dash=dash, strength=0.8)
    for side in (1, -1):
        pocket = [(side * 16, top + 13), (side * 20, top + 26), (side * (waist + 5), top + 33)]
        path = smooth(pocket, closed=False)
        board.line(path, dark, width=1.4, strength=0.8)
        if is_jeans:
            board.line([(x, y + 2.5) for x, y in path], thread, width=0.8, dash=2)
            board.dot((side * 17, top + 16), 1.4, (190, 130, 80))
        cuff = [(side * inner, bottom - 4), (side * outer, bottom - 5)]
        board.line(cuff, thread if is_jeans else dark, width=0.9, strength=0.7, dash=dash)
        if attributes.category == "trousers":
            middle = inner + width / 2
            crease = [(side * (hip / 2 + 2), top + 44), (side * middle, bottom - 6)]
            board.line(crease, shaded(colour, 1.25), width=1.4, strength=0.35)
    band = [(-waist - 1, top), (waist + 1, top), (waist + 1, top + 12), (-waist - 1, top + 12)]
    board.shape(band, cloth if is_jeans else shaded(colour, 0.9), volume=0.16)
    board.line([(-waist, top + 12), (waist, top + 12)], thread, width=1, dash=dash, strength=0.8)
    for x in (-0.72, -0.3, 0.3, 0.72):
        loop = box(x * waist - 1.6, top - 1, x * waist + 1.6, top + 13)
        board.shape(loop, shaded(colour, 0.82), volume=0)
    board.dot((0, top + 6), 3, (190, 140, 90) if is_jeans else shaded(colour, 0.55))
