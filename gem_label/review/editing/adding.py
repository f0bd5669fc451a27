"""A mask that the run missed, into a dataset: as one decision that can be undone."""

from __future__ import annotations

from typing import Any

from pycocotools import mask as coco_mask

from gem_label.errors import UsageError
from gem_label.labeling.proposing import NO_PROPOSAL, LabelProposal
from gem_label.review.editing.changes import MaskChanges, replace_masks
from gem_label.review.editing.many_masks import Answer
from gem_label.review.storage.decision_log import add_class
from gem_label.review.storage.detections import Document, detections_of, state_of
from gem_label.review.storage.documents import new_detection
from gem_label.review.storage.fields import check_mask_field, declare_mask_field, main_field
from gem_label.review.storage.internals import samples_of
from gem_label.review.storage.locking import schema_lock


def store_mask(
    dataset: Any,
    field: str,
    sample_id: str,
    rle: dict[str, Any],
    label: str,
    proposal: LabelProposal = NO_PROPOSAL,
    label_id: str | None = None,
    author: str | None = None,
    request: str | None = None,
) -> Answer:
    """Add a mask, which counts as accepted.

    It has no `mask_id`, because no run proposed it, and so a later push leaves it as it is.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections; for a field of less likely labels the mask goes to the labels.
        sample_id: the id of the sample.
        rle: the mask as compressed COCO run lengths over the photo.
        label: its class.
        proposal: the classes that the run's words give it, which score, margin and runner-up come from.
        label_id: the id of the new detection; when the photo has it already, the mask was stored before.
        author: the name of the person who adds it; None: whose process this is.
        request: an id by which the log shows what came of a request.

    Returns:
        What the mask is now; "gone": the photo is not in the dataset any more.

    Raises:
        UsageError: there is no such field, the label or the mask is empty.
        GemLabelError: the database did not take it.
    """
    from bson import ObjectId

    check_mask_field(dataset, field)
    if not label.strip():
        raise UsageError("give the label")
    if not coco_mask.area(rle):
        raise UsageError("the mask is empty")
    field = main_field(dataset, field)
    sample, new = ObjectId(sample_id), ObjectId(label_id)
    document = samples_of(dataset).find_one({"_id": sample}, [f"{field}.detections._id"])
    if document is None:
        return Answer("gone")
    if all(detection["_id"] != new for detection in detections_of(document, field)):
        _declare(dataset, field)
        detection = {**new_detection(label.strip(), rle), "_id": new, "tags": ["accepted"]}
        detection |= _answers(label.strip(), proposal)
        changes = {sample: MaskChanges(added=[detection])}
        replace_masks(dataset, field, "add", changes, label.strip(), author, request)
        add_class(dataset, field, label.strip())
    return _stored(dataset, field, sample, new)


def _declare(dataset: Any, field: str) -> None:
    """Make the attributes of a run's detections known to FiftyOne, in a field that came from elsewhere too."""
    if dataset.get_field(f"{field}.detections.runner_up") is None:
        with schema_lock(dataset.name):
            dataset.reload()
            declare_mask_field(dataset, field)


def _answers(label: str, proposal: LabelProposal) -> Document:
    """The attributes that detections of a run have, besides label and shape."""
    names = [name for name, _ in proposal.classes]
    return {
        "mask_id": None,
        "confidence": proposal.score(label),
        "margin": proposal.margin,
        "runner_up": next((name for name in names if name != label), None),
        "proposed_label": names[0] if names else None,
    }


def _stored(dataset: Any, field: str, sample: Any, new: Any) -> Answer:
    """What a mask is in the database."""
    shown = [f"{field}.detections.{name}" for name in ("_id", "label", "tags", "proposed_label", "decision")]
    document = samples_of(dataset).find_one({"_id": sample}, shown) or {}
    for detection in detections_of(document, field):
        if detection["_id"] == new:
            return Answer("stored", detection.get("label"), state_of(detection), detection.get("decision"))
    return Answer("gone")
