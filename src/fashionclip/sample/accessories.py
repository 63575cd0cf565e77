"""Rendering of shoes, bags, belts and caps."""

import numpy as np

from fashionclip.sample.canvas import (
    Board,
    Path,
    Rgb,
    arc,
    box,
    is_dark,
    mirror,
    shaded,
    smooth,
    symmetric,
    weave,
)
from fashionclip.sample.products import Attributes

_METAL: Rgb = (204, 178, 112)
_RUBBER: Rgb = (240, 238, 232)


def draw_sneakers(board: Board, attributes: Attributes, rng: np.random.Generator) -> None:
    """Draw a low shoe with laces and a thick rubber sole, from the side."""
    colour, accent = attributes.rgb(rng)
    cloth = weave(attributes.pattern, colour, accent, rng)
    board.shadow((0, 214), (104, 12))
    upper: Path = [(-88, 198), (-92, 150), (-86, 132), (-62, 128), (-50, 132), (-30, 128)]
    upper += [(-6, 142), (24, 160), (60, 166), (88, 178), (94, 198), (94, 198), (-88, 198)]
    board.shape(smooth(upper, rounds=2), cloth, folds=0.05, volume=0.26)
    lining = smooth([(-86, 134), (-70, 130), (-50, 134), (-52, 142), (-74, 144)], rounds=2)
    board.shape(lining, shaded(colour, 0.55), volume=0.1)
    sole = smooth([(-94, 196), (98, 196), (99, 206), (90, 212), (-84, 212), (-95, 206)], rounds=2)
    rubber = _RUBBER if rng.random() < 0.75 else shaded(colour, 0.55)
    board.shape(sole, rubber, volume=0.18)
    board.line([(-93, 203), (97, 203)], accent if rng.random() < 0.5 else shaded(rubber, 0.8))
    board.shape(
        smooth([(58, 197), (62, 172), (84, 177), (95, 197), (95, 197), (58, 197)], rounds=2),
        shaded(rubber, 0.98),
        volume=0.2,
    )
    dark = shaded(colour, 0.6) if not is_dark(colour) else shaded(colour, 1.3)
    board.line(smooth([(-52, 134), (-40, 164), (-66, 196)], closed=False), dark, strength=0.8)
    board.line(smooth([(-8, 144), (14, 176), (2, 197)], closed=False), dark, strength=0.8)
    lace: Rgb = (250, 250, 248) if attributes.colour != "white" else (206, 208, 212)
    for i in range(5):
        x, y = -30 + i * 11.5, 130 + i * 6.6
        board.line([(x - 3, y - 2), (x - 13, y + 15)], lace, width=3)
    if rng.random() < 0.6:
        swoop = smooth([(-70, 172), (-44, 186), (-8, 172), (-40, 192), (-66, 188)], rounds=2)
        board.shape(swoop, accent, volume=0.1)


def draw_boots(board: Board, attributes: Attributes, rng: np.random.Generator) -> None:
    """Draw a boot from its side, ankle high or up to the calf."""
    colour, _ = attributes.rgb(rng)
    top = float(rng.choice([78.0, 112.0]))
    heel = 16.0 if attributes.gender == "Women" else 9.0
    board.shadow((4, 232), (92, 11))
    upper: Path = [(-62, 222), (-64, 190), (-56, 160), (-62, top), (-62, top), (4, top - 4)]
    upper += [(4, top - 4), (0, 150), (14, 172), (50, 186), (82, 198), (86, 222), (86, 222)]
    upper += [(-62, 222)]
    board.shape(smooth(upper, rounds=2), colour, folds=0.1, volume=0.34)
    dark = shaded(colour, 0.55) if not is_dark(colour) else shaded(colour, 1.25)
    sole: Rgb = (52, 44, 40) if not is_dark(colour) else (92, 70, 52)
    board.shape(smooth([(-64, 219), (88, 219), (90, 227), (-64, 228)], rounds=1), sole)
    board.shape([(-64, 224), (-30, 224), (-34, 224 + heel), (-62, 224 + heel)], sole)
    board.shape(box(4, 224, 84, 231), sole, volume=0.05)
    board.line(smooth([(42, 185), (36, 204), (40, 219)], closed=False), dark, strength=0.8)
    board.line([(-61, top + 7), (3, top + 3)], dark, strength=0.8)
    if rng.random() < 0.5:
        for i in range(6):
            y = top + 14 + i * (152 - top) / 6
            board.line([(-16, y + 3), (2 + max(0.0, (y - 140) * 0.5), y - 3)], dark, width=2.2)
            board.dot((-17, y + 3), 1.8, _METAL)
    else:
        gore = smooth([(-42, top + 10), (-20, top + 10), (-24, 168), (-36, 168)], rounds=1)
        board.shape(gore, shaded(colour, 0.62), volume=0.1)
    board.line([(-62, top), (-70, top - 8), (-60, top - 8)], dark, width=2)


