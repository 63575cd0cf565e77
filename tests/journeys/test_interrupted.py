"""Runs that are killed, stopped or concurrent lose nothing and leave no partial files."""

import json
import os
import signal
import time

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

N_PRODUCTS = 1200  # more than two writes of 512


@pytest.fixture(scope="module")
def big_shop(shop, tmp_path_factory):
    """A table of many products, each with one of the shop's twenty images."""
    table = tmp_path_factory.mktemp("big-shop") / "products.csv"
    names = sorted(path.name for path in (shop / "images").iterdir())
    rows = [f"Q{i:04d},{names[i % len(names)]},product {i},{i % 90}" for i in range(N_PRODUCTS)]
    table.write_text("\n".join(["id,image,title,price", *rows]) + "\n", encoding="utf-8")
    return table


@pytest.fixture(scope="module")
def whole(shop, big_shop, model, fashionclip):
    """The index of an uninterrupted run."""
    store = big_shop.parent / "whole.lance"
    words = ("index", big_shop, "--images", shop / "images", "--into", store, "--model", model)
    ended = fashionclip(*words, "--json")
    assert ended.json["stored"] == N_PRODUCTS, ended.err
    return store


def index_words(table, images, store, model):
    return (
        *("index", table, "--images", images, "--into", store, "--model", model),
        *("--allow-private", "--json"),
    )


def wait_for_first_products(process, store, fashionclip):
    """Wait until the run has stored some products, but not all."""
    end = time.monotonic() + 100
    while time.monotonic() < end and process.poll() is None:
        ended = fashionclip("info", store, "--json")
        if ended.status == 0 and ended.json["products"]:
            return
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"the run ended or stalled before it was stopped: {process.communicate()}")


def hits_of(store, shop, fashionclip):
    image_file = shop / "images" / "dress-green.jpg"
    ended = fashionclip("search", store, "--image", image_file, "--k", N_PRODUCTS, "--json")
    assert ended.status == 0, ended.err
    return ended.json["hits"]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped_and_equals_an_uninterrupted_one(
    shop, big_shop, web_shop, whole, model, fashionclip, start, tmp_path
):
    torn = tmp_path / "shop.lance"
    words = index_words(big_shop, web_shop.address, torn, model)
    process = start(*words)
    wait_for_first_products(process, torn, fashionclip)
    process.kill()
    process.communicate()
    web_shop.goes_on.set()
    before = fashionclip("info", torn, "--json").json["products"]
    assert before < N_PRODUCTS
    again = fashionclip(*words)
    assert again.status == 0, again.err
    assert again.json["unchanged"] == before
    assert again.json["unchanged"] + again.json["stored"] == N_PRODUCTS
    assert hits_of(torn, shop, fashionclip) == hits_of(whole, shop, fashionclip)
    assert fashionclip("index", "--verify", torn, "--json").json["broken"] == []


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_encoded_and_says_that_the_run_can_go_on(
    shop, big_shop, web_shop, model, fashionclip, start, tmp_path
):
    store = tmp_path / "shop.lance"
    words = index_words(big_shop, web_shop.address, store, model)
    process = start(*words)
    wait_for_first_products(process, store, fashionclip)
    process.send_signal(signal.SIGINT)
    web_shop.goes_on.set()
    _, printed = process.communicate(timeout=120)
    assert process.returncode == 130, printed
    last = printed.splitlines()[-1]
    assert last == "interrupted; give the same command again, and it resumes from here"
    assert fashionclip(*words).json["unchanged"] >= 512


@pytest.mark.slow
def test_two_runs_at_once_do_not_harm_each_other(
    shop, big_shop, whole, model, fashionclip, start, tmp_path
):
    shared = tmp_path / "shop.lance"
    words = index_words(big_shop, shop / "images", shared, model)
    both = [start(*words), start(*words)]
    ended = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    counts = [json.loads(out) for out, _ in ended]
    assert sorted(count["stored"] for count in counts) == [0, N_PRODUCTS]
    assert hits_of(shared, shop, fashionclip) == hits_of(whole, shop, fashionclip)
    assert fashionclip("index", "--verify", shared, "--json").json["broken"] == []


def test_a_second_run_embeds_only_what_changed(shop, model, fashionclip, tmp_path):
    store = tmp_path / "shop.lance"
    table = tmp_path / "products.csv"
    lines = (shop / "products.csv").read_text("utf-8").splitlines()
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ("index", table, "--images", shop / "images", "--into", store, "--model", model)
    assert fashionclip(*words, "--json").json["stored"] == 20
    lines[1] = lines[1].replace("shirt-red.jpg", "shirt-blue.jpg")  # another image
    lines[2] = lines[2].replace(",15", ",16")  # another price
    del lines[20]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    counts = fashionclip(*words, "--json").json
    assert {name: counts[name] for name in ("updated", "unchanged", "removed", "embedded")} == {
        "updated": 2,
        "unchanged": 17,
        "removed": 1,
        "embedded": 1,
    }
