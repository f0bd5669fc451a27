"""Tables with one row a mask, as CSV and parquet, written.

A photo without masks has one row without a label. Column names are those of `COLUMNS`.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from gem_label.atomic import replacing
from gem_label.formats.annotations import AnnotatedPhoto, Annotations, WriteReport
from gem_label.formats.drawing import DrawnMask, WriteSettings, draw_masks

COLUMNS = {
    "photo": "string",
    "path": "string",
    "width": "int32",
    "height": "int32",
    "label": "string",
    "score": "double",
    "margin": "double",
    "state": "string",
    "decided_by": "string",
    "decided_at": "string",
    "mask_id": "string",
    "id": "string",
    "crowd": "bool",
    "x": "int32",
    "y": "int32",
    "w": "int32",
    "h": "int32",
    "area": "int64",
    "rle_counts": "string",
}
"""Names and Arrow types of the columns, in their order."""

METADATA = b"gem_label"
"""Key in a parquet file's metadata: JSON with the classes in their order, the folder of the photos, and the info."""

FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""Text that spreadsheets run as a formula, behind apostrophes or not: it has one apostrophe more in CSV."""

_ROWS, _CHARACTERS = 10_000, 1 << 24
"""A row group of parquet has no more rows, and about as many characters of run lengths."""


def write_csv(
    annotations: Annotations, out: Path, settings: WriteSettings | None = None
) -> Generator[int, None, WriteReport]:
    """Write a table as CSV: UTF-8, commas, a header, one row a mask.

    Cells with commas, quotes or ends of lines are quoted. Texts that spreadsheets run as formulas (those that begin
    with =, +, - or @) get an apostrophe in front, which `read_csv` takes away; run lengths never do. Classes without
    masks and the order of the classes are not kept.

    Args:
        annotations: what to write.
        out: the .csv file; appears when it is whole.
        settings: none of them concern this format.

    Yields:
        How many masks are written, after each photo; the generator returns the report.

    Raises:
        GemLabelError: a mask cannot be drawn.
        OSError: the file cannot be written.
    """
    report = WriteReport(classes=len(annotations.classes))
    with replacing(out, "w", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        for photo in annotations.photos:
            writer.writerows(map(_csv_row, _rows(photo, report)))
            yield report.masks
    return report


def write_parquet(
    annotations: Annotations, out: Path, settings: WriteSettings | None = None
) -> Generator[int, None, WriteReport]:
    """Write a table as parquet, one row a mask, in row groups of bounded size.

    The file's metadata has the classes in their order, also those without masks.

    Args:
        annotations: what to write.
        out: the .parquet file; appears when it is whole.
        settings: none of them concern this format.

    Yields:
        How many masks are written, after each photo; the generator returns the report.

    Raises:
        GemLabelError: a mask cannot be drawn.
        OSError: the file cannot be written.
    """
    import pyarrow as pa  # other formats need no Arrow
    import pyarrow.parquet as pq

    report = WriteReport(classes=len(annotations.classes))
    about = {
        "classes": annotations.classes,
        "folder": annotations.folder,
        "info": dict(annotations.info),
    }
    schema = pa.schema(
        [(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()], {METADATA: json.dumps(about)}
    )
    repeated = ["photo", "path", "label", "state"]
    with (
        replacing(out) as file,
        pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=repeated) as writer,
    ):
        rows: list[dict[str, Any]] = []
        characters = 0
        for photo in annotations.photos:
            for row in _rows(photo, report):
                rows.append(row)
                characters += len(row["rle_counts"] or "")
                if len(rows) >= _ROWS or characters >= _CHARACTERS:
                    writer.write_table(pa.Table.from_pylist(rows, schema))
                    rows, characters = [], 0
            yield report.masks
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema))
    return report


def _rows(photo: AnnotatedPhoto, report: WriteReport) -> Iterator[dict[str, Any]]:
    """The rows of a photo; one where it has no masks."""
    report.photos += 1
    height, width = photo.size or (None, None)
    path = None if photo.path is None else cell_text(photo.path)
    of_photo = dict.fromkeys(COLUMNS) | {
        "photo": cell_text(photo.name),
        "path": path,
        "width": width,
        "height": height,
    }
    empty = True
    for drawn in draw_masks(photo, report):
        report.masks += 1
        empty = False
        yield of_photo | _of_mask(drawn, report)
    if empty:
        yield of_photo


def _of_mask(drawn: DrawnMask, report: WriteReport) -> dict[str, Any]:
    mask = drawn.mask
    texts = {
        "label": mask.label,
        "decided_by": mask.decided_by,
        "mask_id": mask.mask_id,
        "id": None if mask.id is None else str(mask.id),
    }
    cells: dict[str, Any] = {name: text and cell_text(text) for name, text in texts.items()}
    if cells != texts:
        report.altered["masks with text that UTF-8 cannot hold"] += 1
    cells |= {
        "score": _finite(mask.score),
        "margin": _finite(mask.margin),
        "state": mask.state,
        "decided_at": mask.decided_at,
        "crowd": mask.crowd,
        "area": drawn.area,
        "rle_counts": drawn.text_rle["counts"],
    }
    return cells | dict(zip(("x", "y", "w", "h"), drawn.box, strict=True))


def cell_text(text: str) -> str:
    r"""Text that UTF-8 holds and tools read: \udcff for a byte that is none, \x00 for a NUL."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", r"\x00")


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _csv_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose texts are not run as formulas."""
    cells = dict(row)
    for name, value in row.items():
        if isinstance(value, bool):
            cells[name] = int(value)
        elif isinstance(value, str) and name != "rle_counts" and FORMULA.match(value):
            cells[name] = f"'{value}"
    return cells
