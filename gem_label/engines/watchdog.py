"""Ends a process whose photo never comes to an end: a decoder that loops, a driver that hangs."""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType
from typing import Self

EXIT_CODE = 75
"""Of the process; sysexits.h calls it a temporary failure: the command may be run again."""


class Watchdog:
    """Ends this process when `beat` is not called for a while; a context manager.

    A thread of Python cannot be stopped from outside, and a call into a library that hangs even less so. What other
    attempts know of the chunk then finds out which photo it was.

    Args:
        seconds: how long a photo may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self) -> None:
        """A photo is finished."""
        self._last = time.monotonic()

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self._seconds / 4)):
            if time.monotonic() - self._last > self._seconds:
                line = f"gem-label: no photo was finished for {self._seconds:g} s: this process ends"
                print(line, file=sys.stderr, flush=True)
                os._exit(EXIT_CODE)

    def __enter__(self) -> Self:
        self.beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
