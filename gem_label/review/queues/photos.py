"""Which photos to review, and what is drawn of one: all its masks, and the pairs that may be of one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gem_label.masks import MaskSet
from gem_label.overlaps import find_repeats
from gem_label.review.queues.details import MaskDetails, mask_details
from gem_label.review.queues.order import UNDECIDED, MaskReference
from gem_label.review.storage.detections import Document, detections_of
from gem_label.review.storage.documents import detection_rle, find_sizes
from gem_label.review.storage.fields import check_mask_field
from gem_label.review.storage.internals import is_patches, samples_of
from gem_label.review.storage.selection import Expression, Selection, aggregate_masks


@dataclass(frozen=True, slots=True)
class RepeatedMasks:
    """Two masks that may be of one thing, see `gem_label.overlaps.Repeat`; masks by the ids of their detections."""

    kind: str
    whole: str
    part: str
    share: float


@dataclass(frozen=True, slots=True)
class PhotoDetails:
    """A photo as the panel draws it.

    Attributes:
        sample_id: the id of its sample.
        filepath: of the photo.
        photo: width and height in pixels; None where they are not known.
        masks: all its masks, the largest first.
        repeats: pairs of them that may be of one thing; rejected masks and those that cannot be read have no part
            in them.
    """

    sample_id: str
    filepath: str
    photo: tuple[int, int] | None
    masks: list[MaskDetails]
    repeats: list[RepeatedMasks]

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON's own types."""
        return asdict(self)


def queue_photos(
    dataset: Any, field: str, selection: Selection | None = None, limit: int = 1000
) -> list[str]:
    """The photos to review: those with undecided masks, then the others, where something may be missing.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        selection: which photos: those of its view, with masks that meet its conditions. Without conditions photos
            without any mask are among them.
        limit: at most this many.

    Returns:
        The ids of the samples, those of each kind in the order of the dataset.

    Raises:
        UsageError: there is no such field.
    """
    check_mask_field(dataset, field)
    chosen = selection or Selection()
    ids: list[Expression] = [{"$project": {"_id": 1}}, {"$limit": limit}]
    undecided = aggregate_masks(dataset, field, replace(chosen, states=UNDECIDED), ids)
    first = [str(row["_id"]) for row in undecided]
    if chosen == Selection(view=chosen.view):
        others = _photos_of(dataset, chosen.view, limit)
    else:
        others = [str(row["_id"]) for row in aggregate_masks(dataset, field, chosen, ids)]
    return list(dict.fromkeys([*first, *others]))[:limit]


def _photos_of(dataset: Any, view: Any, limit: int) -> list[str]:
    """The first photos of a view, None: of the dataset."""
    if view is None:
        return [str(document["_id"]) for document in samples_of(dataset).find({}, ["_id"]).limit(limit)]
    if is_patches(view):
        return list(dict.fromkeys(view.values("sample_id")))[:limit]
    return list(view.limit(limit).values("id"))


def photo_details(
    dataset: Any, field: str, sample_id: str, classes: Sequence[str] = ()
) -> PhotoDetails | None:
    """What is drawn of a photo.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        sample_id: the id of its sample.
        classes: offered after the classes that the run has for a mask, such as the most frequent ones.

    Returns:
        The details; None: the photo is not in the dataset.
    """
    from bson import ObjectId

    key = {"_id": ObjectId(sample_id)}
    document = samples_of(dataset).find_one(key, ["filepath", "metadata", f"{field}.detections"])
    if document is None:
        return None
    detections = detections_of(document, field)
    references = [MaskReference(sample_id, str(each["_id"])) for each in detections]
    masks = mask_details(dataset, field, references, classes)
    masks.sort(key=lambda mask: -mask.box[2] * mask.box[3])
    size = next((mask.photo for mask in masks), None) or find_sizes(dataset, [key["_id"]]).get(key["_id"])
    metadata = document.get("metadata") or {}
    if size is None and metadata.get("width") and metadata.get("height"):
        size = int(metadata["width"]), int(metadata["height"])
    broken = {mask.label_id for mask in masks if mask.problem or mask.state == "rejected"}
    readable = [each for each in detections if str(each["_id"]) not in broken]
    repeats = [] if size is None else _repeats(readable, *size)
    return PhotoDetails(sample_id, document["filepath"], size, masks, repeats)


def _repeats(detections: Sequence[Document], width: int, height: int) -> list[RepeatedMasks]:
    """The pairs of some masks of a photo that may be of one thing."""
    counts = [detection_rle(detection, width, height)["counts"] for detection in detections]
    ones = np.ones(len(counts), np.float32)
    masks = MaskSet(height, width, tuple(counts), ones, ones, np.zeros((len(counts), 2), np.float32))
    names = [str(detection["_id"]) for detection in detections]
    return [
        RepeatedMasks(repeat.kind, names[repeat.whole], names[repeat.part], repeat.share)
        for repeat in find_repeats(masks, [detection.get("label") for detection in detections])
    ]
