"""Stores: one of several writers creates a file, a replacement needs the version that was read."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from store_servers import bucket

from gem_label.errors import GemLabelError
from gem_label.stores import Store, is_address, open_store
from gem_label.stores.local import LocalStore

__all__ = ["bucket"]


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "folder":
        return open_store(tmp_path / "store")
    return open_store(f"{request.getfixturevalue('bucket')}/{uuid4().hex}")


def test_of_several_writers_one_creates_a_file(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda i: store.create("masks/a.bin", bytes([i]) * 1000), range(8)))
    assert created.count(True) == 1
    assert store.read("masks/a.bin") == bytes([created.index(True)]) * 1000
    assert list(store.names("masks/")) == ["masks/a.bin"]


def test_a_replacement_needs_the_version_that_was_read(store: Store) -> None:
    assert store.create("manifest.json", b"1")
    data, version = store.read_version("manifest.json")
    assert data == b"1"
    assert store.replace("manifest.json", b"2", version)
    assert not store.replace("manifest.json", b"3", version)
    assert store.read("manifest.json") == b"2"
    assert not store.replace("missing.json", b"4", version)


def test_what_is_not_there(store: Store) -> None:
    for read in (store.read, store.read_version, store.open):
        with pytest.raises(FileNotFoundError):
            read("missing")
    store.delete("missing")
    store.delete()
    assert list(store.names("none/")) == []


def test_several_files_are_deleted(store: Store) -> None:
    for name in ("a/1", "a/2", "b"):
        store.create(name, name.encode())
    assert dict(store.sizes("a/")) == {"a/1": 3, "a/2": 3}
    assert dict(store.tags("")) == {name: store.read_tagged(name)[1] for name in ("a/1", "a/2", "b")}
    store.delete("a/1", "a/2", "a/3")
    assert list(store.names("")) == ["b"]


def test_files_are_read_at_any_place(store: Store) -> None:
    store.create("a", bytes(range(200)))
    file = store.open("a")
    file.seek(-10, os.SEEK_END)
    assert bytes(file.read(3)) == bytes([190, 191, 192])
    store.delete("a")
    assert list(store.names("")) == []


def test_a_folder_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    store = LocalStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda i: store.create("a", bytes([i])), range(8)))
    assert created.count(True) == 1
    assert store.read("a") == bytes([created.index(True)])
    assert sorted(os.listdir(tmp_path)) == [".store.lock", "a"]


@pytest.mark.usefixtures("bucket")
def test_denied_access_and_unknown_places_are_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(GemLabelError, match="access is denied") as raised:
        open_store("s3://photos/x").create("a", b"1")
    assert "wrong" not in str(raised.value)
    for place in ("ftp://here/x", "s3://"):
        with pytest.raises(GemLabelError, match="cannot open"):
            open_store(place)
    assert [is_address(each) for each in ("gs://bucket/run", "C:/photos", Path("a"))] == [True, False, False]
