"""Garments of a photograph, and words on a product's picture, in a browser."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from test_page import (  # noqa: F401  # its fixtures
    DESKTOP,
    PHONE,
    address,
    browser,
    catalog,
    start_service,
    store,
    visit,
)

from outfit import outfit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "street.png"
    outfit("sweater", "skirt")[0].save(path)
    return path


def faults_of(page):
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_dropped_photograph_is_searched_garment_by_garment(visit, photo, scheme):  # noqa: F811
    seen = visit(color_scheme=scheme)
    page = seen.open()
    seen.bring("drop", photo, "image/png")
    expect(page.locator("#found")).to_have_text("Like your picture")
    chips = page.locator(".in-photo .chip")
    expect(chips.first).to_be_visible()
    names = [name.strip() for name in chips.all_text_contents()]
    assert set(names) >= {"sweater", "skirt"}
    expect(page.locator(".in-photo svg g")).to_have_count(len(names))
    assert faults_of(page) == []

    box = page.locator('.in-photo svg g[data-garment="1"] rect').last
    box.dispatch_event("click")
    expect(page.locator("#found")).to_have_text(f"Like the {names[1]}")
    expect(page.get_by_role("link", name=names[1], exact=True)).to_have_attribute(
        "aria-current", "true"
    )
    assert faults_of(page) == []
    first = seen.ids()

    other = page.get_by_role("link", name=names[0], exact=True)
    other.focus()
    page.keyboard.press("Enter")  # without a mouse
    expect(page.locator("#found")).to_have_text(f"Like the {names[0]}")
    assert seen.ids() != first
    page.go_back()
    expect(page.locator("#found")).to_have_text(f"Like the {names[1]}")
    assert seen.ids() == first

    page.get_by_role("link", name="Filter and sort these").click()
    expect(page.locator("#found")).to_have_text("Like your picture")
    assert len({*seen.ids()[:6]} & {*first[:6]}) >= 5  # near ties may change places


def test_a_photograph_without_garments_is_said_to_have_none(visit, tmp_path):  # noqa: F811
    from PIL import Image

    Image.new("RGB", (300, 300), "teal").save(tmp_path / "plain.png")
    seen = visit(viewport=PHONE)
    page = seen.open()
    seen.bring("drop", tmp_path / "plain.png", "image/png")
    expect(page.locator(".in-photo")).to_contain_text("No garment stands out")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_word_is_shown_on_a_products_picture(visit, size):  # noqa: F811
    seen = visit(viewport=size)
    page = seen.open("/p/S0001")
    shot = page.locator(".product-picture > .shot img")
    page.fill("#find-word", "lawn mower")
    page.keyboard.press("Enter")
    expect(page.locator(".find-answer")).to_have_text(re.compile("“lawn mower” was not found"))
    expect(shot).to_have_attribute("src", "/v1/maps/S0001?word=lawn+mower")
    expect(page.locator("#find-word")).to_be_focused()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert faults_of(page) == []
    page.locator(".find .chip", has_text="sleeve").click()
    expect(shot).to_have_attribute("src", "/v1/maps/S0001?word=sleeve")
    page.get_by_role("link", name="Show the picture").click()
    expect(shot).to_have_attribute("src", re.compile("/images/S0001"))
    expect(page.locator(".find-answer")).to_have_text("")


def test_garments_and_words_need_no_script(visit, photo):  # noqa: F811
    seen = visit()
    page = seen.open()
    seen.bring("drop", photo, "image/png")
    expect(page.locator("#found")).to_have_text("Like your picture")
    token = re.search("picture=([0-9a-f]+)", page.url)[1]
    plain = visit(java_script_enabled=False)
    page = plain.open(f"/?picture={token}")
    page.get_by_role("link", name="Choose a garment").click()
    page.locator(".photo-choices .chip").nth(1).click()
    expect(page.locator("#found")).to_have_text(re.compile("Like the "))
    plain.open("/p/S0001")
    page.fill("#find-word", "sleeve")
    page.get_by_role("button", name="Find").click()
    expect(page).to_have_url(re.compile(r"find=sleeve"))
    expect(page.locator(".find-answer")).to_contain_text("“sleeve”")
