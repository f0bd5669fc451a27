"""The classes that fit a mask next best, from the run that proposed it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gem_label.errors import GemLabelError
from gem_label.review.storage.fields import run_of
from gem_label.runs import Run
from gem_label.runs.files import MASKS, pending_paths, shard_paths
from gem_label.runs.schema import image_ids_by_group

Scored = list[tuple[str, float]]
"""Classes with their scores in [0, 1], best first."""


def scored_classes(dataset: Any, field: str, mask_ids: Sequence[str]) -> dict[str, Scored]:
    """The best classes of some masks, as the run behind a field has them.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        mask_ids: of the run, "<image_id>#<index>".

    Returns:
        mask id -> classes with scores; empty where the field is from elsewhere or its run cannot be read, because a
        review continues without it.
    """
    try:
        run = run_of(dataset, field)
        return _read_classes(run, mask_ids)
    except (GemLabelError, OSError):
        return {}


def _read_classes(run: Run, mask_ids: Sequence[str]) -> dict[str, Scored]:
    places = _places(run.path.resolve(), str(run.manifest.get("updated")))
    groups: dict[tuple[Path, int], None] = {}
    for mask_id in mask_ids:
        place = places.get(mask_id.rpartition("#")[0])
        if place is not None:
            groups[place] = None
    found: dict[str, Scored] = {}
    wanted = pa.array(list(mask_ids), pa.string())
    for path, group in groups:
        with pa.OSFile(str(path)) as file:
            table = pa.parquet.ParquetFile(file).read_row_group(
                group, ["mask_id", "top_labels", "top_scores"]
            )
        rows = table.filter(pc.is_in(table["mask_id"], value_set=wanted))
        for row in rows.to_pylist():
            found[row["mask_id"]] = list(zip(row["top_labels"], row["top_scores"], strict=True))
    return found


# the lists of photos in shards are long: only another relabel, which `updated` tells, makes it read them again
@lru_cache(maxsize=2)
def _places(path: Path, updated: str) -> dict[str, tuple[Path, int]]:
    """image_id -> the shard and the row group with the masks of that photo."""
    return {
        image_id: (shard, group)
        for shard in (*pending_paths(path / MASKS), *shard_paths(path / MASKS))
        for group, ids in enumerate(image_ids_by_group(shard))
        for image_id in ids
    }
