"""The columns of labeled masks: arrays to tables and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gem_label.labeling import Evidence, MaskLabels
from gem_label.labeling.evidence import stack_photos
from gem_label.masks import MaskSet, Overlaps
from gem_label.overlaps import find_overlaps, join_overlaps
from gem_label.quantization import dequantize, quantize


@dataclass(frozen=True, slots=True)
class PhotoRecord:
    """A finished photo of a run.

    Attributes:
        number: its place in the run's listing, from 1.
        image: absolute path.
        image_id: path relative to the folder it was listed from, without suffix.
        width: pixels, upright (after EXIF rotation).
        height: pixels.
        masks: how many masks it has, N >= 0.
        embedding: (d,) float16 class-token embedding of the whole photo, None when the run has none.
        grid: (h, w) patches of its dense features, (0, 0) where that is not known.
    """

    number: int
    image: str
    image_id: str
    width: int
    height: int
    masks: int
    embedding: NDArray[np.float16] | None = None
    grid: tuple[int, int] = (0, 0)


def make_record(
    number: int,
    image: str,
    image_id: str,
    masks: MaskSet,
    image_embedding: NDArray[np.floating] | None = None,
) -> PhotoRecord:
    """The record of a photo that the models are done with.

    Args:
        number: its place in the run's listing.
        image: absolute path or address.
        image_id: its id.
        masks: N masks.
        image_embedding: (d,) class-token embedding, stored as float16.
    """
    embedding = None if image_embedding is None else np.asarray(image_embedding, np.float16)
    return PhotoRecord(number, image, image_id, masks.width, masks.height, len(masks), embedding, masks.grid)


def _vector(dtype: pa.DataType, length: int) -> pa.DataType:
    """Lists of fixed length without nulls inside: declaring that makes parquet several times faster."""
    return pa.list_(pa.field("element", dtype, nullable=False), length)


def mask_schema(embedding_dim: int, surround: bool = True, mask_tokens: bool = False) -> pa.Schema:
    """One row a mask; all columns but `label` are without nulls.

    mask_id is "<image_id>#<index>"; bbox is x, y, width, height in pixels; point is the x, y of the prompt.
    overlap_with are the indices of earlier masks of the photo that the mask overlaps, overlap_share how much of the
    smaller of both lies in the other, in steps of 1/255. Vectors are d signed bytes with a scale
    (`gem_label.quantization`); as lists of integers, parquet would keep four bytes for each.

    Args:
        embedding_dim: d.
        surround: False for runs of format 1, which hold float16 embeddings and no surrounds.
        mask_tokens: whether masks have embeddings by class tokens of their own.
    """
    columns = {
        "image": pa.string(),
        "image_id": pa.string(),
        "image_number": pa.int64(),
        "width": pa.int32(),
        "height": pa.int32(),
        "mask_id": pa.string(),
        "rle_counts": pa.string(),
        "bbox": _vector(pa.float32(), 4),
        "area": pa.int64(),
        "predicted_iou": pa.float32(),
        "stability": pa.float32(),
        "point": _vector(pa.float32(), 2),
        "label": pa.string(),
        "score": pa.float32(),
        "margin": pa.float32(),
        "top_labels": pa.list_(pa.string()),
        "top_scores": pa.list_(pa.float32()),
        "selected": pa.bool_(),
        "kept": pa.bool_(),
        "overlap_with": pa.list_(pa.int32()),
        "overlap_share": pa.list_(pa.uint8()),
    }
    if surround:
        vector = pa.binary(embedding_dim)
        columns |= {"embedding": vector, "embedding_scale": pa.float16()}
        columns |= {"surround": vector, "surround_scale": pa.float16()}
    else:
        columns["embedding"] = _vector(pa.float16(), embedding_dim)
    if mask_tokens:
        columns |= {"mask_token": pa.binary(embedding_dim), "mask_token_scale": pa.float16()}
    return pa.schema([pa.field(name, dtype, nullable=name == "label") for name, dtype in columns.items()])


def _vectors(values: NDArray[Any]) -> pa.Array:
    """(N, k) array to a column of fixed-size lists."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=_vector(flat.type, values.shape[1]))


