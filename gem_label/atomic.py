"""The one way in which files are replaced: readers see the old file or the whole new one, never a part.

A new file is written under a temporary name beside the old one, `.NAME.RANDOM.tmp`, and renamed when it is complete.
Every writer has a temporary name of its own, so two writers of one file never mix; the last one to finish wins.

A writer holds a lock (flock) on its temporary file or folder, which the system gives back when the process dies. So a
temporary file without a lock is a leftover. Where the file system has no locks, its age decides.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal

TEMPORARY = ".tmp"
DAY = 86_400.0
"""Seconds after which a temporary file is taken for a leftover where locks do not tell."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_LONGEST_NAME = (
    50  # characters of a file's name in its temporary name, as the system limits names to 255 bytes
)


@contextmanager
def replacing(
    path: str | os.PathLike[str],
    mode: Literal["wb", "w"] = "wb",
    *,
    newline: str | None = None,
    sync: bool = True,
) -> Iterator[IO[Any]]:
    """Open a new file that takes the place of `path` when the `with` block ends; it is deleted when the block raises.

    The new file has the permissions of the file that it replaces, or those that the umask gives to new files. Of a
    symbolic link, the file that it points to is replaced, and the link stays. Pipes and devices are written directly.

    Args:
        path: the file; its folder exists.
        mode: "wb" for bytes, "w" for text in UTF-8.
        newline: as `open` takes it, for text.
        sync: wait until the file is on the disk, so that it survives a power cut.

    Yields:
        The open file; `name` is its temporary path.

    Raises:
        OSError: the file cannot be written; the old one is as it was. `filename` is set where the disk is full.

    Example:
        >>> with replacing("/tmp/counts.json", "w") as file:
        ...     _ = file.write("{}")
    """
    target, old = _follow(Path(path))
    encoding = None if mode == "wb" else "utf-8"
    if old is not None and not stat.S_ISREG(old.st_mode):
        with open(target, mode, encoding=encoding, newline=newline) as direct:
            yield direct
        return
    temporary, descriptor = _create_beside(target)
    try:
        # by an opener, and not `os.fdopen`, so that the file's name is its path
        with open(temporary, mode, encoding=encoding, newline=newline, opener=lambda *_: descriptor) as file:
            yield file
            file.flush()
            if old is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode) & 0o777)
            if sync:
                os.fsync(file.fileno())
            os.replace(temporary, target)  # while the lock is held
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        name_full_disk(error, target)
        raise
    if sync:
        sync_directory(target.parent)


