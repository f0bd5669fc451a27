"""What stores do on bad days: a request that fails, at any place; a server that is overloaded or loses replies."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import pytest
from shared_worker import CHUNK
from store_servers import bucket
from test_engines import JOB, ColorModels, run_photos, save
from test_shared_runs import COLORS, content

from gem_label.engines.shared import Part, label_chunks
from gem_label.errors import GemLabelError
from gem_label.photos.listing import list_images
from gem_label.runs import open_run, relabel_run
from gem_label.runs.files import INDEX
from gem_label.runs.index import LEAST_SHARDS
from gem_label.runs.manifest import new_manifest
from gem_label.runs.shared import SharedRun
from gem_label.runs.stored import StoredRun
from gem_label.stores import Store, open_store
from gem_label.vocabulary import Vocabulary

__all__ = ["bucket"]

MANIFEST = new_manifest(settings={}, vocabulary=JOB.vocabulary, embedding_dim=3, logit_scale=JOB.logit_scale)


class FailingStore:
    """A store of which one request fails: before it does anything, or after it has done it.

    Args:
        store: what does the rest.
        at: which request, from 0.
        late: it has done what it was asked for.
    """

    def __init__(self, store: Store, at: int, late: bool) -> None:
        self._store, self._at, self._late = store, at, late
        self.requests = 0

    @property
    def address(self) -> str:
        return self._store.address

    def _request(self, work: Any, *arguments: Any) -> Any:
        fails, self.requests = self.requests == self._at, self.requests + 1
        if fails and not self._late:
            raise GemLabelError("the store does not answer")
        result = work(*arguments)
        if fails:
            raise GemLabelError("the store's answer is lost")
        return result

    def create(self, name: str, data: bytes) -> bool:
        return self._request(self._store.create, name, data)

    def read(self, name: str) -> bytes:
        return self._request(self._store.read, name)

    def read_version(self, name: str) -> tuple[bytes, str]:
        return self._request(self._store.read_version, name)

    def replace(self, name: str, data: bytes, version: str) -> bool:
        return self._request(self._store.replace, name, data, version)

    def names(self, prefix: str) -> Iterator[str]:
        return iter(self._request(lambda: list(self._store.names(prefix))))

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        return iter(self._request(lambda: list(self._store.sizes(prefix))))

    def delete(self, *names: str) -> None:
        self._request(self._store.delete, *names)

    def open(self, name: str) -> BinaryIO:
        return self._request(self._store.open, name)

    def tidy(self) -> None:
        self._store.tidy()


def label(folder: Path, store: Store) -> None:
    run = SharedRun.create_or_join(store, MANIFEST, CHUNK)
    run.add_photos(list_images([folder]))
    label_chunks(run, Part(0, 1).of(run), ColorModels(), JOB, 1, progress=False)
    run.finish()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "photos", **{f"{i:02d}": color for i, color in enumerate(COLORS * 2)})


@pytest.mark.parametrize("late", [False, True])
def test_any_request_fails_once_and_the_same_command_ends_with_the_same_run(
    tmp_path: Path, folder: Path, late: bool
) -> None:
    run_photos(folder, tmp_path / "one")
    expected = open_run(tmp_path / "one")
    for at in range(1000):
        out = tmp_path / f"run{at}"
        failing = FailingStore(open_store(out), at, late)
        try:
            label(folder, failing)
        except GemLabelError:
            label(folder, open_store(out))
        assert content(open_run(out)) == content(expected)
        assert open_run(out).manifest["counts"] == expected.manifest["counts"]
        if failing.requests <= at:
            break
    assert at > 30


@pytest.mark.parametrize("late", [False, True])
def test_any_request_of_a_relabel_fails_once_and_the_run_has_the_old_labels_or_the_new(
    tmp_path: Path, folder: Path, late: bool
) -> None:
    words, text = Vocabulary.parse("blue", background="red, green"), JOB.text[[2, 0, 1]]
    made = open_store(tmp_path / "made")
    label(folder, made)
    old = content(open_run(tmp_path / "made"))
    new = content(relabel_run(open_run(tmp_path / "made"), words, text, out=tmp_path / "new"))
    assert old != new
    for at in range(1000):
        out = tmp_path / f"run{at}"
        shutil.copytree(tmp_path / "made", out)
        failing = FailingStore(open_store(out), at, late)
        try:
            relabel_run(StoredRun(failing), words, text)
        except GemLabelError:
            found = content(StoredRun(open_store(out)))
            assert found in (old, new)
            relabel_run(StoredRun(open_store(out)), words, text)
        assert content(StoredRun(open_store(out))) == new
        if failing.requests <= at:
            break
    assert at > 10


@pytest.mark.parametrize("late", [False, True])
def test_any_request_of_counting_fails_once_and_the_index_is_right_or_passed_over(
    tmp_path: Path, late: bool
) -> None:
    """Of a run that has an index: one of 17 shards of a photo each."""
    colors = {f"{i:02d}": "red" for i in range(LEAST_SHARDS + 1)}
    made = SharedRun.create_or_join(open_store(tmp_path / "made"), MANIFEST, 1)
    made.add_photos(list_images([save(tmp_path / "many", **colors)]))
    label_chunks(made, Part(0, 1).of(made), ColorModels(), JOB, 1, progress=False)
    expected = content(open_run(tmp_path / "made"))
    for at in range(1000):
        out = tmp_path / f"run{at}"
        shutil.copytree(tmp_path / "made", out)
        failing = FailingStore(open_store(out), at, late)
        try:
            SharedRun.open(failing).finish()
        except GemLabelError:
            assert len(list(open_run(out).photos())) == len(colors)
            SharedRun.open(open_store(out)).finish()
        run = open_run(out)
        assert content(run) == expected
        assert run.manifest["finished"]
        assert len(list(run.photos())) == run.manifest["counts"]["photos"] == len(colors)
        assert (out / INDEX / "part-000000.parquet").exists()
        if failing.requests <= at:
            break
    assert at > LEAST_SHARDS


@contextmanager
def proxy(endpoint: str, faults: list[str]) -> Iterator[str]:
    """A server before a server, which has a fault for each of the first connections: "busy", "silent", "" for none.

    Yields:
        Its address.
    """
    target = urlsplit(endpoint)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket, fault: str) -> None:
        with client:
            request = client.recv(1 << 20)
            if fault == "busy":
                client.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            with socket.create_connection((target.hostname, target.port)) as server:
                server.sendall(request)
                if fault == "silent":  # the request is done, the reply is lost
                    server.recv(1 << 16)
                    return
                back = threading.Thread(target=copy, args=(server, client), daemon=True)
                back.start()
                copy(client, server)
                back.join()

    def accept() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            fault = faults.pop(0) if faults else ""
            threading.Thread(target=serve, args=(client, fault), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.close()


def copy(source: socket.socket, target: socket.socket) -> None:
    """Hand on what comes until it ends."""
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.mark.slow
def test_a_server_that_is_overloaded_or_loses_replies(
    bucket: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_photos(folder, tmp_path / "one")
    faults = ["busy", "", "silent", "busy", "silent"]
    with proxy(os.environ["AWS_ENDPOINT_URL"], faults) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        label(folder, open_store(f"{bucket}/faults"))
        assert content(open_run(f"{bucket}/faults")) == content(open_run(tmp_path / "one"))
    assert not faults
