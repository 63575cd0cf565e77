"""Work that arrives together is done together, and nobody gets another one's answer."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fashionclip.errors import ImageError, ServiceError
from fashionclip.images.decode import Preprocess
from fashionclip.model import FashionCLIP
from fashionclip.serve.batching import Batcher, BatchingEngine
from fashionclip.serve.decoding import ROOM, Decoder
from fashionclip.serve.metrics import Metrics
from small_shop import draw, encoded


class Held:
    """Doubles numbers, and notes what it was given at once; waits until it is let go."""

    def __init__(self):
        """Hold everything up."""
        self.go, self.batches = threading.Event(), []

    def __call__(self, items):
        """Double them."""
        self.batches.append(list(items))
        assert self.go.wait(10)
        if "bad" in items:
            raise ImageError("bad input")
        return [2 * item for item in items]


@pytest.fixture
def work():
    return Held()


@pytest.fixture
def batcher(work):
    batcher = Batcher(work, most=8, name="test")
    yield batcher
    work.go.set()
    batcher.close()


def wait_for(holds):
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_what_arrives_during_a_batch_becomes_the_next_ones(work, batcher):
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(batcher.hand_in, [0])
        wait_for(lambda: work.batches)
        others = [pool.submit(batcher.hand_in, [i]) for i in range(1, 20)]
        wait_for(lambda: len(batcher._waiting) == 19)
        work.go.set()
        assert first.result() == [0]
        assert [one.result() for one in others] == [[2 * i] for i in range(1, 20)]
    assert [len(batch) for batch in work.batches] == [1, 8, 8, 3]


def test_one_request_may_fill_several_batches_and_keeps_its_order(work, batcher):
    work.go.set()
    assert batcher.hand_in(list(range(30))) == [2 * i for i in range(30)]
    assert max(map(len, work.batches)) == 8
    assert batcher.hand_in([]) == []


def test_an_error_reaches_those_of_its_batch_and_the_next_one_goes_on(work, batcher):
    with ThreadPoolExecutor(2) as pool:
        bad = pool.submit(batcher.hand_in, ["bad"])
        wait_for(lambda: work.batches)
        later = pool.submit(batcher.hand_in, [4])
        wait_for(lambda: batcher._waiting)
        work.go.set()
        with pytest.raises(ImageError):
            bad.result()
        assert later.result() == [8]


def test_closing_finishes_what_was_handed_in_and_takes_no_more(work):
    batcher = Batcher(work, most=2, name="test")
    with ThreadPoolExecutor(6) as pool:
        handed = [pool.submit(batcher.hand_in, [i]) for i in range(5)]
        wait_for(lambda: work.batches and len(batcher._waiting) >= 3)
        closing = pool.submit(batcher.close)
        work.go.set()
        closing.result()
        assert [one.result() for one in handed] == [[0], [2], [4], [6], [8]]
    with pytest.raises(ServiceError, match="stopping"):
        batcher.hand_in([1])


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return FashionCLIP.from_pretrained(str(tiny_checkpoint))


def test_vectors_of_a_batch_are_those_that_each_would_have_alone(model):
    engine = BatchingEngine(model.engine, Metrics(), most=16)
    texts = ["red", "a photo of a grey wool sweater " * 20, "", "blue denim jeans", "日本"] * 6
    pictures = [draw(colour) for colour in ("red", "blue", "green", "black")] * 4
    batched = FashionCLIP(model.checkpoint, engine=engine)
    with ThreadPoolExecutor(16) as pool:
        words = list(pool.map(batched.encode_text, texts))
        seen = list(pool.map(batched.encode_images, pictures))
    engine.close()
    for text, vector in zip(texts, words, strict=True):
        np.testing.assert_allclose(vector, model.encode_text(text), atol=2e-5)
    for picture, vector in zip(pictures, seen, strict=True):
        np.testing.assert_allclose(vector, model.encode_images([picture]), atol=2e-5)


# pictures, decoded within bounds


def test_a_decoded_picture_is_what_the_model_would_have_seen(model):
    decoder = Decoder(model.checkpoint.preprocess, max_pixels=10_000)
    for kind in ("PNG", "JPEG"):
        picture = encoded(draw("red", size_px=70), kind)
        vectors = model.engine.encode_pixels(np.stack([decoder.fitted(picture)]))
        np.testing.assert_allclose(vectors, model.encode_images([picture]), atol=1e-6)


def test_large_pictures_wait_for_room_and_small_ones_pass_by():
    decoder = Decoder(Preprocess(size_px=8), max_pixels=10_000)
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

    with ThreadPoolExecutor(3 * ROOM) as pool:
        holding = [pool.submit(hold) for _ in range(3 * ROOM)]
        wait_for(lambda: inside == ROOM)
        time.sleep(0.05)
        assert inside == ROOM
        with pytest.raises(ImageError, match="too large"):  # which takes no room
            decoder.fitted(encoded(draw("red", size_px=101)))
        go_on.set()
        for one in holding:
            one.result()
    assert most == ROOM
    assert decoder.fitted(small).shape == (8, 8, 3)
    with pytest.raises(ImageError), decoder.opened(b"no picture"):
        pass
    assert decoder._free == ROOM * 10_000
