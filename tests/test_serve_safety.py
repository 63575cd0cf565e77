"""Who may do what, how much of it, and what never gets in: the service's guards one by one."""

import json
import stat

import pytest

from fashionclip.errors import ServiceError
from fashionclip.serve.keys import Keys, new_key

# keys


def test_a_key_opens_what_it_was_made_for_and_nothing_else_does(tmp_path):
    path = tmp_path / "keys"
    reader, writer = new_key(path, "read"), new_key(path, "write")
    keys = Keys.read(path)
    assert keys.scopes(reader) == {"read"}
    assert keys.scopes(writer) == {"read", "write"}
    for stranger in ("", reader[:-1], reader + "x", reader.upper(), "x" * 10_000, "\ud800", "日本"):
        assert keys.scopes(stranger) == frozenset()
    assert len(keys) == 2
    assert Keys().scopes(reader) == frozenset()


def test_the_file_holds_no_key_and_is_its_owners_alone(tmp_path):
    path = tmp_path / "deep" / "keys"
    secret = new_key(path, "read")
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    new_key(path, "read")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    salts = [json.loads(line)["salt"] for line in path.read_text().splitlines()]
    assert len(set(salts)) == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"secret\n", b"{}\n", b"[]", b"\xff", b'{"scope": "all", "salt": "", "hash": ""}'],
)
def test_a_file_that_holds_no_keys_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(ServiceError, match=r"make a new key|make one"):
        Keys.read(path)
    with pytest.raises(ServiceError):
        new_key(path, "read")
    assert path.read_bytes() == content


def test_keys_that_cannot_be_read_or_written_are_one_line(tmp_path):
    with pytest.raises(ServiceError, match="No such file"):
        Keys.read(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match="cannot be written"):
        new_key(tmp_path / "file" / "keys", "read")
    with pytest.raises(ValueError, match="read or write"):
        new_key(tmp_path / "keys", "admin")
