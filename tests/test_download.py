"""Benchmarks are downloaded by the hub's client, from a hub on this machine."""

import pytest

from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks import find_benchmark, find_folder
from fashionclip.evaluate.benchmarks.hub import download
from hub_server import Repository, running_hub
from test_fmnist import LABELS, write_parquet

FMNIST = "datasets/zalando-datasets/fashion_mnist"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    import huggingface_hub.constants as constants

    folder = write_parquet(tmp_path / "published")
    (folder / "README.md").write_text("not wanted", encoding="utf-8")
    with running_hub({FMNIST: Repository(folder)}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield hub


def test_a_fetched_benchmark_can_be_loaded(hub, tmp_path):
    benchmark = find_benchmark("fmnist")
    folder = download(benchmark, tmp_path / "data")
    assert folder == find_folder(benchmark, tmp_path / "data")
    assert not (folder / "README.md").exists()
    task = benchmark.load(folder).tasks[0]
    assert task.labels.tolist() == LABELS["t10k"].tolist()
    assert len(task.development_images) == len(LABELS["train"])


def test_what_was_fetched_is_not_fetched_again(hub, tmp_path):
    download(find_benchmark("fmnist"), tmp_path / "data")
    hub.requests.clear()
    download(find_benchmark("fmnist"), tmp_path / "data")
    assert not any("GET" in request and ".parquet" in request for request in hub.requests)


def test_an_interrupted_download_is_not_used_and_continues_later(hub, tmp_path):
    repository = hub.repositories[FMNIST]
    repository.breaks = "train-00000-of-00001.parquet"
    benchmark = find_benchmark("fmnist")
    with pytest.raises(BenchmarkError, match="could not be downloaded"):
        download(benchmark, tmp_path / "data")
    assert not (tmp_path / "data" / "fmnist").exists()
    repository.breaks = None
    assert len(benchmark.load(download(benchmark, tmp_path / "data")).tasks) == 2


def test_a_failed_download_is_one_line_with_the_way_by_hand(hub, tmp_path):
    with pytest.raises(
        BenchmarkError, match="kagl could not be downloaded from Marqo/KAGL"
    ) as caught:
        download(find_benchmark("kagl"), tmp_path)
    assert "unpack" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_network_is_one_line(tmp_path, monkeypatch):
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BenchmarkError, match="check the network") as caught:
        download(find_benchmark("fmnist"), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_repository_without_the_expected_files_is_an_error(hub, tmp_path):
    folder = hub.repositories[FMNIST].folder
    for path in folder.glob("fashion_mnist/*"):
        path.rename(folder / path.name.replace("parquet", "arrow"))
    with pytest.raises(BenchmarkError, match="holds no fashion_mnist"):
        download(find_benchmark("fmnist"), tmp_path / "data")


@pytest.mark.parametrize("name", ["deep", "clothing", "sample"])
def test_the_error_for_other_benchmarks_says_how_to_get_them_by_hand(name, tmp_path):
    benchmark = find_benchmark(name)
    with pytest.raises(BenchmarkError, match=f"{name} cannot be downloaded") as caught:
        download(benchmark, tmp_path)
    assert benchmark.how_to_get in str(caught.value)
