"""Which labels of a photo's masks are right, from annotated things and reviewers' decisions (numpy, pycocotools)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

SAME_THING = 0.5
"""IoU from which a mask shows an annotated thing."""
SAME_MASK = 0.9
"""IoU from which a mask is the one that a reviewer rejected."""
PART = 0.5
"""Share of the smaller of two masks in the larger from which one is a part or a group of the other."""

RIGHT, WRONG, UNKNOWN = 1, 0, -1


@dataclass(frozen=True)
class PhotoReview:
    """What is known about one photo.

    Attributes:
        things: G masks that show one thing each, as pycocotools takes them: {"size": [height, width], "counts":
            bytes}.
        names: G classes of the things.
        rejected: R masks whose label is wrong, in the same form.
        rejected_names: R classes that they do not show.
        complete: classes of which every thing of the photo is among `things`.
    """

    things: Sequence[dict[str, Any]] = ()
    names: Sequence[str] = ()
    rejected: Sequence[dict[str, Any]] = ()
    rejected_names: Sequence[str] = ()
    complete: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if len(self.things) != len(self.names) or len(self.rejected) != len(self.rejected_names):
            raise ValueError("every reviewed mask has one class")


@dataclass(frozen=True)
class Judgments:
    """What a review says about the N masks of a photo and their labels.

    Attributes:
        verdict: (N,) int8, `RIGHT`, `WRONG` or `UNKNOWN`, of the label.
        thing: (N,) index of the thing that the mask shows, the one with the highest IoU; -1: none that is known.
        iou: (N,) IoU with that thing, 0 where there is none.
        misplaced: (N,) bool, the mask shows no known thing, but is a part of one or a group around one: whatever its
            label, it says nothing about words.
    """

    verdict: NDArray[np.int8]
    thing: NDArray[np.int64]
    iou: NDArray[np.float64]
    misplaced: NDArray[np.bool_]


def judge_labels(
    masks: Sequence[dict[str, Any]], names: Sequence[str | None], review: PhotoReview
) -> Judgments:
    """Compare the labels of a photo's masks with what is known about the photo.

    A label is right where a thing of its class has at least IoU 0.5 with the mask. It is wrong where its class is
    reviewed in full and there is no such thing; where a reviewer rejected this mask with this class; where the mask
    shows a thing of another class; and where it is a part of a thing of its class, or a group around one.

    Args:
        masks: N masks as pycocotools takes them.
        names: N labels, None for masks without one: nothing is known about these.
        review: the photo's things and rejected masks.
    """
    labels = np.array([name or "" for name in names], object)
    iou, inside = _ious(masks, review.things)
    same = np.equal.outer(labels, np.array(review.names, object)).astype(bool).reshape(iou.shape)
    shows = iou >= SAME_THING
    right = (shows & same).any(axis=1)
    misplaced = np.asarray((inside >= PART).any(axis=1) & ~shows.any(axis=1))
    wrong = ((same & (inside >= PART)) | (shows & ~same)).any(axis=1)
    wrong |= np.isin(labels, list(review.complete))
    wrong |= _rejected(masks, labels, review)
    verdict = np.where(right, RIGHT, np.where(wrong, WRONG, UNKNOWN)).astype(np.int8)
    verdict[labels == ""] = UNKNOWN
    thing = np.where(shows.any(axis=1), iou.argmax(axis=1), -1) if iou.size else np.full(len(masks), -1)
    best = iou.max(axis=1, initial=0.0)
    return Judgments(verdict, thing.astype(np.int64), np.where(thing >= 0, best, 0.0), misplaced)


def _rejected(
    masks: Sequence[dict[str, Any]], labels: NDArray[np.object_], review: PhotoReview
) -> NDArray[np.bool_]:
    """(N,) masks that a reviewer rejected with the label that they have."""
    iou, _ = _ious(masks, review.rejected)
    same = np.equal.outer(labels, np.array(review.rejected_names, object)).astype(bool).reshape(iou.shape)
    found: NDArray[np.bool_] = (same & (iou >= SAME_MASK)).any(axis=1)
    return found


def _ious(
    masks: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, G) IoU of masks with others, and the share of the smaller of both that they have in common."""
    shape = (len(masks), len(others))
    if not masks or not others:
        return np.zeros(shape), np.zeros(shape)
    iou = np.asarray(coco_mask.iou(list(masks), list(others), [0] * len(others))).reshape(shape)
    area, other = coco_mask.area(list(masks)).astype(float), coco_mask.area(list(others)).astype(float)
    common = iou * np.add.outer(area, other) / (1 + iou)
    return iou, common / np.maximum(np.minimum.outer(area, other), 1)
