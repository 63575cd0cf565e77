"""Aliases: files that say which store a name stands for."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionclip.cli.main import run
from fashionclip.errors import StoreError
from fashionclip.store import (
    StoreMeta,
    create_store,
    holds_store,
    local_folder,
    open_store,
    read_meta,
)
from fashionclip.store.alias import is_alias, resolve, write_alias

META = StoreMeta("", "model", "print", 4)


def test_an_alias_stands_for_its_store_everywhere(tmp_path, monkeypatch):
    store = create_store(tmp_path / "v1.lance", META)
    write_alias(tmp_path / "shop.alias", tmp_path / "v1.lance")
    assert (tmp_path / "shop.alias").read_text() == "v1.lance\n"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    alias = "../shop.alias"
    assert open_store(alias).meta.created == store.meta.created
    assert read_meta(alias).fingerprint == "print"
    assert holds_store(alias)
    assert local_folder(alias) == Path("../v1.lance")
    with pytest.raises(StoreError, match="there is an index at"):
        create_store(alias, META)


def test_a_store_can_be_made_under_an_alias(tmp_path):
    write_alias(tmp_path / "shop.alias", tmp_path / "new.lance")
    assert not holds_store(tmp_path / "shop.alias")
    create_store(tmp_path / "shop.alias", META)
    assert holds_store(tmp_path / "new.lance")


def test_an_alias_moves_with_its_folder_and_names_stores_elsewhere_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("shop").mkdir()
    write_alias("shop/shop.alias", "shop/v1.lance")
    Path("shop").rename("moved")
    assert resolve("moved/shop.alias") == "moved/v1.lance"
    write_alias("moved/shop.alias", "other.lance")
    assert resolve("moved/shop.alias") == str(tmp_path / "other.lance")
    write_alias("moved/shop.alias", "memory://shop")
    assert resolve("moved/shop.alias") == "memory://shop"


def test_a_password_in_an_alias_is_for_its_owner(tmp_path):
    write_alias(tmp_path / "shop.alias", "postgresql://me:secret@host/shop")
    assert resolve(tmp_path / "shop.alias") == "postgresql://me:secret@host/shop"
    if os.name == "posix":
        assert (tmp_path / "shop.alias").stat().st_mode & 0o077 == 0


def test_only_files_named_alias_are_aliases(tmp_path):
    (tmp_path / "folder.alias").mkdir()
    assert not is_alias(tmp_path / "folder.alias")
    assert not is_alias("s3://bucket/shop.alias")
    assert not is_alias("shop.lance")
    assert resolve("shop.lance") == "shop.lance"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no alias"),
        (b"", "does not hold a store's address"),
        (b"a.lance\nb.lance\n", "does not hold a store's address"),
        (b"\xff\xfe", "it is not text"),
        (b"x" * 10_000, "does not hold a store's address"),
        (b"other.alias", "names another alias"),
    ],
)
def test_a_faulty_alias_says_how_to_mend_it(content, told, tmp_path):
    path = tmp_path / "shop.alias"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=told) as raised:
        open_store(path)
    assert "fashionclip switch" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_cannot_be_an_alias_is_refused(tmp_path):
    write_alias(tmp_path / "shop.alias", tmp_path / "v1.lance")
    with pytest.raises(StoreError, match=r"let it end in \.alias"):
        write_alias(tmp_path / "shop.txt", "v1.lance")
    with pytest.raises(StoreError, match="is an alias: name the store itself"):
        write_alias(tmp_path / "two.alias", tmp_path / "shop.alias")
    with pytest.raises(StoreError, match="cannot be written"):
        write_alias(tmp_path / "nowhere" / "shop.alias", "v1.lance")


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).filter(
    lambda name: "/" not in name and name not in {".", ".."} and not name.endswith(".alias")
)


@given(folders=st.lists(NAMES, max_size=3), name=NAMES)
def test_an_alias_gives_back_what_was_written(tmp_path_factory, folders, name):
    base = tmp_path_factory.mktemp("alias", numbered=True)
    place = base.joinpath(*folders, name)
    write_alias(base / "shop.alias", place)
    assert resolve(base / "shop.alias") == str(place)


def test_switch_checks_the_store_and_its_model_first(tmp_path, tiny_checkpoint, capsys):
    from small_shop import index_shop, write_catalog

    alias, shop = tmp_path / "shop.alias", tmp_path / "v1.lance"
    index_shop(write_catalog(tmp_path / "catalog"), tiny_checkpoint, shop)
    assert run(["switch", str(alias), str(shop)]) == 0
    assert "18 products" in capsys.readouterr().err

    empty = create_store(tmp_path / "empty.lance", open_store(shop).meta)
    lost = StoreMeta("", str(tmp_path / "no-model"), "print", empty.meta.dim)
    with create_store(tmp_path / "lost.lance", lost).writer() as writer:
        vectors = np.eye(1, lost.dim, dtype=np.float32)
        from fashionclip.product import Product

        writer.upsert([Product("a", "", None, 0, {})], vectors, [bytes(16)])
    for name, told in (
        ("none.lance", "there is no index"),
        ("empty.lance", "holds no product"),
        ("lost.lance", "no-model"),
        ("shop.alias", "is an alias"),
    ):
        assert run(["switch", str(alias), str(tmp_path / name)]) == 1
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
        assert resolve(alias) == str(shop)

    alias.write_text("")  # a damaged alias can be written anew
    assert run(["switch", str(alias), str(shop), "--json"]) == 0
    assert '"new": ' in capsys.readouterr().out
