"""Requests that wait: together where that is quicker, never more than there is room for."""

import asyncio
import threading

import pytest

from fashionclip.errors import BusyError, FilterError
from fashionclip.serve.lines import SharedLine
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.settings import Settings
from fashionclip.serve.shop import Query, Shop
from small_shop import index_shop, write_catalog


@pytest.fixture(scope="module")
def shop(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    index_shop(write_catalog(folder), tiny_checkpoint, folder / "shop.lance")
    shop = Shop(folder / "shop.lance", Settings(), Metrics())
    yield shop
    shop.close()


def test_searches_by_words_are_answered_together_as_each_would_be_alone(shop):
    queries = [
        Query(text="red dress", k=3),
        Query(text="blue", k=2, offset=4),
        Query(text="red dress", where="price < 15", k=50),
        Query(text="a shoe", where="price > 1000"),
    ]

    async def together():
        return await asyncio.gather(*(shop.search(query) for query in queries))

    for query, page in zip(queries, asyncio.run(together()), strict=True):
        alone = shop._search(query)  # through the search that every other question takes
        assert [hit.product_id for hit in page.hits] == [hit.product_id for hit in alone.hits]
        assert [h.score for h in page.hits] == pytest.approx(
            [h.score for h in alone.hits], abs=1e-5
        )
        assert page.has_more == alone.has_more


def test_a_filter_that_does_not_fit_costs_its_own_client_only(shop):
    async def together():
        asked = [Query(text="red"), Query(text="red", where="prise < 3"), Query(text="blue")]
        return await asyncio.gather(*map(shop.search, asked), return_exceptions=True)

    first, second, third = asyncio.run(together())
    assert first.hits
    assert third.hits
    assert isinstance(second, FilterError)


def held_line(at_once, most):
    """A line that doubles, notes its batches, and waits until it is let go."""
    go, batches = threading.Event(), []

    def work(asked):
        batches.append(list(asked))
        assert go.wait(10)
        if "broken" in asked:
            raise RuntimeError("broken")
        return [one * 2 for one in asked]

    return SharedLine("words", Metrics(), work, at_once=at_once, most=most), go, batches


def test_a_batch_is_whoever_came_while_the_one_before_was_worked_on():
    async def run():
        line, go, batches = held_line(at_once=3, most=99)
        first = asyncio.create_task(line.do("a"))
        await asyncio.sleep(0.05)
        rest = [asyncio.create_task(line.do(name)) for name in "bcdef"]
        await asyncio.sleep(0.05)
        go.set()
        answers = await asyncio.gather(first, *rest)
        line.close()
        return answers, batches

    answers, batches = asyncio.run(run())
    assert answers == ["aa", "bb", "cc", "dd", "ee", "ff"]
    assert batches == [["a"], ["b", "c", "d"], ["e", "f"]]


def test_a_full_line_takes_no_more_and_does_again_when_there_is_room():
    async def run():
        line, go, _ = held_line(at_once=8, most=2)
        waiting = [asyncio.create_task(line.do(name)) for name in "ab"]
        await asyncio.sleep(0.02)
        with pytest.raises(BusyError, match="more than 2 requests are waiting"):
            await line.do("c")
        go.set()
        await asyncio.gather(*waiting)
        return await line.do("c")

    assert asyncio.run(run()) == "cc"


def test_a_client_that_leaves_and_a_batch_that_breaks_hold_nobody_up():
    async def run():
        line, go, _ = held_line(at_once=1, most=9)
        left = asyncio.create_task(line.do("a"))
        others = [asyncio.create_task(line.do(name)) for name in ("broken", "c")]
        await asyncio.sleep(0.02)
        left.cancel()
        go.set()
        return await asyncio.gather(*others, return_exceptions=True)

    broken, fine = asyncio.run(run())
    assert isinstance(broken, RuntimeError)
    assert fine == "cc"
