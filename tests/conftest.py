"""Fixtures of many tests: a tiny CLIP written by transformers, and a clean environment."""

import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
from hypothesis import settings

from postgres_server import PostgresServer
from random_clip import write_checkpoint

SRC = Path(__file__).parents[1] / "src"
# array shapes are checked in the modules that state them; elsewhere that would cost time alone
jaxtyping.install_import_hook(
    [
        ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((SRC / "fashionclip").rglob("*.py"))
        if "from jaxtyping import" in path.read_text(encoding="utf-8")
    ],
    "beartype.beartype",
)
# the same examples in every run, so that failures are reproducible; busy machines miss deadlines
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")
# one worker a core: threads of PyTorch would wait for those of other workers, busily
os.environ.setdefault("OMP_NUM_THREADS", "1")
HOMES = itertools.count()


@pytest.fixture(autouse=True)
def clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Hide the user's home, caches and hub settings."""
    home = tmp_path_factory.getbasetemp() / f"home-{next(HOMES)}"  # made by those that use it
    for name in list(os.environ):
        if name.startswith(("HF_", "FASHIONCLIP_", "TRANSFORMERS_")):
            monkeypatch.delenv(name)
    if s3fs := sys.modules.get(
        "s3fs"
    ):  # file systems are cached without the environment's endpoint
        s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))


@pytest.fixture
def unchecked_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check no types, as in a user's program, so that the package's own checks are met."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP, 32 px and two layers a tower, as a folder written by transformers."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="module")
def indexed_shop(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of a small shop by the tiny checkpoint; tests that change it copy it."""
    from small_shop import index_shop, write_catalog

    table = write_catalog(tmp_path_factory.mktemp("catalog"))
    index_shop(table, tiny_checkpoint, table.parent / "shop.lance")
    return table.parent / "shop.lance"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server of S3's protocol, which takes any key."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3_bucket(s3_server: str) -> Iterator[str]:
    """An empty bucket, with its server and keys in the environment."""
    settings_of_aws = {
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ENDPOINT_URL": s3_server,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings_of_aws.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem().mkdir("shops")
        yield "s3://shops"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL, in a folder that its own user can enter where root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="fashionclip-postgres-"))
    server = PostgresServer(folder / "data")
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_uri(postgres_server: PostgresServer) -> str:
    """An empty database."""
    return postgres_server.new_database("tests")
