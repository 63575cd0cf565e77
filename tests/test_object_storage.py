"""Object storage on a real server on loopback: options, two writers, locks, faults."""

import asyncio
import io
import itertools
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fashionclip
from encoded_images import image_bytes
from fashionclip import encoding, indexing
from fashionclip.catalog import Catalog
from fashionclip.cli.main import run
from fashionclip.encoding import local_encoder
from fashionclip.errors import (
    CatalogError,
    CredentialsError,
    ImageFetchError,
    MissingSourceError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
)
from fashionclip.images.fetch import FetchPolicy, read_image_bytes
from fashionclip.indexing import index_catalog
from fashionclip.model import FashionCLIP
from fashionclip.object_storage import (
    OPTIONS,
    check_options,
    fsspec_options,
    lance_options,
    open_files,
    without_secrets,
)
from fashionclip.product import Reject
from fashionclip.serve.metrics import Metrics
from fashionclip.serve.service import SearchService
from fashionclip.serve.settings import Settings
from fashionclip.store import StoreMeta, create_store, holds_store, open_store, read_meta
from fashionclip.store.lance import faults as lance_faults
from fashionclip.store.lance import remote_lock
from fashionclip.store.lance.place import place_of
from faulty_s3 import FaultyS3, Plan, every
from small_shop import draw
from test_store_contract import all_ids, delete, meta_of, products, unit_vectors, upsert

SECRET = "s3cr3t/that+nobody=reads"
COUNTER = itertools.count()


def options_of(endpoint: str) -> dict[str, str]:
    return {
        "aws_access_key_id": "tests",
        "aws_secret_access_key": SECRET,
        "aws_region": "us-east-1",
        "aws_endpoint": endpoint,
        "allow_http": "true",
    }


@pytest.fixture(scope="module")
def s3(s3_server: str) -> Iterator[FaultyS3]:
    """A bucket ``shop`` behind a proxy; nothing of it is in the environment."""
    open_files("s3://shop", options_of(s3_server))[0].call_s3("create_bucket", Bucket="shop")
    proxy = FaultyS3(s3_server)
    yield proxy
    proxy.stop()


