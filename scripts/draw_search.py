"""Write docs/search.png: a few searches over the sample catalogue and their first hits."""

import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fashionclip import Catalog, FashionCLIP, Index, index_catalog
from fashionclip.sample import write_sample_catalog

QUERIES = ("floral dress", "blue jeans", "checked shirt", "sneekers", "dotted heels")
N_HITS, TILE, GAP, LEFT = 6, (132, 176), 14, 290
INK, PAPER = (28, 28, 32), (250, 250, 250)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = write_sample_catalog(folder, n_products=240)
        model = FashionCLIP.from_pretrained()
        index_catalog(Catalog.open(table), model, f"{folder}/shop.lance")
        index = Index.open(f"{folder}/shop.lance", model=model)
        height = GAP + len(QUERIES) * (TILE[1] + 2 * GAP)
        sheet = Image.new("RGB", (LEFT + N_HITS * (TILE[0] + GAP), height), PAPER)
        pen = ImageDraw.Draw(sheet)
        font = ImageFont.load_default(22)
        for line, query in enumerate(QUERIES):
            top = GAP + line * (TILE[1] + 2 * GAP)
            pen.text((GAP * 2, top + TILE[1] // 2 - 16), query, INK, font)
            for column, hit in enumerate(index.search(query, k=N_HITS)):
                left = LEFT + column * (TILE[0] + GAP)
                with Image.open(Path(folder) / str(hit.columns["image"])) as picture:
                    sheet.paste(picture.resize(TILE, Image.Resampling.LANCZOS), (left, top))
        target = Path(__file__).parents[1] / "docs" / "search.png"
        sheet.quantize(256, method=Image.Quantize.MAXCOVERAGE).save(target, optimize=True)
        print(target)


if __name__ == "__main__":
    main()
