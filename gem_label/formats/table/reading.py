"""Tables with one row a mask, as CSV and parquet, read: columns by their names, in any order."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gem_label.errors import UsageError
from gem_label.formats.annotations import (
    STATES,
    AnnotatedMask,
    AnnotatedPhoto,
    Annotations,
    Draw,
    Size,
    is_text,
    unusable,
)
from gem_label.formats.table.writing import COLUMNS, FORMULA, METADATA
from gem_label.geometry import Shape, is_whole, number_or_none, read_segmentation, rectangle
from gem_label.tables import reason

Row = Mapping[str, Any]

_BOX = ("x", "y", "w", "h")
_ID = re.compile("0|-?[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class RunLengths:
    """Compressed COCO run lengths of a row; called, they are drawn.

    Attributes:
        counts: the text.
        size: height and width of the photo as the row has them; None: of the photo that they are drawn over.
    """

    counts: str
    size: Size | None

    def __call__(self, height: int, width: int) -> Shape:
        """The shape over a photo of this many pixels."""
        size = list(self.size or (height, width))
        return read_segmentation({"size": size, "counts": self.counts}, height, width)


def read_csv(path: Path, text: str) -> Annotations:
    """The photos of a CSV table with their masks; classes are in the order of the alphabet.

    The columns photo and label are needed, and rle_counts or all of x, y, w and h; others of `COLUMNS` may be
    missing, and columns of other names are passed over. Cells are separated by commas, semicolons or tabs.

    Args:
        path: of the file, for messages.
        text: its content.

    Raises:
        UsageError: columns are missing, or a row names no photo.
    """
    # the csv module has one limit for the whole process; run lengths of ragged masks are longer than its default
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    if text.startswith("sep="):  # of Excel, for itself
        text = text.partition("\n")[2]
    for delimiter in (",", ";", "\t"):
        # strict: a quote that nobody closed would take in the rows behind it
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            header = [name.strip().lower() for name in next(lines, [])]
            if {"photo", "label"} <= set(header):
                return _read(path, header, _csv_rows(header, lines, delimiter == ";"), {})
        except csv.Error as error:
            raise UsageError(f"cannot read {path} as a table, line {lines.line_num}: {error}") from error
    # the line itself is not shown: whoever asks may not be the one who may read the file
    raise UsageError(f"{path} is no table of masks: its first line names no columns photo and label")


def _csv_rows(header: Sequence[str], lines: Iterable[list[str]], comma: bool) -> Iterator[Row]:
    """Rows by column names.

    Args:
        header: lower-case names.
        lines: the cells of each row; spreadsheets leave out empty ones at the end.
        comma: numbers may have a decimal comma.
    """
    for cells in lines:
        row: dict[str, Any] = {}
        for name, cell in zip(header, cells, strict=False):
            if comma and COLUMNS.get(name, "string") != "string":
                cell = cell.replace(",", ".")
            row.setdefault(name, cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell)
        yield row


def read_parquet(path: Path, data: bytes) -> Annotations:
    """The photos of a parquet table with their masks; the columns are those of `read_csv`.

    Args:
        path: of the file, for messages.
        data: its content.

    Raises:
        UsageError: it is no parquet file, columns are missing, or a row names no photo.
    """
    import pyarrow as pa  # other formats need no Arrow
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        names = {name: name.strip().lower() for name in file.schema_arrow.names}
        wanted = [name for name in names if names[name] in COLUMNS]
        about = _about((file.schema_arrow.metadata or {}).get(METADATA))
        batches = file.iter_batches(batch_size=4096, columns=wanted, use_threads=False)
        rows = (
            {names[name]: value for name, value in row.items()}
            for batch in batches
            for row in batch.to_pylist()
        )
        return _read(path, [names[name] for name in wanted], rows, about)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise UsageError(f"cannot read {path} as parquet: {reason(error)}") from error


def _about(metadata: bytes | None) -> Mapping[str, Any]:
    """What `write_parquet` put into the metadata; nothing where that cannot be read."""
    try:
        about = json.loads(metadata or b"{}")
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def _read(path: Path, columns: Sequence[str], rows: Iterable[Row], about: Mapping[str, Any]) -> Annotations:
    missing = [name for name in ("photo", "label") if name not in columns]
    if "rle_counts" not in columns and not set(_BOX) <= set(columns):
        missing.append("rle_counts (or x, y, w and h)")
    if missing:
        raise UsageError(f"{path} is no table of masks: it has no column {', '.join(missing)}")
    masks: dict[str, list[AnnotatedMask]] = {}
    sizes: dict[str, Size | None] = {}
    paths: dict[str, str | None] = {}
    for number, row in enumerate(rows, 1):
        if not any(_has(value) for value in row.values()):
            continue
        photo = _text(row.get("photo"))
        if photo is None:
            raise UsageError(f"{path}: row {number} names no photo")
        size = _size(row)
        sizes[photo] = sizes.get(photo) or size
        paths[photo] = paths.get(photo) or _text(row.get("path"))
        of_photo = masks.setdefault(photo, [])
        if any(_has(row.get(name)) for name in ("label", "rle_counts", "mask_id", *_BOX)):
            of_photo.append(_mask(f"row {number}", row, size))
    photos = [AnnotatedPhoto(name, sizes[name], masks[name], path=paths[name]) for name in masks]
    found = {mask.label for of_photo in masks.values() for mask in of_photo if mask.label}
    declared = about.get("classes")
    listed = [name for name in declared if is_text(name)] if isinstance(declared, list) else []
    classes = dict.fromkeys([*listed, *sorted(found.difference(listed))])
    folder, info = about.get("folder"), about.get("info")
    known = {key: value for key, value in info.items() if is_text(value)} if isinstance(info, dict) else {}
    return Annotations(
        photos,
        tuple(classes),
        count=len(photos),
        folder=folder if isinstance(folder, str) else "",
        info=known,
    )


def _mask(name: str, row: Row, size: Size | None) -> AnnotatedMask:
    """The mask of a row; one that cannot be read comes as one that cannot be drawn."""
    label, counts, box = _text(row.get("label")), row.get("rle_counts"), None
    draw: Draw
    if label is None:
        draw = unusable("no label")
    elif _has(counts):
        if isinstance(counts, bytes) and counts.isascii():  # as pycocotools gives them
            counts = counts.decode("ascii")
        draw = (
            RunLengths(counts, size) if isinstance(counts, str) else unusable("run lengths that are no text")
        )
    elif any(_has(row.get(side)) for side in _BOX):
        corners = [_number(row.get(side)) for side in _BOX]
        draw = partial(rectangle, corners)
        x, y, w, h = corners
        if x is not None and y is not None and w is not None and h is not None:
            box = x, y, w, h
    else:
        draw = unusable("no mask")
    return AnnotatedMask(
        label or "",
        draw,
        name,
        _text(row.get("mask_id")),
        _id(row.get("id")),
        score=_number(row.get("score")),
        margin=_number(row.get("margin")),
        state=next((state for state in STATES if state == row.get("state")), None),
        crowd=str(row.get("crowd")).strip().lower() in ("1", "1.0", "true"),
        box_only=isinstance(draw, partial),
        box=box,
        size=draw.size if isinstance(draw, RunLengths) else None,
    )


def _has(value: Any) -> bool:
    """Whether a cell is not empty; NaN, as pandas writes it, is."""
    if isinstance(value, float):
        return not math.isnan(value)
    return value is not None and value != ""


def _text(value: Any) -> str | None:
    return value if is_text(value) else None


def _number(value: Any) -> float | None:
    """A cell as a finite number."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return number_or_none(value)


def _id(value: Any) -> int | str | None:
    """An id: a whole number where it is written like one."""
    if isinstance(value, float) and value.is_integer():
        return int(value)  # pandas' way with columns that have gaps
    if isinstance(value, str) and _ID.fullmatch(value):
        return int(value)
    return value if is_whole(value) else _text(value)


def _size(row: Row) -> Size | None:
    height, width = (int(_number(row.get(side)) or 0) for side in ("height", "width"))
    return (height, width) if height > 0 and width > 0 else None
