"""Masks of one photo that are likely the same thing, so that a reviewer rejects one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import GemLabelError
from gem_label.review.queues.order import UNDECIDED, MaskReference
from gem_label.review.queues.overlaps import overlapping_pairs
from gem_label.review.storage.detections import Document, state_of
from gem_label.review.storage.documents import detection_rle, photo_sizes
from gem_label.review.storage.fields import check_mask_field
from gem_label.review.storage.internals import samples_of
from gem_label.review.storage.selection import Selection, aggregate_masks

_NOT_REJECTED = ("undecided", "accepted", "renamed")
_PHOTOS_AT_ONCE = 50
_BOX_IOU, _BOX_INSIDE = 0.5, 0.8
"""Masks whose boxes have less than this in common are neither duplicates nor parts, and are not read."""


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two masks of one photo that are likely the same thing.

    Attributes:
        smaller: the mask with the smaller area.
        larger: the other mask.
        undecided: those of the two that nobody decided about, at least one.
        iou: pixels in both as a share of the pixels in either, in [0, 1].
        inside: pixels in both as a share of the smaller mask's area, in [0, 1].
    """

    smaller: MaskReference
    larger: MaskReference
    undecided: tuple[MaskReference, ...]
    iou: float
    inside: float


def duplicate_queue(
    dataset: Any, field: str, selection: Selection | None = None, limit: int = 1000
) -> list[MaskReference]:
    """The undecided masks of likely duplicates, photo by photo, the masks of a pair one after the other.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        selection: which masks; `states` does not count.
        limit: at most this many.

    Raises:
        UsageError: there is no such field.
    """
    masks: dict[MaskReference, None] = {}
    for pair in duplicate_pairs(dataset, field, selection):
        masks |= dict.fromkeys(pair.undecided)
        if len(masks) >= limit:
            break
    return list(masks)[:limit]


def duplicate_pairs(dataset: Any, field: str, selection: Selection | None = None) -> Iterator[DuplicatePair]:
    """Yield pairs of masks that are likely the same thing, photo by photo, highest IoU first within a photo.

    These are masks with a high IoU whatever their labels, and masks of one label of which one lies in the other.
    Pairs with a rejected mask, and pairs of two decided masks, are left out.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        selection: which masks; `states` does not count.

    Raises:
        UsageError: there is no such field.
    """
    check_mask_field(dataset, field)
    chosen = replace(selection or Selection(), states=_NOT_REJECTED)
    boxes = {"masks._id": 1, "masks.bounding_box": 1, "masks.label": 1}
    rows = aggregate_masks(
        dataset, field, chosen, [{"$match": {"masks.1": {"$exists": True}}}, {"$project": boxes}]
    )
    near = ((row["_id"], ids) for row in rows if (ids := _near_boxes(row["masks"])))
    while photos := dict(islice(near, _PHOTOS_AT_ONCE)):
        yield from _pairs_of(dataset, field, photos)


def _near_boxes(masks: Sequence[Document]) -> list[Any]:
    """The ids of masks that, by their boxes, may be duplicates of others, or parts of others with the same label."""
    x, y, w, h = _boxes(masks).T
    common = np.maximum(np.minimum.outer(x + w, x + w) - np.maximum.outer(x, x), 0)
    common *= np.maximum(np.minimum.outer(y + h, y + h) - np.maximum.outer(y, y), 0)
    areas = w * h
    labels = np.array([mask.get("label") or "" for mask in masks])
    is_same = labels[:, None] == labels
    near = (common > 0) & (common >= _BOX_IOU * (np.add.outer(areas, areas) - common))
    near |= is_same & (common > 0) & (common >= _BOX_INSIDE * np.minimum.outer(areas, areas))
    np.fill_diagonal(near, False)
    return [masks[i]["_id"] for i in np.flatnonzero(near.any(axis=1)).tolist()]


def _boxes(masks: Sequence[Document]) -> NDArray[np.float64]:
    """(N, 4) x, y, width, height relative to the photo; zeros where a mask has no box."""
    return np.array([mask.get("bounding_box") or (0.0,) * 4 for mask in masks], np.float64)


def _pairs_of(dataset: Any, field: str, wanted: dict[Any, list[Any]]) -> Iterator[DuplicatePair]:
    """Yield the pairs among some masks: sample id -> detection ids."""
    ids = [each for masks in wanted.values() for each in masks]
    meant = {"$filter": {"input": f"${field}.detections", "as": "mask", "cond": {"$in": ["$$mask._id", ids]}}}
    documents = list(
        samples_of(dataset).aggregate(
            [
                {"$match": {"_id": {"$in": list(wanted)}}},
                {"$project": {"filepath": 1, "metadata": 1, "masks": meant}},
            ]
        )
    )
    sizes = photo_sizes(dataset, documents)
    by_id = {document["_id"]: document for document in documents}
    for sample in wanted:
        if sample in by_id and sample in sizes:
            yield from _pairs_on(by_id[sample], *sizes[sample])


def _pairs_on(document: Document, width: int, height: int) -> Iterator[DuplicatePair]:
    masks, rles = [], []
    for mask in document["masks"]:
        try:
            rles.append(detection_rle(mask, width, height))
        except GemLabelError:
            continue  # its file is gone: the panel says so when it shows the mask
        masks.append(mask)
    for pair in overlapping_pairs(rles):
        two = masks[pair.smaller], masks[pair.larger]
        if pair.kind == "part" and two[0].get("label") != two[1].get("label"):
            continue  # a wheel in a car
        smaller, larger = (MaskReference(str(document["_id"]), str(mask["_id"])) for mask in two)
        states = zip((smaller, larger), map(state_of, two), strict=True)
        undecided = tuple(mask for mask, state in states if state in UNDECIDED)
        if undecided:
            yield DuplicatePair(smaller, larger, undecided, pair.iou, pair.inside)