def draw_sandals(board: Board, attributes: Attributes, rng: np.random.Generator) -> None:
    """Draw an open shoe of straps on a flat sole, from the side."""
    colour, _ = attributes.rgb(rng)
    board.shadow((0, 214), (104, 12))
    footbed: Path = [(-92, 190), (-60, 194), (-10, 198), (50, 200), (96, 194), (96, 194)]
    footbed += [(100, 202), (92, 211), (-86, 211), (-96, 202), (-92, 190)]
    cork: Rgb = (190, 148, 104) if attributes.colour != "beige" else (120, 84, 58)
    board.shape(smooth(footbed, rounds=2), cork, volume=0.24)
    board.shape(box(-92, 206, 94, 212), (70, 56, 48), volume=0.05)
    front = smooth([(26, 202), (38, 158), (60, 154), (82, 198), (64, 202), (52, 174)], rounds=2)
    board.shape(front, colour, folds=0.05, volume=0.3)
    if rng.random() < 0.7:
        middle = smooth(
            [(-32, 200), (-14, 146), (10, 144), (20, 201), (4, 202), (-6, 172)], rounds=2
        )
        board.shape(middle, colour, folds=0.05, volume=0.3)
        board.line([*box(-6, 158, 6, 168), (-6, 158)], _METAL, width=2.2)
    back = smooth([(-92, 196), (-88, 140), (-76, 140), (-74, 196)], rounds=2)
    board.shape(back, colour, volume=0.3)
    ankle = smooth(
        [(-86, 142), (-50, 132), (-20, 146), (-22, 156), (-50, 143), (-84, 152)], rounds=2
    )
    board.shape(ankle, shaded(colour, 0.95), volume=0.2)
    board.dot((-30, 146), 3, _METAL)


def draw_heels(board: Board, attributes: Attributes, rng: np.random.Generator) -> None:
    """Draw a pump with a high heel, from the side."""
    colour, accent = attributes.rgb(rng)
    thin = float(rng.uniform(4, 12))
    board.shadow((6, 226), (92, 9))
    heel: Path = [(-82, 158), (-46, 168), (-72 + thin, 224), (-76, 224)]
    board.shape(
        smooth([*heel[:2], (-68 + thin, 196), *heel[2:], (-80, 190)], rounds=1),
        shaded(colour, 0.82),
    )
    cloth = weave(attributes.pattern, colour, accent, rng)
    upper: Path = [(-86, 120), (-74, 116), (-62, 138), (-28, 160), (6, 178), (34, 178), (62, 192)]
    upper += [(96, 214), (92, 222), (60, 222), (22, 214), (-20, 186), (-52, 170), (-84, 164)]
    board.shape(smooth(upper, rounds=2), cloth, folds=0.04, volume=0.36)
    lining = smooth(
        [(-84, 121), (-74, 117), (-62, 138), (-28, 160), (4, 177), (-34, 168)], rounds=2
    )
    board.shape(lining, (206, 178, 150), volume=0.15)
    sole = smooth([(-82, 166), (-52, 172), (-20, 190), (22, 218), (92, 224)], closed=False)
    board.line(sole, (60, 44, 40), width=2.2)
    if rng.random() < 0.35:
        board.line(
            smooth([(-70, 136), (-52, 116), (-24, 122), (-10, 146)], closed=False), colour, width=4
        )


def draw_handbag(board: Board, attributes: Attributes, rng: np.random.Generator) -> None:
    """Draw a handbag with two handles and a clasp."""
    colour, accent = attributes.rgb(rng)
    cloth = weave(attributes.pattern, colour, accent, rng)
    board.shadow((0, 262), (98, 11))
    tall, wide = float(rng.uniform(58, 118)), float(rng.uniform(68, 92))
    handle = arc((0, 150), (wide * 0.52, tall), 180, 360)
    dark = shaded(colour, 0.62) if not is_dark(colour) else shaded(colour, 1.2)
    board.line([(x * 0.94, y - 7) for x, y in handle], shaded(dark, 0.8), width=5)
    flare = float(rng.uniform(-12, 14))
    half: Path = [(0, 146), (wide - flare, 146), (wide - flare, 150), (wide + 2, 244)]
    half += [(wide - 4, 260), (0, 262)]
    board.shape(symmetric(half), cloth, folds=0.06, volume=0.3)
    board.line(handle, dark, width=6)
    for side in (1, -1):
        place = side * wide * 0.52
        board.shape(box(place - 6, 142, place + 6, 164), dark, volume=0.15)
        board.dot((place, 158), 2.6, _METAL)
    board.line([(-wide + flare, 152), (wide - flare, 152)], dark, width=1.4, strength=0.8)
    if rng.random() < 0.5:
        flap: Path = [(-wide + flare, 148), (wide - flare, 148), (wide * 0.7, 196), (0, 208)]
        board.shape(smooth([*flap, (-wide * 0.7, 196)], rounds=2), cloth, volume=0.3)
        board.shape(box(-7, 196, 7, 212), _METAL, volume=0.2)
    else:
        stitch = [(-wide + 8, 252), (wide - 8, 252)]
        board.line(stitch, dark, dash=2.5, strength=0.8)
        board.shape(box(-14, 150, 14, 160), _METAL, volume=0.2)


