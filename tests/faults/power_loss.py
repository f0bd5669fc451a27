"""What is on a disk after its power was lost, at every point of some work.

A write reaches the disk for certain when its file is synced, a name when its folder is. Whatever else was written may
be on the disk or not. So a recorder notes, at every file operation, the names that there are, the content that files
had when they were last synced, and the names that folders had. `states` makes folders of what a restart can find:

- only what was synced;
- all names, but of each file only the content that was synced: a rename reaches the disk before the data. What was
  not synced is missing, cut or zeros.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

Inode = int
Names = dict[str, Inode]


@dataclass(frozen=True)
class Point:
    """A moment at which the power may be lost.

    Attributes:
        folders: folder -> the names in it.
        synced_folders: those that they had when they were last synced; folders that never were are missing.
        contents: file -> its bytes.
        synced: its bytes when it was last synced; files that never were are missing.
        finished: what `Recorder.finished` was.
    """

    folders: dict[Inode, Names]
    synced_folders: dict[Inode, Names]
    contents: dict[Inode, bytes]
    synced: dict[Inode, bytes]
    finished: int


@dataclass
class Recorder:
    """Notes what is on the disk below a folder.

    Attributes:
        root: the folder.
        finished: how much of the work is finished; whoever works sets it.
        points: before every operation that changes names or opens a file for writing, and after every sync.
    """

    root: Path
    finished: int = 0
    points: list[Point] = field(default_factory=list)
    _synced: dict[Inode, bytes] = field(default_factory=dict)
    _synced_folders: dict[Inode, Names] = field(default_factory=dict)
    _held: dict[Inode, int] = field(default_factory=dict)
    _recording: bool = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook."""
        if not self._recording or not (
            event in _CHANGES or (event == "open" and (arguments[2] or 0) & _WRITES)
        ):
            return
        path = arguments[0]
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(f"{self.root}{os.sep}"):
            self._note()

    def synced(self, descriptor: int) -> None:
        """A file or folder was synced."""
        status = os.fstat(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if not path.is_relative_to(self.root):
            return
        if stat.S_ISDIR(status.st_mode):
            self._synced_folders[status.st_ino] = {
                each.name: each.stat(follow_symlinks=False).st_ino for each in path.iterdir()
            }
        else:
            self._synced[status.st_ino] = path.read_bytes()
        self._note()

    def _note(self) -> None:
        self._recording = False  # what follows opens files too
        folders: dict[Inode, Names] = {}
        contents: dict[Inode, bytes] = {}
        for path in (self.root, *self.root.rglob("*")):
            inode = path.stat().st_ino
            if inode not in self._held:  # an inode that is open is never that of another file
                self._held[inode] = os.open(path, os.O_RDONLY)
            if path.is_dir():
                folders[inode] = {each.name: each.stat().st_ino for each in path.iterdir()}
            else:
                contents[inode] = path.read_bytes()
        point = Point(folders, dict(self._synced_folders), contents, dict(self._synced), self.finished)
        self.points.append(point)
        self._recording = True

    @contextmanager
    def recording(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        """Note the operations inside of the `with` block; a recorder is used once."""
        sync = os.fsync

        def fsync(file: Any) -> None:
            sync(file)
            if self._recording:
                self.synced(file if isinstance(file, int) else file.fileno())

        root = os.open(self.root, os.O_RDONLY)
        sys.addaudithook(self)
        try:
            with patch.context() as patched:
                patched.setattr(os, "fsync", fsync)
                self._recording = True
                self.synced(root)
                yield
                self._note()
        finally:
            self._recording = False
            for descriptor in (root, *self._held.values()):
                os.close(descriptor)


def states(recorder: Recorder, folder: Path, step: int = 1) -> Iterator[tuple[Path, int]]:
    """Yield what restarts can find, each in a folder of its own, none twice; and what was finished by then.

    Args:
        recorder: what it noted.
        folder: where to make them.
        step: only every so many.
    """
    seen: set[tuple[Any, ...]] = set()
    root = recorder.root.stat().st_ino
    for number, point in enumerate(recorder.points):
        lost = ("missing", "cut", "zeros")[number % 3]
        for folders, how in ((point.synced_folders, lost), (point.folders, lost)):
            tree = dict(_tree(point, folders, root, how))
            key = (*sorted(tree.items(), key=str), point.finished)
            if key in seen:
                continue
            seen.add(key)
            if len(seen) % step:
                continue
            made = folder / f"{len(seen):04d}"
            made.mkdir(parents=True)
            for name, content in tree.items():
                path = made / name
                if content is None:
                    path.mkdir(exist_ok=True, parents=True)
                else:
                    path.parent.mkdir(exist_ok=True, parents=True)
                    path.write_bytes(content)
            yield made, point.finished


def _tree(
    point: Point, folders: dict[Inode, Names], inode: Inode, lost: str, name: str = ""
) -> Iterator[tuple[str, bytes | None]]:
    """Yield the names below a folder, and the content of files; None: a folder."""
    for each, child in folders.get(inode, {}).items():
        path = f"{name}{each}"
        if child in point.folders or child in point.synced_folders:
            yield path, None
            yield from _tree(point, folders, child, lost, f"{path}/")
        else:
            yield path, _content(point, child, lost)


def _content(point: Point, file: Inode, lost: str) -> bytes:
    written, synced = point.contents.get(file), point.synced.get(file)
    if written == synced or written is None:
        return synced or b""
    kept = synced or b""
    if lost == "cut":
        return written[: max(len(kept), len(written) // 2)]
    if lost == "zeros":
        return kept + bytes(max(0, len(written) - len(kept)))
    return kept
