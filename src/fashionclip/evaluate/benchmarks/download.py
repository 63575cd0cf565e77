"""Benchmarks that can be had without asking, fetched from where they are published.

Through the hub's own client: ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` work as they do
there. A download that was cut off goes on where it stopped.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from fashionclip.errors import BenchmarkError
from fashionclip.evaluate.benchmarks.base import Benchmark

TIMEOUT_S = 10.0
"""How long the hub may take to answer."""
REPOSITORIES: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "fmnist": ("zalando-datasets/fashion_mnist", ("fashion_mnist/*.parquet",)),
        "kagl": ("Marqo/KAGL", ("data/*.parquet",)),
    }
)
"""Benchmark to its data set's repository on the hub, and the files of it that are wanted."""


def download(benchmark: Benchmark, data: Path) -> Path:
    """Fetch a benchmark's files.

    Args:
        benchmark: which one.
        data: folder that gets a folder for it, of the benchmark's usual name.

    Returns:
        The benchmark's folder.

    Raises:
        BenchmarkError: it can only be had by hand, or the download failed.
    """
    if benchmark.name not in REPOSITORIES:
        message = f"{benchmark.name} cannot be fetched: {benchmark.how_to_get}"
        raise BenchmarkError(message)
    from huggingface_hub import HfApi, snapshot_download

    repository, files = REPOSITORIES[benchmark.name]
    folder = data / benchmark.places[0]
    # under another name until it is whole, so that half a set is never measured
    part = folder if folder.exists() else folder.with_name(f"{folder.name}.part")
    try:
        HfApi().dataset_info(repository, timeout=TIMEOUT_S)  # its own client would wait for ever
        snapshot_download(
            repository,
            repo_type="dataset",
            local_dir=part,
            allow_patterns=list(files),
            etag_timeout=TIMEOUT_S,
        )
    except Exception as exc:  # the hub's client lets its HTTP library's errors through
        detail = " ".join(str(exc).split())[:160]
        message = (
            f"{benchmark.name} could not be fetched from {repository} "
            f"({type(exc).__name__}: {detail}); check the network and run it again, or "
            f"get it by hand: {benchmark.how_to_get}"
        )
        raise BenchmarkError(message) from exc
    if not any(part.glob("**/*.parquet")):
        message = (
            f"{benchmark.name}: {repository} holds no {files[0]} any more; get it by hand: "
            f"{benchmark.how_to_get}"
        )
        raise BenchmarkError(message)
    return part.rename(folder)
