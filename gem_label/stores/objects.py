"""A prefix of a bucket as a store: S3, Google Cloud Storage, Azure, and what speaks their protocols."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, cast

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import from_url

from gem_label.errors import GemLabelError

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from typing_extensions import Buffer

_LONGEST_REASON = 200
_BUFFER = 1 << 20
_ENDPOINTS = ("AWS_ENDPOINT_URL", "GOOGLE_BASE_URL", "AZURE_STORAGE_ENDPOINT")


class ObjectStore:
    """Files below a prefix of a bucket.

    `create` is a put on the condition that there is nothing, which the server decides. A reply that is lost is asked
    for again and finds the file there, so False may also mean that this very call has written it.

    Args:
        address: such as "s3://bucket/run".

    Raises:
        GemLabelError: no store that obstore knows, or no bucket in it.
    """

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        # an endpoint of the environment; without TLS only where it says so
        plain = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
        options = {"allow_http": True} if plain else None
        with self._errors("cannot open"):
            self._store = from_url(self._address, client_options=options)  # type: ignore[arg-type]

    @property
    def address(self) -> str:
        """The address, without a "/" at its end."""
        return self._address

    def create(self, name: str, data: bytes) -> bool:
        """Write a file; see `Store`."""
        with self._errors("cannot write", name):
            try:
                obstore.put(self._store, name, data, mode="create")
            except AlreadyExistsError:
                return False
            return True

    def read(self, name: str) -> bytes:
        """The content of a file; see `Store`."""
        with self._errors("cannot read", name):
            return bytes(obstore.get(self._store, name).bytes())

    def read_version(self, name: str) -> tuple[bytes, str]:
        """The content of a file and its version; see `Store`."""
        with self._errors("cannot read", name):
            found = obstore.get(self._store, name)
            # S3 and Azure compare ETags, Google's store the number of the generation
            version = {key: found.meta[key] for key in ("e_tag", "version") if found.meta[key]}
            return bytes(found.bytes()), json.dumps(version)

    def replace(self, name: str, data: bytes, version: str) -> bool:
        """Put new content in the place of a version of a file; see `Store`."""
        with self._errors("cannot write", name):
            try:
                obstore.put(self._store, name, data, mode=json.loads(version))
            except PreconditionError:
                return False
            return True

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names of the files below a folder; see `Store`."""
        return (name for name, _ in self.sizes(prefix))

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the names of the files below a folder with their sizes; see `Store`."""
        return ((each["path"], each["size"]) for each in self._files(prefix))

    def _files(self, prefix: str) -> Iterator[ObjectMeta]:
        with self._errors("cannot list", prefix):
            for batch in obstore.list(self._store, prefix.rstrip("/") or None):
                yield from batch

    def read_tagged(self, name: str) -> tuple[bytes, str]:
        """The content of a file and its tag; see `Store`."""
        with self._errors("cannot read", name):
            found = obstore.get(self._store, name)
            return bytes(found.bytes()), _tag(found.meta)

    def tags(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield the names of the files below a folder with their tags; see `Store`."""
        return ((each["path"], _tag(each)) for each in self._files(prefix))

    def delete(self, *names: str) -> None:
        """Delete files; see `Store`."""
        with self._errors("cannot delete", names[0] if names else ""), suppress(FileNotFoundError):
            obstore.delete(self._store, names[0] if len(names) == 1 else list(names))

    def open(self, name: str) -> BinaryIO:
        """A file open for reading; see `Store`."""
        with self._errors("cannot read", name):
            return cast(BinaryIO, io.BufferedReader(_Reader(obstore.open_reader(self._store, name)), _BUFFER))

    def tidy(self) -> None:
        """There is nothing to do: a put that is cut short leaves no file; see `Store`."""

    @contextmanager
    def _errors(self, what: str, name: str = "") -> Iterator[None]:
        place = f"{self._address}/{name}" if name else self._address
        try:
            yield
        except NotFoundError as error:
            raise FileNotFoundError(place) from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise GemLabelError(
                f"{what} {place}: access is denied; check the credentials in the environment"
            ) from error
        except (BaseError, ValueError) as error:
            reason = " ".join(str(error).split())[:_LONGEST_REASON]
            raise GemLabelError(f"{what} {place}: {reason}") from error


def _tag(meta: ObjectMeta) -> str:
    return meta["e_tag"] or f"{meta['size']}-{meta['last_modified'].isoformat()}"


class _Reader(io.RawIOBase):
    """A file of obstore, as Python's own files are: pyarrow asks whether it is closed."""

    def __init__(self, file: obstore.ReadableFile) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = bytes(self._file.read(len(view)))
        view[: len(data)] = data
        return len(data)
