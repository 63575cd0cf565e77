"""Write docs/page.png: a screenshot of the search page over the sample catalogue.

Run ``python scripts/draw_page.py [--screenshot PATH]``. It needs the system's Chromium.
"""

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from fashionclip import Catalog, FashionCLIP, index_catalog
from fashionclip.sample import write_sample_catalog

PATH = "/?q=checked+shirt&f.gender=Women"
SIZE = {"width": 1320, "height": 900}
COLOURS = 200  # of the palette, which keeps the file small
TARGET = Path(__file__).parents[1] / "docs" / "page.png"


def draw(browser: Browser, address: str, target: Path) -> None:
    """Open a search and take a screenshot.

    Args:
        browser: a running browser.
        address: URL of a service over the sample catalogue.
        target: the PNG file.
    """
    page = browser.new_page(viewport=SIZE)
    page.set_default_timeout(120_000)
    page.goto(address + PATH)
    page.wait_for_load_state("networkidle")
    page.hover(".card >> nth=1")
    page.wait_for_timeout(600)
    shot = page.screenshot()
    page.close()
    with Image.open(io.BytesIO(shot)) as picture:
        picture.convert("RGB").quantize(COLOURS).save(target, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screenshot", type=Path, default=TARGET, help="the PNG file to write")
    target = parser.parse_args().screenshot
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        store, log = f"{folder}/shop.lance", Path(folder) / "log"
        table = write_sample_catalog(folder, n_products=240)
        index_catalog(Catalog.open(table), FashionCLIP.from_pretrained(), store)
        words = [sys.executable, "-m", "fashionclip.cli", "serve", store, "--port", "0"]
        with log.open("w") as file, subprocess.Popen(words, stderr=file) as service:
            while not (found := re.search(r" at (http://[\d.:]+)/$", log.read_text(), re.M)):
                if service.poll() is not None:
                    raise SystemExit(log.read_text())
                time.sleep(0.1)
            try:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox"]
                )
                draw(browser, found[1], target)
                browser.close()
            finally:
                service.terminate()
    print(target)


if __name__ == "__main__":
    main()
