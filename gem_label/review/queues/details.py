"""What a review panel draws of some masks: photo, box, run lengths, label, scores and state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from gem_label.errors import GemLabelError
from gem_label.review.queues.next_best import scored_classes
from gem_label.review.queues.order import MaskReference
from gem_label.review.storage.detections import Document, state_of
from gem_label.review.storage.documents import photo_sizes, pixel_box, read_crop
from gem_label.review.storage.internals import samples_of
from gem_label.review.storage.selection import Expression
from gem_label.rle import Box

NEXT_BEST = 9
"""Classes that are offered for a mask: one for each of the keys 1 to 9."""

LONGEST_SIDE = 1024
"""Masks are sent with at most this many pixels a side: a screen shows no more."""


@dataclass(frozen=True, slots=True)
class MaskDetails:
    """A mask as the panel draws it.

    Attributes:
        sample_id: the id of its sample.
        label_id: the id of its detection.
        filepath: of the photo.
        photo: width and height of the photo in pixels; None where they are not known.
        box: x, y, width, height in pixels of the photo.
        size: width and height of `counts`, which are stretched over the box.
        counts: the mask in its box as compressed COCO run lengths, column by column.
        label: its class.
        score: in [0, 1], None where there is none.
        state: one of `selection.STATES`.
        decision: the id of the last decision about it.
        classes: up to `NEXT_BEST` other classes with their scores (None where the run does not say), best first.
        problem: why it cannot be drawn.
    """

    sample_id: str
    label_id: str
    filepath: str
    photo: tuple[int, int] | None
    box: Box
    size: tuple[int, int]
    counts: str
    label: str | None
    score: float | None
    state: str
    decision: str | None
    classes: list[tuple[str, float | None]]
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON's own types."""
        return asdict(self)


def mask_details(
    dataset: Any, field: str, masks: Sequence[MaskReference], classes: Sequence[str] = ()
) -> list[MaskDetails]:
    """What is drawn of some masks, some dozens at a time.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        masks: which; masks that are gone are left out.
        classes: offered after the classes that the run has for a mask, such as the most frequent ones.

    Returns:
        The details, in the order of `masks`.
    """
    from bson import ObjectId

    labels = [ObjectId(mask.label_id) for mask in masks]
    is_meant = {"$in": ["$$mask._id", labels]}
    stages: list[Expression] = [
        {"$match": {"_id": {"$in": [ObjectId(mask.sample_id) for mask in masks]}}},
        {
            "$project": {
                "filepath": 1,
                "metadata": 1,
                "masks": {"$filter": {"input": f"${field}.detections", "as": "mask", "cond": is_meant}},
            }
        },
    ]
    documents = list(samples_of(dataset).aggregate(stages))
    found = {
        str(detection["_id"]): (document, detection)
        for document in documents
        for detection in document.get("masks") or ()
    }
    sizes = photo_sizes(dataset, documents)
    mask_ids = [mask_id for _, detection in found.values() if (mask_id := detection.get("mask_id"))]
    scored = scored_classes(dataset, field, mask_ids)
    return [
        _details(*found[mask.label_id], sizes, scored, classes) for mask in masks if mask.label_id in found
    ]


def _details(
    document: Document,
    detection: Document,
    sizes: dict[Any, tuple[int, int]],
    scored: dict[str, Any],
    classes: Sequence[str],
) -> MaskDetails:
    size = sizes.get(document["_id"])
    label = detection.get("label")
    problem = None if size else "the photo cannot be read"
    box: Box = (0, 0, 1, 1)
    crop: NDArray[np.bool_] = np.zeros((1, 1), bool)
    if size:
        try:
            box = pixel_box(detection, *size)
            crop = read_crop(detection, box)
        except GemLabelError as error:
            problem = str(error)
    score = detection.get("confidence")
    drawn, counts = draw_crop(crop)
    return MaskDetails(
        sample_id=str(document["_id"]),
        label_id=str(detection["_id"]),
        filepath=document["filepath"],
        photo=size,
        box=box,
        size=drawn,
        counts=counts,
        label=label,
        score=None if score is None else float(score),
        state=state_of(detection),
        decision=detection.get("decision"),
        classes=_other_classes(detection, scored.get(detection.get("mask_id") or "", []), classes),
        problem=problem,
    )


def draw_crop(crop: NDArray[np.bool_]) -> tuple[tuple[int, int], str]:
    """A mask as the panel draws it, with at most `LONGEST_SIDE` rows and columns: every second, third, ... pixel.

    Args:
        crop: (height, width) booleans.

    Returns:
        Width and height, and the pixels as compressed COCO run lengths, column by column.
    """
    step = max(1, -(-max(crop.shape) // LONGEST_SIDE))
    reduced = crop[step // 2 :: step, step // 2 :: step]
    counts = coco_mask.encode(np.asfortranarray(reduced, np.uint8))["counts"].decode("ascii")
    return (reduced.shape[1], reduced.shape[0]), counts


def _other_classes(
    detection: Document, scored: Sequence[tuple[str, float]], classes: Sequence[str]
) -> list[tuple[str, float | None]]:
    """Classes besides the mask's own: the run's, the runner-up, what the run proposed first, then the given ones."""
    names: dict[str, float | None] = dict(scored)
    for name in (detection.get("runner_up"), detection.get("proposed_label"), *classes):
        if name:
            names.setdefault(name, None)
    names.pop(detection.get("label") or "", None)
    return list(names.items())[:NEXT_BEST]
