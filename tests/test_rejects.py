"""Rejects files are read as they were written; a run that fails changes nothing."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fashionclip.product import Product, Reject, as_reject
from fashionclip.rejects import RejectsFile, append_reject, read_rejects, rejects_beside

texts = st.text('aü"\\\n\r\0 \u2028\U0001f457', max_size=20)
rejects = st.builds(Reject, st.none() | st.integers(1), st.none() | texts, st.none() | texts, texts)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(rejects, max_size=5), st.booleans())
def test_rejects_are_read_as_they_were_written(tmp_path_factory, found, keep_empty):
    path = tmp_path_factory.mktemp("rejects") / "rejects.jsonl"
    with RejectsFile(path, keep_empty=keep_empty) as file:
        for reject in found:
            file.add(reject)
    assert file.count == len(found)
    assert path.exists() == (keep_empty or bool(found))
    written = list(read_rejects(path)) if path.exists() else []
    assert written == [
        {"row": r.row, "id": r.product_id, "image": r.image, "reason": r.reason} for r in found
    ]
    assert set(path.parent.iterdir()) <= {path}


def test_a_run_that_fails_leaves_the_last_whole_file(tmp_path):
    path = tmp_path / "rejects.jsonl"
    path.write_text("earlier\n", encoding="utf-8")

    def write():
        with RejectsFile(path) as file:
            file.add(Reject(1, "a", None, "broken"))
            assert "broken" in (tmp_path / "rejects.jsonl.part").read_text(encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert path.read_text(encoding="utf-8") == "earlier\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_without_rejects_removes_those_of_the_run_before(tmp_path):
    path = rejects_beside(tmp_path / "tags.csv")
    assert path.name == "tags.rejects.jsonl"
    append_reject(path, Reject(1, "a", None, "broken"))
    with RejectsFile(path, keep_empty=False):
        pass
    assert not path.exists()


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "rejects.jsonl"
    for row in (1, 2):
        append_reject(path, Reject(row, "a\ud800", None, "broken"))
    path.write_bytes(path.read_bytes()[:-10])
    assert [reject["row"] for reject in read_rejects(path)] == [1]
    assert json.loads(path.read_text("utf-8").splitlines()[0])["id"] == "a?"


def test_the_image_of_a_reject_is_named_in_a_few_characters():
    product = Product("a", "", "data:image/png;base64," + "A" * 10_000, 3, {})
    reject = as_reject(product, "broken")
    assert (reject.row, reject.product_id) == (3, "a")
    assert len(reject.image) == 61
    assert as_reject(Product("a", "", b"bytes", 3, {}), "broken").image is None
