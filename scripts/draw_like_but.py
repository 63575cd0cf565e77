"""Write docs/like-but.png: products of the sample catalogue, and what is like them but changed."""

import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fashionclip import Catalog, FashionCLIP, Index, index_catalog
from fashionclip.sample import write_sample_catalog

CHANGES = (
    ("S0204", "darker"),
    ("S0204", "floral / plain"),
    ("S0003", "lighter"),
    ("S0002", "checked / dotted"),
)
N_HITS, TILE, GAP, MIDDLE = 5, (120, 160), 14, 210
INK, PAPER = (28, 28, 32), (250, 250, 250)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = write_sample_catalog(folder, n_products=240)
        model = FashionCLIP.from_pretrained()
        index_catalog(Catalog.open(table), model, f"{folder}/shop.lance")
        index = Index.open(f"{folder}/shop.lance", model=model)
        first = GAP + TILE[0] + MIDDLE
        size = first + N_HITS * (TILE[0] + GAP), GAP + len(CHANGES) * (TILE[1] + GAP)
        sheet = Image.new("RGB", size, PAPER)
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(19)
        for line, (product, change) in enumerate(CHANGES):
            top = GAP + line * (TILE[1] + GAP)
            hits = index.search(similar_to=product, but=change, k=N_HITS)
            shown = [index.get(product), *hits]
            lefts = [GAP, *(first + i * (TILE[0] + GAP) for i in range(N_HITS))]
            pen.text((TILE[0] + 3 * GAP, top + TILE[1] // 2 - 14), change, INK, font)
            for hit, left in zip(shown, lefts, strict=True):
                with Image.open(Path(folder) / str(hit.columns["image"])) as picture:
                    sheet.paste(picture.resize(TILE, Image.Resampling.LANCZOS), (left, top))
    target = Path(__file__).parents[1] / "docs" / "like-but.png"
    sheet.quantize(256, method=Image.Quantize.MAXCOVERAGE).save(target, optimize=True)
    print(target)


if __name__ == "__main__":
    main()
