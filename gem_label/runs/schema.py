"""The columns of labeled masks: arrays to tables and back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
from gem_label.photos.photo import Photo
from gem_label.quantization import add_differences, dequantize, quantize, quantize_differences
from gem_label.runs.files import FORMAT


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
        tag: of the content that was labeled, see `Photo`; "" where that is not known.
    """

    number: int
    image: str
    image_id: str
    width: int
    height: int
    masks: int
    embedding: NDArray[np.float16] | None = None
    grid: tuple[int, int] = (0, 0)
    tag: str = ""


def make_record(
    photo: Photo, masks: MaskSet, image_embedding: NDArray[np.floating] | None = None
) -> PhotoRecord:
    """The record of a photo that the models are done with.

    Args:
        photo: which.
        masks: N masks.
        image_embedding: (d,) class-token embedding, stored as float16.
    """
    embedding = None if image_embedding is None else np.asarray(image_embedding, np.float16)
    return PhotoRecord(
        photo.number,
        photo.path,
        photo.image_id,
        masks.width,
        masks.height,
        len(masks),
        embedding,
        masks.grid,
        photo.tag,
    )


def _vector(dtype: pa.DataType, length: int) -> pa.DataType:
    """Lists of fixed length without nulls inside: declaring that makes parquet several times faster."""
    return pa.list_(pa.field("element", dtype, nullable=False), length)


SURROUND_DIFFERENCE, MASK_TOKEN = "surround_difference", "mask_token"


def format_of(columns: Collection[str]) -> int:
    """The format of a run by the columns of its shards."""
    if SURROUND_DIFFERENCE in columns:
        return 3
    return 2 if "surround" in columns else 1


def vector_names(format: int) -> list[str]:
    """The columns that `table_vectors` needs for the embeddings of masks and, where a run has them, of surrounds.

    Args:
        format: of the run.
    """
    if format == 1:
        return ["embedding"]
    vectors = ("embedding", "surround" if format == 2 else SURROUND_DIFFERENCE)
    return [column for name in vectors for column in (name, f"{name}_scale")]


def mask_schema(embedding_dim: int, format: int = FORMAT, mask_tokens: bool = False) -> pa.Schema:
    """One row a mask; all columns but `label` are without nulls.

    mask_id is "<image_id>#<index>"; bbox is x, y, width, height in pixels; point is the x, y of the prompt.
    overlap_with are the indices of earlier masks of the photo that the mask overlaps, overlap_share how much of the
    smaller of both lies in the other, in steps of 1/255. Vectors are d signed bytes with a scale
    (`gem_label.quantization`); as lists of integers, parquet would keep four bytes for each.

    Args:
        embedding_dim: d.
        format: of the run, see `gem_label.runs.files`.
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
        "top_scores": pa.list_(pa.float16() if format > 2 else pa.float32()),
        "selected": pa.bool_(),
        "kept": pa.bool_(),
        "overlap_with": pa.list_(pa.int32()),
        "overlap_share": pa.list_(pa.uint8()),
    }
    if format == 1:
        columns["embedding"] = _vector(pa.float16(), embedding_dim)
    else:
        names = vector_names(format) + ([MASK_TOKEN, f"{MASK_TOKEN}_scale"] if mask_tokens else [])
        types = pa.binary(embedding_dim), pa.float16()
        columns |= {name: types[name.endswith("_scale")] for name in names}
    return pa.schema([pa.field(name, dtype, nullable=name == "label") for name, dtype in columns.items()])


def _vectors(values: NDArray[Any]) -> pa.Array:
    """(N, k) array to a column of fixed-size lists."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=_vector(flat.type, values.shape[1]))


def fixed_rows(column: pa.ChunkedArray) -> NDArray[Any]:
    """A fixed-size-list column to an (N, k) array."""
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size)


def label_columns(labels: MaskLabels, format: int = FORMAT) -> dict[str, pa.Array]:
    """The columns that depend on the words, for a run of this format."""
    classes, index, given = pa.array(labels.classes, pa.string()), labels.label_index, labels.top_classes >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(given.sum(axis=1))]).astype(np.int32))
    top_scores = labels.top_scores[given].astype(np.float16 if format > 2 else np.float32)
    return {
        "label": classes.take(pa.array(index, mask=index < 0)),
        "score": pa.array(labels.score),
        "margin": pa.array(labels.margin),
        "top_labels": pa.ListArray.from_arrays(offsets, classes.take(pa.array(labels.top_classes[given]))),
        "top_scores": pa.ListArray.from_arrays(offsets, pa.array(top_scores)),
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
    embeddings: NDArray[np.float32], surrounds: NDArray[np.float32] | None
) -> dict[str, pa.Array]:
    """The columns of (N, d) embeddings and of those of the surrounds; None: there are none."""
    codes, scales = quantize(embeddings)
    rounded = dequantize(codes, scales)
    around = np.zeros_like(rounded) if surrounds is None else surrounds
    differences, difference_scales = quantize_differences(around, rounded)
    return {
        "embedding": _bytes(codes),
        "embedding_scale": pa.array(scales),
        SURROUND_DIFFERENCE: _bytes(differences),
        f"{SURROUND_DIFFERENCE}_scale": pa.array(difference_scales),
    }


