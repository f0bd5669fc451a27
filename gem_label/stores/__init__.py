"""Where the files of a run are: a folder, or a prefix of a bucket.

A `Store` promises what several writers need: `create` puts a whole file under a name that is free, and exactly one of
several writers succeeds; `replace` puts a new file in the place of the one that was read.

    store = open_store("s3://bucket/run")
    if not store.create("masks/shard-000007.parquet", data):
        ...  # somebody else has written it
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from gem_label.errors import GemLabelError
from gem_label.stores.local import LocalStore

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


class Store(Protocol):
    """Named files of bytes. Names have "/" between their parts and do not begin with one.

    All methods raise GemLabelError, in one line, for a store that does not answer or denies access.
    """

    @property
    def address(self) -> str:
        """The folder, or the bucket's address."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Write a file, whole or not at all; False: there is one of that name already, and it stays."""
        ...

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: there is none of that name.
        """
        ...

    def read_version(self, name: str) -> tuple[bytes, str]:
        """The content of a file, and which version of it that is, for `replace`; raises as `read` does."""
        ...

    def replace(self, name: str, data: bytes, version: str) -> bool:
        """Put new content in the place of a version of a file; False: there is another version meanwhile."""
        ...

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names of all files that begin with `prefix`, a folder with a "/" at its end, in no order."""
        ...

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the names of the same files with their sizes in bytes, in as many requests."""
        ...

    def read_tagged(self, name: str) -> tuple[bytes, str]:
        """The content of a file, and a tag that other content of that name would not have; raises as `read` does."""
        ...

    def tags(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield the names that `names` yields with the tags that `read_tagged` gives, in as many requests."""
        ...

    def delete(self, *names: str) -> None:
        """Delete files, as many as one request takes at a time; nothing happens where there is none."""
        ...

    def open(self, name: str) -> BinaryIO:
        """A file open for reading at any place; raises as `read` does."""
        ...

    def tidy(self) -> None:
        """Delete what writers that died have left; what may still be written stays."""
        ...


def put(store: Store, name: str, data: bytes) -> None:
    """Write a file, in the place of any that there is."""
    while True:
        try:
            old, version = store.read_version(name)
        except FileNotFoundError:
            if store.create(name, data):
                return
        else:
            if old == data or store.replace(name, data, version):
                return


def is_address(place: str | os.PathLike[str]) -> bool:
    """Whether a place is an address of an object store, "s3://bucket/run", and not a path."""
    return isinstance(place, str) and _ADDRESS.match(place) is not None


def open_store(place: str | os.PathLike[str]) -> Store:
    """A folder or a bucket's prefix as a store.

    Args:
        place: a path, or an address such as "s3://bucket/run" or "gs://bucket/run". Credentials, region and endpoint
            of object stores come from the environment, as their own tools take them.

    Raises:
        GemLabelError: obstore is not installed, or the address is of no store that it knows.

    Example:
        >>> store = open_store("/tmp/gem-label-doctest-store")
        >>> store.create("a/b.txt", b"1") or store.read("a/b.txt") == b"1"
        True
    """
    if not is_address(place):
        return LocalStore(place)
    try:
        from gem_label.stores.objects import ObjectStore
    except ImportError as error:
        raise GemLabelError(
            f"{place} is in an object store: install what reads it by pip install 'gem-label[stores]'"
        ) from error
    return ObjectStore(str(place))