@pytest.fixture
def given(s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The options of the proxy, which makes no faults at first."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3.plan, s3.n_faults = lambda method, path: None, 0
    yield options_of(s3.url)
    s3.plan = lambda method, path: None


@pytest.fixture
def uri() -> str:
    return f"s3://shop/store-{next(COUNTER)}.lance"


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> FashionCLIP:
    return FashionCLIP.from_pretrained(tiny_checkpoint, device="cpu", precision="float32")


def put_catalog(given: dict[str, str], folder: str, ids: list[str]) -> str:
    """Write a table and its pictures into the bucket."""
    files, root = open_files(f"s3://shop/{folder}", given)
    colours = ("red", "blue", "green", "black", "orange", "purple")
    rows = [["id", "title", "image"]]
    for i, name in enumerate(ids):
        picture = image_bytes(draw(colours[i % 6], size_px=40 + i), "PNG")
        files.pipe_file(f"{root}/photos/{name}.png", picture)
        rows.append([name, f"dress {name}", f"photos/{name}.png"])
    files.pipe_file(f"{root}/shop.csv", "\n".join(map(",".join, rows)).encode())
    return f"s3://shop/{folder}/shop.csv"


# options


@pytest.mark.parametrize(
    ("location", "options", "expected"),
    [
        (
            "s3://b/x",
            {"AWS_ACCESS_KEY_ID": "a", "aws_secret_access_key": "b", "aws_session_token": "c",
             "aws_region": "eu-west-1", "aws_endpoint": "http://h", "allow_http": "true",
             "aws_virtual_hosted_style_request": "true", "google_base_url": "http://g"},
            {"key": "a", "secret": "b", "token": "c", "endpoint_url": "http://h",
             "client_kwargs": {"region_name": "eu-west-1"},
             "config_kwargs": {"s3": {"addressing_style": "virtual"}}},
        ),
        ("s3://b/x", {"aws_skip_signature": "true"}, {"anon": True}),
        ("gs://b/x", {"google_service_account": "/key.json", "aws_region": "x"},
         {"token": "/key.json"}),
        ("gs://b/x", {"google_service_account_key": '{"a": 1}', "google_base_url": "http://g"},
         {"token": {"a": 1}, "endpoint_url": "http://g"}),
        ("gs://b/x", {"google_skip_signature": "true"}, {"token": "anon"}),
        ("az://c/x", {"azure_storage_account_name": "n", "azure_storage_account_key": "k"},
         {"account_name": "n", "account_key": "k"}),
        ("az://c/x", {"azure_storage_account_name": "n", "azure_storage_account_key": "k",
                      "azure_storage_endpoint": "http://h:1/n", "allow_http": "true"},
         {"connection_string": "BlobEndpoint=http://h:1/n;AccountName=n;AccountKey=k"}),
        ("abfss://c/x", {"azure_storage_client_id": "i", "azure_storage_client_secret": "s",
                         "azure_storage_tenant_id": "t", "azure_skip_signature": "no"},
         {"client_id": "i", "client_secret": "s", "tenant_id": "t", "anon": False}),
        ("shop.lance", {"aws_region": "x"}, {}),
    ],
)  # fmt: skip
def test_options_have_one_name_for_lance_and_fsspec(location, options, expected):
    assert fsspec_options(location, options) == expected


def test_each_store_gets_only_its_own_options():
    options = {"aws_region": "x", "google_base_url": "y", "allow_http": "true"}
    assert lance_options("s3://b/x", options) == {"aws_region": "x", "allow_http": "true"}
    assert lance_options("shop.lance", options) == {}
    plain = {"aws_endpoint": "http://h"}
    assert lance_options("s3://b/x", plain) == plain | {"allow_http": "true"}
    assert "allow_http" not in lance_options("s3://b/x", {"aws_endpoint": "https://h"})


@pytest.mark.slow
def test_an_endpoint_without_tls_in_the_environment_works_or_names_the_option(
    s3, given, uri, monkeypatch, capfd
):
    create_store(uri, meta_of(), storage_options=given)
    monkeypatch.delenv("AWS_ALLOW_HTTP", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(StoreError, match="add --storage-option allow_http=true"):
        open_store(uri)
    assert run(["index", "--verify", uri]) == 0
    assert "0 products checked" in capfd.readouterr().err


def test_an_unknown_fault_of_object_storage_is_not_called_damage():
    with (
        pytest.raises(StoreError, match=r"\(strange\): check the endpoint") as caught,
        lance_faults.reported("s3://shop/x.lance"),
    ):
        raise OSError("strange")
    assert not isinstance(caught.value, StoreCorruptError)
    assert "delete" not in str(caught.value)


@pytest.mark.parametrize(
    "use",
    [
        lambda wrong: check_options(wrong),
        lambda wrong: FetchPolicy(storage_options=wrong),
        lambda wrong: open_store("shop.lance", storage_options=wrong),
        lambda wrong: holds_store("s3://b/x", storage_options=wrong),
        lambda wrong: Catalog.open("shop.csv", storage_options=wrong),
        lambda wrong: fashionclip.Index.open("shop.lance", storage_options=wrong),
    ],
)
def test_an_unknown_option_is_named_with_the_nearest_one_and_without_its_value(use):
    with pytest.raises(
        ValueError, match=r"'aws_secret_key'; did you mean aws_secret_access_key"
    ) as e:
        use({"aws_secret_key": SECRET})
    assert SECRET not in str(e.value)


def test_secrets_are_in_no_message_and_no_representation():
    secrets = {name: f"{SECRET}-{name}" for name, one in OPTIONS.items() if one.is_secret}
    text = " ".join(secrets.values()) + " https://h/x?sig=abc&X-Amz-Signature=def"
    assert without_secrets(text, secrets) == " ".join(
        ["***"] * len(secrets) + ["https://h/x?sig=***&X-Amz-Signature=***"]
    )
    for shown in (FetchPolicy(storage_options=secrets), Settings(storage_options=secrets)):
        assert SECRET not in repr(shown)
    with pytest.raises(ValueError, match="google_service_account_key is not valid JSON") as error:
        fsspec_options("gs://b/x", {"google_service_account_key": SECRET})
    assert SECRET not in str(error.value)


def test_catalogue_pictures_and_store_are_in_buckets_by_options_alone(given, uri, model):
    table = put_catalog(given, "whole", ["a", "b", "c"])
    catalog = Catalog.open(table, storage_options=given)
    report = index_catalog(catalog, model, uri, storage_options=given)
    assert (report.stored, report.rejected) == (3, 0)
    assert read_meta(uri, storage_options=given).dim == model.dim
    index = fashionclip.Index.open(uri, model=model, storage_options=given)
    assert index.search("dress", mode="words", k=3).results.hits
    assert [image is not None for image in index.read_images(["a", "c"])] == [True, True]
    assert SECRET not in f"{index!r} {index.meta} {index.store!r} {index.store.info()}"
    again = index_catalog(catalog, model, uri, storage_options=given)
    assert (again.unchanged, again.embedded) == (3, 0)


def test_a_folder_of_a_bucket_is_a_catalogue(given):
    files, root = open_files("s3://shop/folders", given)
    files.pipe_file(f"{root}/kaggle/styles.csv", b"id,productDisplayName\n15970,Shirt\n")
    files.pipe_file(f"{root}/kaggle/images/15970.jpg", b"picture")
    for i in range(2):
        table = io.BytesIO()
        pq.write_table(pa.table({"id": [f"p{i}"], "image": [f"{i}.jpg"]}), table)
        files.pipe_file(f"{root}/shards/part-{i}.parquet", table.getvalue())
    files.pipe_file(f"{root}/two/a.csv", b"id\n1\n")
    files.pipe_file(f"{root}/two/b.csv", b"id\n1\n")
    files.pipe_file(f"{root}/none/readme.md", b"nothing")
    files.pipe_file(f"{root}/no-suffix", b"id,image\n1,a.jpg\n")

    catalog = Catalog.open("s3://shop/folders/kaggle/", storage_options=given)
    (product,) = catalog
    assert product.image == "s3://shop/folders/kaggle/images/15970.jpg"
    assert catalog.read_image(product) == b"picture"
    shards = list(Catalog.open("s3://shop/folders/shards", storage_options=given))
    assert [(one.product_id, one.image) for one in shards] == [
        (f"p{i}", f"s3://shop/folders/shards/{i}.jpg") for i in range(2)
    ]
    assert len(list(Catalog.open("s3://shop/folders/no-suffix", storage_options=given))) == 1
    for folder, message in {
        "two": r"two: several tables in this folder \(a.csv, b.csv\); name the one",
        "none": "none: no table in this folder; expected one of .csv",
        "gone": "gone: no such file",
    }.items():
        with pytest.raises(CatalogError, match=message):
            Catalog.open(f"s3://shop/folders/{folder}", storage_options=given)


@pytest.mark.parametrize("words", ["novalue", "=x", "aws_secret_key=" + SECRET])
def test_the_command_line_refuses_options_without_showing_their_values(words, capfd):
    assert run(["info", "s3://b/x", "--storage-option", words]) == 2
    said = "".join(capfd.readouterr())
    assert "--storage-option" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("location", "options", "what"),
    [
        ("s3://b/x", ["aws_access_key_id=abc"], "credentials are incomplete"),
        ("s3://", ["aws_skip_signature=true"], "names no bucket"),
    ],
)
@pytest.mark.parametrize("command", [["info"], ["catalog", "check"]])
def test_half_of_the_credentials_and_no_bucket_are_said(command, location, options, what, capfd):
    words = [f"--storage-option={one}" for one in [*options, "aws_endpoint=http://127.0.0.1:9"]]
    assert run([*command, location, *words]) == 1
    assert what in capfd.readouterr().err


def test_info_of_a_bucket_by_the_command_line(given, uri, capfd):
    upsert(create_store(uri, meta_of(), storage_options=given), products(2))
    words = [part for pair in given.items() for part in ("--storage-option", "=".join(pair))]
    capfd.readouterr()
    assert run(["info", uri, "--json", *words]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["products"] == 2
    assert SECRET not in out + err


def test_an_empty_object_and_a_large_one_are_read(given):
    files, _ = open_files("s3://shop", given)
    policy = FetchPolicy(storage_options=given)
    for data in (b"", bytes(range(256)) * (9 << 12)):  # more than one request reads
        files.pipe_file("shop/file", data)
        assert read_image_bytes("s3://shop/file", policy=policy) == data
    with pytest.raises(ImageFetchError, match="larger than the limit of 1 MiB"):
        read_image_bytes("s3://shop/file", policy=replace(policy, max_bytes=1 << 20))


# two programs at once


def test_of_two_that_create_a_store_at_once_one_does(given, uri):
    barrier = threading.Barrier(2)

    def create(_: int) -> str:
        barrier.wait()
        try:
            create_store(uri, meta_of(), storage_options=given)
        except StoreError as error:
            return str(error)
        return "made"

    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(pool.map(create, range(2)))
    assert outcomes == ["made", f"there is an index at {uri} already: open it, or delete it"]
    assert all_ids(open_store(uri, storage_options=given)) == []
    with pytest.raises(StoreError, match="there is an index at"):  # also without the lock
        place_of(uri, given).create(b"another")


@pytest.mark.slow
def test_two_runs_into_one_bucket_end_as_one_after_the_other(given, uri, model):
    names = [[f"p{i}" for i in range(8)], [f"p{i}" for i in range(4, 12)]]
    tables = [put_catalog(given, f"two-{i}", ids) for i, ids in enumerate(names)]
    catalogs = [Catalog.open(table, storage_options=given) for table in tables]
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(index_catalog, one, model, uri, storage_options=given) for one in catalogs
        ]
        reports = [run.result() for run in runs]
    store = open_store(uri, storage_options=given)
    assert all_ids(store) in [sorted(some) for some in names]  # the second one's catalogue
    assert (len(store), store.verify().damaged) == (8, ())
    assert sorted((report.stored, report.removed) for report in reports) == [(4, 4), (8, 0)]


def test_a_writer_waits_for_another_one_and_says_for_whom(given, uri):
    first = create_store(uri, meta_of(), storage_options=given)
    second = open_store(uri, storage_options=given)
    holders: list[str] = []
    with first.writer():
        with (
            pytest.raises(StoreLockedError, match=r"is being written to by process \d+ on "),
            second.writer(timeout_s=0.0, on_wait=holders.append),
        ):
            pass
        assert len(holders) == 1
    with second.writer(timeout_s=0.0) as writer, second.writer():
        writer.upsert(products(1), unit_vectors(1), [bytes(16)])
    assert all_ids(first) == ["p0"]
    files, root = open_files(uri, given)
    files.rm_file(f"{root}/lock")  # as by somebody who tidies up
    assert delete(second, "p0") == 1


def test_the_lock_of_a_dead_writer_is_taken_over_and_the_dead_one_writes_no_more(
    given, uri, monkeypatch
):
    monkeypatch.setattr(remote_lock, "RENEW_S", 0.05)
    monkeypatch.setattr(remote_lock, "POLL_S", 0.05)
    first = create_store(uri, meta_of(), storage_options=given)
    second = open_store(uri, storage_options=given)
    with first.writer() as paused:
        paused.upsert(products(1), unit_vectors(1), [bytes(16)])
        with pytest.raises(StoreLockedError), second.writer(timeout_s=0.3):
            pytest.fail("the holder renews its lock")
        monkeypatch.setattr(remote_lock, "DEAD_AFTER_S", 0.0)  # as if it had stopped
        monkeypatch.setattr(remote_lock, "RENEW_S", 60.0)
        with second.writer(timeout_s=5.0) as writer:
            writer.upsert(products(1, start=1), unit_vectors(1), [bytes(16)])
            monkeypatch.setattr(remote_lock, "RENEW_S", 0.0)
            with pytest.raises(StoreLockedError, match="was taken over by process"):
                paused.delete(["p0"])
    assert all_ids(second) == ["p0", "p1"]


COUNTER_PROGRAM = """
import json, sys
import numpy as np
from fashionclip.product import Product
from fashionclip.store import open_store

def count_on(uri, options, times):
    store = open_store(uri, storage_options=options)
    for _ in range(times):
        with store.writer(timeout_s=60.0) as writer:
            product = Product(f"p{len(store)}", "", None, 1, {})
            writer.upsert([product], np.eye(8, dtype=np.float32)[:1], [bytes(16)])

if __name__ == "__main__":
    count_on(sys.argv[1], json.loads(sys.argv[2]), 3)
"""


@pytest.mark.slow
def test_writers_of_several_processes_and_threads_never_overlap(given, uri, monkeypatch):
    """Each writes what it has counted, so that two at once would write the same product."""
    monkeypatch.setattr(remote_lock, "POLL_S", 0.05)
    store = create_store(uri, meta_of(), storage_options=given)
    command = [sys.executable, "-c", COUNTER_PROGRAM, uri, json.dumps(given)]
    others = [subprocess.Popen(command) for _ in range(2)]
    program: dict[str, Any] = {"__name__": "counting"}
    exec(COUNTER_PROGRAM, program)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: program["count_on"](uri, given, 6), range(2)))
    assert [other.wait() for other in others] == [0, 0]
    assert all_ids(store) == sorted(f"p{i}" for i in range(18))
    assert len(store) == 18


