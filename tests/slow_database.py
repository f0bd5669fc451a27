"""A database that answers slowly: a relay between a program and mongod that holds every answer back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 1 << 16


@contextmanager
def slow_database(port: int, delay: float) -> Iterator[int]:
    """Relay connections to a port of this machine; gives the port of the relay.

    Args:
        port: of mongod.
        delay: seconds that every part of an answer is held back.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, port, delay), daemon=True).start()
        yield listener.getsockname()[1]


def _accept(listener: socket.socket, port: int, delay: float) -> None:
    with suppress(OSError):  # the listener was closed
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for source, target, wait in ((client, server, 0.0), (server, client, delay)):
                target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=_relay, args=(source, target, wait), daemon=True).start()


def _relay(source: socket.socket, target: socket.socket, delay: float) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            time.sleep(delay)
            target.sendall(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
