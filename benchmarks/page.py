"""How large the web page is, and how soon its first results are there.

``python benchmarks/page.py [STORE]`` serves an index (without one, the sample catalogue's, made
anew) and prints, for each kind of page, the bytes of its parts without pictures, the service's own
time, and how long a browser takes: from the start of the navigation to the first paint with results
in it, and from Enter in the search box to results in the page. Needs the system's Chromium.
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

MOST_BYTES, MOST_MS = 100_000, 300
QUERIES = (
    *("red dress", "blue jeans", "white sneakers", "brown handbag", "striped shirt", "black hat"),
    *(
        "summer skirt",
        "wool sweater",
        "green trousers",
        "floral blouse",
        "grey jacket",
        "silk scarf",
    ),
)
PAINTED = """() => Math.max(...performance.getEntriesByType("paint").map((e) => e.startTime))"""
SEARCH = """async (words) => {
  const before = document.getElementById("main");
  const field = document.getElementById("q");
  field.value = words;
  const began = performance.now();
  field.form.requestSubmit();
  while (document.getElementById("main") === before) await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store", nargs="?", help="an index; without one, the sample catalogue's")
    store = parser.parse_args().store
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(store or sample(folder), Path(folder)) as address,
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
    """Bytes of HTML and of what it names, each kind once."""
    print(f"{'page':<18}{'html':>9}{'css':>9}{'js':>9}{'icon':>9}{'together':>11}  (bytes)")
    for path in paths:
        html = get(address + path)
        names = dict.fromkeys(re.findall(rb'(?:href|src)="(/static/[^"]*)"', html))
        parts = {n.decode().partition("?")[0][-3:]: len(get(address + n.decode())) for n in names}
        whole = len(html) + sum(parts.values())
        verdict = "" if whole < MOST_BYTES else f"  more than {MOST_BYTES:,}"
        figures = (len(html), parts["css"], parts[".js"], parts["svg"])
        print(f"{path[:17]:<18}" + "".join(f"{n:>9,}" for n in figures) + f"{whole:>11,}{verdict}")


def print_service(address: str) -> None:
    """The service's answers, from the first byte of the request to the last of the answer."""
    times = []
    for words in QUERIES:
        began = time.perf_counter()
        get(f"{address}/?q={quote_plus(words)}")
        times.append(1000 * (time.perf_counter() - began))
    print_times("a search page from the service", times)


def print_browser(chromium: Browser, address: str) -> None:
    """What a person waits for."""
    loads, swaps, floor = [], [], []
    for words in QUERIES:
        context = chromium.new_context(viewport={"width": 1280, "height": 900})  # nothing kept
        page = context.new_page()
        page.goto(f"{address}/?q={quote(words)}")
        assert page.locator("#results .card").count() > 0
        page.wait_for_function("performance.getEntriesByType('paint').length > 1")
        loads.append(page.evaluate(PAINTED))
        swaps.append(page.evaluate(SEARCH, f"{words} in cotton"))
        page.goto("about:blank")
        page.goto(f"{address}/health")
        page.wait_for_function("performance.getEntriesByType('paint').length > 1")
        floor.append(page.evaluate(PAINTED))
        context.close()
    print_times("one line of JSON painted, to compare", floor)
    print_times("a search page painted, nothing kept", loads)
    print_times("a search from the box, in the page", swaps)


def print_times(what: str, times: list[float]) -> None:
    median, worst = statistics.median(times), max(times)
    verdict = "" if median < MOST_MS else f"  more than {MOST_MS} ms"
    print(f"{what:<38} median {median:6.0f} ms, worst of {len(times)} {worst:6.0f} ms{verdict}")


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


def sample(folder: str) -> str:
    """The sample catalogue's index."""
    from fashionclip import Catalog, FashionCLIP, index_catalog
    from fashionclip.sample import write_sample_catalog

    store = f"{folder}/shop.lance"
    index_catalog(Catalog.open(write_sample_catalog(folder)), FashionCLIP.from_pretrained(), store)
    return store


@contextmanager
def serving(store: str, folder: Path) -> Iterator[str]:
    """The address of a service over an index, while it runs.

    Raises:
        SystemExit: it did not start.
    """
    words = ["serve", store, "--port", "0", "--rate", "0"]
    log = folder / "log"
    with (
        log.open("w") as file,
        subprocess.Popen([sys.executable, "-m", "fashionclip.cli", *words], stderr=file) as service,
    ):
        while not (found := re.search(r" at (http://[\d.:]+)/$", log.read_text(), re.M)):
            if service.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.1)
        try:
            get(found[1] + "/ready")
            yield found[1]
        finally:
            service.terminate()


if __name__ == "__main__":
    main()
