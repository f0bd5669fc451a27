"""Commands that mongod fails: at the n-th, before or after it has done what it is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from database_commands import Command, watching, writes
from pymongo import MongoClient

Fault = Literal["refused", "cut", "late"]
"""refused: an error in place of the work; cut: the connection ends before the work; late: an error after it."""
_FAILURES: dict[Fault, dict[str, Any]] = {
    "refused": {"errorCode": 14031},  # OutOfDiskSpace
    "cut": {"closeConnection": True},
    "late": {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
}


class Commands:
    """Counts commands, and knows whether one was made to fail."""

    def __init__(self) -> None:
        self.count = 0
        self.failed = False


@contextmanager
def failing_command(number: int, fault: Fault) -> Iterator[Commands]:
    """Let mongod fail a command of this process; it is told to by a command before it.

    Args:
        number: which, from 0; where the fault is "late", the next that writes. pymongo repeats a command that reads
            when the connection ends.
        fault: how.

    Yields:
        The count of the commands so far.
    """
    commands = Commands()
    with MongoClient(os.environ["GEM_LABEL_TEST_DATABASE"]) as client:

        def fail(mode: Any, names: list[str]) -> None:
            data = {"failCommands": names, **_FAILURES[fault]} if names else {}
            client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})

        def before(event: Command) -> None:
            at, commands.count = commands.count, commands.count + 1
            if at >= number and not commands.failed and (fault != "late" or writes(event)):
                commands.failed = True
                fail({"times": 1}, [event.command_name])

        try:
            with watching(before):
                yield commands
        finally:
            fail("off", [])
