"""Write docs/doctor.png: a screenshot of the doctor's page over the sample catalogue.

A few pictures are spoilt first, so that there is something to find. It needs the system's Chromium.
"""

import csv
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import sync_playwright

from fashionclip.sample import write_sample_catalog

SIZE = {"width": 1320, "height": 1000}
COLOURS = 200  # of the palette, which keeps the file small
TARGET = Path(__file__).parents[1] / "docs" / "doctor.png"


def spoil(table: Path) -> None:
    """Spoil some pictures and captions of a catalogue."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    images = [Image.open(table.parent / row["image"]).convert("RGB") for row in rows[:80]]
    two = Image.new("RGB", (600, 300), "white")
    two.paste(images[11].resize((300, 300)), (0, 0))
    two.paste(images[60].resize((300, 300)), (300, 0))
    sale = images[24].copy()
    ImageDraw.Draw(sale).text((30, 20), "SALE -50 %", "crimson", font_size=34)
    spoilt = {
        3: images[3].filter(ImageFilter.GaussianBlur(9)),
        5: images[5].point(lambda value: value // 5),
        7: images[40],
        9: Image.new("RGB", (300, 300), "white"),
        11: two,
        24: sale,
    }
    for i, image in spoilt.items():
        image.save(table.parent / rows[i]["image"], quality=92)
    rows[30]["title"], rows[31]["title"] = rows[31]["title"], rows[30]["title"]
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        table = write_sample_catalog(folder, n_products=240)
        spoil(Path(table))
        page_file = Path(folder) / "doctor.html"
        words = ["doctor", str(table), "--html", str(page_file), "--cache", f"{folder}/cache"]
        subprocess.run([sys.executable, "-m", "fashionclip.cli", *words], check=True)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=SIZE)
        page.goto(page_file.as_uri())
        page.wait_for_timeout(600)
        shot = page.screenshot()
        browser.close()
    with Image.open(io.BytesIO(shot)) as picture:
        picture.convert("RGB").quantize(COLOURS).save(TARGET, optimize=True)
    print(TARGET)


if __name__ == "__main__":
    main()
