"""The web page in a browser, over the sample catalogue, served by the command ``serve``."""

import base64
import csv
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from conftest import words_of
from fashionclip.sample import write_sample_catalog

pytestmark = pytest.mark.slow
expect.set_options(timeout=20_000)  # a loaded machine needs this long

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SECOND_PAGE = re.compile("^25 to|^Weaker matches")
WATCH_SHIFTS = """
  window.shifted = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
  }).observe({ type: "layout-shift", buffered: true });
"""
BRING = """([type, name, kind, data]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type: kind }));
  const event = type === "paste"
    ? new ClipboardEvent("paste", { clipboardData: carried, bubbles: true, cancelable: true })
    : new DragEvent(type, { dataTransfer: carried, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""


@dataclass
class Seen:
    """A browser page, and the errors that happened in it."""

    page: Page
    address: str
    faults: list[str] = field(default_factory=list)

    def open(self, path: str = "/") -> Page:
        """Go to a path of the service and wait until its images are loaded."""
        self.page.goto(self.address + path)
        self.page.wait_for_load_state("networkidle")
        return self.page

    def ids(self) -> list[str]:
        """The ids of the products in the grid."""
        cards = self.page.locator("#results .card")
        return cards.evaluate_all("cards => cards.map(card => card.dataset.product)")

    def titles(self) -> list[str]:
        """The titles of the products in the grid."""
        return self.page.locator("#results .card .cover").all_inner_texts()

    def bring(self, how: str, path: Path, kind: str = "image/jpeg") -> None:
        """Drop or paste a file."""
        data = base64.b64encode(path.read_bytes()).decode()
        self.page.evaluate(BRING, [how, path.name, kind, data])

    def settle(self) -> None:
        """Wait for results."""
        expect(self.page.locator("body.is-waiting")).to_have_count(0)


class Service:
    """A running ``fashionclip serve``."""

    def __init__(self, log: Path, *words: object) -> None:
        """Start the command and wait for its address."""
        with log.open("w") as file:
            self.process = subprocess.Popen(words_of("serve", *words, "--port", 0), stderr=file)
        until = time.monotonic() + 60
        while not (found := re.search(r" at (http://[\d.:]+)/$", log.read_text(), re.MULTILINE)):
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        self.address = found[1]
        while not self._is_ready():
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            ask(self.address + "/ready")
        except urllib.error.HTTPError as exc:
            if exc.code != 503:  # which says that it is loading
                raise
            return False
        return True

    def end(self) -> None:
        """Stop the command by SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> Path:
    """The sample catalogue's folder."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample_catalog(folder)
    return folder


@pytest.fixture(scope="module")
def products(catalog) -> list[dict[str, str]]:
    with (catalog / "catalog.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def store(catalog, shell) -> Path:
    """The sample catalogue indexed with the built-in model."""
    path = catalog / "shop.lance"
    ended = shell("index", catalog / "catalog.csv", "--into", path)
    assert ended.status == 0, ended.err
    return path


@pytest.fixture(scope="module")
def start_service(store, tmp_path_factory) -> Iterator[Callable[..., Service]]:
    started = []

    def start(*words: object) -> Service:
        log = tmp_path_factory.mktemp("service") / "log"
        started.append(Service(log, store, *words))
        return started[-1]

    yield start
    for service in started:
        if service.process.poll() is None:
            service.end()


@pytest.fixture(scope="module")
def address(start_service) -> str:
    """A service without a rate limit."""
    return start_service("--rate", 0).address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        message = f"there is no {CHROMIUM}: install the Debian package chromium"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


@pytest.fixture
def visit(browser, address) -> Iterator[Callable[..., Seen]]:
    """Open pages; after the test none of them may have had an error."""
    opened: list[tuple[BrowserContext, Seen]] = []

    def begin(at: str = address, **options: object) -> Seen:
        context = browser.new_context(**{"viewport": DESKTOP} | options)
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.add_init_script(WATCH_SHIFTS)
        seen = Seen(page, at)
        page.on("console", lambda message: seen.faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: seen.faults.append(str(error)))

        def look(request):
            parts = urlsplit(request.url)
            if parts.scheme not in {"blob", "data"} and parts.netloc != urlsplit(at).netloc:
                seen.faults.append(f"requested {request.url}")

        page.on("request", look)
        opened.append((context, seen))
        return seen

    yield begin
    for context, seen in opened:
        assert not seen.faults
        if not seen.page.is_closed():
            shifted = seen.page.evaluate("window.shifted ?? 0")
            assert shifted < 0.1
        context.close()


def image_file_of(catalog: Path, row: dict[str, str]) -> Path:
    return catalog / row["image"]


def test_the_start_page_suggests_searches_that_find_something(visit):
    seen = visit()
    page = seen.open()
    tiles = page.locator(".tiles a")
    expect(tiles).to_have_count(8)
    words = tiles.nth(6).inner_text()
    tiles.nth(6).click()
    expect(page.locator("#found")).to_have_text(f"“{words}”", ignore_case=True)
    assert words.split()[-1].lower() in seen.titles()[0].lower()


def test_a_text_finds_products_and_the_url_can_be_shared(visit):
    seen = visit()
    page = seen.open()
    page.fill("#q", "handbag")
    page.press("#q", "Enter")
    expect(page.locator("#found")).to_have_text("“handbag”")
    expect(page).to_have_url(re.compile(r"/\?q=handbag$"))
    expect(page).to_have_title(re.compile("handbag"))
    assert all("Handbag" in title for title in seen.titles()[:6])
    expect(page.locator("#announcement")).to_have_text(re.compile(r"“handbag”: \d+ products fit"))
    elsewhere = visit()
    elsewhere.open(page.url.removeprefix(seen.address))
    assert elsewhere.ids() == seen.ids()
    expect(elsewhere.page.locator("#q")).to_have_value("handbag")


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_dropped_or_pasted_image_finds_what_it_shows(visit, catalog, products, how):
    seen = visit()
    page = seen.open("/?q=")
    row = products[1]
    if how == "drop":
        seen.bring("dragenter", image_file_of(catalog, row))
        expect(page.locator("#drop")).to_be_visible()
    seen.bring(how, image_file_of(catalog, row))
    expect(page.locator("#found")).to_have_text("Like your picture")
    expect(page.locator("#drop")).to_be_hidden()
    assert seen.ids()[0] == row["id"]
    expect(page.get_by_label("Remove your picture")).to_be_visible()
    page.fill("#q", "in red")
    page.press("#q", "Enter")
    expect(page.locator("#found")).to_have_text("“in red”, like your picture")
    assert "picture=" in page.url
    page.get_by_label("Remove your picture").click()
    expect(page.locator("#found")).to_have_text("“in red”")


def test_words_typed_while_a_suggestion_loads_stay(visit):
    seen = visit()
    page = seen.open()
    held = []
    page.route("**/?q=*", lambda route: held.append(route))
    page.locator(".tiles a").nth(6).click()
    expect(page.locator("body.is-waiting")).to_have_count(1)
    page.fill("#q", "boots of")
    held[0].continue_()
    seen.settle()
    expect(page.locator("#q")).to_have_value("boots of")


def test_an_image_can_be_chosen_and_typed_text_stays(visit, catalog, products):
    seen = visit()
    page = seen.open("/?f.gender=Women")
    page.fill("#q", "striped")
    page.click("#pick")
    with page.expect_file_chooser() as chooser:
        page.click("text=Choose a picture")
    chooser.value.set_files(image_file_of(catalog, products[0]))
    expect(page.locator("#found")).to_have_text("“striped”, like your picture")
    expect(page.locator("#q")).to_have_value("striped")
    assert "f.gender=Women" in page.url


def test_the_camera_takes_an_image(visit):
    seen = visit()
    page = seen.open()
    page.click("#pick")
    page.click("#camera")
    expect(page.locator("#shoot")).to_be_focused()
    page.click("#shoot")
    expect(page.locator("#found")).to_have_text("Like your picture")
    expect(page.locator("#pictures")).to_be_hidden()


def test_the_counts_of_filters_are_right(visit, products):
    seen = visit()
    page = seen.open()
    box = page.get_by_label("Dress ", exact=False).first
    count = sum(row["category"] == "dress" for row in products)
    assert page.locator("label", has=box).locator(".n").inner_text() == str(count)
    box.check()
    expect(page.locator("#count")).to_have_text(f"{count} products")
    by_id = {row["id"]: row for row in products}
    assert {by_id[one]["category"] for one in seen.ids()} == {"dress"}
    assert page.evaluate("document.activeElement.value") == "dress"
    page.locator("input[name='max.price']").fill("45")
    page.keyboard.press("Tab")
    expect(page.locator(".chip.on")).to_have_count(2)
    seen.settle()
    cheap = [row for row in products if row["category"] == "dress" and float(row["price"]) <= 45]
    assert 0 < len(cheap) < 24
    assert sorted(seen.ids()) == sorted(row["id"] for row in cheap)
    page.click("text=Clear all")
    expect(page.locator("#count")).to_have_text(f"{len(products)} products")


def test_paging_and_the_back_button_work(visit):
    seen = visit()
    page = seen.open("/?q=dress")
    first = seen.ids()
    page.click("a[rel=next]")
    expect(page.locator("#count")).to_have_text(SECOND_PAGE)
    second = seen.ids()
    assert len(second) == 24
    assert not set(first) & set(second)
    page.go_back()
    expect(page.locator("#count")).to_have_text(re.compile(r"^\d+ products fit$"))
    assert seen.ids() == first
    page.go_forward()
    expect(page.locator("#count")).to_have_text(SECOND_PAGE)
    assert seen.ids() == second


def test_a_product_page_shows_predictions_and_similar_products(visit, products):
    seen = visit()
    page = seen.open("/?q=handbag")
    title, product_id = seen.titles()[0], seen.ids()[0]
    page.click(".card .cover >> nth=0")
    expect(page.locator("h1")).to_have_text(title)
    row = next(row for row in products if row["id"] == product_id)
    assert page.locator(".predictions tr").count() >= 3
    assert "Sleeve" not in page.inner_text(".predictions")  # the catalogue has none for a handbag
    assert row["description"] in page.inner_text(".description")
    assert row["brand"] in page.inner_text(".facts")
    neighbours = page.locator(".similar .card")
    expect(neighbours).to_have_count(12)
    page.go_back()
    expect(page.locator("#found")).to_have_text("“handbag”")


def test_more_and_less_like_this(visit):
    seen = visit()
    page = seen.open("/?q=shirt")
    liked, disliked = seen.ids()[1], seen.ids()[0]
    page.locator(".card").nth(1).hover()
    page.locator(".card").nth(1).get_by_label("More like this").click()
    expect(page.locator("#found")).to_have_text("“shirt”, like your pick")
    assert liked not in seen.ids()
    page.locator(f".card[data-product={disliked}]").hover()
    page.locator(f".card[data-product={disliked}] .less").click()
    expect(page.locator(".chip.on")).to_have_count(2)
    assert not {liked, disliked} & set(seen.ids())
    page.get_by_label("Remove: Less like").click()
    expect(page.locator(".chip.on")).to_have_count(1)
    assert disliked in seen.ids()


def test_sliders_change_what_is_found_by_keyboard(visit, products):
    colours = {one["id"]: one["colour"] for one in products}
    start = next(one for one in products if one["category"] == "dress" and one["colour"] == "pink")
    seen = visit()
    page = seen.open(f"/?like={start['id']}")
    before = seen.ids()
    page.locator("#but-shade").focus()
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile(r"but=darker$"))
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile(r"but=much\+darker$"))
    expect(page.locator("#found")).to_have_text("Like your pick, but much darker")
    seen.settle()
    expect(page.locator("#but-shade")).to_be_focused()
    expect(page.locator("#but-shade")).to_have_attribute("aria-valuetext", "much darker")
    dark = {"black", "navy", "brown", "burgundy"}
    n_before, n_after = (
        sum(colours[i] in dark for i in found[:5]) for found in (before, seen.ids())
    )
    assert n_after > n_before
    page.fill("#but", "long sleeves / short sleeves")
    page.press("#but", "Enter")
    expect(page.get_by_label("Remove: But long sleeves / short sleeves")).to_be_visible()
    expect(page.locator("#but-shade")).to_have_value("-2")  # what was set stays
    page.get_by_label("Remove: But much darker").click()
    expect(page.locator("#but-shade")).to_have_value("0")
    expect(page).to_have_url(re.compile("but=long"))
    page.go_back()
    expect(page.locator("#but-shade")).to_have_value("-2")


def test_a_picture_is_changed_and_an_unknown_change_is_said(visit, catalog):
    seen = visit()
    page = seen.open("/")
    expect(page.locator("#changes")).to_have_count(0)
    seen.bring("drop", catalog / "images" / "S0001.jpg")
    expect(page).to_have_url(re.compile("picture="))
    page.fill("#but", "quirkier")
    page.press("#but", "Enter")
    expect(page.locator(".notice")).to_contain_text("No change is known as 'quirkier'")
    page.fill("#but", "shorter sleeves")
    page.press("#but", "Enter")
    expect(page.locator("#changed")).to_contain_text("From “long sleeves” to “short sleeves”")
    assert re.search("picture=.*but=shorter", page.url)


def test_a_product_page_leads_to_changed_products_without_javascript_too(visit):
    for is_enabled in (True, False):
        seen = visit(java_script_enabled=is_enabled)
        page = seen.page
        page.goto(seen.address + "/p/S0001")
        page.locator("#but-formality").focus()
        page.keyboard.press("ArrowRight")
        page.fill("#but", "darker")
        page.click("text=Show such products")
        expect(page.locator("#found")).to_have_text(re.compile("^Like your pick, but"))
        expect(page.get_by_label("Remove: But more formal")).to_be_visible()
        expect(page.locator("#but-shade")).to_have_value("-1")
        page.close()


def test_things_to_leave_out_are_typed(visit):
    seen = visit()
    page = seen.open("/?q=shirt")
    before = seen.ids()
    page.click("text=Fine tuning")
    page.fill("#avoid", "stripes")
    page.press("#avoid", "Enter")
    expect(page.get_by_label("Remove: Without “stripes”")).to_be_visible()
    assert seen.ids() != before
    page.get_by_label("Compare your words with").select_option("Pictures only")
    expect(page).to_have_url(
        re.compile("avoid=stripes&.*mode=vectors|mode=vectors&.*avoid=stripes")
    )


def test_the_playground_scores_typed_labels(visit, catalog, products):
    seen = visit()
    page = seen.open("/playground")
    page.fill("#labels", "handbag, shoe, a dress")
    handbag = next(row for row in products if row["category"] == "handbag")
    seen.bring("drop", image_file_of(catalog, handbag))
    expect(page.locator(".play-picture .quiet")).to_have_text("Your picture")
    assert page.locator(".ranked .name").first.inner_text() == "handbag"
    shares = [float(text.rstrip(" %")) for text in page.locator(".ranked .share").all_inner_texts()]
    assert len(shares) == 3
    assert sum(shares) == pytest.approx(100, abs=0.2)
    page.fill("#labels", "one\ntwo")
    page.locator(".strip a").nth(2).click()
    expect(page.locator(".ranked li")).to_have_count(2)
    expect(page.locator("#labels")).to_have_value("one\ntwo")


def test_everything_can_be_reached_by_keyboard(visit):
    seen = visit()
    page = seen.open()

    def tab_to(selector):
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate(f"document.activeElement.matches('{selector}')"):
                return
        pytest.fail(f"{selector} is not reached")

    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("sneakers")
    page.keyboard.press("Enter")
    expect(page.locator("#found")).to_have_text("“sneakers”")
    page.locator(".mark").focus()
    page.keyboard.press("Shift+Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#results"))  # Tab goes on from there
    tab_to("#sort")
    page.keyboard.press("ArrowDown")
    expect(page).to_have_url(re.compile("sort=price"))
    seen.settle()
    expect(page.locator("#sort")).to_be_focused()
    tab_to(".heart")
    page.keyboard.press("Space")
    expect(page.locator("#shortlist-count")).to_have_text("1")
    tab_to(".tune a")
    expect(page.locator(".tune").first).to_have_css("opacity", "1")  # after its transition
    page.keyboard.press("Enter")
    expect(page.locator("#found")).to_have_text("“sneakers”, like your pick")
    expect(page.locator("#main")).to_be_focused()
    seen.settle()
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#results"))
    tab_to(".cover")
    page.keyboard.press("Enter")
    expect(page.locator(".product h1")).to_be_visible()


def test_a_shortlist_is_kept_shared_and_cleared(visit):
    seen = visit()
    page = seen.open("/?q=dress")
    picked = seen.ids()[:2]
    hearts = page.locator(".card .heart")
    hearts.nth(0).click()
    hearts.nth(1).click()
    expect(hearts.nth(1)).to_have_attribute("aria-pressed", "true")
    page.click("#shortlist")
    expect(page.locator(".card")).to_have_count(2)
    shared = page.url.removeprefix(seen.address)
    other = visit()  # another browser, whose own list is empty
    other.open(shared)
    assert (
        other.page.locator(".card").evaluate_all("all => all.map(c => c.dataset.product)") == picked
    )
    expect(other.page.locator("#shortlist-count")).to_be_empty()
    page.get_by_label("Remove from this list").first.click()
    expect(page.locator(".card")).to_have_count(1)
    seen.open("/shortlist")  # leads to the browser's own list
    expect(page).to_have_url(re.compile(re.escape(f"/shortlist?ids={picked[1]}") + "$"))
    page.click("#clear")
    expect(page.locator(".nothing h2")).to_have_text("Nothing here yet")
    seen.open("/shortlist")
    expect(page.locator(".nothing h2")).to_have_text("Nothing here yet")


def test_a_list_is_sorted_and_downloaded(visit, products):
    seen = visit()
    page = seen.open("/?f.category=dress")
    page.get_by_label("Sort by").select_option("Price, high to low")
    expect(page).to_have_url(re.compile("sort=-price"))
    seen.settle()
    dresses = [row for row in products if row["category"] == "dress"]
    prices = sorted((float(row["price"]) for row in dresses), reverse=True)
    shown = page.locator(".card .price").all_inner_texts()
    assert shown == [f"{price:,.2f}" for price in prices[:24]]
    with page.expect_download() as download:
        page.click("#csv")
    with Path(download.value.path()).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["price"]) for row in rows] == prices
    assert rows[0].keys() == products[0].keys()


def test_a_ticked_filter_stays_where_it_is(visit):
    seen = visit()
    page = seen.open("/?q=shirt")
    page.click("#filters summary:text('Gender')")
    labels = page.locator("input[name='f.gender']").evaluate_all("all => all.map(i => i.value)")
    box = page.locator("input[name='f.gender']").last
    box.scroll_into_view_if_needed()
    before = box.bounding_box()
    box.check()
    expect(page.locator(".chip.on")).to_have_count(1)
    seen.settle()
    after = page.locator("input[name='f.gender']").last
    assert after.bounding_box() == pytest.approx(before, abs=2)
    assert (
        page.locator("input[name='f.gender']").evaluate_all("all => all.map(i => i.value)")
        == labels
    )
    total = int(page.locator("#count").inner_text().split()[0])
    assert after.locator("xpath=..").locator(".n").inner_text() == str(total)


def test_what_does_not_fit_says_so_and_why_hits_are_there_is_explained(visit):
    seen = visit()
    page = seen.open("/?q=quarterly+tax+report")
    expect(page.locator(".nothing h2")).to_have_text("Nothing here fits “quarterly tax report”")
    expect(page.locator(".weaker h2").first).to_have_text("The nearest that there is")
    page.locator(".nothing .chip").first.click()
    expect(page.locator("#count")).to_have_text(re.compile("fits?$"))
    seen.settle()  # the new list puts its words into the field
    page.fill("#q", "dress " + "with long sleeves and a round neck " * 5)
    page.press("#q", "Enter")
    seen.settle()
    expect(page.locator("h1")).to_contain_text("…”")
    page.click("text=Show all of your text")
    expect(page.locator(".whole p")).to_contain_text("neck”")
    page.click("#explain")
    expect(page.locator(".why").first).to_be_visible()
    seen.settle()
    whole = " ".join(page.locator(".why").all_inner_texts())
    assert "Matches" in whole
    assert "% of the catalogue" in whole


def test_a_picture_search_survives_a_restart(visit, start_service, catalog, products, tmp_path):
    first = start_service("--rate", 0, "--uploads", tmp_path / "uploads")
    seen = visit(first.address)
    seen.open()
    seen.bring("drop", image_file_of(catalog, products[3]))
    expect(seen.page.locator("#found")).to_have_text("Like your picture")
    seen.settle()
    ids, path = seen.ids(), seen.page.url.removeprefix(first.address)
    first.end()
    second = start_service("--rate", 0, "--uploads", tmp_path / "uploads")
    again = visit(second.address)
    again.open(path)
    assert again.ids() == ids
    expect(again.page.get_by_label("Remove your picture")).to_be_visible()


def test_the_dialog_keeps_the_focus_and_escape_closes_it(visit):
    seen = visit()
    page = seen.open()
    page.focus("#pick")
    page.keyboard.press("Enter")
    expect(page.locator("#pictures")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#pictures")).to_be_hidden()
    expect(page.locator("#pick")).to_be_focused()


def test_on_a_phone_nothing_overflows_and_filters_are_a_drawer(visit):
    seen = visit(viewport=PHONE, has_touch=True, is_mobile=True)
    for path in ("/", "/?q=dress&f.category=dress", "/p/S0001", "/playground", "/docs", "/nowhere"):
        page = seen.open(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
    seen.faults.clear()  # of /nowhere
    page = seen.open("/?q=dress")
    expect(page.locator("#filters")).to_be_hidden()
    page.get_by_role("button", name="Filters", exact=True).tap()
    expect(page.locator("#filters")).to_be_visible()
    page.locator("#filters summary", has_text="Gender").tap()
    page.locator("input[name='f.gender'][value='Women']").check()
    expect(page).to_have_url(re.compile("f.gender=Women"))
    seen.settle()
    expect(page.locator("#filters")).to_be_visible()
    page.get_by_text("Show the products").tap()
    expect(page.locator("#filters")).to_be_hidden()
    expect(page.locator(".card .tune").first).to_have_css("opacity", "1")
    assert page.locator(".card .tune").first.inner_text().split() == ["More", "Less"]


def test_without_javascript_it_searches_filters_pages_and_scores(visit):
    seen = visit(java_script_enabled=False)
    page = seen.page
    page.goto(seen.address)
    expect(page.locator("#pick")).to_be_hidden()
    page.fill("#q", "dress")
    page.press("#q", "Enter")
    page.click("#filters summary:text('Gender')")
    page.locator("input[name='f.gender'][value='Women']").check()
    page.fill("input[name='min.price']", "20")
    page.click("text=Apply the filters")
    expect(page.locator(".chip.on")).to_have_count(2)
    expect(page.locator("#q")).to_have_value("dress")
    page.get_by_label("Sort by").select_option("Price, low to high")
    page.click("button:text-is('Sort')")
    expect(page.locator(".chip.on")).to_have_count(2)
    prices = [float(text) for text in page.locator(".card .price").all_inner_texts()]
    assert prices[:5] == sorted(prices[:5])
    page.click("a[rel=next]")
    expect(page.locator("#count")).to_have_text(SECOND_PAGE)
    page.click(".card .cover >> nth=0")
    page.click("text=Score your own labels")
    page.fill("#labels", "dress, shoe")
    page.click("text=Score the picture")
    expect(page.locator(".ranked li")).to_have_count(2)
    page.goto(f"{seen.address}/shortlist?ids=S0001&ids=S0002")
    expect(page.locator(".heart").first).to_be_hidden()
    page.get_by_label("Remove from this list").first.click()
    expect(page.locator(".card")).to_have_count(1)
    page.close()


LOOKS = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": PHONE, "has_touch": True, "is_mobile": True},
}


@pytest.mark.parametrize("look", LOOKS)
def test_pages_obey_the_accessibility_rules(visit, look):
    seen = visit(**LOOKS[look])
    found = []

    def judge(what):
        done = Axe().run(seen.page)
        rules = [f"{one['id']}: {one['nodes'][0]['html']}" for one in done.response["violations"]]
        found.extend(f"{what}: {rule}" for rule in rules)

    for path in (
        *("/", "/?q=red+dress&explain=1&like=S0001&f.gender=Women&min.price=5", "/?offset=48"),
        "/?like=S0001&but=darker&but=quirkier",
        *("/?q=hat&min.price=9000", "/p/S0001", "/playground", "/docs", "/p/nothing"),
        *("/shortlist?ids=S0001&ids=S0002", "/shortlist", "/?q=quarterly+tax+report"),
    ):
        seen.open(path)
        judge(path)
    seen.open("/?q=dress")
    seen.page.click("#pick")
    judge("dialog")
    seen.page.keyboard.press("Escape")
    if look == "phone":
        seen.page.get_by_role("button", name="Filters", exact=True).tap()
        judge("drawer")
    seen.faults.clear()  # of /p/nothing
    assert not found
    paper = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (look != "dark")


def test_an_unusable_image_is_an_error_message_and_typed_text_stays(visit, tmp_path):
    seen = visit()
    page = seen.open()
    page.fill("#q", "red dress")
    notes = tmp_path / "notes.txt"
    notes.write_text("no picture", encoding="utf-8")
    seen.bring("drop", notes, "text/plain")
    expect(page.locator("#picture-error")).to_contain_text("JPEG, PNG, WebP or GIF")
    page.keyboard.press("Escape")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 not much of a picture")
    seen.bring("drop", broken)
    expect(page.locator("#picture-error")).to_be_visible()  # its text was there before
    expect(page.locator("#picture-error")).to_contain_text("image")
    expect(page.locator("#q")).to_have_value("red dress")
    page.keyboard.press("Escape")
    page.fill("#q", "word " * 500)
    page.press("#q", "Enter")
    expect(page.get_by_role("alert")).to_contain_text("the maximum is 2,000")
    assert page.input_value("#q").startswith("word word")
    seen.faults.clear()  # the browser's lines for two refusals
    page = seen.open("/?q=dress&like=S0001&like=gone&f.nowhere=1&min.price=90&max.price=20")
    notices = " ".join(page.locator(".notice").all_inner_texts())
    assert "Product gone no longer exists" in notices
    assert "no column “nowhere”" in notices
    assert "swap the two" in notices
    page.click("text=Search without filters")
    expect(page.locator(".card")).to_have_count(24)
    expect(page.locator("#q")).to_have_value("dress")


def test_a_busy_or_stopped_service_is_an_error_message_with_a_retry_button(visit, start_service):
    service = start_service(
        "--rate", 6
    )  # one request in ten seconds, so a repeated one is rejected too
    seen = visit(service.address)
    page = seen.open("/?q=dress")
    exhaust(service.address)
    page.fill("#q", "shirt")
    page.press("#q", "Enter")
    expect(page.locator("#trouble")).to_contain_text("wait a moment")
    expect(page.locator("#q")).to_have_value("shirt")
    expect(page.locator("#found")).to_have_text("“dress”")
    for _ in range(60):
        page.wait_for_timeout(500)
        page.click("#trouble button")
        seen.settle()
        if page.locator("#trouble").is_hidden():
            break
    expect(page.locator("#found")).to_have_text("“shirt”")
    service.end()
    page.fill("#q", "skirt")
    page.press("#q", "Enter")
    expect(page.locator("#trouble")).to_contain_text("does not answer")
    expect(page.locator("#q")).to_have_value("skirt")
    seen.faults.clear()  # the browser's lines for 429 and for no connection


def exhaust(address: str) -> None:
    """Send requests until the service rejects them."""
    with pytest.raises(urllib.error.HTTPError, match="429"):  # noqa: PT012
        for _ in range(400):
            ask(address + "/login")


def ask(url: str) -> None:
    with urllib.request.urlopen(url, timeout=60) as answer:
        answer.read()


def test_with_keys_the_page_signs_in_and_opens_the_requested_page(
    visit, start_service, shell, tmp_path, catalog, products
):
    keys = tmp_path / "keys"
    key = shell("serve", "--new-key", "read", "--key-file", keys).out.strip()
    service = start_service("--rate", 0, "--key-file", keys)
    seen = visit(service.address)
    page = seen.open("/?q=red+dress&f.gender=Women")
    expect(page.locator("h1")).to_have_text("This shop needs a key")
    assert not Axe().run(page).response["violations"]
    page.fill("#key", key[:-1])
    page.click("button:text('Sign in')")
    expect(page.get_by_role("alert")).to_contain_text("not valid here")
    seen.faults.clear()  # the browser's line for the refusal
    page.fill("#key", key)
    page.click("button:text('Sign in')")
    expect(page.locator("#found")).to_have_text("“red dress”")
    expect(page.locator(".chip.on")).to_have_count(1)
    seen.bring("drop", image_file_of(catalog, products[1]))
    expect(page.locator("#found")).to_have_text("“red dress”, like your picture")
    page.wait_for_load_state("networkidle")
    broken = page.locator(".card img").evaluate_all(
        "images => images.filter(i => i.complete && !i.naturalWidth).length"
    )
    assert broken == 0
    seen.open("/playground")
    expect(page.locator(".ranked li").first).to_be_visible()
    assert "Authorization: Bearer" in seen.open("/docs").inner_text("main")
    page.click("text=Sign out")
    expect(page.locator("h1")).to_have_text("This shop needs a key")
    seen.open("/")
    expect(page.locator("h1")).to_have_text("This shop needs a key")


def test_the_screenshot_of_the_readme_can_be_made(address, browser, tmp_path):
    from runpy import run_path

    from PIL import Image

    script = run_path(str(Path(__file__).parents[2] / "scripts" / "draw_page.py"))
    script["draw"](browser, address, tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as screenshot:
        assert screenshot.size[0] >= 1_200
        assert len(screenshot.convert("RGB").getcolors(1 << 20) or ()) > 100