@contextmanager
def new_file(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a new file beside `path` under a temporary name, which is gone when the `with` block ends.

    Args:
        path: what the file is for; its folder exists.

    Yields:
        The temporary path, and the file, open for writing.
    """
    temporary, descriptor = _create_beside(path)
    try:
        with open(descriptor, "wb") as file:
            yield temporary, file
    finally:
        temporary.unlink(missing_ok=True)


def name_full_disk(error: BaseException, path: str | os.PathLike[str]) -> None:
    """Put the path that could not be written into an error that says that a disk is full and not where."""
    if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
        error.filename = os.fspath(path)


def write_atomic(path: str | os.PathLike[str], write: Callable[[BinaryIO], Any]) -> None:
    """Replace a file by what `write` writes into the open file that it is called with; see `replacing`."""
    with replacing(path) as file:
        write(file)  # type: ignore[arg-type]


def sync_directory(path: Path) -> None:
    """Make renames inside a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_file(source: Path, target: Path) -> None:
    """Copy the content of a file; it survives a power cut as soon as the folder is synced.

    Raises:
        OSError: one of them cannot be read or written.
    """
    with open(source, "rb") as old, open(target, "wb") as new:
        shutil.copyfileobj(old, new)
        new.flush()
        os.fsync(new.fileno())


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, so that they survive a power cut; nothing happens where it is.

    Args:
        path: the folder.

    Raises:
        OSError: it cannot be made, or there is a file of that name.
    """
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)


@contextmanager
def replacing_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Make a new folder that takes the name `path` when the `with` block ends; it is deleted when the block raises.

    Its names survive a power cut; what is in its files and folders does when they were synced.

    Args:
        path: must not exist, or be an empty folder.
        replace: of a folder that is not empty, the new one takes the place. Links in it are deleted, not what they
            point to. Between two renames there is no folder of that name.

    Yields:
        The folder under its temporary name.

    Raises:
        OSError: `path` is a folder that is not empty, or cannot be written.
    """
    old = _temporary_name(path)
    temporary, descriptor = _create_folder_beside(path)
    try:
        yield temporary
        sync_directory(temporary)
        if replace and path.is_dir():
            os.rename(path, old)
        try:
            os.rename(temporary, path)
        except BaseException:
            if old.exists():
                os.rename(old, path)
            raise
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        name_full_disk(error, path)
        raise
    finally:
        os.close(descriptor)
    sync_directory(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def is_leftover(name: str, of: Collection[str] | None = None) -> bool:
    """Whether a name is a temporary one.

    Args:
        name: of a file or folder.
        of: the names that temporary names are for; None: any.
    """
    if not (name.startswith(".") and name.endswith(TEMPORARY)):
        return False
    return of is None or any(name.startswith(f".{each[:_LONGEST_NAME]}.") for each in of)


def delete_leftovers(folder: Path, of: Collection[str] | None = None, age: float = 0.0) -> None:
    """Delete the temporary files and folders that killed processes left in a folder; those in use stay.

    Args:
        folder: where; need not exist.
        of: only those for files of these names; None: all.
        age: only those that were last written so many seconds ago.
    """
    with suppress(FileNotFoundError):
        for entry in list(os.scandir(folder)):
            with suppress(FileNotFoundError):  # its process may finish meanwhile
                if not is_leftover(entry.name, of):
                    continue
                if age and time.time() - entry.stat(follow_symlinks=False).st_mtime <= age:
                    continue
                with _unused(Path(entry.path)) as unused:
                    if unused and entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    elif unused:
                        os.unlink(entry.path)


@contextmanager
def _unused(path: Path) -> Iterator[bool]:
    """Whether no process writes a temporary file or folder; as long as the `with` block lasts, none begins to."""
    if not (path.is_file() or path.is_dir()) or path.is_symlink():
        yield True
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        locked = _lock(descriptor)
        yield time.time() - path.stat().st_mtime > DAY if locked is None else locked
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock an open file or folder until it is closed; False: another process has, None: there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _follow(path: Path) -> tuple[Path, os.stat_result | None]:
    """The file that a path stands for, symbolic links followed, and its status; None where there is none yet."""
    if path.is_symlink():
        path = Path(os.path.realpath(path))
        if path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    try:
        status = path.stat()
    except FileNotFoundError:
        return path, None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return path, status


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name[:_LONGEST_NAME]}.{secrets.token_hex(6)}{TEMPORARY}")


def _create_beside(path: Path) -> tuple[Path, int]:
    """A new file beside `path` under a temporary name, open for reading and writing, locked: its path and descriptor.

    `os.open` and not `tempfile`, which gives no one else a right to read the file whatever the umask says.
    """
    while True:
        temporary = _temporary_name(path)
        try:
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
        # between these two lines, another process may take the file for a leftover
        if _lock(descriptor) is False or not temporary.exists():
            os.close(descriptor)
            continue
        return temporary, descriptor


def _create_folder_beside(path: Path) -> tuple[Path, int]:
    """A new folder beside `path` under a temporary name, open and locked: its path and descriptor."""
    while True:
        temporary = _temporary_name(path)
        temporary.mkdir()
        with suppress(FileNotFoundError):  # taken for a leftover before it is locked
            descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
            if _lock(descriptor) is not False and temporary.exists():
                return temporary, descriptor
            os.close(descriptor)
