"""Tags: label files, probabilities, trees, calibration, and tables of tags."""

import csv
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fashionclip.catalog import Catalog
from fashionclip.errors import LabelError, ModelMismatchError
from fashionclip.indexing import index_catalog
from fashionclip.model import FashionCLIP
from fashionclip.product import Reject
from fashionclip.store import StoreMeta, create_store, open_store
from fashionclip.tagging import (
    NONE_OF_THESE,
    LabelSet,
    TaggedProduct,
    Tagger,
    calibrate,
    calibrate_on_catalog,
    read_label_files,
    read_labels,
    save_labels,
    tag_catalog,
    tag_index,
    write_tags,
)
from fashionclip.tagging.calibration import fit_scale
from fashionclip.tagging.labels import Tree
from fashionclip.tagging.scoring import EncodedLabels

COLORS = {"red": (210, 20, 30), "green": (20, 160, 60), "blue": (20, 40, 210)}
TREE = (
    "Clothing > Tops > T-shirts",
    "Clothing > Tops > Shirts | blouses",
    "Clothing > Dresses",
    "Shoes > Boots",
    "Shoes > Sandals",
    "Bags",
)


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return FashionCLIP.from_pretrained(tiny_checkpoint, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def vectors(model):
    rng = np.random.default_rng(0)
    return model.encode_images(list(rng.integers(0, 255, (30, 32, 32, 3), dtype=np.uint8)))


@pytest.fixture
def shop(tmp_path):
    """Nine products in three colours; one image is broken, one is missing."""
    with (tmp_path / "catalog.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "title", "image", "colour"])
        for i in range(9):
            color = list(COLORS)[i % 3]
            Image.new("RGB", (24, 32), COLORS[color]).save(tmp_path / f"{i}.png")
            rows.writerow([f"p{i}", f"{color} thing", f"{i}.png", color])
    (tmp_path / "4.png").write_bytes(b"not a picture")
    (tmp_path / "7.png").unlink()
    return tmp_path


# label files


def test_a_plain_file_has_one_label_per_line(tmp_path):
    file = tmp_path / "colour.txt"
    file.write_bytes("\ufeff# what we sell\nred\nblue   # navy too\n\n  \nlight blue\n".encode())
    (labels,) = read_labels(file)
    assert labels.name == "colour"
    assert labels.label_names == ("red", "blue", "light blue")
    assert (labels.mode, labels.depth) == ("one", 1)


def test_one_file_may_hold_several_sets_with_options(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text(
        "[colour]\nred\nblue\n\n[pattern: several, threshold=0.6, templates=bare]\nstripes\n"
        "[sleeve: neutral=off]\nlong\nshort\n"
    )
    colour, pattern, sleeve = read_labels(file)
    assert [labels.name for labels in (colour, pattern, sleeve)] == ["colour", "pattern", "sleeve"]
    assert (pattern.mode, pattern.threshold, pattern.templates) == ("several", 0.6, "bare")
    assert sleeve.neutral is None


def test_a_set_may_be_named_on_the_command_line(tmp_path):
    (tmp_path / "a.txt").write_text("red\nblue\n")
    (tmp_path / "b.txt").write_text("[pattern]\nstripes\ndots\n")
    sets = read_label_files([f"colour={tmp_path / 'a.txt'}", tmp_path / "b.txt"])
    assert [labels.name for labels in sets] == ["colour", "pattern"]


def test_synonyms_follow_a_bar_and_are_averaged(model, tmp_path):
    file = tmp_path / "kind.txt"
    file.write_text("jeans | denim trousers | blue jeans\ndress\n")
    (labels,) = read_labels(file)
    assert labels.label_names == ("jeans", "dress")
    assert labels.prompts == (("jeans", "denim trousers", "blue jeans"), ("dress",))
    words = model.encode_text(["jeans", "denim trousers", "blue jeans"], templates="product")
    mean = words.mean(axis=0)
    encoded = EncodedLabels.of(labels, model)
    assert encoded.vectors[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_a_tree_by_indentation_and_one_by_paths_are_the_same(tmp_path):
    (tmp_path / "indented.txt").write_text(
        "Clothing\n  Tops\n    T-shirts\n    Shirts | blouses\n  Dresses\n"
        "Shoes\n\tBoots\n\tSandals\nBags\n"
    )
    (tmp_path / "paths.txt").write_text("Shoes\n" + "\n".join(TREE) + "\n")
    (indented,) = read_labels(tmp_path / "indented.txt")
    (paths,) = read_labels(tmp_path / "paths.txt")
    assert set(indented.label_names) == set(paths.label_names)
    assert indented.label_names == tuple(line.split(" |")[0] for line in TREE)
    assert indented.depth == 3


def test_leaves_of_one_name_are_encoded_with_their_parents():
    labels = LabelSet.of("category", ["Men > Shoes", "Women > Shoes", "Women > Bags"])
    assert labels.prompts == (("Men Shoes",), ("Women Shoes",), ("Bags",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no labels: write one per line"),
        ("# nothing\n", "has no labels"),
        ("red\nblue\nred\n", "has 'red' twice: delete one"),
        ("red\nblue\nRed\n", "has 'Red' twice|has 'red' twice"),
        ("red\n", "has one label and nothing to choose from"),
        ("[a]\nred\nblue\n[a]\nx\ny\n", "two label sets are called 'a'"),
        ("[a: many]\nred\nblue\n", "line 1: 'many' is not understood"),
        ("x\ny\n[a: threshold=high]\nred\nblue\n", "line 3: 'threshold=high' is not understood"),
        ("[a: threshold=3]\nred\nblue\n", "has the threshold 3.0: choose 0 to 1"),
        ("[a: templates=photo]\nred\nblue\n", "set 'a' .line 1.: prompt template 'photo' has no"),
        ("A | alpha\n  B\n  C\n", "'A' has labels below it; give the synonyms to those"),
        ("A > > B\nC\n", "has a label without a name"),
        ("[a: several]\nA > B\nA > C\n", "is a tree, which gives one path"),
    ],
)
def test_a_label_file_that_contradicts_itself_says_how_to_mend_it(tmp_path, text, message):
    file = tmp_path / "labels.txt"
    file.write_text(text)
    with pytest.raises(LabelError, match=message):
        read_labels(file)


def test_a_label_file_that_is_not_there_or_no_text_is_an_error(tmp_path):
    with pytest.raises(LabelError, match=r"gone.txt cannot be read"):
        read_labels(tmp_path / "gone.txt")
    (tmp_path / "latin.txt").write_bytes("red\nécru\n".encode("cp1252"))
    with pytest.raises(LabelError, match=r"line 2: this is not UTF-8 text"):
        read_labels(tmp_path / "latin.txt")
    (tmp_path / "odd.json").write_text('{"colours": []}')
    with pytest.raises(LabelError, match="is not one that save_labels wrote"):
        read_labels(tmp_path / "odd.json")


@given(st.text(max_size=200))
@settings(max_examples=100)
def test_any_text_is_label_sets_or_a_label_error(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "any.txt"
    file.write_text(text, encoding="utf-8", errors="replace")
    try:
        sets = read_labels(file)
    except LabelError:
        return
    assert all(labels.labels for labels in sets)


# one label


def test_the_best_label_is_that_of_classify(model, vectors):
    labels = LabelSet.of("kind", ["shirt", "jeans", "dress"], threshold=0.0, neutral=None)
    expected = model.label_probabilities(
        vectors, model.encode_text(["shirt", "jeans", "dress"], templates="product")
    )
    tags = [row[0] for row in Tagger(model, [labels]).tag(vectors)]
    for tag, row in zip(tags, expected, strict=True):
        best, second = np.sort(row)[::-1][:2]
        assert tag.labels == (("shirt", "jeans", "dress")[row.argmax()],)
        assert tag.probabilities[0] == pytest.approx(best, abs=1e-5)
        assert tag.margin == pytest.approx(best - second, abs=1e-5)


def test_none_of_these_where_no_label_is_probable_enough(model, vectors):
    labels = LabelSet.of("kind", ["shirt", "jeans", "dress"], threshold=1.0)
    tags = [row[0] for row in Tagger(model, [labels]).tag(vectors)]
    assert {tag.text for tag in tags} == {NONE_OF_THESE}
    assert all(0 < tag.nearest_probability < 1 and tag.nearest for tag in tags)


def test_none_of_these_where_a_neutral_text_fits_better(model):
    labels = LabelSet.of("kind", ["shirt", "jeans"], threshold=0.0, neutral="dress")
    encoded = EncodedLabels.of(labels, model)
    shown = np.stack([encoded.vectors[0], encoded.neutral])
    first, second = encoded.tag(shown)
    assert first.labels == ("shirt",)
    assert second.labels == ()
    free = EncodedLabels.of(replace(labels, neutral=None), model)
    assert all(tag.labels for tag in free.tag(shown))


# several labels


def test_several_labels_are_independent(model, vectors):
    names = ["stripes", "dots", "leather", "denim"]
    pair = LabelSet.of("look", names[:2], mode="several")
    four = LabelSet.of("look", names, mode="several")
    few, more = (EncodedLabels.of(labels, model) for labels in (pair, four))
    a = few.probabilities(few.evidence(vectors))
    b = more.probabilities(more.evidence(vectors))
    assert a == pytest.approx(b[:, :2])
    for tag, row in zip(more.tag(vectors), b, strict=True):
        assert set(tag.labels) == {names[i] for i in np.flatnonzero(row >= 0.5)}
        assert list(tag.probabilities) == sorted(tag.probabilities, reverse=True)
        assert tag.margin == pytest.approx(np.abs(row - 0.5).min())


# trees


@st.composite
def trees_and_probabilities(draw):
    """A random tree of labels, with a random distribution over its leaves."""
    paths = draw(
        st.lists(
            st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(tuple),
            min_size=2,
            max_size=12,
            unique=True,
        )
    )
    leaves = [p for p in paths if not any(q[: len(p)] == p and q != p for q in paths)]
    weights = draw(
        st.lists(st.floats(0, 1), min_size=len(leaves), max_size=len(leaves)).filter(sum)
    )
    return leaves, np.array(weights) / np.sum(weights), draw(st.floats(0, 1))


@given(trees_and_probabilities())
@settings(max_examples=150)
def test_the_levels_of_a_tree_never_contradict_each_other(sampled):
    leaves, probabilities, threshold = sampled
    if len(leaves) < 2:
        return
    labels = LabelSet.of("category", [" > ".join(path) for path in leaves], neutral=None)
    encoded = EncodedLabels(
        label_set=labels,
        vectors=np.eye(len(leaves)),
        neutral=None,
        scale=1.0,
        bias=np.zeros(len(leaves)),
        threshold=threshold,
        must_beat_neutral=False,
        tree=Tree.of(labels.labels),
    )
    with np.errstate(divide="ignore"):  # a logit of minus infinity is a probability of zero
        (tag,) = encoded.tag(np.maximum(np.log(probabilities), -700.0)[None])
    nodes = {path: p for path, p in zip(leaves, probabilities, strict=True)}
    below = {
        level: sum(p for path, p in nodes.items() if path[: len(level)] == level)
        for path in leaves
        for level in (path[:end] for end in range(1, len(path) + 1))
    }
    for depth in range(1, len(tag.labels) + 1):
        chosen = tag.labels[:depth]  # each level's node is the parent of the next level's
        assert chosen in below
        assert tag.probabilities[depth - 1] == pytest.approx(below[chosen], abs=1e-9)
        siblings = [p for level, p in below.items() if level[:-1] == chosen[:-1]]
        assert below[chosen] == pytest.approx(max(siblings), abs=1e-9)
    assert list(tag.probabilities) == sorted(tag.probabilities, reverse=True)
    assert all(p >= threshold for p in tag.probabilities)
    assert 0 <= tag.margin <= 1


def test_a_tree_stops_at_the_level_where_it_is_probable_enough(model):
    encoded = EncodedLabels.of(LabelSet.of("category", TREE, neutral=None), model)
    shirts = [line.split(" |")[0] for line in TREE].index("Clothing > Tops > Shirts")
    both = encoded.vectors[0] + encoded.vectors[shirts]
    both /= np.linalg.norm(both)
    sure = replace(encoded, scale=1000.0)
    (one,) = sure.tag(encoded.vectors[[shirts]])
    assert one.text == "Clothing > Tops > Shirts"
    (unsure,) = replace(sure, threshold=0.9).tag(both[None])
    assert unsure.text in {"Clothing > Tops", "Clothing > Tops > Shirts", NONE_OF_THESE}
    nodes = sure.probabilities(sure.evidence(both[None])) @ sure.tree.covers.T
    for i, node in enumerate(sure.tree.nodes):  # a node's share is the sum over its children
        children = sure.tree.children.get(node)
        if children:
            assert nodes[0, i] == pytest.approx(nodes[0, list(children)].sum())


# calibration


def labelled(model, n=60, noise=1.0):
    """Vectors near the labels of a set, with the labels they came from."""
    rng = np.random.default_rng(5)
    names = ["shirt", "jeans", "dress", "sneakers"]
    centers = model.encode_text(names, templates="product")
    rows = rng.integers(0, len(names), n)
    apart = centers - centers.mean(axis=0)
    apart /= np.linalg.norm(apart, axis=1, keepdims=True)
    found = apart[rows] + noise * rng.normal(size=(n, model.dim)) / np.sqrt(model.dim)
    return names, found / np.linalg.norm(found, axis=1, keepdims=True), [names[i] for i in rows]


def test_calibration_makes_the_right_labels_likelier(model):
    names, vectors, truth = labelled(model)
    plain = LabelSet.of("kind", names)
    fitted = calibrate(plain, model, vectors, truth)
    rows = [names.index(name) for name in truth]

    def loss(labels):
        encoded = EncodedLabels.of(labels, model)
        probabilities = encoded.probabilities(encoded.evidence(vectors))
        return -np.log(probabilities[np.arange(len(rows)), rows]).mean()

    assert loss(fitted) <= loss(plain) + 1e-6
    assert fitted.calibration.n_products == 60


def test_the_scale_is_that_of_a_fine_grid():
    rng = np.random.default_rng(1)
    evidence = rng.normal(size=(40, 5)) * 0.1
    covers = np.eye(5, dtype=bool)[(evidence + rng.normal(size=(40, 5)) * 0.1).argmax(axis=1)]

    def loss(scale):
        logits = scale * evidence
        likelihood = logits[covers] - np.log(np.exp(logits).sum(axis=1))
        return (np.log(scale / 10.0) / np.log(4)) ** 2 / 2 - likelihood.sum()

    grid = np.exp(np.linspace(np.log(0.3), np.log(300), 20_000))
    best = grid[np.argmin([loss(scale) for scale in grid])]
    assert fit_scale(evidence, covers, start=10.0) == pytest.approx(best, rel=2e-3)


@pytest.mark.parametrize("precision", [0.6, 0.8, 0.95])
def test_the_threshold_keeps_the_wanted_precision(model, precision):
    names, vectors, truth = labelled(model, n=200, noise=1.5)
    fitted = calibrate(LabelSet.of("kind", names), model, vectors, truth, precision=precision)
    tags = EncodedLabels.of(fitted, model).tag(vectors)
    given = [(tag.labels[0], name) for tag, name in zip(tags, truth, strict=True) if tag.labels]
    reached = np.mean([a == b for a, b in given])
    assert reached == pytest.approx(fitted.calibration.precision)
    assert len(given) / len(tags) == pytest.approx(fitted.calibration.coverage)
    assert reached >= precision


def test_a_lower_precision_covers_more_products(model):
    names, vectors, truth = labelled(model, n=150, noise=1.5)
    covered = [
        calibrate(
            LabelSet.of("kind", names), model, vectors, truth, precision=p
        ).calibration.coverage
        for p in (0.95, 0.8, 0.5)
    ]
    assert covered == sorted(covered)


def test_the_precision_is_kept_where_no_label_fits_some_products(model):
    names, vectors, truth = labelled(model, n=80, noise=0.7)
    others = model.encode_text(["leather handbag with strap"] * 40)
    both = np.concatenate([vectors, others])
    fitted = calibrate(
        LabelSet.of("kind", names), model, both, [*truth, *[None] * 40], precision=0.9
    )
    assert fitted.calibration.precision >= 0.9


def test_several_labels_are_calibrated_each_with_its_own_bias(model):
    rng = np.random.default_rng(2)
    names = ["stripes", "dots", "leather"]
    centers = model.encode_text(names, templates="product")
    rows = rng.random((120, 3)) < (0.5, 0.3, 0.1)
    vectors = rows @ centers + rng.normal(size=(120, model.dim)) / np.sqrt(model.dim)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    truth = [[name for name, has in zip(names, row, strict=True) if has] for row in rows]
    plain = LabelSet.of("look", names, mode="several")
    fitted = calibrate(plain, model, vectors, truth, precision=0.8)

    def loss(labels):
        encoded = EncodedLabels.of(labels, model)
        p = np.clip(encoded.probabilities(encoded.evidence(vectors)), 1e-9, 1 - 1e-9)
        return -np.where(rows, np.log(p), np.log(1 - p)).mean()

    assert loss(fitted) < loss(plain)
    assert len(set(fitted.calibration.bias)) == 3
    shares = EncodedLabels.of(fitted, model)
    probabilities = shares.probabilities(shares.evidence(vectors))
    assert probabilities.mean(axis=0) == pytest.approx(rows.mean(axis=0), abs=0.05)


def test_a_tree_may_be_calibrated_with_an_inner_node(model):
    labels = LabelSet.of("category", TREE)
    encoded = EncodedLabels.of(labels, model)
    truth = ["Tops", "blouses", "Clothing > Dresses", "boots", "Shoes", None]
    fitted = calibrate(labels, model, encoded.vectors, truth)
    assert fitted.calibration.n_products == 6


def test_a_label_that_the_set_does_not_have_is_named(model, vectors):
    labels = LabelSet.of("kind", ["shirt", "jeans"])
    with pytest.raises(LabelError, match="no label 'shirts'; did you mean shirt"):
        calibrate(labels, model, vectors[:1], ["shirts"])
    with pytest.raises(LabelError, match="no labelled products"):
        calibrate(labels, model, vectors[:0], [])
    with pytest.raises(ValueError, match="30 vectors and 1 labels"):
        calibrate(labels, model, vectors, ["shirt"])


def test_a_calibrated_set_is_saved_and_read_again(model, tmp_path):
    names, vectors, truth = labelled(model)
    fitted = calibrate(LabelSet.of("kind", names), model, vectors, truth)
    tree = LabelSet.of("category", TREE, templates=("{}", "a {}"))
    save_labels([fitted, tree], tmp_path / "labels.json")
    assert read_labels(tmp_path / "labels.json") == [fitted, tree]


def test_a_set_calibrated_for_another_model_is_refused_by_name(model):
    names, vectors, truth = labelled(model)
    fitted = calibrate(LabelSet.of("kind", names), model, vectors, truth)
    foreign = replace(
        fitted, calibration=replace(fitted.calibration, model="older", fingerprint="0123456789")
    )
    with pytest.raises(LabelError, match=r"calibrated for the model 'older' \(01234567\), not for"):
        Tagger(model, [foreign])


# whole catalogues


def test_a_catalogue_is_tagged_in_order_and_a_bad_image_costs_only_itself(model, shop):
    labels = LabelSet.of("colour", list(COLORS), threshold=0.0, neutral=None)
    items = list(tag_catalog(Catalog.open(shop / "catalog.csv"), model, [labels], batch_size=2))
    assert [item.product_id for item in items] == [f"p{i}" for i in range(9)]
    rejects = {item.product_id: item for item in items if isinstance(item, Reject)}
    assert sorted(rejects) == ["p4", "p7"]
    assert rejects["p4"].row == 5
    assert "7.png" in rejects["p7"].reason
    by_color = Counter(
        (list(COLORS)[int(item.product_id[1:]) % 3], item.tags[0].text)
        for item in items
        if isinstance(item, TaggedProduct)
    )
    assert len(by_color) == 3  # equal images have equal tags


def test_an_index_is_tagged_as_its_catalogue_is(model, shop, tmp_path):
    sets = [
        LabelSet.of("colour", list(COLORS)),
        LabelSet.of("look", ["dark", "light"], mode="several"),
    ]
    catalog = Catalog.open(shop / "catalog.csv")
    index_catalog(catalog, model, tmp_path / "shop.lance")
    from_index = {
        item.product_id: item
        for item in tag_index(open_store(tmp_path / "shop.lance"), model, sets)
    }
    for item in tag_catalog(catalog, model, sets):
        if isinstance(item, TaggedProduct):
            for mine, stored in zip(item.tags, from_index[item.product_id].tags, strict=True):
                assert mine.labels == stored.labels
                assert mine.margin == pytest.approx(stored.margin, abs=1e-3)
    other = create_store(tmp_path / "other", StoreMeta("", "old", "00", model.dim))
    with pytest.raises(ModelMismatchError, match="'old'"):
        next(tag_index(other, model, sets))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_tags_are_written_as_a_table_with_its_rejects_beside_it(model, shop, tmp_path, suffix):
    sets = [
        LabelSet.of("colour", list(COLORS)),
        LabelSet.of("look", ["dark", "light", "shiny"], mode="several", threshold=0.3),
    ]
    path = tmp_path / f"tags{suffix}"
    items = tag_catalog(Catalog.open(shop / "catalog.csv"), model, sets)
    report = write_tags(items, path, label_sets=sets)
    assert (report.tagged, report.rejected) == (7, 2)
    if suffix == ".csv":
        rows = list(csv.DictReader(path.read_text().splitlines()))
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        rows = pq.read_table(path).to_pylist()
    assert [*rows[0]] == [
        "id",
        *("colour", "colour_probability", "colour_margin"),
        *("look", "look_probability", "look_margin"),
    ]
    assert [row["id"] for row in rows] == ["p0", "p1", "p2", "p3", "p5", "p6", "p8"]
    assert {row["colour"] for row in rows} <= {*COLORS, NONE_OF_THESE}
    assert all(0 <= float(row["colour_probability"]) <= 1 for row in rows)
    if suffix != ".csv":
        assert all(isinstance(row["look"], list) for row in rows)
    lines = (tmp_path / "tags.rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["p4", "p7"]
    assert set(json.loads(lines[0])) == {"row", "id", "image", "reason"}


def test_a_table_that_cannot_be_finished_leaves_the_old_one(model, tmp_path):
    path = tmp_path / "tags.csv"
    path.write_text("what was there")
    sets = [LabelSet.of("colour", list(COLORS))]

    def items():
        yield Reject(1, "a", None, "no")
        message = "the disk is gone"
        raise OSError(message)

    with pytest.raises(OSError, match="the disk is gone"):
        write_tags(items(), path, label_sets=sets)
    assert [file.name for file in tmp_path.iterdir()] == ["tags.csv"]
    assert path.read_text() == "what was there"
    with pytest.raises(ValueError, match=r"should end in .csv, .jsonl, .parquet"):
        write_tags([], tmp_path / "tags.xls", label_sets=sets)


def test_no_rejects_leave_no_rejects_file(tmp_path):
    sets = [LabelSet.of("colour", list(COLORS))]
    report = write_tags([], tmp_path / "tags.csv", label_sets=sets)
    assert report.tagged == 0
    assert [file.name for file in tmp_path.iterdir()] == ["tags.csv"]


def test_a_catalogues_own_column_calibrates(model, shop):
    sets = [LabelSet.of("colour", list(COLORS)), LabelSet.of("look", ["dark", "light"])]
    catalog = Catalog.open(shop / "catalog.csv")
    colour, look = calibrate_on_catalog(catalog, model, sets)
    assert colour.calibration.n_products == 7
    assert look.calibration is None
    with pytest.raises(LabelError, match="no column"):
        calibrate_on_catalog(catalog, model, sets[1:])
