"""Search: which products a query finds, in which order, and which queries are refused."""

import hashlib
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fashionclip
from fashionclip.catalog import Catalog
from fashionclip.errors import (
    FilterError,
    ImageError,
    ImageFetchError,
    ModelMismatchError,
    ProductNotFoundError,
    StoreError,
)
from fashionclip.index import Index, search
from fashionclip.indexing import index_catalog
from fashionclip.model import FashionCLIP
from fashionclip.product import Product
from fashionclip.sample import write_sample_catalog
from fashionclip.searching import Query, Results, search_many
from fashionclip.searching.pages import POOL
from fashionclip.searching.query import NEUTRAL
from fashionclip.searching.ranking import avoided_directions, fuse, word_shares
from fashionclip.store import StoreMeta, create_store

COLORS = {"red": (200, 20, 30), "green": (20, 160, 60), "blue": (20, 40, 200), "grey": (120,) * 3}
N_PRODUCTS = 48


def make_image(i):
    """A coloured block on white, at a place that ``i`` decides."""
    rng = np.random.default_rng(i)
    pixels = np.full((40, 40, 3), 255, dtype=np.uint8)
    top, left = rng.integers(0, 20, 2)
    color = list(COLORS.values())[i % len(COLORS)]
    pixels[top : top + 8 + i % 12, left : left + 20] = color
    return pixels


def caption(i):
    return f"{list(COLORS)[i % len(COLORS)]} {('shirt', 'jeans', 'dress')[i % 3]} number {i}"


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return FashionCLIP.from_pretrained(tiny_checkpoint, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def vectors(model):
    return model.encode_images([make_image(i) for i in range(N_PRODUCTS)])


def empty_store(path, model):
    return create_store(path, StoreMeta("", model.name, model.fingerprint, model.dim))


@pytest.fixture(scope="module")
def index(model, vectors, tmp_path_factory):
    products = [
        Product(
            f"p{i:02}",
            caption(i),
            None,
            i + 1,
            {"price": float(i), "color": list(COLORS)[i % len(COLORS)]},
        )
        for i in range(N_PRODUCTS)
    ]
    found = empty_store(tmp_path_factory.mktemp("stores") / "shop.lance", model)
    keys = [
        hashlib.blake2b(product.product_id.encode(), digest_size=16).digest()
        for product in products
    ]
    with found.writer() as writer:
        writer.upsert(products, vectors, keys)
        writer.optimize()
    return found


def ids(hits):
    return [hit.product_id for hit in hits]


def ranking(vectors, query):
    """The reference: all cosines, sorted."""
    scores = vectors @ (query / np.linalg.norm(query))
    return [f"p{i:02}" for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i))]


# texts and images


def test_words_find_the_products_closest_to_them(index, model, vectors):
    query = model.encode_text(["red shirt"])[0]
    hits = search(index, model=model, text="red shirt", mode="vectors", k=7)
    assert ids(hits) == ranking(vectors, query)[:7]
    assert hits[0].score == pytest.approx(float((vectors @ query).max()), abs=1e-5)
    assert hits[0].columns["color"] in COLORS


def test_an_image_of_a_product_finds_the_product(index, model, tmp_path):
    Image.fromarray(make_image(11)).save(tmp_path / "mine.png")
    for source in (make_image(11), Image.fromarray(make_image(11)), tmp_path / "mine.png"):
        best = search(index, model=model, image=source, k=1)[0]
        assert best.product_id == "p11"
        assert best.score == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_words_and_an_image_are_mixed_by_the_share_of_the_words(index, model, vectors, weight):
    query = weight * model.encode_text(["blue jeans"])[0] + (1 - weight) * vectors[4]
    hits = search(
        index, model=model, text="blue jeans", image=make_image(4), weight=weight, k=N_PRODUCTS
    )
    expected = vectors @ (query / np.linalg.norm(query))
    found = {hit.product_id: hit.score for hit in hits}
    assert [found[f"p{i:02}"] for i in range(N_PRODUCTS)] == pytest.approx(expected, abs=1e-4)