def fixed_rows(column: pa.ChunkedArray) -> NDArray[Any]:
    """A fixed-size-list column to an (N, k) array."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size)


def label_columns(labels: MaskLabels) -> dict[str, pa.Array]:
    """The columns that depend on the words."""
    classes, index, given = pa.array(labels.classes, pa.string()), labels.label_index, labels.top_classes >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(given.sum(axis=1))]).astype(np.int32))
    return {
        "label": classes.take(pa.array(index, mask=index < 0)),
        "score": pa.array(labels.score),
        "margin": pa.array(labels.margin),
        "top_labels": pa.ListArray.from_arrays(offsets, classes.take(pa.array(labels.top_classes[given]))),
        "top_scores": pa.ListArray.from_arrays(offsets, pa.array(labels.top_scores[given])),
        "selected": pa.array(labels.selected),
        "kept": pa.array(labels.kept),
    }


def overlap_columns(overlaps: Overlaps, masks: int) -> dict[str, pa.Array]:
    """The columns of the pairs that overlap, each pair in the row of its second mask.

    Args:
        overlaps: pairs in the order of their second mask.
        masks: how many masks there are.
    """
    offsets = pa.array(np.searchsorted(overlaps.second, np.arange(masks + 1)).astype(np.int32))
    return {
        "overlap_with": pa.ListArray.from_arrays(offsets, pa.array(overlaps.first)),
        "overlap_share": pa.ListArray.from_arrays(offsets, pa.array(overlaps.share)),
    }


def vector_columns(
    name: str, vectors: NDArray[np.float32] | None, shape: tuple[int, int]
) -> dict[str, pa.Array]:
    """The columns `name` and `name`_scale of (N, d) vectors; None: zeros of this shape."""
    codes, scales = quantize(np.zeros(shape, np.float32) if vectors is None else vectors)
    buffers = [None, pa.py_buffer(np.ascontiguousarray(codes))]
    rows = pa.FixedSizeBinaryArray.from_buffers(pa.binary(shape[1]), len(codes), buffers)
    return {name: rows, f"{name}_scale": pa.array(scales)}


def photo_table(photo: PhotoRecord, masks: MaskSet, labels: MaskLabels, embedding_dim: int) -> pa.Table:
    """The rows of one photo, N masks with embeddings (N, embedding_dim)."""
    n = len(masks)
    overlaps = find_overlaps(masks) if masks.overlaps is None else masks.overlaps
    columns: dict[str, pa.Array] = {
        "image": pa.repeat(photo.image, n),
        "image_id": pa.repeat(photo.image_id, n),
        "image_number": pa.array(np.full(n, photo.number, np.int64)),
        "width": pa.array(np.full(n, masks.width, np.int32)),
        "height": pa.array(np.full(n, masks.height, np.int32)),
        "mask_id": pa.array([f"{photo.image_id}#{i}" for i in range(n)], pa.string()),
        "rle_counts": pa.array([counts.decode("ascii") for counts in masks.counts], pa.string()),
        "bbox": _vectors(masks.boxes),
        "area": pa.array(masks.areas),
        "predicted_iou": pa.array(masks.predicted_iou.astype(np.float32)),
        "stability": pa.array(masks.stability.astype(np.float32)),
        "point": _vectors(masks.points.astype(np.float32)),
        **label_columns(labels),
        **overlap_columns(overlaps, n),
        **vector_columns("embedding", masks.embeddings, (n, embedding_dim)),
        **vector_columns("surround", masks.surrounds, (n, embedding_dim)),
    }
    tokens = masks.mask_tokens is not None
    if tokens:
        columns |= vector_columns("mask_token", masks.mask_tokens, (n, embedding_dim))
    return pa.table(columns, schema=mask_schema(embedding_dim, mask_tokens=tokens))


def relabelled(table: pa.Table, labels: MaskLabels, overlaps: Overlaps, masks: Sequence[int]) -> pa.Table:
    """The same rows with new labels, in row order.

    Args:
        table: the rows of some photos.
        labels: of all masks.
        overlaps: the pairs, with indices into all rows; stored where the rows have none (format 1).
        masks: how many rows each photo has.
    """
    columns = dict(zip(table.column_names, table.columns, strict=True)) | label_columns(labels)
    if "overlap_with" not in columns:
        start = np.repeat(np.cumsum([0, *masks])[:-1], masks)
        local = replace(overlaps, first=overlaps.first - start[overlaps.second].astype(np.int32))
        columns |= overlap_columns(local, len(table))
    vector = table.schema.field("embedding").type
    surround = "surround" in columns
    dimension = vector.byte_width if surround else vector.list_size
    schema = mask_schema(dimension, surround, "mask_token" in columns)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def table_evidence(table: pa.Table, photos: Sequence[PhotoRecord]) -> Evidence:
    """What labels depend on, of the masks of some photos from their rows, which follow each other in their order.

    Rows of format 1 have no surrounds, and their overlaps are found.
    """
    masks = np.array([photo.masks for photo in photos], np.int64)
    overlaps = table_overlaps(table)
    if overlaps is None:
        found = [find_overlaps(each) for each in table_masks(table, photos)]
        overlaps = join_overlaps(found, masks.tolist())
    else:  # the rows count masks from the first of their photo
        start = np.repeat(np.cumsum(masks) - masks, masks).astype(np.int32)
        overlaps = replace(overlaps, first=overlaps.first + start[overlaps.second])
    return Evidence(
        embeddings=table_vectors(table, "embedding"),
        surrounds=table_vectors(table, "surround") if "surround" in table.column_names else None,
        areas=table["area"].to_numpy(),
        overlaps=overlaps,
        masks=masks,
        patches_per_pixel=np.array([p.grid[0] * p.grid[1] / (p.height * p.width) for p in photos]),
        photos=stack_photos([photo.embedding for photo in photos]),
        boxes=fixed_rows(table["bbox"]).astype(np.float32, copy=False),
        sizes=np.array([(photo.height, photo.width) for photo in photos], np.int64).reshape(-1, 2),
        predicted_iou=table["predicted_iou"].to_numpy(),
        stability=table["stability"].to_numpy(),
        mask_tokens=table_vectors(table, "mask_token") if "mask_token" in table.column_names else None,
    )


def table_vectors(table: pa.Table, name: str) -> NDArray[np.float32]:
    """(N, d) float32 from a column of vectors: "embedding", "surround" or "mask_token"."""
    column = table[name]
    if f"{name}_scale" not in table.column_names:
        return fixed_rows(column).astype(np.float32)  # float16, as format 1 has them
    d, rows = column.type.byte_width, column.combine_chunks()
    codes = np.frombuffer(rows.buffers()[1], np.int8, len(rows) * d, rows.offset * d).reshape(len(rows), d)
    return dequantize(codes, table[f"{name}_scale"].to_numpy())


def table_overlaps(table: pa.Table) -> Overlaps | None:
    """The pairs that overlap, from the rows of photos; None where they hold none.

    The first mask of a pair counts from the first of its photo, the second from the first row.
    """
    if "overlap_with" not in table.column_names:
        return None
    lists = table["overlap_with"].combine_chunks()
    counts = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    return Overlaps(
        lists.flatten().to_numpy(zero_copy_only=False),
        np.repeat(np.arange(len(table), dtype=np.int32), counts),
        table["overlap_share"].combine_chunks().flatten().to_numpy(zero_copy_only=False),
    )


def table_masks(table: pa.Table, photos: Sequence[PhotoRecord]) -> list[MaskSet]:
    """The masks of some photos from their rows, which follow each other in the photos' order."""
    counts = table["rle_counts"].cast(pa.binary()).to_pylist()
    predicted_iou, stability = table["predicted_iou"].to_numpy(), table["stability"].to_numpy()
    points = fixed_rows(table["point"])
    embeddings = table_vectors(table, "embedding") if "embedding" in table.column_names else None
    surrounds = table_vectors(table, "surround") if "surround" in table.column_names else None
    tokens = table_vectors(table, "mask_token") if "mask_token" in table.column_names else None
    masks, start = [], 0
    for photo in photos:
        rows = slice(start, start + photo.masks)
        start = rows.stop
        masks.append(
            MaskSet(
                height=photo.height,
                width=photo.width,
                counts=tuple(counts[rows]),
                predicted_iou=predicted_iou[rows],
                stability=stability[rows],
                points=points[rows],
                embeddings=None if embeddings is None else embeddings[rows],
                surrounds=None if surrounds is None else surrounds[rows],
                mask_tokens=None if tokens is None else tokens[rows],
                overlaps=table_overlaps(table.slice(rows.start, photo.masks)),
                grid=photo.grid,
            )
        )
    return masks


def table_labels(table: pa.Table, classes: tuple[str, ...], k: int) -> MaskLabels:
    """The labels of one photo from its rows.

    Args:
        table: its rows.
        classes: the C class names of the run.
        k: how many classes the run stores per mask.
    """
    lists: pa.ListArray = table["top_labels"].combine_chunks()
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    given = np.arange(k) < lengths[:, None]
    found = pc.index_in(lists.flatten(), value_set=pa.array(classes, pa.string())).fill_null(-1)
    top_classes, top_scores = np.full((len(table), k), -1, np.int32), np.zeros((len(table), k), np.float32)
    top_classes[given] = found.to_numpy(zero_copy_only=False)
    top_scores[given] = table["top_scores"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return MaskLabels(
        classes=classes,
        top_classes=top_classes,
        top_scores=top_scores,
        background=table["label"].is_null().to_numpy(),
        margin=table["margin"].to_numpy(),
        kept=table["kept"].to_numpy(),
        selected=table["selected" if "selected" in table.column_names else "kept"].to_numpy(),
    )
