"""Reading shards, parquet files of whole photos: the one checked way in."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gem_label.errors import GemLabelError
from gem_label.runs.checking import Expected, RowError, check_rows, known_columns, photo_records
from gem_label.runs.files import run_of_shard
from gem_label.runs.listing import FAILURE_FIELDS
from gem_label.runs.schema import PhotoRecord
from gem_label.runs.sealing import SealedFile

DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError)
"""What reading a damaged parquet file raises: pyarrow has OSError for what it cannot decode."""


class ShardError(GemLabelError):
    """A shard that cannot be used; the message says what to do."""


class OtherRunError(ShardError):
    """A shard of another run, or of this run before it was relabeled."""


def damaged_shard(path: Path, error: Exception | str) -> ShardError:
    """The error for a shard that cannot be used.

    Args:
        path: of the shard.
        error: what is wrong with it.
    """
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ShardError(f"{path} is damaged ({reason}): {repair_advice(path)}")


def repair_advice(path: Path) -> str:
    """What to do about a shard that cannot be used."""
    run = str(run_of_shard(path))
    if path.parts[0].endswith(":"):  # an address, s3://bucket/run, as a path
        run = run.replace(":/", "://", 1)
    return f"`gem-label repair {run}` sets it aside, then the same `gem-label label` labels its photos again"


class ShardFile:
    """A shard (or a pending photo) open for reading; stays readable when the file is deleted meanwhile.

    Everything that is read from shards is read here. Bytes are verified by their checksums, which are written with
    rows that are checked. The rows of shards without checksums, which earlier versions wrote, are checked here.

    Attributes:
        path: of the file.

    Raises:
        ShardError: the file is damaged, or not of the run.
        FileNotFoundError: there is no such file.
    """

    def __init__(self, path: Path, expected: Expected | None = None, file: BinaryIO | None = None) -> None:
        """Open a shard.

        Args:
            path: of the file.
            expected: what the shards of the run have in common; None: a shard by itself.
            file: what to read in its place, open; `path` only names it.
        """
        self.path = path
        self._handle: BinaryIO = open(path, "rb") if file is None else file  # noqa: SIM115 - closed by close()
        try:
            source = SealedFile(self._handle)
            self._sealed = source.sealed
            self._parquet = pq.ParquetFile(source, page_checksum_verification=not source.sealed)
            self._metadata = self._parquet.metadata.metadata or {}
            source.use_metadata(self._metadata)
            self.run_id = self._metadata.get(b"run", b"").decode("ascii") or None
            if expected is not None and self.run_id != expected.run_id:
                raise OtherRunError(f"{path} is of another run: {repair_advice(path)}")
            self._columns = known_columns(self._parquet.schema_arrow, expected)
        except GemLabelError:
            self._handle.close()
            raise
        except DAMAGE as error:
            self._handle.close()
            raise damaged_shard(self.path, error) from error

    @cached_property
    def photos(self) -> list[PhotoRecord]:
        """The photos, those without masks too.

        Raises:
            ShardError: their list is damaged.
        """
        try:
            rows, embeddings = self._photo_rows(), None
            if rows and b"photo_embeddings" in self._metadata:
                block = np.frombuffer(base64.b64decode(self._metadata[b"photo_embeddings"]), np.float16)
                embeddings = block.reshape(len(rows), -1)
            photos = photo_records(rows, embeddings)
            if sum(photo.masks for photo in photos) != self._parquet.metadata.num_rows:
                raise RowError("its rows do not fit its list of photos")
        except DAMAGE as error:
            raise damaged_shard(self.path, error) from error
        return photos

    @cached_property
    def failures(self) -> list[dict[str, str]]:
        """Photos of a shared run that could not be labeled: image, image_id, stage, error.

        Raises:
            ShardError: their list is damaged.
        """
        try:
            rows = json.loads(self._metadata.get(b"failures", b"[]"))
            return [{name: str(row[name]) for name in FAILURE_FIELDS} for row in rows]
        except DAMAGE as error:
            raise damaged_shard(self.path, error) from error

    def _photo_rows(self) -> Any:
        return json.loads(self._metadata[b"photos"])

    def groups(self, columns: Sequence[str] | None = None) -> Iterator[tuple[list[PhotoRecord], pa.Table]]:
        """Yield (photos, table) row group by row group; a photo's rows are never in two groups.

        Raises:
            ShardError: a row group is damaged.
        """
        for group, photos in enumerate(self.photos_by_group()):
            yield photos, self.read_group(group, columns)

    def photos_by_group(self) -> list[list[PhotoRecord]]:
        """The photos of each row group, without reading its rows."""
        masks = [photo.masks for photo in self.photos]
        return [self.photos[photos] for photos in _photos_of_groups(masks, self._parquet.metadata)]

    def image_ids_by_group(self) -> list[list[str]]:
        """The image ids of the photos in each row group; faster than `photos_by_group`.

        Raises:
            ShardError: the list of photos is damaged.
        """
        try:
            photos = self._photo_rows()
            groups = _photos_of_groups([photo["masks"] for photo in photos], self._parquet.metadata)
            return [[photo["image_id"] for photo in photos[group]] for group in groups]
        except DAMAGE as error:
            raise damaged_shard(self.path, error) from error

    def read_group(self, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a row group.

        Args:
            group: its place, from 0.
            columns: only these; None: all that this version knows.

        Raises:
            ShardError: it is damaged.
        """
        try:
            wanted = self._columns if columns is None else list(columns)
            table = self._parquet.read_row_group(group, columns=wanted)
            if not self._sealed:
                check_rows(table, self.photos_by_group()[group])
        except GemLabelError:
            raise
        except DAMAGE as error:
            raise damaged_shard(self.path, error) from error
        return table

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


class PhotoLists(Protocol):
    """What the footer of a shard lists; a `ShardFile`, or what an index knows of it."""

    @property
    def path(self) -> Path:
        """Of the shard."""
        ...

    @property
    def photos(self) -> list[PhotoRecord]:
        """Its photos."""
        ...

    @property
    def failures(self) -> list[dict[str, str]]:
        """Photos that failed."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def update_failures(failed: dict[str, dict[str, str]], shard: PhotoLists) -> None:
    """Add the failures of a shard by photo, and take away photos that it holds."""
    failed.update({row["image"]: row for row in shard.failures})
    for photo in shard.photos:
        failed.pop(photo.image, None)


def _photos_of_groups(masks: Sequence[int], metadata: pq.FileMetaData) -> Iterator[slice]:
    """Yield which photos are in each row group, from the number of masks that each photo has."""
    position, last = 0, metadata.num_row_groups - 1
    for group in range(metadata.num_row_groups):
        rows, start = metadata.row_group(group).num_rows, position
        while position < len(masks) and (rows > 0 or group == last or masks[position] == 0):
            rows -= masks[position]
            position += 1
        yield slice(start, position)
