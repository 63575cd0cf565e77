"""Micro-batches, bounded queues and caches: batches form, and results never get mixed up."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fashionclip.errors import BusyError, FilterError, ImageError, ServiceError
from fashionclip.images.decode import Preprocess
from fashionclip.model import FashionCLIP
from fashionclip.serve.batching import BatchingEngine, BoundedExecutor, MicroBatcher
from fashionclip.serve.cache import LRUCache
from fashionclip.serve.images import MAX_DECODING, ImageDecoder
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.service import Query, SearchService
from fashionclip.serve.settings import Settings
from small_shop import draw, encoded, index_shop, write_catalog


class HeldUp:
    """Doubles items, records its batches, and waits until it is released."""

    def __init__(self):
        """Hold every batch up."""
        self.go, self.batches = threading.Event(), []

    def __call__(self, items):
        """Double them."""
        self.batches.append(list(items))
        assert self.go.wait(10)
        if "breaks" in items:
            raise RuntimeError("the batch breaks")
        return [ImageError("bad item") if item == "bad" else 2 * item for item in items]


@pytest.fixture
def compute():
    return HeldUp()


def make_batcher(compute, max_batch=8, **options):
    return MicroBatcher(compute, name="test", metrics=Metrics(), max_batch=max_batch, **options)


@pytest.fixture
def batcher(compute):
    batcher = make_batcher(compute)
    yield batcher
    compute.go.set()
    batcher.close()


def wait_for(holds):
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


# from threads


def test_items_that_arrive_during_a_batch_form_the_next_ones(compute, batcher):
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(batcher.submit_all, [0])
        wait_for(lambda: compute.batches)
        others = [pool.submit(batcher.submit_all, [i]) for i in range(1, 20)]
        wait_for(lambda: batcher.n_waiting == 19)
        compute.go.set()
        assert first.result() == [0]
        assert [one.result() for one in others] == [[2 * i] for i in range(1, 20)]
    assert [len(batch) for batch in compute.batches] == [1, 8, 8, 3]


def test_one_call_may_fill_several_batches_and_keeps_its_order(compute, batcher):
    compute.go.set()
    assert batcher.submit_all(list(range(30))) == [2 * i for i in range(30)]
    assert max(map(len, compute.batches)) == 8
    assert batcher.submit_all([]) == []


def test_an_error_of_an_item_reaches_its_caller_and_an_error_of_a_batch_all_of_it(compute, batcher):
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.submit_all, [1])
        wait_for(lambda: compute.batches)
        bad, good = (pool.submit(batcher.submit_all, [item]) for item in ("bad", 4))
        wait_for(lambda: batcher.n_waiting == 2)
        compute.go.set()
        assert (first.result(), good.result()) == ([2], [8])
        with pytest.raises(ImageError):
            bad.result()
    with pytest.raises(RuntimeError, match="the batch breaks"):
        batcher.submit_all(["breaks", 1])
    assert batcher.submit_all([5]) == [10]


def test_closing_finishes_what_was_submitted_and_accepts_no_more(compute):
    batcher = make_batcher(compute, max_batch=2)
    with ThreadPoolExecutor(6) as pool:
        submitted = [pool.submit(batcher.submit_all, [i]) for i in range(5)]
        wait_for(lambda: compute.batches and len(compute.batches[0]) + batcher.n_waiting == 5)
        closing = pool.submit(batcher.close)
        compute.go.set()
        closing.result()
        assert [one.result() for one in submitted] == [[0], [2], [4], [6], [8]]
    with pytest.raises(ServiceError, match="stopping"):
        batcher.submit_all([1])


# from the event loop


def test_a_batch_is_what_arrived_while_the_one_before_was_computed(compute):
    async def run():
        batcher = make_batcher(compute, max_batch=3, max_pending=99)
        first = asyncio.create_task(batcher.submit("a"))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batcher.submit(name)) for name in "bcdef"]
        await asyncio.sleep(0.05)
        compute.go.set()
        results = await asyncio.gather(first, *others)
        batcher.close()
        return results

    assert asyncio.run(run()) == ["aa", "bb", "cc", "dd", "ee", "ff"]
    assert compute.batches == [["a"], ["b", "c", "d"], ["e", "f"]]


def test_what_arrives_in_one_turn_of_the_loop_is_one_batch(compute):
    async def run():
        batcher = make_batcher(compute, max_batch=9)
        compute.go.set()
        await asyncio.gather(*(batcher.submit(name) for name in "abc"))
        batcher.close()

    asyncio.run(run())
    assert compute.batches == [["a", "b", "c"]]


def test_a_full_queue_rejects_and_accepts_again_when_there_is_room(compute):
    async def run():
        batcher = make_batcher(compute, max_pending=2)
        waiting = [asyncio.create_task(batcher.submit(name)) for name in "ab"]
        await asyncio.sleep(0.02)
        with pytest.raises(BusyError, match="more than 2 requests are waiting"):
            await batcher.submit("c")
        compute.go.set()
        await asyncio.gather(*waiting)
        return await batcher.submit("c")

    assert asyncio.run(run()) == "cc"


def test_a_client_that_disconnects_and_a_batch_that_breaks_do_not_affect_others(compute):
    async def run():
        batcher = make_batcher(compute, max_batch=1)
        left = asyncio.create_task(batcher.submit("a"))
        others = [asyncio.create_task(batcher.submit(name)) for name in ("breaks", "c")]
        await asyncio.sleep(0.02)
        left.cancel()
        compute.go.set()
        return await asyncio.gather(*others, return_exceptions=True)

    broken, fine = asyncio.run(run())
    assert isinstance(broken, RuntimeError)
    assert fine == "cc"


def test_a_bounded_executor_rejects_calls_beyond_its_queue():
    go = threading.Event()

    async def run():
        executor = BoundedExecutor("test", Metrics(), n_threads=1, max_pending=2)
        waiting = [asyncio.create_task(executor.run(go.wait, 10)) for _ in range(2)]
        await asyncio.sleep(0.02)
        with pytest.raises(BusyError):
            await executor.run(go.wait, 10)
        go.set()
        assert await asyncio.gather(*waiting) == [True, True]
        return await executor.run(sum, [1, 2])

    assert asyncio.run(run()) == 3


# searches


@pytest.fixture(scope="module")
def service(tiny_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    index_shop(write_catalog(folder), tiny_checkpoint, folder / "shop.lance")
    service = SearchService(folder / "shop.lance", Settings(), Metrics())
    yield service
    service.close()


def test_searches_of_a_batch_find_what_each_finds_alone(service):
    queries = [
        Query(text="red dress", k=3),
        Query(text="blue", k=2, offset=4),
        Query(text="red dress", where="price < 15", k=50),
        Query(text="a shoe", where="price > 1000"),
    ]

    async def together():
        return await asyncio.gather(*(service.search(query) for query in queries))

    for query, page in zip(queries, asyncio.run(together()), strict=True):
        alone = asyncio.run(service.search(query))
        assert [hit.product_id for hit in page.hits] == [hit.product_id for hit in alone.hits]
        assert [h.score for h in page.hits] == pytest.approx(
            [h.score for h in alone.hits], abs=1e-5
        )
        assert page.has_more == alone.has_more


def test_a_wrong_filter_affects_its_own_client_only(service):
    async def together():
        queries = [Query(text="red"), Query(text="red", where="prise < 3"), Query(text="blue")]
        return await asyncio.gather(*map(service.search, queries), return_exceptions=True)

    first, second, third = asyncio.run(together())
    assert first.hits
    assert third.hits
    assert isinstance(second, FilterError)


# the engine and the decoder


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return FashionCLIP.from_pretrained(str(tiny_checkpoint))


def test_vectors_of_a_batch_are_those_that_each_input_has_alone(model):
    engine = BatchingEngine(model.engine, Metrics(), max_batch=16)
    texts = ["red", "a photo of a grey wool sweater " * 20, "", "blue denim jeans", "日本"] * 6
    images = [draw(colour) for colour in ("red", "blue", "green", "black")] * 4
    batched = FashionCLIP(model.checkpoint, engine=engine)
    with ThreadPoolExecutor(16) as pool:
        text_vectors = list(pool.map(batched.encode_text, texts))
        image_vectors = list(pool.map(batched.encode_images, images))
    engine.close()
    for text, vector in zip(texts, text_vectors, strict=True):
        np.testing.assert_allclose(vector, model.encode_text(text), atol=2e-5)
    for image, vector in zip(images, image_vectors, strict=True):
        np.testing.assert_allclose(vector, model.encode_images([image]), atol=2e-5)


def test_decoded_images_are_preprocessed_as_the_model_does(model):
    decoder = ImageDecoder(model.checkpoint.preprocess, max_pixels=10_000)
    for kind in ("PNG", "JPEG"):
        image = encoded(draw("red", size_px=70), kind)
        vectors = model.engine.encode_pixels(np.stack([decoder.preprocess(image)]))
        np.testing.assert_allclose(vectors, model.encode_images([image]), atol=1e-6)


def test_large_images_wait_for_memory_and_small_ones_do_not():
    decoder = ImageDecoder(Preprocess(size_px=8), max_pixels=10_000)
    large, small = encoded(draw("red", size_px=100)), encoded(draw("red", size_px=30))
    most = inside = 0
    lock, go_on = threading.Lock(), threading.Event()

    def hold():
        nonlocal most, inside
        with decoder.opened(large):
            with lock:
                inside += 1
                most = max(most, inside)
            assert go_on.wait(10)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(3 * MAX_DECODING) as pool:
        holding = [pool.submit(hold) for _ in range(3 * MAX_DECODING)]
        wait_for(lambda: inside == MAX_DECODING)
        time.sleep(0.05)
        assert inside == MAX_DECODING
        with pytest.raises(ImageError, match="too large"):  # rejected without waiting
            decoder.preprocess(encoded(draw("red", size_px=101)))
        go_on.set()
        for one in holding:
            one.result()
    assert most == MAX_DECODING
    assert decoder.preprocess(small).shape == (8, 8, 3)
    with pytest.raises(ImageError), decoder.opened(b"no image"):
        pass
    for _ in range(2 * MAX_DECODING):  # what was taken has been given back
        with decoder.opened(large):
            pass


# the cache


def test_a_cache_keeps_what_was_used_last_up_to_its_size():
    cache = LRUCache(10, size_of=len)
    for name in "abc":
        cache.put(name, b"123")
    assert cache.get("a") == b"123"
    cache.put("d", b"1234")
    assert [cache.get(name) for name in "abcd"] == [b"123", None, b"123", b"1234"]
    cache.put("a", b"")
    assert cache.get("a") == b""
    cache.put("huge", b"x" * 99)
    assert len(cache) == 1
    assert cache.get("huge") is not None
