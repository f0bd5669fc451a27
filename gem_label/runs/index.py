"""An index of the footers of many shards: which photos they hold, and which failed, without opening each.

    RUN/index/part-000000.parquet    shards 0 to 1023: a row a photo, and the size of every shard
    RUN/index/part-000001.parquet    shards 1024 to 2047

A part counts only while it is whole, of this run and of the very shards that are there, by their names and sizes; the
shards of any other part are opened one by one. So it may be missing, old or damaged.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gem_label.runs.files import INDEX, shard_name
from gem_label.runs.listing import FAILURE_FIELDS
from gem_label.runs.schema import PhotoRecord
from gem_label.runs.sealing import SealedFile, SealingFile
from gem_label.runs.shards import DAMAGE, ShardFile
from gem_label.stores import Store, put

SHARDS_PER_PART = 1024
LEAST_SHARDS = 16
"""A run of fewer shards has no index."""

_PHOTO = {"number": pa.int64(), "width": pa.int32(), "height": pa.int32(), "masks": pa.int32()}
_TEXT = ("image", "image_id", "tag", "stage", "error")
_SCHEMA = pa.schema(
    {"shard": pa.int64(), **_PHOTO, "grid_rows": pa.int32(), "grid_columns": pa.int32()}
    | dict.fromkeys(_TEXT, pa.string())
)
"""A row is a photo, or, with `stage` and `error` in place of the numbers, one that failed."""


@dataclass(frozen=True, slots=True)
class IndexedShard:
    """What the footer of a shard lists.

    Attributes:
        path: of the shard.
        photos: those that it holds, without their embeddings.
        failures: photos of its chunk that failed: image, image_id, stage, error.
    """

    path: Path
    photos: list[PhotoRecord]
    failures: list[dict[str, str]]

    def close(self) -> None:
        """There is nothing to close; a `ShardFile` has the method, too."""


class IndexWriter:
    """Writes the index of a run, a part at a time, as shards are added in the order of their numbers."""

    def __init__(self, store: Store, folder: str, run_id: str | None) -> None:
        """Begin an index.

        Args:
            store: where the run is.
            folder: of the run in the store, "" or with a "/" at its end.
            run_id: `id` in the manifest of the run; a run without one has no index.
        """
        self._store, self._folder, self._run_id = store, folder, run_id
        self._sizes: dict[int, int] = {}
        self._rows: list[dict[str, object]] = []

    def add(self, number: int, size: int, shard: ShardFile) -> None:
        """Add a shard by its number and its size in bytes."""
        if self._sizes and number // SHARDS_PER_PART != next(iter(self._sizes)) // SHARDS_PER_PART:
            self.write()
        self._sizes[number] = size
        for photo in shard.photos:
            rows, columns = photo.grid
            names = ("image", "image_id", "tag", *_PHOTO)
            row = {"shard": number, "grid_rows": rows, "grid_columns": columns}
            self._rows.append(row | {name: getattr(photo, name) for name in names})
        self._rows += [{"shard": number, **failure} for failure in shard.failures]

    def write(self) -> None:
        """Write the part of the shards that were added last."""
        if self._sizes and self._run_id is not None:
            content = io.BytesIO()
            sealing = SealingFile(content)
            table = pa.Table.from_pylist(self._rows, _SCHEMA)
            with pq.ParquetWriter(sealing, _SCHEMA, compression="zstd") as writer:
                writer.write_table(table, row_group_size=max(1, len(table)))
                shards = json.dumps(list(self._sizes.items()))
                writer.add_key_value_metadata({"run": self._run_id, "shards": shards})
                writer.add_key_value_metadata(sealing.footer_metadata())
            sealing.finish()
            part = next(iter(self._sizes)) // SHARDS_PER_PART
            put(self._store, self._folder + _part_name(part), content.getvalue())
        self._sizes, self._rows = {}, []


class ShardIndex:
    """The index of a run, open for reading; holds one part at a time."""

    def __init__(self, store: Store, folder: str, run_id: str | None, sizes: Mapping[int, int]) -> None:
        """Open an index, which need not exist.

        Args:
            store: where the run is.
            folder: of the run in the store, "" or with a "/" at its end.
            run_id: `id` in the manifest of the run.
            sizes: number -> bytes of the shards that are there.
        """
        self._store, self._folder, self._run_id = store, folder, run_id
        self._sizes = sizes if run_id is not None and len(sizes) >= LEAST_SHARDS else {}
        self._part = -1
        self._shards: dict[int, IndexedShard] = {}

    def find(self, number: int, path: Path) -> IndexedShard | None:
        """What the footer of a shard lists; None where the index does not know.

        Args:
            number: of the shard; neighbors are found fast.
            path: of the shard, for the result.
        """
        if number not in self._sizes:
            return None
        if number // SHARDS_PER_PART != self._part:
            self._part = number // SHARDS_PER_PART
            self._shards = self._read(self._part, path.parent)
        return self._shards.get(number)

    def _read(self, part: int, masks: Path) -> dict[int, IndexedShard]:
        """The shards of a part; none of one that cannot be trusted."""
        expected = {n: size for n, size in self._sizes.items() if n // SHARDS_PER_PART == part}
        try:
            with closing(self._store.open(self._folder + _part_name(part))) as file:
                source = SealedFile(file)
                parquet = pq.ParquetFile(source)
                metadata = parquet.metadata.metadata or {}
                source.use_metadata(metadata)
                sizes = dict(json.loads(metadata[b"shards"]))
                if metadata[b"run"].decode() != self._run_id or sizes != expected or not source.sealed:
                    return {}
                if not parquet.schema_arrow.equals(_SCHEMA):
                    return {}
                return _indexed(parquet.read(), masks, expected)
        except DAMAGE:
            return {}


def _indexed(table: pa.Table, masks: Path, numbers: Collection[int]) -> dict[int, IndexedShard]:
    shards = {number: IndexedShard(masks / shard_name(number), [], []) for number in numbers}
    columns = {name: table[name].to_pylist() for name in table.column_names}
    for i, (number, stage) in enumerate(zip(columns["shard"], columns["stage"], strict=True)):
        if stage is not None:
            shards[number].failures.append({name: columns[name][i] for name in FAILURE_FIELDS})
            continue
        values = {name: columns[name][i] for name in ("image", "image_id", "tag", *_PHOTO)}
        grid = columns["grid_rows"][i], columns["grid_columns"][i]
        shards[number].photos.append(PhotoRecord(**values, grid=grid))
    return shards


def update_index(
    store: Store,
    folder: str,
    run_id: str | None,
    sizes: Mapping[int, int],
    open_shard: Callable[[int], ShardFile],
) -> None:
    """Write the parts of an index that are missing or old.

    Args:
        store: where the run is.
        folder: of the run in the store, "" or with a "/" at its end.
        run_id: `id` in the manifest of the run.
        sizes: number -> bytes of the shards that are there.
        open_shard: opens a shard by its number.
    """
    if run_id is None or len(sizes) < LEAST_SHARDS:
        return
    index, writer = ShardIndex(store, folder, run_id, sizes), IndexWriter(store, folder, run_id)
    for number in sorted(sizes):
        if index.find(number, Path()) is None:
            with closing(open_shard(number)) as shard:
                writer.add(number, sizes[number], shard)
    writer.write()


def _part_name(part: int) -> str:
    return f"{INDEX}/part-{part:06d}.parquet"
