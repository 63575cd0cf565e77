"""From a bucket, by Ray, into PostgreSQL, served from two replicas: what docs/scale.md shows."""

import os
import sys
from contextlib import ExitStack

import pytest

from fashionclip.object_storage import open_files
from service_process import Service
from small_shop import ids, write_catalog

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals of POSIX"),
]
SEEN_S = 10.0
"""Two seconds, as the docs say, and more for a busy machine; test_replicas.py measures them."""


def test_a_catalogue_in_a_bucket_is_served_from_two_replicas_over_postgresql(
    s3_server, postgres_server, model, shell, fashionclip, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # for rejects.jsonl
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)  # the workers get the options from the command
    options = {
        "aws_access_key_id": "tests",
        "aws_secret_access_key": "tests",
        "aws_region": "us-east-1",
        "aws_endpoint": s3_server,
        "allow_http": "true",
    }
    table, folder = write_catalog(tmp_path), "s3://scale"
    files, _ = open_files(folder, options)
    files.call_s3("create_bucket", Bucket="scale")
    for path in (table, *(tmp_path / "images").iterdir()):
        files.pipe_file(f"{folder}/{path.relative_to(tmp_path)}", path.read_bytes())
    uri = f"{postgres_server.new_database('scale')}&store=shop"
    index = ("index", f"{folder}/{table.name}", "--into", uri, "--model", model, "--json")
    index += tuple(f"--storage-option={name}={value}" for name, value in options.items())

    ended = shell(*index, "--ray", "local", "--workers", 2)
    assert ended.status == 0, ended.err
    assert ended.json["embedded"] == ended.json["products"] == len(ids())
    assert ended.err.splitlines()[0] == "Ray: 2 workers with 1 core each"

    serve = [sys.executable, "-m", "fashionclip.cli", "serve", uri, "--model", str(model)]
    serve += ["--read-only", "--port", "0"]
    with ExitStack() as stack:
        replicas = [stack.enter_context(Service(serve)) for _ in range(2)]
        found = [replica.search(text="red shirt", k=100) for replica in replicas]
        assert found[0] == found[1]
        assert sorted(found[0]) == sorted(ids())

        lines = table.read_text("utf-8").splitlines()
        cheaper = lines[1].replace('"price": 11.5', '"price": 1.5')
        files.pipe_file(f"{folder}/{table.name}", "\n".join([cheaper, *lines[2:]]).encode())
        again = fashionclip(*index)
        counts = {name: again.json[name] for name in ("updated", "removed", "embedded")}
        assert counts == {"updated": 1, "removed": 1, "embedded": 0}
        for replica in replicas:
            replica.wait_until(
                lambda replica=replica: replica.search(where="price < 5", k=9) == [ids()[1]], SEEN_S
            )
            assert ids()[0] not in replica.search(k=100)
