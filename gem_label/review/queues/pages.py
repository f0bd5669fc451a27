"""Pages of masks of one class: like ones beside each other, those in doubt first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import GemLabelError
from gem_label.review.queues.likeness import arrange_pages, doubt_first, split_evenly
from gem_label.review.queues.order import (
    UNDECIDED,
    MaskReference,
    count_undecided_by_class,
    queue_masks,
)
from gem_label.review.queues.run_rows import read_rows
from gem_label.review.storage.fields import check_mask_field, run_of
from gem_label.review.storage.selection import Expression, Selection, aggregate_masks
from gem_label.runs.schema import table_vectors

PAGE = 60
"""Masks of a page at most: more are too small on a screen."""

ARRANGED = 1200
"""Masks that are arranged together, the least certain ones of a class: a matter of 0.2 seconds."""

Page = list[MaskReference]

_NO_MARGIN = 1.0  # the largest margin: the mask has one class


def next_class(dataset: Any, field: str, selection: Selection, finished: Collection[str] = ()) -> str | None:
    """The class with the most undecided masks.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        selection: which masks; its `states` do not count.
        finished: classes that are left out.

    Returns:
        Its name; None where no class has an undecided mask.

    Raises:
        UsageError: there is no such field.
    """
    return next(
        (name for name in count_undecided_by_class(dataset, field, selection) if name not in finished), None
    )


def make_pages(
    dataset: Any, field: str, label: str, selection: Selection | None = None, size: int = PAGE
) -> list[Page]:
    """The undecided masks of a class, on pages of masks that look alike.

    Without the run behind the field, and for masks that it does not have, pages are made by margin alone.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        label: the class.
        selection: which masks of the class; its `labels` and `states` do not count.
        size: masks of a page, from 1 to `PAGE`.

    Returns:
        Pages of the `ARRANGED` least certain masks, the page that is most in doubt first.

    Raises:
        UsageError: there is no such field.

    Example:
        first = make_pages(dataset, "gem_label", "cat")[0]
    """
    check_mask_field(dataset, field)
    chosen = replace(selection or Selection(), labels=[label], states=UNDECIDED)
    rows = _least_certain(dataset, field, chosen)
    margins = np.array([row["margin"] for row in rows], np.float64)
    vectors = _embeddings(dataset, field, [row["masks"].get("mask_id") for row in rows])
    with_vector = np.array([i for i, vector in enumerate(vectors) if vector is not None], np.int64)
    without = np.array([i for i, vector in enumerate(vectors) if vector is None], np.int64)
    size = min(max(size, 1), PAGE)
    pages = split_evenly(without, size)
    if len(with_vector):
        embeddings = np.stack([vector for vector in vectors if vector is not None])
        pages += [with_vector[page] for page in arrange_pages(embeddings, margins[with_vector], size)]
    references = [MaskReference(str(row["_id"]), str(row["masks"]["_id"])) for row in rows]
    return [[references[i] for i in page] for page in doubt_first(pages, margins)]


def _least_certain(dataset: Any, field: str, selection: Selection) -> list[dict[str, Any]]:
    """The least certain masks, the smallest margin first: sample id, margin, and `_id` and `mask_id` of the mask."""
    masks = queue_masks(dataset, field, "uncertain", selection, ARRANGED)
    samples = Selection(samples=list(dict.fromkeys(mask.sample_id for mask in masks)))
    kept: Expression = {"$project": {f"masks.{name}": 1 for name in ("_id", "margin", "mask_id")}}
    margin: Expression = {"$set": {"margin": {"$ifNull": ["$masks.margin", _NO_MARGIN]}}}
    found = aggregate_masks(dataset, field, samples, [kept, {"$unwind": "$masks"}, margin])
    rows = {str(row["masks"]["_id"]): row for row in found}
    return [rows[mask.label_id] for mask in masks if mask.label_id in rows]


def _embeddings(dataset: Any, field: str, mask_ids: Sequence[str | None]) -> list[NDArray[np.float32] | None]:
    """The run's embedding of each mask; None where there is none, because a review continues without it."""
    found: dict[str, NDArray[np.float32]] = {}
    try:
        run = run_of(dataset, field)
        columns = ["embedding", "embedding_scale"] if run.has_surrounds else ["embedding"]
        for table in read_rows(run, [each for each in mask_ids if each], columns):
            found |= dict(zip(table["mask_id"].to_pylist(), table_vectors(table)[0], strict=True))
    except (GemLabelError, OSError):
        found = {}
    return [found.get(each or "") for each in mask_ids]
