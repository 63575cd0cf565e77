"""Drawing skirts, trousers, jeans and shorts."""

import numpy as np

from fashionclip.sample.canvas import Board, Cloth, Path, box, mirror, shaded, smooth, symmetric
from fashionclip.sample.cloths import denim, weave
from fashionclip.sample.products import Attributes

_STITCH = (206, 146, 72)  # the orange thread of jeans


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