def draw_backpack(board: Board, attributes: Attributes, rng: np.random.Generator) -> None:
    """Draw a backpack with a front pocket, zips and straps."""
    colour, accent = attributes.rgb(rng)
    cloth = weave(attributes.pattern, colour, accent, rng)
    board.shadow((0, 276), (84, 11))
    dark = shaded(colour, 0.58) if not is_dark(colour) else shaded(colour, 1.2)
    for side in (1, -1):
        strap = smooth(
            [(side * 34, 66), (side * 88, 96), (side * 92, 200), (side * 66, 258)], closed=False
        )
        board.line(strap, shaded(dark, 0.85), width=9)
    board.line(arc((0, 60), (17, 19), 180, 360), dark, width=6)
    half: Path = [(0, 50), (44, 54), (66, 84), (72, 180), (72, 254), (58, 274), (0, 275)]
    board.shape(symmetric(half), cloth, folds=0.05, volume=0.32)
    board.line(
        smooth([(-64, 140), (-58, 80), (0, 66), (58, 80), (64, 140)], closed=False), dark, width=2
    )
    pocket = smooth(
        [(-50, 170), (-50, 170), (50, 170), (50, 170), (54, 256), (0, 264), (-54, 256)], rounds=2
    )
    board.shape(
        pocket, shaded(colour, 0.93) if attributes.pattern == "solid" else cloth, volume=0.3
    )
    board.line([(-46, 182), (46, 182)], dark, width=2.4)
    board.shape(box(30, 181, 34, 196), (196, 198, 202), volume=0)
    board.shape(
        box(-15, 112, 15, 132), accent if attributes.pattern == "solid" else dark, volume=0.1
    )


def draw_belt(board: Board, attributes: Attributes, rng: np.random.Generator) -> None:
    """Draw a rolled belt with its buckle in front."""
    colour, _ = attributes.rgb(rng)
    board.shadow((0, 224), (98, 14), strength=0.2)
    back = arc((0, 150), (86, 46), 0, 355, steps=48)
    inner = arc((0, 150), (78, 39), 0, 355, steps=48)
    board.shape([(x, y + 18) for x, y in back], shaded(colour, 0.6), holes=[inner], volume=0.1)
    band = arc((0, 150), (88, 52), 0, 180, steps=32)
    band += [(x, y + 34) for x, y in reversed(band)]
    board.shape(band, colour, folds=0.07, volume=0.24)
    light = shaded(colour, 0.7) if not is_dark(colour) else shaded(colour, 1.25)
    for rise in (4.0, 30.0):
        edge = [(x * 0.985, y + rise) for x, y in arc((0, 150), (88, 52), 4, 176)]
        board.line(edge, light, dash=2.5, strength=0.8)
    metal = _METAL if rng.random() < 0.5 else (196, 198, 204)
    frame = smooth(box(-24, 196, 20, 242), rounds=1)
    board.shape(frame, metal, volume=0.2, holes=[smooth(box(-17, 203, 13, 235), rounds=1)])
    board.line([(-22, 219), (16, 219)], shaded(metal, 0.75), width=3.4)
    for i in range(4):
        x = 30.0 + i * 11
        board.dot((x, 219 - 0.0062 * x * x * 1.1), 1.7, shaded(colour, 0.3))


def draw_cap(board: Board, attributes: Attributes, rng: np.random.Generator) -> None:
    """Draw a cap with a peak, from the front and side."""
    colour, accent = attributes.rgb(rng)
    cloth = weave(attributes.pattern, colour, accent, rng)
    board.shadow((6, 222), (96, 10), strength=0.2)
    dome: Path = [(-84, 204), (-84, 204), (-80, 150), (-48, 108), (0, 100), (44, 112), (66, 150)]
    dome += [(70, 198), (70, 198), (-10, 210)]
    board.shape(smooth(dome, rounds=2), cloth, folds=0.05, volume=0.32)
    dark = shaded(colour, 0.62) if not is_dark(colour) else shaded(colour, 1.25)
    for bend in (-46.0, 12.0, 44.0):
        seam = smooth([(-6, 101), (bend * 0.8, 130), (bend, 204)], closed=False)
        board.line(seam, dark, strength=0.8)
    peak: Path = [(-14, 204), (30, 190), (74, 190), (104, 204), (112, 220), (84, 216), (30, 212)]
    board.shape(smooth(peak, rounds=2), shaded(colour, 0.86), volume=0.3)
    for rise in (0.0, 4.0):
        stitch = smooth([(6, 203 + rise), (52, 196 + rise), (98, 210 + rise)], closed=False)
        board.line(stitch, dark, dash=2, strength=0.7)
    board.dot((-6, 101), 4, dark)
    if rng.random() < 0.5:
        board.shape(arc((28, 158), (13, 13), 0, 350), accent, volume=0.1)
    board.line(mirror([(84, 198), (40, 206)]), dark, strength=0.6)
