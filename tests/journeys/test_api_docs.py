"""The API documentation in a browser: its forms send requests, by keyboard and on a phone."""

import json
import os
import re
import shutil
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from fashionclip.serve.middleware.keys import new_key
from running_service import Running
from small_shop import draw, encoded, index_shop, write_catalog

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys"
    return {"file": path, "read": new_key(path, "read"), "write": new_key(path, "write")}


@pytest.fixture(scope="module")
def address(tiny_checkpoint, keys, tmp_path_factory):
    """A service with keys."""
    table = write_catalog(tmp_path_factory.mktemp("catalog"))
    index_shop(table, tiny_checkpoint, table.parent / "shop.lance")
    with Running(table.parent / "shop.lance", key_file=keys["file"]) as running:
        yield running.url
        running.socket.close()


@pytest.fixture(scope="module")
def browser():
    if not os.path.exists(CHROMIUM):  # noqa: PTH110
        message = f"there is no {CHROMIUM}: install the Debian package chromium"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=("--no-sandbox",))


@pytest.fixture
def docs(browser, address, keys):
    """The page, signed in with a key that can read."""
    context = browser.new_context()
    context.set_default_timeout(20_000)
    page = context.new_page()
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))

    def look(request):
        if request.url[:5] != "blob:" and urlsplit(request.url).netloc != urlsplit(address).netloc:
            faults.append(request.url)

    page.on("request", look)
    page.goto(f"{address}/docs")
    page.get_by_label("Key").fill(keys["read"])
    page.keyboard.press("Enter")
    page.wait_for_url("**/docs")
    yield page
    assert not faults
    context.close()


def form_of(page, name):
    """The form of an operation, opened."""
    call = page.locator(f"article[id={name}]")
    call.get_by_text("Try it").click()
    return call


def sent(call):
    """Send the form; the status and the answer that are shown."""
    call.get_by_role("button", name="Send").click()
    expect(call.locator("[aria-busy]")).to_have_count(0)
    status = call.get_by_role("status").inner_text()
    return status, call.locator("form .try-answer").inner_text()


def test_forms_send_requests_with_the_sign_in_and_show_the_answers(docs):
    call = form_of(docs, "searchByUrl")
    call.get_by_label("q", exact=True).fill("it's red")
    call.get_by_label("k", exact=True).fill("2")
    call.get_by_label("total", exact=True).select_option("true")
    status, answer = sent(call)
    assert status.startswith("200 OK, ")
    assert " ms, " in status
    found = json.loads(answer)
    assert len(found["hits"]) == 2
    command = call.locator("pre code").inner_text()
    assert "/v1/search?q=it%27s+red&k=2&total=true'" in command
    assert '-H "Authorization: Bearer $KEY"' in command

    call.get_by_label("k", exact=True).fill("many")
    status, answer = sent(call)
    assert status.startswith("422 ")
    assert "k must be a whole number, not 'many'" in answer

    call = form_of(docs, "getImage")
    call.get_by_label("product_id").fill("a/b c")
    call.get_by_role("button", name="Send").click()
    image = call.get_by_alt_text("The picture that was answered")
    expect(image).to_be_visible()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 10


def test_a_picture_of_ones_own_is_put_into_the_body(docs):
    call = form_of(docs, "search")
    call.get_by_label("Example of the body").select_option("Example 1")
    picture = encoded(draw("blue", "dress"))
    call.get_by_label("Picture of your own").set_input_files(
        {"name": "mine.png", "mimeType": "image/png", "buffer": picture}
    )
    expect(call.get_by_label("Body", exact=True)).to_have_value(re.compile('"image"'))
    body = json.loads(call.get_by_label("Body", exact=True).input_value())
    del body["text"]
    call.get_by_label("Body", exact=True).fill(json.dumps(body))
    status, answer = sent(call)
    assert status.startswith("200 OK")
    assert json.loads(answer)["hits"][0]["title"] == "blue dress"


def test_the_sign_in_only_reads_and_a_key_in_the_page_may_write(docs, keys):
    call = form_of(docs, "putProducts")
    status, answer = sent(call)
    assert status.startswith("403 ")
    assert "this key may not write" in answer
    docs.get_by_label("Key for the forms below").fill(keys["write"])
    assert json.loads(sent(call)[1])["stored"] == 1
    call = form_of(docs, "deleteProducts")
    call.get_by_label(re.compile("^id")).fill("A-17")
    assert json.loads(sent(call)[1]) == {"removed": 1}


def test_the_keyboard_alone_sends_a_request(docs):
    call = docs.locator("article[id=listModels]")
    call.get_by_text("Try it").focus()
    docs.keyboard.press("Enter")
    docs.keyboard.press("Tab")
    docs.keyboard.press("Enter")
    expect(call.get_by_role("status")).to_contain_text("200 OK")
    docs.keyboard.press("Tab")  # the answer can be scrolled
    assert docs.evaluate("document.activeElement.ariaLabel") == "Answer"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_a_phone_shows_all(docs, scheme):
    docs.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    docs.reload()  # no colour is on its way to another
    for name in ("search", "searchByUrl"):
        sent(form_of(docs, name))
    docs.eval_on_selector_all(".call details", "all => all.forEach(one => { one.open = true; })")
    found = Axe().run(docs)
    assert not found.violations_count, found.generate_report()
    docs.set_viewport_size(PHONE)
    assert docs.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_forms_that_need_no_script_work_without(browser, address, keys):
    context = browser.new_context(
        java_script_enabled=False,
        extra_http_headers={"Authorization": f"Bearer {keys['read']}"},
    )
    page = context.new_page()
    page.goto(f"{address}/docs")
    call = form_of(page, "searchByUrl")
    call.get_by_label("k", exact=True).fill("2")
    call.get_by_role("button", name="Send").click()
    page.wait_for_url("**/v1/search?*")
    assert '"hits"' in page.locator("body").inner_text()
    context.close()
