"""Size of the search page, and the time to its first results, in a browser.

    python benchmarks/page.py              # over the sample catalogue, indexed for this run
    python benchmarks/page.py shop.lance   # over an index

For each kind of page, the bytes of its HTML, CSS, JavaScript and icon are printed, without images,
against a limit of 100,000. Then come the service's response time and two times in Chromium: from
the start of the navigation to the first paint with results, and from Enter in the search box to
results in the page, each against a limit of 300 ms. The paint of a page with one line of JSON is
the lower bound. Needs the system's Chromium.
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, quote_plus

from playwright.sync_api import Browser, sync_playwright

MAX_BYTES, MAX_MEDIAN_MS = 100_000, 300
QUERIES = (
    "red dress",
    "blue jeans",
    "white sneakers",
    "brown handbag",
    "striped shirt",
    "black hat",
    "summer skirt",
    "wool sweater",
    "green trousers",
    "floral blouse",
    "grey jacket",
    "silk scarf",
)
LAST_PAINT_MS = (
    """() => Math.max(...performance.getEntriesByType("paint").map((e) => e.startTime))"""
)
SEARCH_MS = """async (text) => {
  const before = document.getElementById("main");
  const field = document.getElementById("q");
  field.value = text;
  const started = performance.now();
  field.form.requestSubmit();
  while (document.getElementById("main") === before) await new Promise(requestAnimationFrame);
  return performance.now() - started;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store", nargs="?", help="an index; default: the sample catalogue's")
    store = parser.parse_args().store
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(store or index_sample(folder), Path(folder)) as address,
        sync_playwright() as playwright,
    ):
        product = re.findall(r'href="(/p/[^"]*)"', get(address + "/").decode())[0]
        print_sizes(address, ("/", "/?q=red+dress", product, "/playground", "/docs"))
        print_service(address)
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        print_browser(chromium, address)
        chromium.close()


def print_sizes(address: str, paths: tuple[str, ...]) -> None:
    """Bytes of each page's HTML, and of the files in ``/static/`` that it loads."""
    print(f"{'page':<18}{'html':>9}{'css':>9}{'js':>9}{'icon':>9}{'total':>11}  (bytes)")
    for path in paths:
        html = get(address + path)
        names = dict.fromkeys(re.findall(rb'(?:href|src)="(/static/[^"]*)"', html))
        parts = {n.decode().partition("?")[0][-3:]: len(get(address + n.decode())) for n in names}
        total = len(html) + sum(parts.values())
        verdict = "" if total < MAX_BYTES else f"  more than {MAX_BYTES:,}"
        figures = (len(html), parts["css"], parts[".js"], parts["svg"])
        print(f"{path[:17]:<18}" + "".join(f"{n:>9,}" for n in figures) + f"{total:>11,}{verdict}")


def print_service(address: str) -> None:
    """Response times of the service: from the request to the last byte of the response."""
    times = []
    for text in QUERIES:
        started = time.perf_counter()
        get(f"{address}/?q={quote_plus(text)}")
        times.append(1000 * (time.perf_counter() - started))
    print_times("search page, response of the service", times)


def print_browser(chromium: Browser, address: str) -> None:
    """Times in the browser, each search in a new context with an empty cache."""
    page_loads, searches, lower_bounds = [], [], []
    for text in QUERIES:
        context = chromium.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(f"{address}/?q={quote(text)}")
        assert page.locator("#results .card").count() > 0
        page.wait_for_function("performance.getEntriesByType('paint').length > 1")
        page_loads.append(page.evaluate(LAST_PAINT_MS))
        searches.append(page.evaluate(SEARCH_MS, f"{text} in cotton"))
        page.goto("about:blank")
        page.goto(f"{address}/health")
        page.wait_for_function("performance.getEntriesByType('paint').length > 1")
        lower_bounds.append(page.evaluate(LAST_PAINT_MS))
        context.close()
    print_times("lower bound: paint of one line of JSON", lower_bounds)
    print_times("search page, to the paint of results", page_loads)
    print_times("search box, to results in the page", searches)


def print_times(label: str, times: list[float]) -> None:
    median, maximum = statistics.median(times), max(times)
    verdict = "" if median < MAX_MEDIAN_MS else f"  more than {MAX_MEDIAN_MS} ms"
    print(
        f"{label:<38} median {median:6.0f} ms, maximum of {len(times)} {maximum:6.0f} ms{verdict}"
    )


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as response:
        return bytes(response.read())


def index_sample(folder: str) -> str:
    """Index the sample catalogue."""
    from fashionclip import Catalog, FashionCLIP, index_catalog
    from fashionclip.sample import write_sample_catalog

    store = f"{folder}/shop.lance"
    index_catalog(Catalog.open(write_sample_catalog(folder)), FashionCLIP.from_pretrained(), store)
    return store


@contextmanager
def serving(store: str, folder: Path) -> Iterator[str]:
    """Run the service over an index, and give its address.

    Raises:
        SystemExit: the service did not start.
    """
    arguments = ["serve", store, "--port", "0", "--rate", "0"]
    log = folder / "log"
    with (
        log.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-m", "fashionclip.cli", *arguments], stderr=file
        ) as process,
    ):
        while not (address := re.search(r" at (http://[\d.:]+)/$", log.read_text(), re.M)):
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.1)
        try:
            get(address[1] + "/metrics")  # waits until the index is open
            yield address[1]
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
