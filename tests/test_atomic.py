"""A file is replaced whole, or stays as it was."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from fashionclip.atomic import whole_file, write_whole


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def write_half(path):
    with whole_file(path) as part:
        part.write_bytes(b"ne")
        raise ValueError("half way")


def write_nothing(path):
    with whole_file(path):
        pass


def test_a_file_is_made_and_replaced(tmp_path):
    path = tmp_path / "figures.json"
    for data in (b"first", b"", b"second"):
        write_whole(path, data)
        assert path.read_bytes() == data
    assert names(tmp_path) == ["figures.json"]


def test_what_fails_leaves_what_was_there_and_nothing_beside_it(tmp_path):
    path = tmp_path / "figures.json"
    write_whole(path, b"old")
    with pytest.raises(ValueError, match="half way"):
        write_half(path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["figures.json"]


def test_a_block_that_writes_nothing_is_a_mistake_and_leaves_the_file(tmp_path):
    path = tmp_path / "figures.json"
    write_whole(path, b"old")
    with pytest.raises(FileNotFoundError):
        write_nothing(path)
    assert path.read_bytes() == b"old"


def test_a_secret_is_its_owners_from_the_first_byte(tmp_path):
    write_whole(tmp_path / "keys", b"secret", mode=0o600)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600


def test_of_several_at_once_one_is_whole(tmp_path):
    path = tmp_path / "figures.json"
    versions = [bytes([i]) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda data: write_whole(path, data), versions))
    assert path.read_bytes() in versions
    assert names(tmp_path) == ["figures.json"]
