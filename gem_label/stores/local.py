"""A folder as a store, also one that several machines share."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gem_label.atomic import (
    DAY,
    delete_leftovers,
    is_leftover,
    make_folder,
    new_file,
    sync_directory,
    write_atomic,
)
from gem_label.errors import GemLabelError

_LOCK = ".store.lock"
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class LocalStore:
    """Files below a folder.

    A file is created by a hard link to a finished temporary file: a link fails where the name is taken, on network
    file systems too. Where there are no hard links, and for `replace`, a lock on the folder decides.

    Args:
        folder: need not exist.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(os.path.abspath(folder))

    @property
    def address(self) -> str:
        """The folder's path."""
        return str(self.folder)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file; see `Store`."""
        target = self.folder / name
        with self._errors(f"cannot write {target}"):
            make_folder(target.parent)
            if target.exists():  # saves the work; the link below decides
                return False
            with new_file(target) as (temporary, file):
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                created = self._link(temporary, target)
            sync_directory(target.parent)
            return created

    def _link(self, temporary: Path, target: Path) -> bool:
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with self._lock():
                if target.exists():
                    return False
                os.replace(temporary, target)
        return True

    def read(self, name: str) -> bytes:
        """The content of a file; see `Store`."""
        with self._errors(f"cannot read {self.folder / name}"):
            return (self.folder / name).read_bytes()

    def read_version(self, name: str) -> tuple[bytes, str]:
        """The content of a file and its version; see `Store`."""
        data = self.read(name)
        return data, _version(data)

    def replace(self, name: str, data: bytes, version: str) -> bool:
        """Put new content in the place of a version of a file; see `Store`."""
        with self._errors(f"cannot write {self.folder / name}"), self._lock():
            try:
                found = _version(self.read(name))
            except FileNotFoundError:
                return False
            if found != version:
                return False
            write_atomic(self.folder / name, lambda file: file.write(data))
            return True

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names of the files below a folder; see `Store`."""
        with self._errors(f"cannot list {self.folder / prefix}"):
            for path, _, files in os.walk(self.folder / prefix):
                below = os.path.relpath(path, self.folder)
                for file in files:
                    if not is_leftover(file):
                        yield file if below == "." else f"{below}/{file}"

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the names of the files below a folder with their sizes; see `Store`."""
        for name in self.names(prefix):
            with self._errors(f"cannot read {self.folder / name}"), suppress(FileNotFoundError):
                yield name, (self.folder / name).stat().st_size

    def read_tagged(self, name: str) -> tuple[bytes, str]:
        """The content of a file and its tag; see `Store`."""
        with self._errors(f"cannot read {self.folder / name}"), open(self.folder / name, "rb") as file:
            return file.read(), file_tag(os.fstat(file.fileno()))

    def tags(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield the names of the files below a folder with their tags; see `Store`."""
        for name in self.names(prefix):
            with self._errors(f"cannot read {self.folder / name}"), suppress(FileNotFoundError):
                yield name, file_tag((self.folder / name).stat())

    def delete(self, *names: str) -> None:
        """Delete files; see `Store`."""
        for name in names:
            with self._errors(f"cannot delete {self.folder / name}"), suppress(FileNotFoundError):
                (self.folder / name).unlink()

    def open(self, name: str) -> BinaryIO:
        """A file open for reading; see `Store`."""
        with self._errors(f"cannot read {self.folder / name}"):
            return open(self.folder / name, "rb")

    def tidy(self) -> None:
        """Delete temporary files that are a day old, as other machines may be writing younger ones; see `Store`."""
        for folder, _, _ in os.walk(self.folder):
            delete_leftovers(Path(folder), age=DAY)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with open(self.folder / _LOCK, "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise GemLabelError(f"{what}: {error.strerror}") from error


def file_tag(status: os.stat_result) -> str:
    """The size of a file in bytes and the time of its last change in nanoseconds."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
