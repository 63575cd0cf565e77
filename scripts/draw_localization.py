"""Write docs/localization.png: words on products of the sample catalogue, and where they are."""

import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fashionclip import FashionCLIP
from fashionclip.sample import write_sample_catalog

SHOWN = (("S0002", "handbag"), ("S0004", "cap"), ("S0001", "dress"), ("S0002", "sunglasses"))
TILE, GAP, LINE = (180, 240), 14, 30
INK, PAPER = (28, 28, 32), (250, 250, 250)


def main() -> None:
    model = FashionCLIP.from_pretrained()
    sheet = Image.new("RGB", (len(SHOWN) * (TILE[0] + GAP) + GAP, TILE[1] + GAP + LINE), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    with tempfile.TemporaryDirectory() as folder:
        write_sample_catalog(folder, n_products=240)
        for column, (product, word) in enumerate(SHOWN):
            path = Path(folder) / "images" / f"{product}.jpg"
            found = model.localize(path, [word])
            with Image.open(path) as image:
                drawn = found.overlay(0, image.convert("RGB"))
            left = GAP + column * (TILE[0] + GAP)
            sheet.paste(drawn.resize(TILE, Image.Resampling.LANCZOS), (left, GAP))
            says = f"{word}: {found.scores[0]:.2f}"
            pen.text((left, TILE[1] + GAP + 6), says, INK, font)
    target = Path(__file__).parents[1] / "docs" / "localization.png"
    sheet.quantize(128, method=Image.Quantize.MAXCOVERAGE).save(target, optimize=True)
    print(target)


if __name__ == "__main__":
    main()
