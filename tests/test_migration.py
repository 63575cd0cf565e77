"""The migration report: what two indexes answer to the same queries."""

import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from fashionclip.cli.main import run
from fashionclip.index import Index
from fashionclip.metrics.ranking import rank_biased_overlap
from fashionclip.migration import catalogue_queries, compare_indexes
from small_shop import COLOURS, GARMENTS, index_shop, write_catalog

LISTS = st.lists(st.integers(0, 15), unique=True, max_size=12)


def plain_rbo(first, second, p=0.9):
    """Equation 32 of Webber, Moffat & Zobel, term by term."""
    short, long = sorted((first, second), key=len)
    s, n = len(short), len(long)
    if not s:
        return float(not n)

    def shared(depth):
        return len(set(short[:depth]) & set(long[:depth]))

    terms = sum(shared(d) / d * p**d for d in range(1, n + 1))
    terms += sum(shared(s) * (d - s) / (s * d) * p**d for d in range(s + 1, n + 1))
    return (1 - p) / p * terms + ((shared(n) - shared(s)) / n + shared(s) / s) * p**n


@given(first=LISTS, second=LISTS)
def test_rank_biased_overlap_is_what_its_paper_says(first, second):
    found = rank_biased_overlap(first, second)
    assert found == pytest.approx(plain_rbo(first, second))
    assert found == rank_biased_overlap(second, first)
    assert -1e-9 <= found <= 1 + 1e-9
    assert rank_biased_overlap(first, first) == pytest.approx(1)
    if first and second and not set(first) & set(second):
        assert found == 0


def test_a_move_at_the_top_counts_more_than_one_at_the_end():
    same = list("abcdefghij")
    top, end = list("bacdefghij"), list("abcdefghji")
    assert rank_biased_overlap(same, top) < rank_biased_overlap(same, end) < 1


@pytest.fixture(scope="module")
def stores(tmp_path_factory, tiny_checkpoint):
    """Two indexes of one catalogue, by models with other weights."""
    folder = tmp_path_factory.mktemp("stores")
    other = shutil.copytree(tiny_checkpoint, folder / "other-model")
    weights = load_file(other / "model.safetensors")
    noisy = {name: np.ascontiguousarray(weight * 1.5) for name, weight in weights.items()}
    save_file(noisy, other / "model.safetensors", metadata={"format": "pt"})
    table = write_catalog(folder / "catalog")
    index_shop(table, tiny_checkpoint, folder / "old.lance")
    index_shop(table, other, folder / "new.lance")
    return folder


def test_an_index_moves_nowhere_from_itself(stores):
    index = Index.open(stores / "old.lance")
    found = compare_indexes(index, index, ["red shirt", "blue dress", "red shirt"], k=5)
    assert len(found.moved) == 2
    assert (found.overlap.mean, found.rbo.mean) == (1.0, pytest.approx(1.0))
    assert all(not one.came and not one.went for one in found.moved)


def test_what_came_and_went_is_named_and_the_worst_query_is_first(stores):
    old, new = (Index.open(stores / f"{name}.lance") for name in ("old", "new"))
    found = compare_indexes(old, new, catalogue_queries(old), k=5)
    assert found.overlap.low <= found.overlap.mean <= found.overlap.high
    overlaps = [one.overlap for one in found.moved]
    assert overlaps == sorted(overlaps)
    for one in found.moved:
        before, after = ([hit.product_id for hit in hits] for hits in (one.old, one.new))
        assert one.overlap == len(set(before) & set(after)) / 5
        assert sorted(one.went) == sorted(set(before) - set(after))
        assert sorted(one.came) == sorted(set(after) - set(before))


def test_default_queries_are_the_categories_alone_and_with_their_colours(stores):
    queries = catalogue_queries(Index.open(stores / "old.lance"))
    assert queries[:3] == sorted(GARMENTS)  # the most frequent
    assert set(queries[3:]) == {f"{colour} {garment}" for colour in COLOURS for garment in GARMENTS}


def migration(*words):
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run(["migration", *map(str, words)])
    return status, out.getvalue(), err.getvalue()


def test_the_command_reports_and_closes_its_gate(stores, tmp_path):
    queries = tmp_path / "queries.txt"
    queries.write_text("red shirt\n\nblue <b>dress</b>\n")
    names = (stores / "old.lance", stores / "new.lance", "--queries", queries, "--limit", 4)
    status, out, _ = migration(*names, "--json", "--min-overlap", 0)
    assert status == 0
    report = json.loads(out)
    assert {one["query"] for one in report["queries"]} == {"red shirt", "blue <b>dress</b>"}
    assert report["old"]["products"] == report["new"]["products"] == 18
    assert report["old"]["model"] != report["new"]["model"]

    status, out, err = migration(*names, "--min-overlap", 1, "--html", tmp_path / "moved.html")
    assert status == 1
    assert "below --min-overlap 1" in err
    assert "overlap@4" in out
    page = (tmp_path / "moved.html").read_text("utf-8")
    assert "blue &lt;b&gt;dress&lt;/b&gt;" in page
    assert page.count('src="data:image/jpeg;base64,') == 16  # two queries, four before and after
    assert "http://" not in page.replace("http-equiv", "")

    assert migration(names[0], names[0])[0] == 0
    queries.write_text("\n")
    assert migration(*names)[0] == 2
    queries.write_bytes(b"\xff\xff")
    assert migration(*names)[0] == 2
    assert migration(stores / "none.lance", names[0])[0] == 1
