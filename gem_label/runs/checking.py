"""What every shard of a run must be: its columns, its photos and its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gem_label.geometry import MAX_PIXELS, covers, is_whole
from gem_label.labeling import MaskLabels
from gem_label.masks import MaskSet
from gem_label.runs.manifest import has_mask_tokens
from gem_label.runs.schema import PhotoRecord, format_of, mask_schema, photo_table


class RowError(ValueError):
    """Columns, photos or rows that no run holds."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the shards of a run have in common, as its manifest says.

    Attributes:
        embedding_dim: d.
        format: of the run, see `gem_label.runs.files`.
        run_id: of the run; None in runs of earlier versions, whose shards have none either.
        mask_tokens: whether masks have embeddings by class tokens of their own.
    """

    embedding_dim: int
    format: int
    run_id: str | None
    mask_tokens: bool = False

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Self:
        """What a manifest says of the shards."""
        run_id = manifest.get("id")
        return cls(
            int(manifest["embedding_dim"]),
            int(manifest["format"]),
            run_id if isinstance(run_id, str) else None,
            has_mask_tokens(manifest),
        )


_OPTIONAL = ("selected", "overlap_with", "overlap_share")  # not in format 1 before it is relabeled
_PHOTO_NUMBERS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "number": (1, 2**62),
        "width": (1, MAX_PIXELS),
        "height": (1, MAX_PIXELS),
        "masks": (0, 2**31 - 1),
    }
)
_PHOTO_COLUMNS: Mapping[str, str] = MappingProxyType(
    {name: name for name in ("image", "image_id", "width", "height")} | {"image_number": "number"}
)
_SAME_LENGTHS = (("top_labels", "top_scores"), ("overlap_with", "overlap_share"))


def known_columns(schema: pa.Schema, expected: Expected | None = None) -> list[str]:
    """Make sure that a shard has the columns of masks, and name those that this version knows.

    Args:
        schema: of the shard; columns of a later version are allowed.
        expected: of the run; None: a shard by itself.

    Returns:
        The names, in the order of `mask_schema`.

    Raises:
        RowError: a column is missing, twice there, or of another type.
    """
    vector = schema.field("embedding").type if schema.get_field_index("embedding") >= 0 else None
    format, mask_tokens = format_of(schema.names), "mask_token" in schema.names
    if vector is None:
        raise RowError("it has no column embedding, or two")
    size = vector.byte_width if pa.types.is_fixed_size_binary(vector) else getattr(vector, "list_size", 0)
    if expected is not None:
        size, format, mask_tokens = expected.embedding_dim, expected.format, expected.mask_tokens
    names = []
    for field in mask_schema(size, format, mask_tokens):
        place = schema.get_field_index(field.name)
        if place < 0:
            if format == 1 and field.name in _OPTIONAL and field.name not in schema.names:
                continue
            times = schema.names.count(field.name)
            raise RowError(
                f"it has {times} columns {field.name}" if times else f"it has no column {field.name}"
            )
        if not schema.field(place).type.equals(field.type):
            raise RowError(
                f"its column {field.name} has the type {schema.field(place).type}, not {field.type}"
            )
        names.append(field.name)
    return names


def photo_records(rows: Any, embeddings: NDArray[np.float16] | None) -> list[PhotoRecord]:
    """The photos that the footer of a shard lists.

    Args:
        rows: as JSON; fields of a later version are left out.
        embeddings: (photos, d) class-token embeddings, or None.

    Raises:
        RowError: a photo lacks a field or has an odd value, or two photos have one number or id.
    """
    if not isinstance(rows, list) or (embeddings is not None and len(embeddings) != len(rows)):
        raise RowError("its list of photos is no list, or does not match their embeddings")
    if embeddings is not None and not np.isfinite(embeddings).all():
        raise RowError("an embedding of a photo is not finite")
    photos = []
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise RowError(f"photo {i} of its list is no object")
        for name in ("image", "image_id"):
            if not isinstance(row.get(name), str):
                raise RowError(f"photo {i} of its list has no {name} that can be read")
        for name, (least, most) in _PHOTO_NUMBERS.items():
            value = row.get(name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise RowError(f"photo {i} of its list has no {name} that can be read")
        grid = row.get("grid", [0, 0])
        if not isinstance(grid, list) or len(grid) != 2 or not all(is_whole(n) and n >= 0 for n in grid):
            raise RowError(f"photo {i} of its list has no grid that can be read")
        tag = row.get("tag", "")
        if not isinstance(tag, str):
            raise RowError(f"photo {i} of its list has no tag that can be read")
        embedding = None if embeddings is None else embeddings[i]
        values = {name: row[name] for name in ("image", "image_id", *_PHOTO_NUMBERS)}
        photos.append(PhotoRecord(**values, embedding=embedding, grid=(grid[0], grid[1]), tag=tag))
    for name in ("number", "image_id"):
        if len({getattr(photo, name) for photo in photos}) != len(photos):
            raise RowError(f"two of its photos have the same {name}")
    return photos


def checked_table(photo: PhotoRecord, masks: MaskSet, labels: MaskLabels, embedding_dim: int) -> pa.Table:
    """The rows of one photo for a shard.

    Args:
        photo: which.
        masks: N masks with embeddings (N, embedding_dim).
        labels: their labels.
        embedding_dim: d.

    Raises:
        RowError: the models gave what no run holds, such as numbers that are not finite.
    """
    table = photo_table(photo, masks, labels, embedding_dim)
    check_rows(table, [photo])
    return table


def check_rows(table: pa.Table, photos: Sequence[PhotoRecord]) -> None:
    """Make sure that rows are masks of some photos: ids, numbers, run lengths, and references between rows.

    Args:
        table: the rows, which follow each other in the photos' order; some or all columns.
        photos: whose rows they are.

    Raises:
        RowError: they are not; the message names the column, and the mask where it is one.
    """
    for photo in photos:
        if photo.embedding is not None and not np.isfinite(photo.embedding).all():
            raise RowError(f"the embedding of photo {photo.image_id} is not finite")
    if not len(table):
        return
    for name in table.column_names:
        if name != "label" and table[name].null_count:
            raise RowError(f"its column {name} has missing values")
    owner = np.repeat(np.arange(len(photos)), [photo.masks for photo in photos])
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    index = np.arange(len(table)) - np.repeat(starts, np.diff(starts, append=len(table)))
    _check_photos(table, photos, owner, index)
    for name in table.column_names:
        values = _numbers(table[name], name)
        if values is not None and not np.isfinite(values).all():
            raise RowError(f"its column {name} has numbers that are not finite")
    for name, other in _SAME_LENGTHS:
        if name in table.column_names and other in table.column_names:
            lengths = (pc.list_value_length(table[each]).combine_chunks() for each in (name, other))
            if not next(lengths).equals(next(lengths)):
                raise RowError(f"its columns {name} and {other} have lists of different lengths")
    if "overlap_with" in table.column_names:
        column = table["overlap_with"].combine_chunks()
        own = np.repeat(index, pc.list_value_length(column).to_numpy(zero_copy_only=False))
        other_mask = column.flatten().to_numpy(zero_copy_only=False)
        if (other_mask < 0).any() or (other_mask >= own).any():
            raise RowError("its column overlap_with names masks that are not before their own in the photo")
    if "rle_counts" in table.column_names:
        _check_run_lengths(table["rle_counts"].cast(pa.binary()).to_pylist(), photos, owner, index)


def _check_photos(
    table: pa.Table, photos: Sequence[PhotoRecord], owner: NDArray[np.int64], index: NDArray[np.int64]
) -> None:
    """Rows name the photo that they belong to, and its masks in order: so ids are unique."""
    rows = pa.array(owner)
    for name, attribute in _PHOTO_COLUMNS.items():
        if name in table.column_names:
            wanted = pa.array([getattr(p, attribute) for p in photos], table.schema.field(name).type)
            if not pc.all(pc.equal(table[name], wanted.take(rows))).as_py():
                raise RowError(f"its column {name} does not match its list of photos")
    if "mask_id" in table.column_names:
        ids = pa.array([photo.image_id for photo in photos], pa.string()).take(rows)
        wanted = pc.binary_join_element_wise(ids, pa.array(index).cast(pa.string()), "#")
        if not pc.all(pc.equal(table["mask_id"], wanted)).as_py():
            raise RowError("its column mask_id does not count the masks of each photo from 0")


def _numbers(column: pa.ChunkedArray, name: str) -> NDArray[np.floating] | None:
    """The floating-point numbers of a column, those in its lists too; None where it has none."""
    values = column.combine_chunks()
    while pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
        if values.null_count:
            raise RowError(f"its column {name} has missing values in lists")
    return values.to_numpy(zero_copy_only=False) if pa.types.is_floating(values.type) else None


def _check_run_lengths(
    counts: Sequence[bytes],
    photos: Sequence[PhotoRecord],
    owner: NDArray[np.int64],
    index: NDArray[np.int64],
) -> None:
    pixels = np.array([photo.height * photo.width for photo in photos], np.int64)
    if pixels.max() > MAX_PIXELS:
        raise RowError("a photo has more pixels than run lengths can count")
    if covers(counts, pixels[owner]):
        return
    for i, text in enumerate(counts):
        if not covers([text], pixels[owner[i : i + 1]]):
            photo = photos[owner[i]]
            size = f"{photo.height} x {photo.width}"
            raise RowError(f"the run lengths of mask {photo.image_id}#{index[i]} do not cover {size} pixels")
