"""Benchmarks are found by name, and their folders in the expected places."""

from pathlib import Path

import pytest

from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks import BENCHMARKS, Loaded, find_benchmark, find_folder
from fashionclip.evaluate.benchmarks.base import (
    choose,
    class_labels,
    group_by,
    left_out,
)
from fashionclip.metrics import percentile


class Somewhere:
    """A benchmark that may lie in two folders."""

    name = "some"
    title = "Some set"
    how_to_get = "ask for it"
    places: tuple[str, ...] = ("some", "other")

    def load(self, folder: Path) -> Loaded:
        """Load no tasks."""
        return Loaded(())


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_a_title_and_one_line_on_how_to_get_it(name):
    benchmark = find_benchmark(name)
    assert benchmark.name == name
    assert benchmark.title
    assert benchmark.how_to_get
    assert "\n" not in benchmark.how_to_get


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(BenchmarkError, match=r"'fmnst' \(did you mean 'fmnist'\?\).*image,label"):
        find_benchmark("fmnst")
    with pytest.raises(BenchmarkError, match=r"no benchmark and no file is called 'gone\.csv'"):
        find_benchmark("gone.csv")


def test_the_first_of_a_benchmarks_places_that_is_there_is_its_folder(tmp_path):
    (tmp_path / "other").mkdir()
    assert find_folder(Somewhere(), tmp_path) == tmp_path / "other"
    (tmp_path / "some").mkdir()
    assert find_folder(Somewhere(), tmp_path) == tmp_path / "some"


def test_the_error_for_a_missing_benchmark_says_where_to_get_it(tmp_path):
    with pytest.raises(BenchmarkError, match=r"some: .* has no folder some; ask for it"):
        find_folder(Somewhere(), tmp_path)
    with pytest.raises(BenchmarkError, match="some: no data folder is given; ask for it"):
        find_folder(Somewhere(), None)


def test_an_absolute_place_needs_no_data_folder(tmp_path):
    somewhere = Somewhere()
    somewhere.places = ("some", str(tmp_path))
    assert find_folder(somewhere, None) == tmp_path
    assert find_folder(somewhere, Path("elsewhere")) == tmp_path


def test_a_name_keeps_its_percentile_for_ever():
    found = {name: percentile(name) for name in ("nike", "puma", "kurt geiger london", "")}
    assert found == {"nike": 99, "puma": 22, "kurt geiger london": 44, "": 66}


def test_a_sample_is_the_same_every_time_and_without_repetition():
    sample = choose(1000, 50)
    assert sample.tolist() == choose(1000, 50).tolist() == sorted(set(sample.tolist()))
    assert sample.tolist() != choose(1000, 50, seed=1).tolist()
    assert choose(7, 50).tolist() == list(range(7))


def test_a_synonym_that_two_classes_claim_belongs_to_neither():
    words = {"Coat": ("coat", "jacket", "overcoat"), "Jackets": ("jacket", "blazer", "overcoat")}
    coat, jacket, other = class_labels(("Coat", "Jackets", "Polo Shirt"), words)
    assert (coat.words, coat.synonyms) == ("coat", ())
    assert (jacket.words, jacket.synonyms) == ("jacket", ("blazer",))
    assert (other.name, other.words) == ("Polo Shirt", "polo shirt")


def test_rows_are_grouped_by_value_and_empty_values_belong_nowhere():
    groups = group_by(["b", "", "a", "b"])
    assert {value: rows.tolist() for value, rows in groups.items()} == {"b": [0, 3], "a": [2]}


def test_what_is_left_out_is_counted_and_named():
    assert left_out(["a"], "row", "it is empty") == "1 row left out: it is empty (a)"
    assert left_out(list("abcd"), "query", "no") == "4 queries left out: no (a, b, c, …)"
