"""The fixtures `app`, FiftyOne's server with this repository's plugin, and `browser`, a real one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fiftyone_fixture import free_port

from gem_label.allowed_folders import VARIABLE

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120_000  # milliseconds; a CI machine may do three other things at the same time


@contextmanager
def serve_app(port: int, folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """FiftyOne's server with this repository's plugin on a port; gives its address, and ends it.

    Args:
        port: a free one.
        folder: gets the server's log.
        settings: environment variables that are others than here.
    """
    import fiftyone.server.main

    environment = os.environ | {
        "FIFTYONE_PLUGINS_DIR": str(Path(__file__).parents[1] / "plugins"),
        VARIABLE: str(folder.parent),
        **(settings or {}),
    }
    command = [sys.executable, fiftyone.server.main.__file__, "--address", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(f"http://127.0.0.1:{port}/", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(timeout=60)


@pytest.fixture(scope="module")
def app(fiftyone_db: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of FiftyOne's server with this repository's plugin."""
    with serve_app(free_port(), tmp_path_factory.mktemp("app")) as address:
        yield address


def _wait_for(address: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"FiftyOne's server does not answer (exit code {server.poll()})")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.fail("no browser: sudo apt-get install chromium (`make test` does it)")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()