HOLDER = """
import json, sys, time
from fashionclip.store import open_store
with open_store(sys.argv[1], storage_options=json.loads(sys.argv[2])).writer():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_the_lock_of_a_killed_process_is_free_after_a_while(given, uri, monkeypatch):
    store = create_store(uri, meta_of(), storage_options=given)
    command = [sys.executable, "-c", HOLDER, uri, json.dumps(given)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with (
        pytest.raises(StoreLockedError, match=f"by process {holder.pid} on "),
        store.writer(timeout_s=0.0),
    ):
        pass
    monkeypatch.setattr(remote_lock, "DEAD_AFTER_S", 1.0)
    with store.writer(timeout_s=5.0) as writer:
        writer.upsert(products(1), unit_vectors(1), [bytes(16)])
    assert all_ids(store) == ["p0"]


def test_who_may_only_read_searches_and_is_told_so_when_writing(s3, given, uri):
    upsert(create_store(uri, meta_of(), storage_options=given), products(3))
    s3.plan = lambda method, path: None if method in {"GET", "HEAD"} else "AccessDenied"
    store = open_store(uri, storage_options=given)
    assert len(store.nearest(unit_vectors(1), k=3)[0]) == 3
    with (
        pytest.raises(StoreError, match="these credentials have no right to do this"),
        store.writer(),
    ):
        pytest.fail("the lock cannot be taken")


@pytest.mark.slow
def test_a_service_reads_its_store_and_pictures_with_the_options(
    given, uri, model, tiny_checkpoint
):
    catalog = Catalog.open(put_catalog(given, "served", ["a", "b"]), storage_options=given)
    index_catalog(catalog, model, uri, storage_options=given)
    settings = Settings(
        storage_options=given, model=str(tiny_checkpoint), device="cpu", precision="float32"
    )
    service = SearchService(uri, settings, Metrics())
    try:
        assert service.count == 2
        assert asyncio.run(service.thumbnail("a", 160)) is not None
    finally:
        service.close()


# faults that pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan",
    [
        every(9, "SlowDown"),
        every(9, "drop", method="GET", until=60),
        every(2, 0.05),
    ],
    ids=["503", "dropped", "slow"],
)
def test_faults_that_pass_are_retried_and_the_run_ends_well(s3, given, uri, model, plan, tmp_path):
    table = put_catalog(given, "passing", ["a", "b", "c", "d"])
    s3.plan = plan
    catalog = Catalog.open(table, storage_options=given)
    report = index_catalog(
        catalog, model, uri, storage_options=given, rejects=tmp_path / "rejects.jsonl"
    )
    assert (report.stored, report.rejected) == (4, 0)
    assert s3.n_faults > 3
    s3.plan = lambda method, path: None
    assert open_store(uri, storage_options=given).verify().damaged == ()


# faults that last


@pytest.mark.slow
def test_a_picture_without_rights_costs_only_itself(s3, given, uri, model, tmp_path):
    table = put_catalog(given, "denied", ["a", "b", "c"])
    s3.plan = lambda method, path: "AccessDenied" if "photos/b.png" in path else None
    rejects = tmp_path / "rejects.jsonl"
    catalog = Catalog.open(table, storage_options=given)
    report = index_catalog(catalog, model, uri, storage_options=given, rejects=rejects)
    assert (report.stored, report.rejected) == (2, 1)
    assert "b.png: these credentials have no right to do this" in rejects.read_text()


@pytest.mark.slow
def test_an_expired_key_of_the_pictures_stops_the_run_and_the_next_one_goes_on(
    s3, given, uri, model, monkeypatch
):
    monkeypatch.setattr(encoding, "READ_AHEAD", 1)
    catalog = Catalog.open(put_catalog(given, "expiring", list("abcdef")), storage_options=given)
    asked = itertools.count()
    s3.plan = lambda method, path: (
        "ExpiredToken" if "photos/" in path and next(asked) >= 2 else None
    )
    message = r"photos/c\.png: the credentials have expired: renew them"
    with pytest.raises(CredentialsError, match=message):
        index_catalog(catalog, model, uri, storage_options=given)
    with pytest.raises(CredentialsError, match="the credentials have expired"):
        list(encoding.encode_products(catalog, local_encoder(model), policy=catalog.policy))
    s3.plan = lambda method, path: None
    report = index_catalog(catalog, model, uri, storage_options=given)
    assert (report.count, report.rejected) == (6, 0)


@pytest.mark.slow
def test_a_bucket_of_pictures_that_vanishes_stops_the_run_and_the_next_one_goes_on(
    s3, given, uri, model, monkeypatch
):
    monkeypatch.setattr(encoding, "READ_AHEAD", 1)
    catalog = Catalog.open(put_catalog(given, "vanishing", list("abcdef")), storage_options=given)
    asked = itertools.count()
    s3.plan = lambda method, path: (
        "NoSuchBucket" if "photos/" in path and next(asked) >= 2 else None
    )
    message = "s3://shop has lost all of its images: bring them back, then run this again"
    with pytest.raises(MissingSourceError, match=message):
        index_catalog(catalog, model, uri, storage_options=given)
    assert len(open_store(uri, storage_options=given)) == 2
    never_there = list(
        encoding.encode_products(catalog, local_encoder(model), policy=catalog.policy)
    )
    assert [type(item) for item in never_there] == [Reject] * 6
    assert "there is no such bucket" in never_there[0].reason
    s3.plan = lambda method, path: None
    report = index_catalog(catalog, model, uri, storage_options=given)
    assert (report.count, report.embedded, report.rejected) == (6, 4, 0)


@pytest.mark.slow
def test_a_large_table_in_a_bucket_is_optimized_by_a_process_of_its_own(
    s3, given, uri, monkeypatch
):
    monkeypatch.setattr("fashionclip.store.lance.upkeep.APPROXIMATE_FROM", 300)
    monkeypatch.setattr("fashionclip.store.lance.upkeep_process.APART_FROM", 300)
    store = create_store(uri, meta_of(), storage_options=given)
    upsert(store, products(400))
    with store.writer() as writer:
        writer.optimize()
    assert store.info().is_approximate
    assert len(store) == 400


def from_the_first_write(fault: str, uri: str) -> Plan:
    """A fault in every request to a store, from the first data that is written to it."""
    has_begun = False

    def plan(method: str, path: str) -> str | None:
        nonlocal has_begun
        is_of_store = uri.rpartition("/")[2] in path
        has_begun |= is_of_store and method == "PUT" and "/data/" in path
        return fault if has_begun and is_of_store else None

    return plan


@pytest.mark.slow
def test_a_store_that_fails_stops_the_run_in_one_line_and_the_next_one_goes_on(
    s3, given, uri, model, monkeypatch
):
    monkeypatch.setattr(indexing, "ROWS_PER_WRITE", 2)
    names = list("abcdef")
    catalog = Catalog.open(put_catalog(given, "failing", names), storage_options=given)
    meta = StoreMeta("", model.name, model.fingerprint, model.dim)
    create_store(uri, meta, storage_options=given)
    faults = {
        "ExpiredToken": "the credentials have expired: renew them, then run this again",
        "NoSuchBucket": "there is no such bucket: check its name, or make it",
        "AccessDenied": "these credentials have no right to do this: ask for it, or use others",
    }
    for fault, why in faults.items():
        s3.plan = from_the_first_write(fault, uri)
        with pytest.raises(StoreError) as error:
            index_catalog(catalog, model, uri, storage_options=given)
        assert re.fullmatch(rf"the index {uri} cannot be (used|reached): {why}", str(error.value))
    s3.plan = lambda method, path: None
    index_catalog(catalog, model, uri, storage_options=given)
    store = open_store(uri, storage_options=given)
    assert (all_ids(store), store.verify().damaged) == (names, ())


def test_nothing_depends_on_lists_that_show_new_objects(s3, given, uri):
    """Only Lance's own list of versions has to be true, as it is on S3, Google's and Azure's."""
    s3.plan = lambda method, path: (
        "nothing listed" if "list-type" in path and "products.lance%2F" not in path else None
    )
    store = create_store(uri, meta_of(), storage_options=given)
    upsert(store, products(3))
    location = store.blobs.put("p0", b"picture")
    other = open_store(uri, storage_options=given)
    assert all_ids(other) == ["p0", "p1", "p2"]
    assert other.blobs.read(location) == b"picture"
    with pytest.raises(StoreError, match="there is an index at"):
        create_store(uri, meta_of(), storage_options=given)
    with other.writer(timeout_s=0.0) as writer:
        writer.delete(["p0"])
    store.blobs.delete("p0")  # not listed yet, so it stays for a later run
    s3.plan = lambda method, path: None
    store.blobs.delete_others(all_ids(store))
    with pytest.raises(ImageFetchError, match="the store keeps no such image"):
        store.blobs.read(location)


def test_a_list_of_versions_that_comes_late_is_waited_for(s3, given, uri, monkeypatch):
    shown_at = time.monotonic() + 1.0
    s3.plan = lambda method, path: (
        "nothing listed" if "list-type" in path and time.monotonic() < shown_at else None
    )
    upsert(create_store(uri, meta_of(), storage_options=given), products(3))
    assert all_ids(open_store(uri, storage_options=given)) == ["p0", "p1", "p2"]
    s3.plan = lambda method, path: "nothing listed" if "list-type" in path else None
    monkeypatch.setattr(lance_faults, "PAUSES_S", (0.0,))
    with pytest.raises(StoreError, match="lists no version of its table: if it was made a moment"):
        open_store(uri, storage_options=given)


def test_the_rest_of_a_killed_creation_that_is_not_listed_is_written_over(s3, given, uri):
    files, root = open_files(uri, given)
    upsert(create_store(uri, meta_of(), storage_options=given), products(3))
    files.rm_file(f"{root}/index.json")
    s3.plan = lambda method, path: (
        "nothing listed" if "list-type" in path and "products.lance%2F" not in path else None
    )
    assert len(create_store(uri, meta_of(), storage_options=given)) == 0
