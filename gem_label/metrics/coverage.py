"""How well class-agnostic masks cover annotated instances: recall as COCO measures it. Pure functions.

Masks carry no class here, so precision means nothing: a mask on a thing that nobody annotated is no mistake. Asked
is whether each annotated instance has a mask, and how good the best one is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_MASKS = 1000  # masks per photo that count, best score first: COCO's AR@1000
# COCO's sizes by annotated area in pixels; both ends belong to the range
SIZES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclass(frozen=True)
class PhotoOverlap:
    """The masks of one photo against its annotated instances.

    Attributes:
        iou: (N, G) IoU in [0, 1] of N masks, best score first, with G instances.
        areas: (G,) annotated areas in pixels.
    """

    iou: NDArray[np.float64]
    areas: NDArray[np.float64]


@dataclass(frozen=True)
class Coverage:
    """Recall over all instances of all photos; shares in [0, 1], None where there is no instance.

    Attributes:
        instances: how many instances were asked for.
        mean_best_iou: mean over instances of the highest IoU that any mask has with it.
        average_recall: mean of the recall over `IOU_THRESHOLDS`.
        recall_50: recall at IoU 0.5.
    """

    instances: int
    mean_best_iou: float | None
    average_recall: float | None
    recall_50: float | None


def overlap(
    masks: Sequence[dict],
    scores: Sequence[float] | NDArray,
    instances: Sequence[dict],
    areas: Sequence[float],
) -> PhotoOverlap:
    """IoU of every mask with every instance of one photo.

    Args:
        masks: N masks as pycocotools takes them, {"size": [height, width], "counts": ...}.
        scores: N, what ranks the masks; equal ones keep their order.
        instances: G annotated instances in the same form; crowd regions are to be left out before.
        areas: G, their annotated areas in pixels.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")[:MAX_MASKS]
    iou = np.zeros((len(order), len(instances)))
    if iou.size:
        iou[:] = coco_mask.iou([masks[i] for i in order], list(instances), [0] * len(instances))
    return PhotoOverlap(iou, np.asarray(areas, np.float64))


def recalled(iou: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Which of G instances get a mask of their own, (G,) bool.

    As in COCO's evaluation each mask, best score first, takes the instance it overlaps most among those that have
    none yet, when their IoU reaches the threshold.

    Args:
        iou: (N, G), best score first.
        threshold: lowest IoU that counts.
    """
    free = np.ones(iou.shape[1], bool)
    for row in iou[(iou >= threshold).any(axis=1)]:
        candidates = np.where(free, row, -1.0)
        # the last of equals, as COCO's loop ends with it
        best = len(row) - 1 - int(candidates[::-1].argmax())
        if candidates[best] >= threshold:
            free[best] = False
    return ~free


def coverage(photos: Sequence[PhotoOverlap], size: str = "all") -> Coverage:
    """Recall of all photos together, over the instances of one size.

    As in COCO's evaluation a mask may serve an instance of the size although it overlaps one of another size more.

    Args:
        photos: the masks of each photo against its instances.
        size: one of `SIZES`.
    """
    low, high = SIZES[size]
    best: list[float] = []
    found: list[NDArray[np.bool_]] = [np.zeros((len(IOU_THRESHOLDS), 0), bool)]
    for photo in photos:
        iou = photo.iou[:, (photo.areas >= low) & (photo.areas <= high)]
        best += iou.max(axis=0, initial=0.0).tolist()
        found.append(np.stack([recalled(iou, threshold) for threshold in IOU_THRESHOLDS]))
    if not best:
        return Coverage(0, None, None, None)
    recall = np.concatenate(found, axis=1).mean(axis=1)
    return Coverage(len(best), float(np.mean(best)), float(recall.mean()), float(recall[0]))


def coverage_by_size(photos: Sequence[PhotoOverlap]) -> dict[str, Coverage]:
    """`coverage` of every size in `SIZES`, "all" first."""
    return {size: coverage(photos, size) for size in SIZES}
