"""What fits a query: scales measured on a catalogue, and the threshold that indexing stores."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionclip.catalog import Catalog
from fashionclip.indexing import index_catalog
from fashionclip.model import FashionCLIP
from fashionclip.product import Product, Roles
from fashionclip.relevance import calibrate, scale_of, unrelated_queries
from fashionclip.sample import write_sample_catalog
from fashionclip.searching.ranking import fuse, match_words, word_shares
from fashionclip.store import StoreMeta, open_store
from fashionclip.store.memory import MemoryStore

WORDS = ("nike", "puma", "red", "black", "shoe", "shirt")


def memory_store(captions, vectors, threshold=None):
    meta = StoreMeta(
        "memory://x", "m", "0" * 16, vectors.shape[1], roles=Roles(), relevance_threshold=threshold
    )
    store = MemoryStore(meta)
    products = [Product(f"p{i}", caption, None, i, {}) for i, caption in enumerate(captions)]
    with store.writer() as writer:
        writer.upsert(products, vectors, [bytes(16)] * len(products))
    return store


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    table = write_sample_catalog(folder / "catalog", n_products=120)
    model = FashionCLIP.from_pretrained(device="cpu")
    index_catalog(Catalog.open(table), model, folder / "shop.lance")
    return open_store(folder / "shop.lance"), model


def test_indexing_stores_a_threshold_that_most_unrelated_queries_miss(sample):
    store, model = sample
    threshold = store.meta.relevance_threshold
    best = [hits[0].score for hits in store.nearest(model.encode_text(unrelated_queries()), k=1)]
    assert 0.05 <= np.mean(np.array(best) >= threshold) <= 0.15
    garments = model.encode_text(["red dress", "blue jeans", "handbag"])
    assert all(hits[0].score > threshold for hits in store.nearest(garments, k=1))


def test_calibration_is_quick_and_always_the_same(sample):
    store, model = sample
    started = time.perf_counter()
    assert calibrate(store, model) == pytest.approx(store.meta.relevance_threshold, abs=1e-3)
    assert time.perf_counter() - started < 10  # a second where the machine has nothing else to do


def test_an_empty_store_has_no_threshold(sample):
    store = memory_store([], np.zeros((0, 4), np.float32))
    assert calibrate(store, sample[1]) is None
    assert scale_of(store).moments(np.ones(4) / 2)[1] > 0
    assert scale_of(store).percentiles(np.ones(4) / 2, np.array([0.5])).tolist() == [0]


@given(seed=st.integers(0, 1000), n=st.integers(2, 60))
@settings(max_examples=30)
def test_moments_and_percentiles_are_those_of_all_cosines(seed, n):
    rng = np.random.default_rng(seed)
    vectors, query = unit(rng.normal(size=(n, 8))), unit(rng.normal(size=8))
    scale, cosines = scale_of(memory_store([""] * n, vectors)), vectors @ query
    assert scale.moments(query) == pytest.approx((cosines.mean(), cosines.std()), abs=1e-3)
    found = scale.percentiles(query, cosines)
    assert found == pytest.approx([100 * np.mean(cosines < one) for one in cosines], abs=100 / n)
    assert found.argmax() == cosines.argmax()


def test_a_scale_is_kept_until_many_products_came():
    rng = np.random.default_rng(0)
    store = memory_store(["red shoe"] * 40, unit(rng.normal(size=(40, 8))))
    first = scale_of(store)
    more = [Product(f"q{i}", "", None, i, {}) for i in range(10)]
    for some, is_kept in ((more[:3], True), (more[3:], False)):
        with store.writer() as writer:
            writer.upsert(some, unit(rng.normal(size=(len(some), 8))), [bytes(16)] * len(some))
        assert (scale_of(store) is first) == is_kept


@pytest.mark.parametrize(
    ("text", "product", "least", "most"),
    [
        ("nike", "Nike Red Shoes", 1, 1),
        ("nkie", "Nike Red Shoes", 1, 1),  # misspelt
        ("the nike shoe", "Nike Red Shoes", 1, 1),  # stop words do not count
        ("red lawn mower", "Nike Red Shoes", 0.05, 0.4),  # a colour covers little
        ("nike lawn", "Nike Red Shoes", 0.3, 0.6),
        ("lawn mower", "Nike Red Shoes", 0, 0),
        ("skirt", "Nike Red Shirt", 0, 0),  # spelled right
        ("", "Nike Red Shoes", 0, 0),
        ("the", "The Red Shoes", 0, 0),
    ],
)
def test_rare_words_cover_more_of_a_query_than_common_ones(text, product, least, most):
    captions = [f"{('red', 'black')[i % 2]} shoe" for i in range(99)] + ["Nike Red Shoes"]
    scale = scale_of(memory_store(captions, unit(np.random.default_rng(0).normal(size=(100, 4)))))
    assert least <= scale.coverage(text, ["Black Shirt", product]) <= most


@given(
    products=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5), max_size=8),
    query=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True),
)
@settings(max_examples=50)
def test_coverage_grows_with_words_and_products(products, query):
    texts = [" ".join(words) for words in products] or ["red"]
    scale = scale_of(memory_store(texts, unit(np.ones((len(texts), 4)))))
    text = " ".join(query)
    alone = [scale.coverage(text, [one]) for one in texts]
    assert scale.coverage(text, texts) == max(alone)
    assert all(0 <= share <= 1 for share in alone)
    assert scale.coverage(text, [" ".join([*query, *texts])]) == pytest.approx(1)


def test_words_that_cover_a_query_outrank_any_look():
    """A brand's products come before others even where the vectors are against all of them."""
    rng = np.random.default_rng(0)
    cosines = rng.normal(0.2, 0.05, 1000)
    is_brand = cosines < np.percentile(cosines, 5)
    shares = word_shares(np.where(is_brand, rng.uniform(6, 7, 1000), 0), 1.0)
    scores = fuse(cosines, shares, mean=0.2, std=0.05)
    assert scores[is_brand].min() > scores[~is_brand].max()


def test_a_long_text_needs_not_all_its_words():
    captions = [f"{('red', 'black')[i % 2]} shoe" for i in range(99)] + ["Nike Red Shoes"]
    scale = scale_of(memory_store(captions, unit(np.random.default_rng(0).normal(size=(100, 4)))))
    text = "these nike shoes of soft suede with a rubber sole come in a sturdy box with laces"
    assert scale.coverage(text, ["Nike Suede Shoe, rubber sole, lace, red"]) == 1
    assert scale.coverage(text, ["Red Shoe"]) < 0.3


def test_products_match_by_words_only_if_the_best_covers_most_of_the_query():
    scores = np.array([8.0, 5.0, 3.0, 0.0])
    assert match_words(word_shares(scores, 1.0), 1.0).tolist() == [True, True, False, False]
    assert match_words(word_shares(scores, 0.7), 0.7).tolist() == [True, True, False, False]
    assert not match_words(word_shares(scores, 0.4), 0.4).any()
    assert not match_words(word_shares(np.zeros(2), 0.0), 0.0).any()
