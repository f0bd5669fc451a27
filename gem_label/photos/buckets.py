"""Photos in object stores: where they are listed, and how they become files for a moment."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from gem_label.errors import GemLabelError, ImageError
from gem_label.stores import Store, is_address, open_store

_BUCKET = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://[^/]+)/+(.*)")


class Buckets:
    """The object stores that photos come from; each is opened once, so that its connections are used again.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._stores: dict[str, Store] = {}

    @contextmanager
    def as_file(self, path: str | os.PathLike[str]) -> Iterator[str | os.PathLike[str]]:
        """A photo as a file: itself, or of an address a copy that is gone when the `with` block ends.

        Raises:
            FileNotFoundError: there is nothing at the address.
            ImageError: the store does not answer, or denies access.
        """
        if not is_address(path):
            yield path
            return
        try:
            store, name = self.locate(str(path))
            data = store.read(name)
        except GemLabelError as error:
            raise ImageError(str(error)) from error
        with tempfile.NamedTemporaryFile(suffix=os.path.splitext(name)[1]) as file:
            file.write(data)
            file.flush()
            yield file.name

    def locate(self, address: str) -> tuple[Store, str]:
        """The store of an address's bucket, and the address's name in it.

        Raises:
            GemLabelError: the address names no bucket and file, or no store that can be read.
        """
        match = _BUCKET.fullmatch(address)
        if match is None:
            raise GemLabelError(f"{address}: write scheme://bucket/name, such as s3://photos/2024/a.jpg")
        bucket, name = match[1], match[2]
        if bucket not in self._stores:
            self._stores[bucket] = open_store(bucket)
        return self._stores[bucket], name

    def names_below(self, address: str) -> list[str]:
        """The addresses of all files below an address, in order.

        Raises:
            GemLabelError: the store does not answer, or denies access.
        """
        store, name = self.locate(address if "/" in address.partition("://")[2] else f"{address}/")
        prefix = name.strip("/")
        return [f"{store.address}/{each}" for each in sorted(store.names(f"{prefix}/" if prefix else ""))]
