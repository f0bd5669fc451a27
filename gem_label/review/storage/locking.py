"""One process at a time declares the fields of a dataset: FiftyOne writes a dataset's schema as it was read."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from gem_label.errors import GemLabelError
from gem_label.review.storage.internals import database

LOCKS = "gem_label.locks"
LEASE = timedelta(seconds=20)
"""After so long a lock counts as left behind, by a process on another machine."""

_PATIENCE = 120.0
_PAUSE = 0.02


@contextmanager
def schema_lock(dataset: str) -> Iterator[None]:
    """Hold the lock of a dataset; of one that was left behind by a killed process, take it over.

    Args:
        dataset: its name.

    Raises:
        GemLabelError: another process holds it for two minutes.
    """
    from bson import ObjectId

    locks, token = database()[LOCKS], ObjectId()
    deadline = time.monotonic() + _PATIENCE
    while not _take(locks, dataset, token):
        if time.monotonic() > deadline:
            raise GemLabelError(f"another process is preparing dataset {dataset!r}: try again later")
        time.sleep(_PAUSE)
    try:
        yield
    finally:
        locks.delete_one({"_id": dataset, "token": token})


def _take(locks: Any, dataset: str, token: Any) -> bool:
    """Take the lock if it is free; whether it was."""
    from pymongo.errors import DuplicateKeyError

    now = datetime.now(UTC)
    mine = {
        "_id": dataset,
        "token": token,
        "until": now + LEASE,
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    held = locks.find_one({"_id": dataset})
    if held is None:
        try:
            locks.insert_one(mine)
        except DuplicateKeyError:
            return False
        return True
    if held["until"].replace(tzinfo=UTC) > now and not _is_dead(held):
        return False
    return bool(locks.replace_one({"_id": dataset, "token": held["token"]}, mine).matched_count)


def _is_dead(held: dict[str, Any]) -> bool:
    """Whether the holder is a process of this machine that has ended."""
    if held["host"] != socket.gethostname():
        return False
    try:
        os.kill(held["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it runs, as another user
    return False
