"""Decided masks that look like mistakes, for a second look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gem_label.review.exchange.decided import DECIDED
from gem_label.review.queues.order import MaskReference, references
from gem_label.review.storage.mask_reader import read_table
from gem_label.review.storage.second_looks import second_looks
from gem_label.review.storage.selection import STATES, Expression, Selection, aggregate_masks


def second_look_queue(
    dataset: Any, field: str, mask_ids: Sequence[str], selection: Selection | None = None, limit: int = 1000
) -> list[MaskReference]:
    """Those of some masks that are decided, without decisions that somebody has looked at a second time.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        mask_ids: ids of masks in the run, as `LearnReport.mistaken_masks` lists them.
        selection: which masks; its `states` and `samples` do not count.
        limit: at most this many.

    Returns:
        The masks in the order of `mask_ids`.

    Raises:
        UsageError: there is no such field.
    """
    table = read_table(dataset, field)
    decided = np.flatnonzero(table.states != STATES.index("undecided"))
    samples = list(dict.fromkeys(mask.sample_id for mask in references(table, decided)))
    chosen = replace(selection or Selection(), states=DECIDED, samples=samples)
    shown: Expression = {"$project": {f"masks.{name}": 1 for name in ("_id", "mask_id", "decision")}}
    looked_at = second_looks(dataset)
    found = {
        mask.get("mask_id"): MaskReference(str(row["_id"]), str(mask["_id"]))
        for row in aggregate_masks(dataset, field, chosen, [shown])
        for mask in row["masks"]
        if looked_at.get(str(mask["_id"]), "never") != mask.get("decision")
    }
    return [found[mask_id] for mask_id in mask_ids if mask_id in found][:limit]