def test_two_images_count_the_same(index, model, vectors):
    query = vectors[3] + vectors[8]
    hits = search(index, model=model, image=make_image(3), similar_to="p08", k=5)
    assert ids(hits) == [name for name in ranking(vectors, query) if name != "p08"][:5]


def test_templates_change_the_words_alone(index, model, vectors):
    query = model.encode_text(["dress"], templates="ensemble")[0]
    hits = search(index, model=model, text="dress", templates="ensemble", mode="vectors", k=9)
    assert ids(hits) == ranking(vectors, query)[:9]


# similar products


def test_a_product_is_not_similar_to_itself(index, vectors):
    hits = search(index, similar_to="p20", k=N_PRODUCTS)
    assert ids(hits) == [name for name in ranking(vectors, vectors[20]) if name != "p20"]


def test_like_several_products_is_like_their_mean(index, vectors):
    hits = search(index, similar_to=["p03", "p08"], k=N_PRODUCTS)
    expected = ranking(vectors, vectors[3] + vectors[8])
    assert ids(hits) == [name for name in expected if name not in {"p03", "p08"}]


def test_avoided_products_and_similar_ones_leave_the_results(index, vectors):
    before = ids(search(index, similar_to="p03", k=N_PRODUCTS))
    disliked = before[0]
    after = ids(search(index, similar_to="p03", unlike=[disliked], k=N_PRODUCTS))
    assert set(after) == set(before) - {disliked}
    apart = vectors[int(disliked[1:])] - vectors[[int(name[1:]) for name in after]].mean(axis=0)
    most_like_it = max(after, key=lambda name: float(vectors[int(name[1:])] @ apart))
    assert after.index(most_like_it) > before.index(most_like_it) - 1


def test_avoiding_without_a_query_searches_all_products(index, model):
    assert len(search(index, model=model, avoid="red", k=N_PRODUCTS)) == N_PRODUCTS
    hits = search(index, model=model, unlike="p03", k=N_PRODUCTS)
    assert len(hits) == N_PRODUCTS - 1
    assert "p03" not in ids(hits)


def test_a_product_and_words_are_mixed_by_weight(index, model, vectors):
    query = 0.4 * model.encode_text(["green"])[0] + 0.6 * vectors[20]
    hits = search(index, model=model, similar_to="p20", text="green", weight=0.4, k=6)
    assert ids(hits) == [name for name in ranking(vectors, query) if name != "p20"][:6]


def test_an_unknown_product_is_named(index):
    with pytest.raises(StoreError, match="has no product 'p999'"):
        search(index, similar_to="p999")


# filters and paging


def test_a_filter_is_applied_before_the_search(index, model):
    hits = search(index, model=model, text="red shirt", where="price < 3", k=10)
    assert sorted(ids(hits)) == ["p00", "p01", "p02"]


def test_a_filter_on_a_column_that_is_not_there_is_an_error(index, model):
    with pytest.raises(FilterError, match="prise"):
        search(index, model=model, text="red shirt", where="prise < 3")


@pytest.mark.parametrize("extra", [{}, {"avoid": "green"}, {"mode": "hybrid"}])
def test_pages_put_together_are_one_long_page(index, model, extra):
    whole = search(index, model=model, text="red shirt", k=20, **extra)
    pages = [
        search(index, model=model, text="red shirt", k=5, offset=o, **extra) for o in (0, 5, 10, 15)
    ]
    assert [hit for page in pages for hit in page] == whole


def test_a_page_beyond_the_end_is_empty(index, model):
    assert search(index, model=model, text="red", offset=1000) == []


# avoided texts


