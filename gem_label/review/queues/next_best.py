"""The classes that fit a mask next best, from the run that proposed it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gem_label.errors import GemLabelError
from gem_label.review.queues.run_rows import read_rows
from gem_label.review.storage.fields import run_of
from gem_label.runs import Run

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
    return {
        row["mask_id"]: list(zip(row["top_labels"], row["top_scores"], strict=True))
        for table in read_rows(run, mask_ids, ["top_labels", "top_scores"])
        for row in table.to_pylist()
    }
