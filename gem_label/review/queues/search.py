"""Undecided masks that match a phrase, best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.review.queues.order import UNDECIDED, MaskReference
from gem_label.review.storage.fields import run_of
from gem_label.review.storage.selection import Selection, aggregate_masks
from gem_label.review.tasks.search import search_masks


def search_queue(
    dataset: Any,
    field: str,
    embedding: NDArray[np.floating],
    selection: Selection | None = None,
    limit: int = 1000,
) -> list[MaskReference]:
    """The masks that match a phrase best, best first.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections, which a run was pushed into.
        embedding: (d,) or (P, d) unit-length text embeddings of the phrase by the CLIP of the run.
        selection: which masks; only undecided ones unless it has `states`.
        limit: at most this many.

    Raises:
        UsageError: there is no such field.
        GemLabelError: the field did not come from a run, or the run is gone.
    """
    run, wanted = run_of(dataset, field), limit
    while True:
        found = search_masks(dataset, field, run, embedding, wanted)
        masks = _among(
            dataset, field, [MaskReference(each.sample_id, each.label_id) for each in found], selection
        )
        if len(masks) >= limit or len(found) < wanted:
            return masks[:limit]
        wanted *= 4  # most of what matches is decided, or is not in the selection


def _among(
    dataset: Any, field: str, masks: Sequence[MaskReference], selection: Selection | None
) -> list[MaskReference]:
    """Those of some masks that meet a selection, in their order."""
    chosen = selection or Selection()
    states = UNDECIDED if chosen.states is None else chosen.states
    samples = list(dict.fromkeys(mask.sample_id for mask in masks))
    chosen = replace(chosen, samples=samples, states=states)
    rows = aggregate_masks(dataset, field, chosen, [{"$project": {"masks._id": 1}}])
    meant = {str(mask["_id"]) for row in rows for mask in row["masks"]}
    return [mask for mask in masks if mask.label_id in meant]
