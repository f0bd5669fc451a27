"""What happens right before a command goes to the database: changes by others, or the end of the process.

pymongo tells listeners about each command before it sends it. The tests use this to do something at an exact moment,
through another connection, with nothing replaced.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import monitoring

Command = monitoring.CommandStartedEvent


class Watcher(monitoring.CommandListener):
    """Calls a function before each command, but not for the commands of that function."""

    def __init__(self) -> None:
        self.before: Callable[[Command], None] | None = None
        self.errors: list[BaseException] = []

    def started(self, event: Command) -> None:
        before, self.before = self.before, None
        if before is None:
            return
        try:
            before(event)
        except BaseException as error:  # pymongo would only print it
            self.errors.append(error)
        self.before = before if self.before is None else self.before

    def succeeded(self, event: Any) -> None:
        """Needs nothing."""

    def failed(self, event: Any) -> None:
        """Needs nothing."""


WATCHER = Watcher()
"""Registered by the fixture of the database, before FiftyOne connects."""


def changes_samples(event: Command) -> bool:
    """Whether a command changes the samples of a dataset."""
    if event.command_name == "aggregate":
        into = (
            event.command["pipeline"][-1].get("$merge", {}).get("into", "")
            if event.command["pipeline"]
            else ""
        )
        return str(into).startswith("samples.")
    return event.command_name == "update" and event.command["update"].startswith("samples.")


def writes(event: Command) -> bool:
    """Whether a command changes anything."""
    if event.command_name == "aggregate":
        return any("$merge" in stage for stage in event.command["pipeline"])
    return event.command_name in ("insert", "update", "delete", "findAndModify")


@contextmanager
def watching(before: Callable[[Command], None]) -> Iterator[None]:
    """Call a function before each command inside of the `with` block."""
    WATCHER.before = before
    try:
        yield
    finally:
        WATCHER.before = None
        errors, WATCHER.errors = WATCHER.errors, []
    if errors:
        raise errors[0]


@contextmanager
def meanwhile(
    change: Callable[[], Any], when: Callable[[Command], bool] = changes_samples, times: int = 1
) -> Iterator[None]:
    """Let somebody change something right before the first commands of a kind; there must be so many."""
    done = 0

    def before(event: Command) -> None:
        nonlocal done
        if done < times and when(event):
            done += 1
            change()

    with watching(before):
        yield
    assert done == times


def run_and_kill(work: Callable[[], Any], before_write: int) -> bool:
    """Run something in another process that is killed before its n-th writing command, counted from 0.

    Returns:
        Whether it was killed; it came to its end otherwise.
    """
    number = 0

    def before(event: Command) -> None:
        nonlocal number
        if writes(event):
            if number == before_write:
                os.kill(os.getpid(), signal.SIGKILL)
            number += 1

    child = os.fork()
    if child == 0:
        signal.alarm(60)  # rather than wait for ever
        code = 1
        try:
            with watching(before):
                work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def run_and_kill_after(work: Callable[[], Any], seconds: float) -> None:
    """Run something again and again in another process that is killed after some time."""
    child = os.fork()
    if child == 0:
        try:
            while True:
                work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)  # it failed
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
