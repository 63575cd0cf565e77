"""A catalogue in a bucket is encoded by Ray's workers into PostgreSQL, by one command."""

import json
import os
import subprocess
import sys

import pytest

from fashionclip.object_storage import open_files

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the servers run on POSIX")


@pytest.mark.slow
def test_a_catalogue_in_a_bucket_goes_into_postgresql_by_workers_on_ray(
    shop, store, model, s3_server, postgres_server, fashionclip
):
    options = {
        "aws_access_key_id": "tests",
        "aws_secret_access_key": "tests",
        "aws_region": "us-east-1",
        "aws_endpoint": s3_server,
        "allow_http": "true",
    }
    files, _ = open_files("s3://on-ray", options)
    files.call_s3("create_bucket", Bucket="on-ray")
    files.put(f"{shop}/", "s3://on-ray/", recursive=True)
    uri = f"{postgres_server.new_database('ray')}&store=shop"
    words = ["index", "s3://on-ray/products.csv", "--images", "s3://on-ray/images", "--into", uri]
    words += ["--model", model, "--ray", "local", "--workers", "2", "--json"]
    words += [word for pair in options.items() for word in ("--storage-option", "=".join(pair))]
    done = subprocess.run(
        [sys.executable, "-m", "fashionclip.cli", *map(str, words)],
        # the workers have to get the options from the command
        env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert (counts["stored"], counts["rejected"]) == (20, 0)
    assert done.stderr.splitlines()[0] == "Ray: 2 workers with 1 core each"
    query = ("red shirt", "--mode", "vectors", "--json")
    there, here = (fashionclip("search", one, *query).json["hits"] for one in (uri, store))
    assert [hit["id"] for hit in there] == [hit["id"] for hit in here]