def test_avoiding_follows_its_formula(index, model, vectors):
    words = model.encode_text(["red shirt", "dress", NEUTRAL]).astype(np.float64)
    direction = (words[0] - words[2]) / np.linalg.norm(words[0] - words[2])
    added = words[1] - words[2]
    added = added - max(0.0, added @ direction) * direction
    scores = vectors @ words[0]
    shown = vectors @ (added / np.linalg.norm(added))
    z = (shown - np.median(shown)) / shown.std()
    expected = scores - 0.7 * scores.std() * np.maximum(0, z)
    hits = search(
        index,
        model=model,
        text="red shirt",
        avoid="dress",
        avoid_weight=0.7,
        mode="vectors",
        k=N_PRODUCTS,
    )
    found = {hit.product_id: hit.score for hit in hits}
    assert [found[f"p{i:02}"] for i in range(N_PRODUCTS)] == pytest.approx(expected, abs=1e-4)
    assert ids(hits) == sorted(found, key=lambda name: (-found[name], name))


def test_the_more_it_counts_the_lower_the_avoided_products_come(index, model, vectors):
    words = {word: model.encode_text(word)[0] for word in ("red", "shirt", NEUTRAL)}
    shown = vectors @ avoided_directions(words, "red", ["shirt"])[0]
    worst = [f"p{i:02}" for i in np.argsort(-shown)[:8]]
    places = []
    for weight in (0.0, 1.0, 3.0, 30.0):
        found = ids(
            search(index, model=model, text="red", avoid="shirt", avoid_weight=weight, k=48)
        )
        places.append(np.mean([found.index(name) for name in worst]))
    assert places == sorted(places)
    assert places[-1] > places[0]


def test_avoiding_several_things_and_with_an_image_alone(index, model):
    plain = ids(search(index, model=model, image=make_image(2), k=48))
    wary = ids(search(index, model=model, image=make_image(2), avoid=["shirt", "dress"], k=48))
    assert sorted(plain) == sorted(wary)
    assert plain != wary


def test_avoiding_blank_words_avoids_nothing(index, model):
    assert search(index, model=model, text="red", avoid=["", "  "]) == search(
        index, model=model, text="red"
    )


