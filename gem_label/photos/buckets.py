"""Photos in object stores: where they are listed, and how they become files for a moment."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gem_label.errors import GemLabelError, ImageError
from gem_label.stores import Store, is_address, open_store
from gem_label.stores.local import file_tag

_BUCKET = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://[^/]+)/+(.*)")


class Buckets:
    """The object stores that photos come from; each is opened once, so that its connections are used again.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._stores: dict[str, Store] = {}

    @contextmanager
    def as_file(
        self, path: str | os.PathLike[str], take_tag: Callable[[str], None] | None = None
    ) -> Iterator[str | os.PathLike[str]]:
        """A photo as a file: itself, or of an address a copy that is gone when the `with` block ends.

        Args:
            path: of the file, or its address.
            take_tag: gets the tag of the content, see `Photo`.

        Raises:
            FileNotFoundError: there is nothing at the address.
            ImageError: the store does not answer, or denies access.
        """
        if not is_address(path):
            if take_tag is not None:
                take_tag(file_tag(os.stat(path)))
            yield path
            return
        try:
            store, name = self.locate(str(path))
            data, tag = store.read_tagged(name)
        except GemLabelError as error:
            raise ImageError(str(error)) from error
        if take_tag is not None:
            take_tag(tag)
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
        return sorted(address for address, _ in self.tags_below(address))

    def tags_below(self, address: str) -> Iterator[tuple[str, str]]:
        """Yield the addresses of all files below an address with the tags of their content, see `Photo`.

        Raises:
            GemLabelError: the store does not answer, or denies access.
        """
        store, name = self.locate(address if "/" in address.partition("://")[2] else f"{address}/")
        prefix = name.strip("/")
        for each, tag in store.tags(f"{prefix}/" if prefix else ""):
            yield f"{store.address}/{each}", tag
