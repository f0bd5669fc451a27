"""File operations of this process that fail at the n-th, as on a full or broken disk.

Python tells audit hooks of every operation before it happens, and a hook that raises stops it. A hook cannot be taken
away again, so there is one, which does nothing until `failing_at` arms it.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

_OPERATIONS = {
    "open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate", "os.listdir", "os.scandir",
}  # fmt: skip


class _Hook:
    def __init__(self) -> None:
        self.below = ""
        self.operations = 0
        self.fails_at: int | None = None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.fails_at is None or event not in _OPERATIONS:
            return
        path = arguments[0]
        if not isinstance(path, str | bytes | os.PathLike) or not os.fsdecode(path).startswith(self.below):
            return
        fails, self.operations = self.operations == self.fails_at, self.operations + 1
        if fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(path))


@cache
def _hook() -> _Hook:
    hook = _Hook()
    sys.addaudithook(hook)
    return hook


@contextmanager
def failing_at(number: int, below: Path) -> Iterator[_Hook]:
    """Let a file operation fail.

    Args:
        number: which, from 0.
        below: only those on paths below this folder count.

    Yields:
        An object whose `operations` counts them.
    """
    hook = _hook()
    hook.below, hook.operations, hook.fails_at = str(below), 0, number
    try:
        yield hook
    finally:
        hook.fails_at = None
