"""Who reaches the App, and what listens on its port already: with real servers."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fiftyone_fixture import fiftyone_db, free_port

from gem_label.allowed_folders import VARIABLE
from gem_label.errors import UsageError
from gem_label.review.ports import check_port, is_loopback, listens_on_network
from gem_label.review.storage.internals import is_session_server

__all__ = ["fiftyone_db"]

PATIENCE = 120.0
Start = Callable[..., subprocess.Popen]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program, and ends it after the test."""
    running: list[subprocess.Popen] = []

    def begin(*command: str, log: Path, **options: Any) -> subprocess.Popen:
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, *command], stdout=file, stderr=subprocess.STDOUT, **options
            )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


@pytest.fixture
def dataset(fiftyone_db: str) -> Iterator[Any]:
    import fiftyone as fo

    dataset = fo.Dataset("ports", persistent=True, overwrite=True)
    yield dataset
    fo.delete_dataset(dataset.name)


def wait_for(port: int, process: subprocess.Popen, path: str = "") -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"no answer (exit code {process.poll()})")


def review(*options: str) -> tuple[int, str]:
    """Exit code and what `gem-label review` says, which ends by itself."""
    command = [sys.executable, "-m", "gem_label.cli", "review", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, done.stderr


# --- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]"])
def test_what_only_this_machine_reaches(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "::", "[::]", "", "10.1.2.3", "192.168.0.4", "fe80::1", "8.8.8.8"]
)
def test_what_other_machines_reach(address: str) -> None:
    assert not is_loopback(address)


@pytest.mark.parametrize("address", ["no-such-machine.invalid", "a b", "x" * 300])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UsageError, match="no address of a machine"):
        is_loopback(address)


def test_a_process_knows_whether_it_listens_on_the_network() -> None:
    assert not listens_on_network()
    with socket.create_server(("127.0.0.1", 0)):
        assert not listens_on_network()
    with socket.create_server(("0.0.0.0", 0)):
        assert listens_on_network()
    assert not listens_on_network()


def test_addresses_are_refused_before_anything_opens(dataset: Any) -> None:
    from gem_label.review import open_app

    for address in ("0.0.0.0", "::", "[::]", "10.1.2.3"):
        with pytest.raises(
            UsageError, match=f"^{re.escape(address)} is reached from other .*--open-to-network"
        ):
            open_app("ports", address=address, wait=False)
    with pytest.raises(UsageError, match=r"cannot listen on 203\.0\.113\.9"):
        open_app("ports", address="203.0.113.9", open_to_network=True, wait=False)
    with pytest.raises(UsageError, match="there is no folder /no/such"):
        open_app("ports", folders=["/no/such"], wait=False)


# --- ports ---------------------------------------------------------------------------------------------------------


def test_a_free_port_and_one_that_a_web_server_has(start: Start, tmp_path: Path) -> None:
    port = free_port()
    check_port("localhost", port)
    for address in ("127.0.0.1", "0.0.0.0"):
        command = ("-m", "http.server", str(port), "--bind", address)
        server = start(*command, log=tmp_path / "log", cwd=tmp_path)
        wait_for(port, server)
        line = (
            rf"port {port} is taken: something that is no FiftyOne listens there \(-m http.server {port} --bind "
            rf"{address}, process {server.pid}\); use --port \d+$"
        )
        for ours in ("localhost", "127.0.0.1", "0.0.0.0"):
            with pytest.raises(UsageError, match=line) as error:
                check_port(ours, port)
            check_port(ours, int(str(error.value).rpartition(" ")[2]))  # the port it names is free
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)
    check_port("localhost", port)


def test_a_listener_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # this process's own: FiftyOne reuses a server that it started itself
        check_port("127.0.0.1", silent.getsockname()[1])


@pytest.mark.slow
def test_a_second_review_is_refused_and_says_why(
    start: Start, dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    monkeypatch.delenv(VARIABLE, raising=False)
    port, log = free_port(), tmp_path / "log"
    command = ("-m", "gem_label.cli", "review", "ports", "--port", str(port))
    first = start(*command, "--remote", "--folder", str(tmp_path), log=log)
    wait_for(port, first, "fiftyone")
    # it listens on this machine alone, and its server knows the folder
    children = psutil.Process(first.pid).children(recursive=True)
    (server,) = [each for each in children if is_session_server(each.cmdline())]
    listening = {each.laddr.ip for each in server.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    assert server.environ()[VARIABLE] == str(tmp_path)
    assert f"ssh -N -L 5151:localhost:{port} {socket.gethostname()}" in log.read_text()

    code, said = review("ports", "--port", str(port), "--remote")
    assert code == 2
    assert re.fullmatch(
        rf"gem-label: port {port} is taken: another FiftyOne App is open there, at http://localhost:{port} "
        rf"\(-m gem_label.cli review ports .*, process {first.pid}\); use --port \d+\n",
        said,
    )

    # a server whose session ended without it
    keeper = server.parent()
    keeper.kill()
    code, said = review("ports", "--port", str(port))
    assert code == 2
    assert f"the FiftyOne App of a session that has ended listens there; `kill {server.pid}` ends it" in said
    server.terminate()
    server.wait(timeout=60)


@pytest.mark.slow
def test_open_to_network_says_what_that_means(start: Start, dataset: Any, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    command = ("-m", "gem_label.cli", "review", "ports", "--port", str(port), "--remote", "--open-to-network")
    process = start(*command, log=log, env=environment)
    wait_for(port, process, "fiftyone")
    said = log.read_text()
    assert (
        f"open to the network without a password: whoever reaches port {port} of this machine can change and delete "
        "every dataset, read every file that you can read, start work here, and write files below FiftyOne's folder "
        "of runs"
    ) in said
    # what the line says about files is so: this is FiftyOne's own address for photos
    file = tmp_path / "any.txt"
    file.write_text("content")
    place = f"http://127.0.0.1:{port}/media?filepath={file}"
    assert urllib.request.urlopen(place, timeout=60).read() == b"content"
