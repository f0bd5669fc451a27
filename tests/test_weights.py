"""Weights: fetched from whichever source answers, checked, never loaded when they are another file."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from gem_label import weights
from gem_label.errors import GemLabelError, UsageError
from gem_label.weights import WeightSource

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT whole, cut short, endlessly, wrong, or not at all."""

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path in ("/whole", "/cut"):
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        body = {"/whole": CONTENT, "/cut": CONTENT[:1000], "/wrong": CONTENT[::-1], "/long": CONTENT * 50}
        try:
            self.wfile.write(body[self.path])
        except ConnectionError:
            self.close_connection = True  # the client had enough

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def tiny(*urls: str) -> WeightSource:
    return WeightSource("tiny.pt", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), urls)


def test_fetch_writes_the_file_once(server: str, tmp_path: Path) -> None:
    path = weights.fetch(tiny(f"{server}/whole"), tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert sorted(p.name for p in path.parent.iterdir()) == ["tiny.pt", "tiny.pt.sha256"]
    # nothing answers any more, and nothing needs to
    assert weights.fetch(tiny(f"{server}/missing"), path.parent) == path


def test_fetch_goes_on_to_the_source_that_answers_rightly(server: str, tmp_path: Path) -> None:
    on_disk = tmp_path / "mirror.pt"
    on_disk.write_bytes(CONTENT)
    closed = "http://127.0.0.1:9/nobody-listens"
    sources = (closed, *(f"{server}/{how}" for how in ("missing", "cut", "wrong", "long")), on_disk.as_uri())
    assert weights.fetch(tiny(*sources), tmp_path / "cache").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("how", "answer"),
    [
        ("missing", "404"),
        ("cut", r"gave only 1000 of 300000 bytes"),
        ("wrong", "sha256 differs"),
        ("long", "another file"),
    ],
)
def test_fetch_says_in_one_line_what_each_source_answered(
    server: str, tmp_path: Path, how: str, answer: str
) -> None:
    with pytest.raises(GemLabelError, match=answer) as error:
        weights.fetch(tiny(f"{server}/{how}"), tmp_path)
    assert "\n" not in str(error.value)
    assert "by hand" in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [CONTENT[:-1], CONTENT[::-1], b""], ids=["cut", "wrong", "empty"])
def test_a_bad_file_is_deleted_and_fetched_anew(server: str, tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "tiny.pt"
    path.write_bytes(bad)
    assert weights.fetch(tiny(f"{server}/whole"), tmp_path).read_bytes() == CONTENT
    path.write_bytes(bad)
    with pytest.raises(GemLabelError):
        weights.fetch(tiny(f"{server}/missing"), tmp_path)
    assert not path.exists()


def test_a_file_changed_after_it_was_checked_is_noticed(server: str, tmp_path: Path) -> None:
    source = tiny(f"{server}/whole")
    path = weights.fetch(source, tmp_path)
    assert weights.is_intact(path, source)
    path.write_bytes(CONTENT[::-1])  # the same size
    assert not weights.is_intact(path, source)
    path.write_bytes(CONTENT)
    assert weights.is_intact(path, source)


def test_what_a_killed_download_left_goes_after_a_day(server: str, tmp_path: Path) -> None:
    old, young = tmp_path / ".tiny.pt.0.tmp", tmp_path / ".tiny.pt.1.tmp"
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 200_000,) * 2)
    weights.fetch(tiny(f"{server}/whole"), tmp_path)
    assert not old.exists()
    assert young.exists()


def test_find_weights_takes_a_path_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    path.write_bytes(b"anything")
    assert weights.find_weights(path) == path


def test_find_weights_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEM_LABEL_CACHE", str(tmp_path / "empty"))
    with pytest.raises(GemLabelError, match="gem-label models pull vit_b"):
        weights.find_weights("vit_b")
    with pytest.raises(UsageError, match="mobile_sam, vit_b, vit_l, vit_h"):
        weights.find_weights("vit_z")
    with pytest.raises(UsageError, match="mobile_sam, vit_b, vit_l, vit_h"):
        weights.pull_weights("vit_z")


def test_an_unwritable_cache_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GEM_LABEL_CACHE", str(tmp_path / "file"))
    with pytest.raises(GemLabelError, match="set GEM_LABEL_CACHE"):
        weights.pull_weights("mobile_sam")


def test_list_weights_says_what_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEM_LABEL_CACHE", str(tmp_path))
    assert [(w.name, w.present) for w in weights.list_weights()] == [
        ("mobile_sam", False),
        ("vit_b", False),
        ("vit_l", False),
        ("vit_h", False),
    ]
    with open(tmp_path / "mobile_sam.pt", "wb") as file:
        file.truncate(weights.WEIGHTS["mobile_sam"].bytes)  # the right size: present, but not yet believed
    assert weights.list_weights()[0].present
    assert not weights.is_intact(tmp_path / "mobile_sam.pt", weights.WEIGHTS["mobile_sam"])


def test_cache_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEM_LABEL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert weights.cache_folder() == Path("/somewhere/gem-label")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights.cache_folder() == Path.home() / ".cache" / "gem-label"


def test_registry_is_complete() -> None:
    for source in weights.WEIGHTS.values():
        assert re.fullmatch(r"[0-9a-f]{64}", source.sha256)
        assert source.bytes > 10_000_000
        assert all(url.startswith("https://") for url in source.urls)
