"""A mongod of the tests, which can be killed and started again where it was."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mongod:
    """A mongod on this machine; the process id is in a file, as fixtures of several test files share it.

    Attributes:
        folder: its files.
        port: where it listens, on the loopback interface.
    """

    folder: Path
    port: int

    def start(self, program: str | None = None) -> None:
        """Start it, and wait until it listens.

        Args:
            program: of mongod; None: the one of before.
        """
        if program is not None:
            (self.folder / "program").write_text(program)
        command = [
            (self.folder / "program").read_text(),
            "--dbpath",
            str(self.folder),
            "--port",
            str(self.port),
        ]
        # test commands: mongod fails commands where a test asks for it (tests/faults/failing_database.py)
        command += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--setParameter", "enableTestCommands=1"]
        with (self.folder / "mongod.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        (self.folder / "process").write_text(str(process.pid))
        self._wait_until_open(process)

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal that ends it, and wait until it has ended."""
        process = int((self.folder / "process").read_text())
        with suppress(ProcessLookupError, ChildProcessError):  # it has ended already
            os.kill(process, number)
            os.waitpid(process, 0)

    def _wait_until_open(self, process: subprocess.Popen, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"mongod ended with exit code {process.returncode}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"mongod did not open port {self.port} within {seconds:.0f} s")


def running_mongod() -> Mongod:
    """The mongod that `fiftyone_db` started."""
    folder, _, port = os.environ["GEM_LABEL_TEST_MONGOD"].rpartition(":")
    return Mongod(Path(folder), int(port))
