"""Models from the hub, by the real client, from a hub on this machine (HF_ENDPOINT)."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fashionclip.checkpoint import open_checkpoint
from hub_server import Hub, Repository, running_hub

# the client reads its environment when imported, so each condition has a process of its own
OPEN = """
import json, sys
from fashionclip.checkpoint import folder, open_checkpoint
from fashionclip.errors import CheckpointError
folder.HUB_TIMEOUT_S = 1.0
for call in json.loads(sys.argv[1]):
    try:
        print(json.dumps([open_checkpoint(**call).fingerprint, None]))
    except CheckpointError as exc:
        print(json.dumps([None, str(exc)]))
"""
Found = list[tuple[str | None, str | None]]
Open = Callable[..., Found]


@pytest.fixture
def hub(tiny_checkpoint: Path, tmp_path: Path) -> Iterator[Hub]:
    """A hub with a good model under several conditions, and with other repositories."""
    pickled, bert, truncated = (tmp_path / name for name in ("pickled", "bert", "truncated"))
    shutil.copytree(tiny_checkpoint, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    bert.mkdir()
    (bert / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    shutil.copytree(tiny_checkpoint, truncated)
    weights = truncated / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    repositories = {
        "shop/clip": Repository(tiny_checkpoint),
        "shop/gated": Repository(tiny_checkpoint, gated=True),
        "shop/private": Repository(tiny_checkpoint, token="hf_secret"),
        "shop/silent": Repository(tiny_checkpoint, hangs=True),
        "shop/pickled": Repository(pickled),
        "shop/bert": Repository(bert),
        "shop/truncated": Repository(truncated),
    }
    with running_hub(repositories) as hub:
        yield hub


@pytest.fixture
def open_from(tmp_path: Path) -> Open:
    """Open models in another process, whose cache is the same in one test."""

    def open_from(endpoint: str, *calls: dict[str, object], **environment: str) -> Found:
        done = subprocess.run(
            [sys.executable, "-c", OPEN, json.dumps(calls)],
            env={
                **os.environ,
                "HF_ENDPOINT": endpoint,
                "HF_HOME": str(tmp_path / "cache"),
                **environment,
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stderr == ""  # no progress bar where there is no terminal
        return [tuple(json.loads(line)) for line in done.stdout.splitlines()]

    return open_from


def test_a_model_is_fetched_once_and_then_opens_without_the_hub(hub, open_from, tiny_checkpoint):
    expected = open_checkpoint(tiny_checkpoint).fingerprint
    clip = {"name": "shop/clip"}
    assert open_from(hub.endpoint, clip) == [(expected, None)]
    assert any("model.safetensors" in request for request in hub.requests)
    hub.requests.clear()
    assert open_from(hub.endpoint, clip) == [(expected, None)]
    assert not any("/resolve/" in request for request in hub.requests)  # no file was downloaded
    hub.requests.clear()
    assert open_from(hub.endpoint, clip, HF_HUB_OFFLINE="1") == [(expected, None)]
    assert hub.requests == []
    hub.repositories["shop/clip"].hangs = True
    assert open_from(hub.endpoint, clip) == [(expected, None)]
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    assert open_from(nobody, clip) == [(expected, None)]


def test_only_the_files_of_a_clip_are_fetched(hub, open_from, tiny_checkpoint, tmp_path):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "with-more")
    for name in ("flax_model.msgpack", "tf_model.h5", "pytorch_model.bin", "run.py"):
        (folder / name).write_bytes(b"something large")
    hub.repositories["shop/clip"] = Repository(folder)
    [(fingerprint, _)] = open_from(hub.endpoint, {"name": "shop/clip"})
    assert fingerprint == open_checkpoint(tiny_checkpoint).fingerprint
    fetched = {request.rsplit("/", 1)[1] for request in hub.requests if "/resolve/" in request}
    assert not fetched & {"flax_model.msgpack", "tf_model.h5", "pytorch_model.bin", "run.py"}


def test_a_private_model_opens_with_its_token_and_a_revision_by_its_commit(hub, open_from):
    commit = hub.repositories["shop/clip"].commit
    found = open_from(
        hub.endpoint,
        {"name": "shop/private", "token": "hf_secret"},
        {"name": "shop/clip", "revision": commit},
        {"name": "shop/clip", "revision": "main"},
    )
    assert all(error is None for _, error in found)


def test_the_cache_may_lie_elsewhere(hub, open_from, tmp_path):
    place = tmp_path / "elsewhere"
    [(_, error)] = open_from(hub.endpoint, {"name": "shop/clip", "cache_dir": str(place)})
    assert error is None
    assert any(place.rglob("model.safetensors"))
    assert not any((tmp_path / "cache").rglob("model.safetensors"))


FAILURES = {
    "shop/none": "no folder here has this name, and the hub has no such repository, or a private",
    "models/clip/folder": "neither a local folder nor a hub name such as 'owner/model'",
    "shop/gated": "access is granted on its page first; then pass token= or run 'hf auth login'",
    "shop/private": "the hub has no such repository, or a private one: check the name, or pass tok",
    "shop/silent": "the hub cannot be reached and the cache holds no whole copy; check the network",
    "shop/bert": "describes a 'bert' model, not a CLIP; pass a CLIP model such as",
    "shop/truncated": "model.safetensors is truncated or not a safetensors file",
    "shop/pickled": "has no model.safetensors; if it holds pytorch_model.bin, convert it once: ",
}


def test_each_failure_is_one_line_that_says_what_to_do(hub, open_from):
    calls = [{"name": name} for name in FAILURES]
    found = open_from(hub.endpoint, *calls, {"name": "shop/clip", "revision": "v9"})
    for (_, error), (name, words) in zip(found, FAILURES.items(), strict=False):
        assert words in error
        assert "\n" not in error
        assert name in error or name.replace("/", "--") in error
    assert "it has no revision 'v9'; check the branch, tag or commit" in found[-1][1]


def test_without_a_network_and_a_copy_the_message_says_so(open_from):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    words = "the hub cannot be reached and the cache holds no whole copy"
    [(_, error)] = open_from(nobody, {"name": "shop/clip"})
    assert words in error
    [(_, error)] = open_from(nobody, {"name": "shop/clip"}, HF_HUB_OFFLINE="1")
    assert words in error


def test_an_interrupted_download_is_not_taken_for_a_model(hub, open_from, tiny_checkpoint):
    clip = {"name": "shop/clip"}
    hub.repositories["shop/clip"].breaks = "model.safetensors"
    [(_, error)] = open_from(hub.endpoint, clip)
    assert "the download failed" in error
    [(_, error)] = open_from(hub.endpoint, clip, HF_HUB_OFFLINE="1")
    assert "cannot be reached" in error or "has no model.safetensors" in error
    hub.repositories["shop/clip"].breaks = None
    expected = open_checkpoint(tiny_checkpoint).fingerprint
    assert open_from(hub.endpoint, clip) == [(expected, None)]
