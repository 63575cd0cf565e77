"""Faults drawn into a shop's own pictures, so that ``pictures`` learns how each would look there.

What is wrong in one shop is usual in another: a room behind the product, a model cut at the knees,
a dark ground. So no threshold is fixed. Each fault is drawn into a sample of the shop's pictures,
with random sizes, places and strengths, and told from the pictures as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from fashionclip.doctor.measures import MAX_GAP
from fashionclip.images.decode import background_color

MAX_SIDE_PX = 320
"""Pictures are drawn on at this longest side."""
WORDS = (
    *("SALE", "NEW", "-50%", "SAVE 30%", "Free shipping", "Best seller", "Limited offer"),
    *("ONLY 19.99", "Black Friday", "Buy 2 get 1", "www.shop.example", "Call 555 0100"),
    *("100% cotton", "Size M L XL", "Summer 2026", "Made in Italy", "Top quality"),
)
MARKS = ("SAMPLE", "shop.example", "© Studio", "PREVIEW", "photo agency", "PROOF", "stock image")
VERSION = 1
"""Of the drawings, for caches; raise it when one changes."""

Draw = Callable[[Image.Image, Sequence[Image.Image], Random], Image.Image]
"""A picture, other pictures of the shop and a source of chance to a picture with the fault."""


def small_copy(image: Image.Image) -> Image.Image:
    """The picture to draw on: RGB, at most ``MAX_SIDE_PX`` a side, at least 16."""
    copy = image.copy()
    copy.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    return copy.resize((max(16, copy.width), max(16, copy.height)))


def _as_it_is(image: Image.Image, others: Sequence[Image.Image], chance: Random) -> Image.Image:
    return image.copy()


def _several(image: Image.Image, others: Sequence[Image.Image], chance: Random) -> Image.Image:
    """Two to four products in one frame, side by side, stacked, or as a small one beside."""
    parts = [image, *(others or [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])]
    ground = background_color(image)
    canvas = Image.new("RGB", image.size, ground)
    width, height = image.size
    layout = chance.choice(("row", "row", "column", "four", "inset"))
    if layout == "row":
        n = 3 if len(parts) > 2 and chance.random() < 0.3 else 2
        boxes = [(i / n, 0.0, (i + 1) / n, 1.0) for i in range(n)]
    elif layout == "column":
        boxes = [(0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0)]
    elif layout == "four":
        boxes = [(x, y, x + 0.5, y + 0.5) for y in (0.0, 0.5) for x in (0.0, 0.5)]
    else:
        size, x, y = chance.uniform(0.3, 0.45), chance.choice((0, 1)), chance.choice((0, 1))
        boxes = [(0.0, 0.0, 1.0, 1.0)]
        boxes.append((x * (1 - size), y * (1 - size), x * (1 - size) + size, y * (1 - size) + size))
    for i, (left, top, right, bottom) in enumerate(boxes):
        room = (max(1, int((right - left) * width)), max(1, int((bottom - top) * height)))
        part = parts[i % len(parts)].copy()
        scale = min(room[0] / part.width, room[1] / part.height)
        part = part.resize((max(1, int(part.width * scale)), max(1, int(part.height * scale))))
        at = (int(left * width), int(top * height))
        canvas.paste(
            part, (at[0] + (room[0] - part.width) // 2, at[1] + (room[1] - part.height) // 2)
        )
    return canvas


def _none(image: Image.Image, others: Sequence[Image.Image], chance: Random) -> Image.Image:
    """An empty ground, a card with a sign, a table of sizes, or a swatch of the cloth."""
    width, height = image.size
    ground = background_color(image) if chance.random() < 0.5 else _grey(chance, 200, 255)
    canvas = Image.new("RGB", image.size, ground)
    draw = ImageDraw.Draw(canvas)
    what = chance.choice(("empty", "card", "table", "swatch"))
    if what == "swatch":
        size = chance.uniform(0.12, 0.25)
        x, y = (chance.uniform(0.4, 0.6) for _ in range(2))
        half = (size * width / 2, size * height / 2)
        box = (x * width - half[0], y * height - half[1], x * width + half[0], y * height + half[1])
        return image.resize(image.size, Image.Resampling.BICUBIC, box=box)
    ink = _grey(chance, 60, 170)
    if what == "card":
        reach = chance.uniform(0.12, 0.3) * min(width, height)
        box = (width / 2 - reach, height / 2 - reach, width / 2 + reach, height / 2 + reach)
        shape = chance.choice((draw.rectangle, draw.ellipse))
        shape(box, outline=ink, width=max(1, int(reach / 10)))
        if chance.random() < 0.7:
            words = chance.choice(("No image", "Image coming soon", "No photo", "N/A"))
            _write(canvas, words, (0.5, chance.uniform(0.7, 0.9)), 0.05, ink, 255)
    if what == "table":
        n = chance.randint(4, 9)
        for row in range(n):
            y = (row + 0.5) * height / n
            draw.line((width * 0.05, y, width * 0.95, y), fill=ink)
            for column in range(4):
                text = f"{chance.randint(30, 120)}"
                _write(canvas, text, (0.15 + column * 0.23, (row + 0.8) / n), 0.035, ink, 255)
    return canvas


def _overlay(image: Image.Image, others: Sequence[Image.Image], chance: Random) -> Image.Image:
    """Words over the picture: bare, or on a badge or a banner."""
    canvas = image.copy()
    words = chance.choice(WORDS)
    ink = chance.choice(((200, 20, 30), (0, 0, 0), (20, 60, 160), (255, 255, 255), (20, 120, 60)))
    size = chance.uniform(0.05, 0.13)
    style = chance.choice(("bare", "badge", "banner"))
    at = (chance.uniform(0.2, 0.8), chance.choice((0.08, 0.15, 0.5, 0.85, 0.92)))
    if style == "bare" and sum(ink) > 700:
        ink = (200, 20, 30)
    if style != "bare":
        paper = ink if sum(ink) < 700 else (200, 20, 30)
        draw = ImageDraw.Draw(canvas)
        y, half = at[1] * canvas.height, size * canvas.height * 0.9
        reach = canvas.width if style == "banner" else len(words) * size * canvas.height * 0.35
        x = at[0] * canvas.width
        draw.rectangle((x - reach, y - half, x + reach, y + half), fill=paper)
        ink = (255, 255, 255)
    _write(canvas, words, at, size, ink, 255)
    return canvas


def _watermark(image: Image.Image, others: Sequence[Image.Image], chance: Random) -> Image.Image:
    """Half-transparent words: once and large, or repeated, level or slanting."""
    words, strength = chance.choice(MARKS), chance.randint(60, 150)
    ink = chance.choice(((128, 128, 128), (90, 90, 90), (255, 255, 255), (160, 160, 160)))
    layer = Image.new("L", (image.width * 2, image.height * 2), 0)
    if chance.random() < 0.5:
        _write(layer, words, (0.5, 0.5), chance.uniform(0.045, 0.08), 255, 255)
    else:
        size = chance.uniform(0.02, 0.035)
        for row in range(12):
            for column in range(5):
                place = ((column + 0.5 * (row % 2)) / 5, (row + 0.5) / 12)
                _write(layer, words, place, size, 255, 255)
    layer = layer.rotate(chance.choice((0, 0, 25, 35, 45, -35)), resample=Image.Resampling.BILINEAR)
    left, top = image.width // 2, image.height // 2
    layer = layer.crop((left, top, left + image.width, top + image.height))
    mask = layer.point([level * strength // 255 for level in range(256)])
    return Image.composite(Image.new("RGB", image.size, ink), image, mask)


def _cut_off(image: Image.Image, others: Sequence[Image.Image], chance: Random) -> Image.Image:
    """The product moved out of the frame by a part of its own size, or the frame cut through it."""
    width, height = image.size
    left, top, right, bottom = _product_box(image)
    part = chance.uniform(0.12, 0.4)
    side = chance.choice(("left", "top", "right", "bottom"))
    if _is_scene(image) or chance.random() < 0.5:  # cut through, then the rest fills the frame
        box = [0.0, 0.0, float(width), float(height)]
        if side in {"left", "right"}:
            lost = (right - left) * part
            box[0 if side == "left" else 2] = left + lost if side == "left" else right - lost
        else:
            lost = (bottom - top) * part
            box[1 if side == "top" else 3] = top + lost if side == "top" else bottom - lost
        whole = (int(box[0]), int(box[1]), round(box[2]), round(box[3]))
        rest = image.crop((*whole[:2], max(whole[0] + 1, whole[2]), max(whole[1] + 1, whole[3])))
        if chance.random() < 0.5:
            return rest.resize((max(16, rest.width), max(16, rest.height)))
        return rest.resize(image.size)
    across, down = 0, 0
    if side in {"left", "right"}:
        across = int(left + (right - left) * part) if side == "left" else 0
        across = -int(width - right + (right - left) * part) if side == "right" else across
    else:
        down = int(top + (bottom - top) * part) if side == "top" else 0
        down = -int(height - bottom + (bottom - top) * part) if side == "bottom" else down
    canvas = Image.new("RGB", image.size, background_color(image))
    canvas.paste(image, (-across, -down))
    return canvas


def _blurred(image: Image.Image, others: Sequence[Image.Image], chance: Random) -> Image.Image:
    """Out of focus, moved, or enlarged from a much smaller picture."""
    side = max(image.size)
    what = chance.choice(("focus", "focus", "enlarged"))
    if what == "focus":
        return image.filter(ImageFilter.GaussianBlur(chance.uniform(0.008, 0.02) * side))
    n = chance.uniform(36, 72) / side
    small = image.resize((max(1, int(image.width * n)), max(1, int(image.height * n))))
    return small.resize(image.size, Image.Resampling.BICUBIC)


def _dark(image: Image.Image, others: Sequence[Image.Image], chance: Random) -> Image.Image:
    """Underexposed."""
    light, curve = chance.uniform(0.22, 0.5), chance.uniform(1.0, 1.5)
    return image.point([round(255 * light * (level / 255) ** curve) for level in range(256)] * 3)


def _other_ground(image: Image.Image, others: Sequence[Image.Image], chance: Random) -> Image.Image:
    """Another ground behind the product: a colour, a gradient, a texture; white round a scene."""
    mask = _product_mask(image)
    if _is_scene(image):  # leave its middle on white
        mask = Image.new("L", image.size, 0)
        inset = (image.width * 0.12, image.height * 0.04, image.width * 0.88, image.height * 0.96)
        ImageDraw.Draw(mask).ellipse(inset, fill=255)
        return Image.composite(image, Image.new("RGB", image.size, "white"), mask)
    old = background_color(image)
    while True:
        level, tint = chance.randint(20, 255), chance.choice((8, 25, 80))
        new = tuple(min(255, max(0, level + chance.randint(-tint, tint))) for _ in range(3))
        if max(abs(a - b) for a, b in zip(new, old, strict=True)) > 45:
            break
    ground = Image.new("RGB", image.size, new)
    if chance.random() < 0.5:
        other = tuple(min(255, max(0, level + chance.randint(-70, 70))) for level in new)
        ramp = Image.linear_gradient("L").resize(image.size)
        ramp = ramp.rotate(chance.choice((0, 90, 180)))
        ground = Image.composite(Image.new("RGB", image.size, other), ground, ramp)
    if chance.random() < 0.5:
        noise = Image.effect_noise(image.size, chance.uniform(15, 60)).convert("RGB")
        noise = noise.filter(ImageFilter.GaussianBlur(chance.uniform(0.0, 4.0)))
        ground = ImageChops.add(ground, noise, scale=1.0, offset=-128)
    return Image.composite(image, ground, mask)


DRAWINGS: Mapping[str, Draw] = MappingProxyType(
    {
        "as_it_is": _as_it_is,
        "several_products": _several,
        "no_product": _none,
        "text_overlay": _overlay,
        "watermark": _watermark,
        "cut_off": _cut_off,
        "blurred": _blurred,
        "dark": _dark,
        "other_ground": _other_ground,
    }
)
"""What is drawn, by kind of finding; ``as_it_is`` is the copy itself."""


def _grey(chance: Random, low: int, high: int) -> tuple[int, int, int]:
    level = chance.randint(low, high)
    return level, level, level


def _write(
    canvas: Image.Image,
    words: str,
    at: tuple[float, float],
    size: float,
    ink: int | tuple[int, int, int],
    strength: int,
) -> None:
    """Write words centred at a place; place and size as shares of the canvas."""
    font = ImageFont.load_default(max(6.0, size * canvas.height))
    place = (at[0] * canvas.width, at[1] * canvas.height)
    ImageDraw.Draw(canvas).text(place, words, fill=ink, font=font, anchor="mm")


def _product_mask(image: Image.Image) -> Image.Image:
    """255 where the picture differs from its ground, with holes filled from the inside."""
    pixels = np.asarray(image).astype(np.int16)
    gap = np.abs(pixels - np.array(background_color(image), np.int16)).max(axis=2)
    mask = Image.fromarray(((gap > MAX_GAP * 0.6) * 255).astype(np.uint8))
    # by means over 5 x 5 pixels: ten times as fast as MaxFilter(5), then MinFilter(5)
    grown = mask.filter(ImageFilter.BoxBlur(2)).point([0, *[255] * 255])
    return grown.filter(ImageFilter.BoxBlur(2)).point([0] * 250 + [255] * 6)


def _is_scene(image: Image.Image) -> bool:
    """Whether the picture has no plain ground: most of its border differs from the median."""
    mask = np.asarray(_product_mask(image)) > 0
    sides = (mask[:3].ravel(), mask[-3:].ravel(), mask[:, :3].ravel(), mask[:, -3:].ravel())
    return bool(np.concatenate(sides).mean() > 0.4)


def _product_box(image: Image.Image) -> tuple[int, int, int, int]:
    box = _product_mask(image).getbbox()
    if box is None or box[2] - box[0] < 4 or box[3] - box[1] < 4:
        return 0, 0, image.width, image.height
    return box
