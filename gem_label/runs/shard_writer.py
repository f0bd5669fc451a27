"""Writing shards: whole photos in row groups, with checksums."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gem_label.runs.files import FORMAT
from gem_label.runs.schema import PhotoRecord, mask_schema
from gem_label.runs.sealing import SealingFile

# Whole photos are gathered into row groups of at least this many rows: what a reader holds at a time.
ROWS_PER_GROUP = 4096
RUN_LENGTH_LEVEL = 3
"""How hard zstd tries with run lengths (benchmarks/run_bytes.py); all other columns gain nothing beyond level 1."""

_DICTIONARIES = ["image", "image_id", "image_number", "width", "height", "label", "top_labels.list.element"]
_FLOATS = ("bbox.list.element", "score", "margin", "predicted_iou", "stability")
_ENCODINGS = MappingProxyType(
    {"rle_counts": "DELTA_LENGTH_BYTE_ARRAY"} | dict.fromkeys(_FLOATS, "BYTE_STREAM_SPLIT")
)


def photos_metadata(photos: Sequence[PhotoRecord]) -> dict[str, str]:
    """Footer entries: the photos (those without a mask too), and their embeddings as one block of float16."""
    keys = ("number", "image", "image_id", "width", "height", "masks", "grid")
    rows = [
        {key: getattr(photo, key) for key in keys} | ({"tag": photo.tag} if photo.tag else {})
        for photo in photos
    ]
    metadata = {"photos": json.dumps(rows)}
    if photos and all(photo.embedding is not None for photo in photos):
        block: NDArray[np.float16] = np.stack([np.asarray(photo.embedding, np.float16) for photo in photos])
        metadata["photo_embeddings"] = base64.b64encode(block.tobytes()).decode("ascii")
    return metadata


class ShardWriter:
    """Writes a shard, gathering whole photos into row groups; a context manager, for use inside `write_atomic`."""

    def __init__(
        self,
        file: BinaryIO,
        embedding_dim: int,
        format: int = FORMAT,
        run_id: str | None = None,
        mask_tokens: bool = False,
    ) -> None:
        """Begin a shard.

        Args:
            file: open for writing.
            embedding_dim: d.
            format: of the run that the shard is for.
            run_id: `id` in the manifest of the run that the shard is for; None: it has none.
            mask_tokens: whether masks have embeddings by class tokens of their own.
        """
        schema = mask_schema(embedding_dim, format, mask_tokens)
        self._file = SealingFile(file)
        self._writer = pq.ParquetWriter(
            self._file,
            schema,
            # half-precision embeddings are noise to a compressor, integers are not
            compression="zstd" if format > 1 else dict.fromkeys(schema.names, "zstd") | {"embedding": "none"},
            compression_level={"rle_counts": RUN_LENGTH_LEVEL},
            column_encoding=dict(_ENCODINGS),
            # a dictionary of vectors would only cost time
            use_dictionary=_DICTIONARIES,
            write_statistics=["image_number", "score", "kept", "label"],
            write_page_checksum=True,
        )
        self._run_id = run_id
        self._empty = schema.empty_table()
        self._photos: list[PhotoRecord] = []
        self._failures: list[Mapping[str, str]] = []
        self._tables: list[pa.Table] = []
        self._rows = self._groups = 0

    def add(self, photos: Sequence[PhotoRecord], table: pa.Table) -> None:
        """Add the rows of whole photos, in their order; from `checked_table` or a `ShardFile`, which check them."""
        self._photos.extend(photos)
        self._tables.append(table)
        self._rows += len(table)
        if self._rows >= ROWS_PER_GROUP:
            self._flush()

    def add_failures(self, failures: Iterable[Mapping[str, str]]) -> None:
        """Add photos that could not be labeled: image, image_id, stage, error."""
        self._failures.extend(failures)

    def _flush(self) -> None:
        if self._rows or not self._groups:
            whole = pa.concat_tables(self._tables) if self._tables else self._empty
            self._writer.write_table(whole.combine_chunks(), row_group_size=max(1, len(whole)))
            self._groups += 1
        self._tables, self._rows = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Write what is left and the footer; after an error, nothing."""
        try:
            if error is None:
                self._flush()
                run = {} if self._run_id is None else {"run": self._run_id}
                self._writer.add_key_value_metadata(photos_metadata(self._photos) | run)
                if self._failures:
                    self._writer.add_key_value_metadata({"failures": json.dumps(self._failures)})
                self._writer.add_key_value_metadata(self._file.footer_metadata())
                self._writer.close()
                self._file.finish()
        finally:
            self._writer.is_open = (
                False  # else pyarrow would try once more when it is collected, and complain
            )
