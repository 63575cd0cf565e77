"""Write docs/limitations.png: one product on other grounds and at other places, with cosines."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fashionclip import FashionCLIP
from fashionclip.audit.cutouts import PLACES, WHITE, at_place, cut_out, on_ground
from fashionclip.sample import Attributes, generate_image

PRODUCT, SEED = Attributes("t-shirt", "red", sleeve="short", neckline="round"), 5
SHOWN = (
    *(WHITE, "grey", "blue", "checks", "wood"),
    *("centred at 70 %", "top left at 70 %", "centred at 50 %", "bottom right at 50 %"),
    "centred at 30 %",
)
COLUMNS, TILE, GAP, LINE = 5, (168, 224), 14, 52
INK, QUIET, PAPER = (28, 28, 32), (110, 106, 98), (250, 250, 250)


def main() -> None:
    cut = cut_out(generate_image(PRODUCT, seed=SEED))
    assert cut is not None
    pictures = [at_place(cut, name) if name in PLACES else on_ground(cut, name) for name in SHOWN]
    vectors = FashionCLIP.from_pretrained().encode_images(pictures)
    cosines = np.asarray(vectors) @ np.asarray(vectors)[0]
    lines = -(-len(SHOWN) // COLUMNS)
    size = (GAP + COLUMNS * (TILE[0] + GAP), GAP + lines * (TILE[1] + LINE + GAP))
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(17)
    for i, (name, pixels) in enumerate(zip(SHOWN, pictures, strict=True)):
        left = GAP + i % COLUMNS * (TILE[0] + GAP)
        top = GAP + i // COLUMNS * (TILE[1] + LINE + GAP)
        sheet.paste(Image.fromarray(pixels).resize(TILE, Image.Resampling.LANCZOS), (left, top))
        pen.rectangle((left - 1, top - 1, left + TILE[0], top + TILE[1]), outline=(226, 223, 217))
        pen.text((left, top + TILE[1] + 5), name, INK, font)
        pen.text((left, top + TILE[1] + 26), f"cosine {cosines[i]:.2f}", QUIET, font)
    target = Path(__file__).parents[1] / "docs" / "limitations.png"
    sheet.quantize(256, method=Image.Quantize.MAXCOVERAGE).save(target, optimize=True)
    print(target.name)


if __name__ == "__main__":
    main()
