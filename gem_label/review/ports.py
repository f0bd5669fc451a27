"""Who can reach the App, and who listens on its port already."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import shlex
import socket
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

import psutil

from gem_label.errors import UsageError
from gem_label.review.storage.internals import is_app_server, is_server_keeper, is_session_server

PORTS_TRIED = 200
_SECONDS = 2.0


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches what listens on an address.

    Args:
        address: an IP address, in brackets or not, or a host name; "" stands for every interface.

    Raises:
        UsageError: the name has no address.
    """
    return bool(address) and all(ipaddress.ip_address(ip).is_loopback for ip in _resolve(address))


def _resolve(address: str) -> list[str]:
    try:
        found = socket.getaddrinfo(bare_address(address), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{address!r} is no address of a machine") from error
    return [str(each[4][0]).partition("%")[0] for each in found]


def bare_address(address: str) -> str:
    """An address without the brackets that URLs have around IPv6."""
    return address.removeprefix("[").removesuffix("]")


def listens_on_network() -> bool:
    """Whether this process listens on an address that other machines reach.

    Looks at the sockets themselves, so that it is right however the App was started.
    """
    connections = psutil.Process().net_connections("tcp")
    listening = [each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN]
    return not all(ipaddress.ip_address(ip.partition("%")[0]).is_loopback for ip in listening)


def check_port(address: str, port: int) -> None:
    """Make sure that an App can listen on a port.

    A server that this process has started itself may listen there: FiftyOne then uses it.

    Args:
        address: the interface.
        port: 1 to 65535.

    Raises:
        UsageError: something else listens there (the message says what, and names a free port), or this machine does
            not let us.
    """
    problem = _problem_with(address, port)
    if problem is None:
        return
    if problem.errno == errno.EACCES:
        raise UsageError(f"only root may listen on port {port}: use --port {_free_port(address, 5151)}")
    if problem.errno != errno.EADDRINUSE:
        raise UsageError(f"cannot listen on {address}: {problem.strerror}")
    listener = find_listener(address, port)
    if listener.owner == os.getpid():
        return
    raise UsageError(f"port {port} is taken: {listener}; use --port {_free_port(address, port + 1)}")


def _problem_with(address: str, port: int) -> OSError | None:
    """What keeps a server from listening on a port; None where nothing does."""
    bare = bare_address(address)
    # as FiftyOne's server does it
    with socket.socket(socket.AF_INET6 if ":" in bare else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bare, port))
        except OSError as error:
            return error
    # not every system tells it to `bind`
    with suppress(OSError), socket.create_connection((_reachable(address), port), timeout=_SECONDS):
        return OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    return None


def _free_port(address: str, first: int) -> int:
    """The first port from one on that nothing listens on."""
    for port in range(first, min(first + PORTS_TRIED, 65536)):
        if _problem_with(address, port) is None:
            return port
    raise UsageError(f"no port from {first} on is free")


def _reachable(address: str) -> str:
    """Where to knock for an address that may stand for every interface."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(  # noqa: S104 - it is knocked at, not bound to
        bare_address(address), bare_address(address)
    )


@dataclass(frozen=True, slots=True)
class Listener:
    """What listens on a port.

    Attributes:
        url: where a browser finds it, when it is a FiftyOne App.
        process: the process that listens; None where another user's, or in another container.
        owner: the process that the App's session is in, or the listening process; None where nobody is known or
            the session has ended.
        command: its command line.
    """

    url: str | None
    process: int | None
    owner: int | None
    command: str

    def __str__(self) -> str:
        """One line about it, with what to do."""
        if self.url is None:
            who = f" ({self.command}, process {self.process})" if self.process else ""
            return f"something that is no FiftyOne listens there{who}"
        if self.process is None:
            return f"a FiftyOne App listens there, at {self.url}, whose process is not to be seen from here"
        if self.owner is None:
            return (
                f"the FiftyOne App of a session that has ended listens there; `kill {self.process}` ends it"
            )
        return f"another FiftyOne App is open there, at {self.url} ({self.command}, process {self.owner})"


def find_listener(address: str, port: int) -> Listener:
    """What listens on a port; see `Listener`."""
    url = _app_url(_reachable(address), port)
    process = _listening_process(port)
    if process is None:
        return Listener(url, None, None, "")
    with suppress(psutil.Error):
        owner = _session_process(process) if url else process
        return Listener(url, process.pid, owner and owner.pid, _command(owner or process))
    return Listener(url, process.pid, process.pid, process.name())


def _app_url(host: str, port: int) -> str | None:
    """The address of a FiftyOne App; None when there is another kind of server."""
    connection = HTTPConnection(host, port, timeout=_SECONDS)
    try:
        connection.request("GET", "/fiftyone")
        answer = json.loads(connection.getresponse().read(1 << 16))
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
    if not isinstance(answer, dict) or "version" not in answer:
        return None
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _listening_process(port: int) -> Any:
    """The psutil process that listens on a port, or None where it is not ours to see."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            for each in process.net_connections("tcp"):
                if each.status == psutil.CONN_LISTEN and each.laddr.port == port:
                    return process
    return None


def _session_process(server: Any) -> Any:
    """The process whose session an App belongs to; None when it has ended.

    It is the listening process itself where that is no server of a session: one that somebody started alone, or a
    tunnel to another machine.
    """
    keeper = server.parent()
    if keeper is not None and is_app_server(server.cmdline()) and is_server_keeper(keeper.cmdline()):
        return keeper.parent()
    return None if is_session_server(server.cmdline()) else server


def _command(process: Any) -> str:
    """The command line of a process, short."""
    words = process.cmdline() or [process.name()]
    if "python" in os.path.basename(words[0]) and len(words) > 1:
        words = words[1:]  # the script says more than the interpreter
    text = shlex.join([os.path.basename(words[0]), *words[1:]])
    return text if len(text) <= 100 else f"{text[:97]}..."
