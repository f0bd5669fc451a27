"""The `fiftyone_db` fixture: one MongoDB of its own for the whole test session."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from database_commands import WATCHER
from mongod import Mongod
from pymongo import monitoring


def free_port() -> int:
    """A loopback TCP port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def fiftyone_db() -> str:
    """Address of a MongoDB that FiftyOne uses in this process and in the processes it starts.

    FiftyOne reads its settings when first imported and would otherwise use the database of the person who
    runs the tests, and two FiftyOne processes that start at once race for that one.
    """
    # set by another instance of this fixture (several test files import it): one database serves all
    running = os.environ.get("GEM_LABEL_TEST_DATABASE")
    if running:
        return running
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="gem-label-mongod-"))
    uri = f"mongodb://127.0.0.1:{port}/"
    os.environ.update(
        GEM_LABEL_TEST_MONGOD=f"{folder}:{port}",
        GEM_LABEL_TEST_DATABASE=uri,
        FIFTYONE_DATABASE_URI=uri,
        FIFTYONE_DATABASE_NAME="gem-label-tests",
        FIFTYONE_DO_NOT_TRACK="true",
        FIFTYONE_SHOW_PROGRESS_BARS="false",
    )
    # FiftyOne talks to its database once more at exit: what is registered before its import runs after that
    at_exit = ExitStack()
    atexit.register(at_exit.close)
    monitoring.register(WATCHER)  # before FiftyOne connects

    from fiftyone.core.service import DatabaseService

    at_exit.callback(shutil.rmtree, folder)
    mongod = Mongod(folder, port)
    mongod.start(DatabaseService.find_mongod())
    at_exit.callback(mongod.end)
    return uri
