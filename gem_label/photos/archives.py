"""Zip archives of photos: unpacked once into a folder beside them, so that each photo has a path for later steps."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import struct
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

from gem_label.atomic import replacing
from gem_label.errors import GemLabelError, UsageError
from gem_label.photos.buckets import Buckets
from gem_label.photos.reading import image_suffixes
from gem_label.photos.sources import is_passed_over
from gem_label.tables import reason

_MOST_GROWTH = 200
"""Declared bytes for each byte of the archive: photos are compressed already, bombs declare thousands."""
_ALWAYS_FINE = 2**30
_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An archive whose photos are in a folder.

    Attributes:
        folder: absolute path.
        paths: absolute paths of its photos, sorted.
        left_out: how many other files the archive has, by lower-case suffix.
        note: one line that says what was done.
    """

    folder: str
    paths: list[str]
    left_out: Counter[str]
    note: str


def unpack_photos(path: str) -> Unpacked:
    """Unpack the photos of a zip into the folder beside it that has its name without ".zip".

    Files that are there already with the same content are kept; a file with other content is never overwritten.
    Hidden members and what is no photo by its suffix stay in the archive.

    Args:
        path: absolute path of the archive.

    Raises:
        UsageError: it is no zip, encrypted, of an unknown compression, declares sizes that no photos have or that
            the disk cannot hold, or has a member with a path outside of it.
        GemLabelError: damaged, a file is in the way, or the folder cannot be written.
    """
    folder = os.path.splitext(path)[0]
    left_out: Counter[str] = Counter()
    try:
        with _opened(path, path) as archive:
            members = _photo_members(path, archive, left_out)
            targets = {os.path.join(folder, name): member for name, member in members.items()}
            _check_growth(path, targets.values(), os.path.getsize(path))
            _check_space(path, targets, folder)
            written = sum(_extract(archive, member, target, folder) for target, member in targets.items())
    except OSError as error:
        raise GemLabelError(
            f"cannot unpack {path} into {folder} ({error.strerror or error}): unpack it elsewhere and give the folder"
        ) from error
    return _unpacked(path, folder, targets, left_out, written)


def unpack_into_store(path: str, address: str, buckets: Buckets) -> Unpacked:
    """Unpack the photos of a zip of an object store beside it, as `unpack_photos` does.

    Files that are there already with the same size are kept; a file of another size is never overwritten.

    Args:
        path: of a copy of the archive on this machine.
        address: of the archive.
        buckets: opens the store.

    Raises:
        UsageError: as `unpack_photos` does.
        GemLabelError: damaged, a file is in the way, or the store cannot be written.
    """
    store, name = buckets.locate(address)
    below = os.path.splitext(name)[0]
    left_out: Counter[str] = Counter()
    written = 0
    with _opened(path, address) as archive:
        members = _photo_members(address, archive, left_out)
        _check_growth(address, members.values(), os.path.getsize(path))
        there = dict(store.sizes(f"{below}/"))
        for relative, member in members.items():
            target = f"{below}/{relative}"
            size = there.get(target)
            if size is None and store.create(target, archive.read(member)):
                written += 1
            elif size not in (None, member.file_size):
                raise GemLabelError(
                    f"{store.address}/{target} is there and differs from {address}: move it away"
                )
    folder = f"{store.address}/{below}"
    return _unpacked(address, folder, [f"{folder}/{relative}" for relative in members], left_out, written)


@contextmanager
def _opened(path: str, name: str) -> Iterator[zipfile.ZipFile]:
    """An archive; errors of the `with` block that come from it are one line with its name."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except zipfile.BadZipFile as error:
        raise UsageError(f"{name} is no zip archive, or a damaged one: {reason(error)}") from error
    except NotImplementedError as error:
        raise UsageError(f"{name}: {reason(error)}: unpack it and give the folder") from error
    except (zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, RuntimeError) as error:
        raise UsageError(f"{name} is a damaged zip archive: {reason(error)}") from error


def _unpacked(
    path: str, folder: str, targets: Collection[str], left_out: Counter[str], written: int
) -> Unpacked:
    there = len(targets) - written
    note = f"{path}: photos unpacked into {folder}: {written}" + (f", found there: {there}" if there else "")
    return Unpacked(folder, sorted(targets), left_out, note)


def _photo_members(path: str, archive: zipfile.ZipFile, left_out: Counter[str]) -> dict[str, zipfile.ZipInfo]:
    """The members that are photos, by their checked relative path; of equal names the last, as unzip does."""
    suffixes = image_suffixes()
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.replace("\\", "/")  # as some programs of Windows write it
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or (parts and parts[0][1:2] == ":"):
            raise UsageError(f"{path} has a member with a path outside of the archive: {name[:200]!r}")
        if not parts or name.endswith("/"):
            continue
        if parts[-1].startswith(".") or any(is_passed_over(part) for part in parts[:-1]):
            continue
        suffix = os.path.splitext(name)[1].lower()
        if suffix not in suffixes or stat.S_ISLNK(member.external_attr >> 16):
            left_out[suffix] += 1
            continue
        if member.flag_bits & 0x1:
            raise UsageError(f"{path} is encrypted: unpack it with its password and give the folder")
        members["/".join(parts)] = member
    return members


def _check_growth(path: str, members: Iterable[zipfile.ZipInfo], size: int) -> None:
    """Refuse declared sizes before anything is written; zipfile never unpacks more than a member declares."""
    declared = sum(member.file_size for member in members)
    if declared > max(_ALWAYS_FINE, _MOST_GROWTH * size):
        raise UsageError(
            f"{path} declares {declared / 1e9:.1f} GB of photos in {size / 1e6:.1f} MB: is it a zip "
            "bomb? If not, unpack it and give the folder"
        )


def _check_space(path: str, targets: dict[str, zipfile.ZipInfo], folder: str) -> None:
    """Refuse what the disk cannot hold."""
    missing = sum(member.file_size for target, member in targets.items() if not os.path.exists(target))
    free = shutil.disk_usage(os.path.dirname(folder)).free
    if missing > free:
        raise UsageError(
            f"{path} needs {missing / 1e9:.1f} GB beside it, and {free / 1e9:.1f} GB are free: unpack it elsewhere "
            "and give the folder"
        )


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: str, folder: str) -> bool:
    """Write one member to its target, whole or not at all.

    Returns:
        Whether it was written; False where it was there.

    Raises:
        GemLabelError: another file is in the way.
    """
    try:
        modified = time.mktime((*member.date_time, 0, 0, -1))
    except (ValueError, OverflowError):
        modified = 0.0
    if os.path.lexists(target):
        status = os.stat(target, follow_symlinks=False)
        same = stat.S_ISREG(status.st_mode) and status.st_size == member.file_size
        # our own files have the archive's time; others are compared by content
        if same and (status.st_mtime == modified or _crc(target) == member.CRC):
            return False
        raise GemLabelError(f"{target} is there and differs from {archive.filename}: move it away")
    parent = os.path.dirname(target)
    inside = os.path.join(os.path.realpath(folder), "")
    if not os.path.join(os.path.realpath(parent), "").startswith(inside):
        raise GemLabelError(f"{parent} is a link to elsewhere: move it away")
    os.makedirs(parent, exist_ok=True)
    with archive.open(member) as source, replacing(target, sync=False) as file:
        shutil.copyfileobj(source, file, _BLOCK)
        file.flush()  # nothing is written after the time is set
        os.utime(file.name, (modified, modified))
    return True


def _crc(path: str) -> int:
    """CRC-32 of a file's content."""
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc
