"""Point evaluation of Open Images V7: p-mIoU (Benenson and Ferrari 2022; GEM paper, section 4.1).

Each point asks whether one class covers one pixel, and people answered yes or no. For every class of an image,
IoU = TP / (TP + FP + FN) over that class's points: yes-points inside the prediction are TP, no-points inside it are
FP, yes-points outside it are FN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gem_label.masks import MaskSet

SIMILARITY_THRESHOLD = 0.5  # on maps scaled to [0, 1] (GEM paper, section 4.1)


@dataclass(frozen=True)
class ImagePoints:
    """The answered points of one image.

    Attributes:
        x: (P,) in [0, 1], share of the width.
        y: (P,) in [0, 1], share of the height.
        class_index: (P,) int, which of the image's classes the point asks about.
        positive: (P,) bool, the answer; points answered "unsure" are left out before.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    class_index: NDArray[np.int64]
    positive: NDArray[np.bool_]

    def pixels(self, height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of each point's pixel in an image of this size."""
        rows = np.clip((self.y * height).astype(np.int64), 0, height - 1)
        columns = np.clip((self.x * width).astype(np.int64), 0, width - 1)
        return rows, columns


@dataclass(frozen=True)
class PointAverages:
    """p-mIoU in [0, 1], averaged in three ways.

    Attributes:
        pairs: mean over all pairs of an image and one of its classes.
        images: mean over images of the mean over the image's classes.
        classes: mean over classes of the IoU of that class's counts, pooled over all images.
    """

    pairs: float
    images: float
    classes: float


def min_max(similarity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each of C maps (C, h, w) scaled to [0, 1]; a constant map becomes zeros."""
    low = similarity.min(axis=(1, 2), keepdims=True)
    span = similarity.max(axis=(1, 2), keepdims=True) - low
    return (similarity - low) / np.where(span > 0, span, 1.0)


def values_at(maps: NDArray[np.float32], points: ImagePoints) -> NDArray[np.float32]:
    """Bilinear value of each point's own class map: maps (C, h, w) -> (P,).

    Patch centres are half a patch in from the border, as when a map is resized with align_corners=False.
    """
    _, h, w = maps.shape
    y = np.clip(points.y * h - 0.5, 0, h - 1)
    x = np.clip(points.x * w - 0.5, 0, w - 1)
    y0, x0 = y.astype(np.int64), x.astype(np.int64)
    y1, x1 = np.minimum(y0 + 1, h - 1), np.minimum(x0 + 1, w - 1)
    fy, fx = y - y0, x - x0
    c = points.class_index
    top = maps[c, y0, x0] * (1 - fx) + maps[c, y0, x1] * fx
    bottom = maps[c, y1, x0] * (1 - fx) + maps[c, y1, x1] * fx
    return top * (1 - fy) + bottom * fy


def point_counts(predicted: NDArray[np.bool_], points: ImagePoints, classes: int) -> NDArray[np.int64]:
    """(classes, 3) counts TP, FP, FN of one image.

    Args:
        predicted: (P,) whether the prediction of the point's class covers the point.
        points: the P answered points.
        classes: number C of the image's classes.

    Example:
        >>> p = ImagePoints(*[np.zeros(3, np.float32)] * 2, np.zeros(3, np.int64), np.array([True, True, False]))
        >>> point_counts(np.array([True, False, True]), p, 1).tolist()
        [[1, 1, 1]]
    """
    counts = np.zeros((classes, 3), np.int64)
    for column, hit in enumerate(
        (predicted & points.positive, predicted & ~points.positive, ~predicted & points.positive)
    ):
        np.add.at(counts[:, column], points.class_index[hit], 1)
    return counts


def similarity_prediction(similarity: NDArray[np.float32], points: ImagePoints) -> NDArray[np.bool_]:
    """GEM: does the scaled similarity of (C, h, w) reach the threshold at each point? (P,) bool."""
    return values_at(min_max(similarity), points) >= SIMILARITY_THRESHOLD


def assign_masks(pooled: NDArray[np.float32], rule: Literal["threshold", "argmax"]) -> NDArray[np.bool_]:
    """GEM-SAM: which masks belong to which classes, (N, C) bool.

    Args:
        pooled: (N, C) scaled similarity pooled over each mask, in [0, 1].
        rule: "threshold", a mask belongs to every class it reaches the threshold for; "argmax", to its best class.
    """
    if rule == "threshold":
        return pooled >= SIMILARITY_THRESHOLD
    best = np.zeros(pooled.shape, bool)
    if pooled.size:
        best[np.arange(len(pooled)), pooled.argmax(axis=1)] = True
    return best


def mask_prediction(masks: MaskSet, belongs: NDArray[np.bool_], points: ImagePoints) -> NDArray[np.bool_]:
    """GEM-SAM: does any mask of the point's class cover the point? (P,) bool.

    Args:
        masks: N masks of the image.
        belongs: (N, C) from `assign_masks`.
        points: the answered points.
    """
    rows, columns = points.pixels(masks.height, masks.width)
    covered = np.zeros(len(points.x), bool)
    for mask, classes in zip(masks, belongs, strict=True):
        covered |= mask[rows, columns] & classes[points.class_index]
    return covered


def average_iou(images: Sequence[tuple[Sequence[str], NDArray[np.int64]]]) -> PointAverages:
    """The three averages over all images.

    Args:
        images: per image its class names and their (C, 3) counts. Classes without any count (no yes-point and
            nothing wrongly predicted) have no IoU and are left out.
    """
    pairs: list[float] = []
    means: list[float] = []
    pooled: dict[str, NDArray[np.int64]] = {}
    for names, counts in images:
        valid = counts.sum(axis=1) > 0
        ious = counts[valid, 0] / counts[valid].sum(axis=1)
        pairs.extend(ious.tolist())
        if len(ious):
            means.append(float(ious.mean()))
        for name, row in zip(names, counts, strict=True):
            pooled[name] = pooled.get(name, np.zeros(3, np.int64)) + row
    totals = [row[0] / row.sum() for row in pooled.values() if row.sum()]

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values)) if values else 0.0

    return PointAverages(pairs=mean(pairs), images=mean(means), classes=mean(totals))
