"""Which photos to review, and what is drawn of one: all its masks, and the pairs that may be of one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gem_label.review.queues.details import MaskDetails, mask_details
from gem_label.review.queues.order import UNDECIDED, MaskReference
from gem_label.review.queues.overlaps import MIN_INSIDE, OverlappingPair, overlapping_pairs
from gem_label.review.storage.detections import detections_of
from gem_label.review.storage.documents import detection_rle, photo_sizes
from gem_label.review.storage.fields import check_mask_field
from gem_label.review.storage.internals import is_patches, samples_of
from gem_label.review.storage.selection import Expression, Selection, aggregate_masks

DUPLICATE = 0.5
"""IoU from which two masks may be of one thing, as when each thing is labeled once."""

PART = 0.5
"""Share of a mask inside a larger one of its class from which it may be a part of it."""


@dataclass(frozen=True, slots=True)
class RepeatedMasks:
    """Two masks that may be of one thing.

    Attributes:
        kind: "duplicate": they have most pixels in common; "part": the smaller lies in the larger.
        whole: id of the detection with the larger mask.
        part: id of the other one.
        share: of a duplicate the IoU, of a part the share of its area inside the whole, in [0, 1].
    """

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
    size = photo_sizes(dataset, [document]).get(document["_id"])
    broken = {mask.label_id for mask in masks if mask.problem or mask.state == "rejected"}
    readable = [each for each in detections if str(each["_id"]) not in broken]
    rles = [] if size is None else [detection_rle(each, *size) for each in readable]
    pairs = overlapping_pairs(rles, DUPLICATE, PART)
    repeats = repeated_masks(
        pairs, [str(each["_id"]) for each in readable], [each.get("label") for each in readable]
    )
    return PhotoDetails(sample_id, document["filepath"], size, masks, repeats)


def repeated_masks(
    pairs: Sequence[OverlappingPair], ids: Sequence[str], labels: Sequence[str | None]
) -> list[RepeatedMasks]:
    """The pairs of masks of a photo that may be of one thing.

    Args:
        pairs: pairs of the masks that overlap, by their indices.
        ids: of the detections.
        labels: their classes. A mask inside a larger one of another class is a part only when it lies in it as a
            whole (`MIN_INSIDE`): a thing on another is no part as a rule.

    Returns:
        Duplicates before parts, parts of the same class before others, the largest share first.
    """
    found = []
    for pair in pairs:
        label = labels[pair.larger]
        same = label is not None and label == labels[pair.smaller]
        if pair.iou >= DUPLICATE:
            found.append((0, "duplicate", pair, pair.iou))
        elif pair.inside >= (PART if same else MIN_INSIDE):
            found.append((1 if same else 2, "part", pair, pair.inside))
    found.sort(key=lambda each: (each[0], -each[3]))
    return [RepeatedMasks(kind, ids[pair.larger], ids[pair.smaller], share) for _, kind, pair, share in found]