def test_avoiding_something_does_not_lower_what_the_query_asks_for():
    """Avoiding red shoes must not make results of "red dress" less red."""
    neutral, red, dress, shoes = np.eye(4)
    unit = lambda v: v / np.linalg.norm(v)  # noqa: E731
    meanings = {
        NEUTRAL: neutral,
        "red dress": unit(neutral + red + dress),
        "red shoes": unit(neutral + red + shoes),
    }
    away_from_shoes = avoided_directions(meanings, "red dress", ["red shoes"])[0]
    plain = avoided_directions(meanings, None, ["red shoes"])[0]
    red_dress = red + dress
    assert plain @ red_dress > 0.3
    assert away_from_shoes @ red_dress < 0
    assert away_from_shoes @ shoes > plain @ shoes


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The sample catalogue, indexed with the built-in model."""
    folder = tmp_path_factory.mktemp("sample")
    table = write_sample_catalog(folder / "catalog", n_products=120)
    model = FashionCLIP.from_pretrained(device="cpu")
    index_catalog(Catalog.open(table), model, folder / "shop.lance")
    return Index.open(folder / "shop.lance", model=model), model


@pytest.mark.parametrize("color", ["red", "black", "blue"])
def test_what_is_avoided_leaves_the_first_page(sample, color):
    """The built-in model."""
    index, model = sample
    colors = {}
    for weight in (0.0, 1.0):
        hits = search(index, model=model, text="garment", avoid=color, avoid_weight=weight, k=120)
        colors[weight] = [hit.columns["colour"] for hit in hits]
    places = {w: np.flatnonzero(np.array(found) == color) for w, found in colors.items()}
    assert len(places[0.0]) == len(places[1.0]) >= 5  # ranked lower, not hidden
    assert places[1.0].mean() > places[0.0].mean()
    assert color not in colors[1.0][:10]


def test_what_was_asked_for_stays_when_something_is_avoided(sample):
    index, model = sample
    shares = []
    for weight in (0.0, 1.0):
        hits = search(
            index, model=model, text="red dress", avoid="red shoes", avoid_weight=weight, k=10
        )
        shares.append(sum(hit.columns["colour"] == "red" for hit in hits))
    assert shares[1] >= shares[0] - 1


# hybrid


def test_words_count_by_default_unless_there_is_an_image(index, model):
    by_default = search(index, model=model, text="number 37")
    assert ids(by_default)[0] == "p37"
    assert ids(by_default) == ids(search(index, model=model, text="number 37", mode="hybrid"))
    beside_image = {"text": "number 37", "similar_to": "p05", "model": model}
    by_vectors = ids(search(index, **beside_image, mode="vectors"))
    assert ids(search(index, **beside_image)) == by_vectors
    assert ids(search(index, **beside_image, mode="hybrid")) != by_vectors


NUMBERS = st.floats(-1, 1, width=32)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=8), st.floats(0, 1))
@settings(max_examples=100)
def test_fusion_rewards_agreement(pairs, coverage):
    cosines, words = np.abs(np.array(pairs, dtype=float)).T
    shares = word_shares(words, coverage)
    assert shares.max() == pytest.approx(coverage if words.max() > 1e-6 else shares.max())
    order = np.argsort(-fuse(cosines, shares, mean=0.1, std=0.2))
    for better, worse in pairwise(order):
        is_behind = words[better] <= words[worse]
        assert not (cosines[better] < cosines[worse] - 1e-6 and is_behind)


# refusals


def test_another_models_index_is_refused_by_name(model, tmp_path):
    meta = StoreMeta("", "shop/older-clip", "0123456789abcdef", model.dim)
    other = create_store(tmp_path / "other.lance", meta)
    with pytest.raises(
        ModelMismatchError, match=r"'shop/older-clip' \(01234567\), not of '.*tiny'"
    ):
        search(other, model=model, text="red")
    with pytest.raises(ModelMismatchError):
        search(other, model=model, similar_to="p00")


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"mode": "words"}, "mode 'words' matches words: give text too"),
        ({"text": "red", "mode": "words", "similar_to": "p01"}, "compares no vectors: leave out"),
        ({"text": "red", "cursor": "x", "offset": 3}, "give cursor or offset, not both"),
        ({"text": "red", "cursor": "x"}, "the cursor is damaged"),
        ({"text": "red", "diversity": 2.0}, "diversity is 2.0; it must be between 0 and 1"),
        ({"text": "red", "diversity": 0.5, "sort": "price"}, "leave out diversity or sort"),
        ({"diversity": 0.5}, "give text, image or similar_to too"),
        ({"sort": "-prize"}, "there is no column 'prize'; did you mean 'price'?"),
        ({"fields": ["colr"]}, "there is no column 'colr'; did you mean 'color'?"),
        ({"text": "red", "k": 0}, "k is 0: ask for at least 1 hit"),
        ({"text": "red", "offset": -1}, "offset is -1"),
        ({"text": "red", "weight": 1.5}, "weight is 1.5; it is the share of the words, 0 to 1"),
        ({"text": "red", "avoid": "x", "avoid_weight": -1.0}, "avoid_weight is -1"),
    ],
)
def test_an_invalid_query_is_an_error_that_says_how_to_mend_it(index, model, question, message):
    with pytest.raises(ValueError, match=message):
        search(index, model=model, **question)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("Query(text=5).check()", "text must be text, not 5"),
        ("Query(text='red', k='3').check()", "k must be a whole number, not '3'"),
        ("Query(text='red', k=2.5).check()", "k must be a whole number, not 2.5"),
        ("Query(text='red', weight='much').check()", "weight must be a number, not 'much'"),
        ("Query(text='red', where={'price': 5}).check()", "where must be a filter's text, such as"),
        ("Query(similar_to=5).check()", "similar_to must be text, or a list of texts, not 5"),
        ("Query(text='red', avoid=['x', None]).check()", "avoid must be text, or a list of texts"),
        ("Query(text='red', fields=5).check()", "fields must be text, or a list of texts, not 5"),
        ("Index('shop.lance')", "'shop.lance' is no open store: Index.open takes its address"),
        ("Index(store, model='builtin')", "model must be a FashionCLIP, not 'builtin'"),
    ],
)
def test_a_value_of_another_type_is_named(call, message):
    """In a process of its own: here, the tests' own checks of types would come first."""
    script = f"""
from fashionclip.index import Index
from fashionclip.searching import Query
from fashionclip.store import StoreMeta, create_store
store = create_store("memory://x", StoreMeta("", "m", "f", 8))
try:
    {call}
except TypeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert message in done.stdout, done


def test_words_need_a_model(index):
    (outcome,) = search_many(index, None, [Query(text="red")])
    assert "need the model that made the index" in str(outcome)


def test_an_image_that_is_none_is_an_error(index, model, tmp_path):
    (tmp_path / "notes.jpg").write_text("not a picture")
    with pytest.raises(ImageError):
        search(index, model=model, image=tmp_path / "notes.jpg")
    with pytest.raises(ImageFetchError, match=r"gone.jpg: no such file"):
        search(index, model=model, image=str(tmp_path / "gone.jpg"))


# several queries at once


def test_many_queries_are_answered_as_each_alone_would_be(index, model):
    queries = [
        Query(text="red shirt", k=5),
        Query(text="blue", where="price < 20", k=3, offset=2),
        Query(image=make_image(3), k=4),
        Query(similar_to="p08", unlike="p09", k=6),
        Query(text="dress", avoid="red", k=7),
        Query(text="number 37", mode="hybrid", k=2),
        Query(text="dress", templates="ensemble", k=2),
    ]
    together = search_many(index, model, queries)
    for query, found in zip(queries, together, strict=True):
        (alone,) = search_many(index, model, [query])
        assert ids(found.hits) == ids(alone.hits)
        scores = [hit.score for hit in alone.hits]
        assert [hit.score for hit in found.hits] == pytest.approx(scores, abs=1e-5)


def test_a_query_that_cannot_be_answered_costs_only_itself(index, model, tmp_path):
    (tmp_path / "notes.jpg").write_text("not an image")
    outcomes = search_many(
        index,
        model,
        [
            Query(text="red", k=2),
            Query(text="red", k=0),
            Query(text="red", where="prise < 3"),
            Query(similar_to="p999"),
            Query(image=tmp_path / "notes.jpg"),
            Query(),
            Query(similar_to="p01", k=1),
        ],
    )
    kinds = [type(one) for one in outcomes]
    assert kinds == [
        Results, ValueError, FilterError, ProductNotFoundError, ImageError, Results, Results
    ]  # fmt: skip
    assert [len(outcomes[0].hits), len(outcomes[6].hits)] == [2, 1]
    assert POOL >= 100


# the public index


def test_an_index_says_what_it_is_and_its_hits_show_themselves(sample):
    index, _ = sample
    assert repr(index).endswith("shop.lance: 120 products, model builtin>")
    assert len(index) == 120
    hits = index.search("red dress", k=3)
    assert [len(hits), len(hits[1:])] == [3, 2]
    assert len(repr(hits).splitlines()) == 3
    assert hits[0].product_id in repr(hits)
    assert str(hits[0].columns["title"])[:20] in repr(hits)
    html = hits._repr_html_()
    assert html.count("data:image/jpeg;base64,") == 3
    assert repr(index.search("dress", where="price < 0")) == "no hits"
    assert index.get(hits[0].product_id).columns == hits[0].columns


def test_an_index_opens_its_model_by_itself(sample):
    index, model = sample
    again = Index.open(index.meta.uri)
    assert again.search("red dress", k=5) == index.search("red dress", k=5)
    assert again.model.fingerprint == model.fingerprint
    assert fashionclip.search(index.meta.uri, "red dress", k=5) == again.search("red dress", k=5)


def test_an_empty_index_answers_with_no_hits(model, tmp_path: Path):
    empty = empty_store(tmp_path / "empty.lance", model)
    assert search(empty, model=model, text="red") == []
    assert search(empty, model=model, text="red", avoid="blue", mode="hybrid") == []
