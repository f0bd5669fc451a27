"""Several masks of one thing made one: SAM proposes parts where a person wants the whole."""

from __future__ import annotations

from typing import Any

from pycocotools import mask as coco_mask

from gem_label.errors import UsageError
from gem_label.review.editing.changes import MaskChanges, replace_masks
from gem_label.review.storage.decision_log import Decision
from gem_label.review.storage.detections import DECIDED_TAGS, Document
from gem_label.review.storage.documents import detection_rle, photo_sizes, size_among, with_mask
from gem_label.review.storage.fields import check_mask_field
from gem_label.review.storage.internals import samples_name
from gem_label.review.storage.selection import Selection, aggregate_masks


def join_masks(dataset: Any, field: str, selection: Selection) -> Decision:
    """Join the selected masks of each photo that have the same label.

    The mask with the highest score takes in the others, keeps its id and is accepted; the others go, and a later
    push does not bring them back. Where somebody changes one of them meanwhile, all of them stay as they are.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        selection: which masks.

    Raises:
        UsageError: no photo has two of them with the same label, or the size of a photo is not known.
    """
    check_mask_field(dataset, field)
    size = {"$lookup": {"from": samples_name(dataset), "localField": "_id", "foreignField": "_id",
                        "pipeline": [{"$project": {"metadata": 1, "filepath": 1}}], "as": "sample"}}  # fmt: skip
    found = {}
    for document in aggregate_masks(
        dataset, field, selection, [{"$match": {"masks.1": {"$exists": True}}}, size]
    ):
        by_label: dict[str, list[Document]] = {}
        for mask in document["masks"]:
            if mask.get("label"):  # masks without one need not be of the same thing
                by_label.setdefault(mask["label"], []).append(mask)
        groups = [masks for masks in by_label.values() if len(masks) > 1]
        if groups:
            found[document["_id"]] = document["sample"][0], groups
    if not found:
        raise UsageError(
            "no photo has two selected masks with the same label: select two or more, rename them first"
        )
    sizes = photo_sizes(dataset, [sample for sample, _ in found.values()])
    changes = {id: _join(groups, *size_among(sizes, sample)) for id, (sample, groups) in found.items()}
    return replace_masks(dataset, field, "merge", changes)


def _join(groups: list[list[Document]], width: int, height: int) -> MaskChanges:
    changes = MaskChanges()
    for masks in groups:
        best, *others = sorted(masks, key=lambda mask: -(mask.get("confidence") or 0.0))
        union = coco_mask.merge([detection_rle(mask, width, height) for mask in masks])
        tags = [tag for tag in best.get("tags") or [] if tag not in DECIDED_TAGS]
        changes.replaced.append((best, with_mask({**best, "tags": [*tags, "accepted"]}, union)))
        changes.removed.extend(others)
        changes.together.append({mask["_id"] for mask in masks})  # half a join would lose a part
    return changes
