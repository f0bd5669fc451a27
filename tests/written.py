"""Annotation files written and read in tests, by short names for format and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gem_label.formats.annotations import WriteReport
from gem_label.formats.drawing import WriteSettings
from gem_label.progress import finish
from gem_label.review.exchange.export import export_masks
from gem_label.review.storage.selection import Selection

POLYGON = WriteSettings(segmentation="polygon")
EXACT: dict[str, tuple[str, WriteSettings | None]] = {
    "rle": ("coco", None),
    "polygon": ("coco", POLYGON),
    "lvis": ("lvis", None),
    "cvat": ("cvat", None),
    "label-studio": ("label-studio", None),
    "csv": ("csv", None),
    "parquet": ("parquet", None),
}
"""Formats that are one file and keep masks bit by bit."""


def export(
    dataset: Any, field: str, out: Path, way: str = "rle", selection: Selection | None = None
) -> WriteReport:
    """Write the masks of a dataset in one of the ways of `EXACT`."""
    format, settings = EXACT[way]
    return finish(export_masks(dataset, field, out, format, selection, settings))