def _bytes(codes: NDArray[np.int8]) -> pa.Array:
    """(N, d) codes as a column of d bytes."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(codes))]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(codes.shape[1]), len(codes), buffers)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int8]:
    """A column of d bytes as (N, d) codes."""
    d, rows = column.type.byte_width, column.combine_chunks()
    return np.frombuffer(rows.buffers()[1], np.int8, len(rows) * d, rows.offset * d).reshape(len(rows), d)


def photo_table(photo: PhotoRecord, masks: MaskSet, labels: MaskLabels, embedding_dim: int) -> pa.Table:
    """The rows of one photo, N masks with embeddings (N, embedding_dim)."""
    n = len(masks)
    overlaps = find_overlaps(masks) if masks.overlaps is None else masks.overlaps
    embeddings = np.zeros((n, embedding_dim), np.float32) if masks.embeddings is None else masks.embeddings
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
        **vector_columns(embeddings, masks.surrounds),
    }
    if masks.mask_tokens is not None:
        codes, scales = quantize(masks.mask_tokens)
        columns |= {MASK_TOKEN: _bytes(codes), f"{MASK_TOKEN}_scale": pa.array(scales)}
    return pa.table(columns, schema=mask_schema(embedding_dim, mask_tokens=MASK_TOKEN in columns))


def relabeled(table: pa.Table, labels: MaskLabels, overlaps: Overlaps, masks: Sequence[int]) -> pa.Table:
    """The same rows with new labels, in row order.

    Args:
        table: the rows of some photos.
        labels: of all masks.
        overlaps: the pairs, with indices into all rows; stored where the rows have none (format 1).
        masks: how many rows each photo has.
    """
    format = format_of(table.column_names)
    columns = dict(zip(table.column_names, table.columns, strict=True)) | label_columns(labels, format)
    if "overlap_with" not in columns:
        start = np.repeat(np.cumsum([0, *masks])[:-1], masks)
        local = replace(overlaps, first=overlaps.first - start[overlaps.second].astype(np.int32))
        columns |= overlap_columns(local, len(table))
    vector = table.schema.field("embedding").type
    format = format_of(columns)
    dimension = vector.list_size if format == 1 else vector.byte_width
    schema = mask_schema(dimension, format, MASK_TOKEN in columns)
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
    embeddings, surrounds = table_vectors(table)
    return Evidence(
        embeddings=embeddings,
        surrounds=surrounds,
        areas=table["area"].to_numpy(),
        overlaps=overlaps,
        masks=masks,
        patches_per_pixel=np.array([p.grid[0] * p.grid[1] / (p.height * p.width) for p in photos]),
        photos=stack_photos([photo.embedding for photo in photos]),
        boxes=fixed_rows(table["bbox"]).astype(np.float32, copy=False),
        sizes=np.array([(photo.height, photo.width) for photo in photos], np.int64).reshape(-1, 2),
        predicted_iou=table["predicted_iou"].to_numpy(),
        stability=table["stability"].to_numpy(),
        mask_tokens=table_mask_tokens(table),
    )


def table_vectors(table: pa.Table) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """(N, d) float32 embeddings of masks, and those of their surrounds where the table has them.

    Args:
        table: rows with some of the columns `vector_names`, `embedding` among them.
    """
    if "embedding_scale" not in table.column_names:
        return fixed_rows(table["embedding"]).astype(np.float32), None  # float16, as format 1 has them
    embeddings = dequantize(_codes(table["embedding"]), table["embedding_scale"].to_numpy())
    for name in set(table.column_names) & {"surround", SURROUND_DIFFERENCE}:
        codes, scales = _codes(table[name]), table[f"{name}_scale"].to_numpy()
        if name == "surround":
            return embeddings, dequantize(codes, scales)
        return embeddings, add_differences(codes, scales, embeddings)
    return embeddings, None


def table_mask_tokens(table: pa.Table) -> NDArray[np.float32] | None:
    """(N, d) float32 embeddings of masks by class tokens of their own; None where the table has none."""
    if MASK_TOKEN not in table.column_names:
        return None
    return dequantize(_codes(table[MASK_TOKEN]), table[f"{MASK_TOKEN}_scale"].to_numpy())


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
    embeddings, surrounds = table_vectors(table) if "embedding" in table.column_names else (None, None)
    tokens = table_mask_tokens(table)
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
    first = lengths > 0  # the best score is stored in full precision, too: thresholds are about it
    top_scores[first, 0] = table["score"].to_numpy()[first]
    return MaskLabels(
        classes=classes,
        top_classes=top_classes,
        top_scores=top_scores,
        background=table["label"].is_null().to_numpy(),
        margin=table["margin"].to_numpy(),
        kept=table["kept"].to_numpy(),
        selected=table["selected" if "selected" in table.column_names else "kept"].to_numpy(),
    )
