"""Point evaluation of Open Images V7: p-mIoU (Benenson and Ferrari 2022; GEM paper, section 4.1).

Each point asks whether one class covers one pixel, and people answered yes or no. For every class of an image,
IoU = TP / (TP + FP + FN) over that class's points: yes-points inside the prediction are TP, no-points inside it are
FP, yes-points outside it are FN.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from gem_label.masks import MaskSet

SIMILARITY_THRESHOLD = 0.5  # on maps scaled to [0, 1] (GEM paper, section 4.1)

AssignmentRule = Literal["threshold", "argmax"]
"""How masks get classes, see `assign_masks`."""


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


def min_max(similarity: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Each of C maps (C, h, w) scaled so that it is 0 to 1 when it is resized bilinearly to the image.

    As the authors' package does; a map's own extremes are at patch centers, which need not be pixels of the image.

    Args:
        similarity: C maps.
        size: height and width of the image in pixels.

    Returns:
        (C, h, w); a constant map becomes zeros.

    Example:
        Of an image of 1 x 6 pixels, three to the left of the middle and three to the right:

        >>> min_max(np.array([[[1.0, 3.0]], [[5.0, 5.0]]], np.float32), (1, 6)).tolist()
        [[[0.0, 1.0]], [[0.0, 0.0]]]
    """
    height, width = size
    resized = [cv2.resize(each, (width, height), interpolation=cv2.INTER_LINEAR) for each in similarity]
    low = np.array([each.min() for each in resized], similarity.dtype)[:, None, None]
    span = np.array([each.max() for each in resized], similarity.dtype)[:, None, None] - low
    # a constant map differs from itself by rounding once it is resized
    constant = np.ptp(similarity, axis=(1, 2), keepdims=True) == 0
    return np.where(constant | (span <= 0), 0, (similarity - low) / np.where(span > 0, span, 1.0))


def values_at(maps: NDArray[np.float32], points: ImagePoints) -> NDArray[np.float32]:
    """Bilinear value of each point's own class map: maps (C, h, w) -> (P,).

    Patch centers are half a patch in from the border, as when a map is resized with align_corners=False.

    Example:
        Two patches side by side have their centers at x = 1/4 and 3/4; half-way between them counts the mean.

        >>> p = ImagePoints(np.array([0.25, 0.5, 1.0]), np.full(3, 0.5), np.zeros(3, np.int64), np.ones(3, bool))
        >>> values_at(np.array([[[0.0, 1.0]]]), p).tolist()
        [0.0, 0.5, 1.0]
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


def similarity_prediction(
    similarity: NDArray[np.float32], points: ImagePoints, size: tuple[int, int]
) -> NDArray[np.bool_]:
    """GEM: does the scaled similarity of (C, h, w) reach the threshold at each point's pixel? (P,) bool.

    Args:
        similarity: C maps.
        points: the answered points.
        size: height and width of the image in pixels, see `min_max`.
    """
    height, width = size
    rows, columns = points.pixels(height, width)
    x, y = (columns + 0.5) / width, (rows + 0.5) / height
    centers = replace(points, x=x.astype(np.float32), y=y.astype(np.float32))
    return values_at(min_max(similarity, size), centers) >= SIMILARITY_THRESHOLD


def assign_masks(pooled: NDArray[np.float32], rule: AssignmentRule) -> NDArray[np.bool_]:
    """GEM-SAM: which masks belong to which classes, (N, C) bool.

    Args:
        pooled: (N, C) scaled similarity pooled over each mask, in [0, 1].
        rule: "threshold", a mask belongs to every class it reaches the threshold for; "argmax", to its best class.

    Example:
        >>> pooled = np.array([[0.9, 0.6], [0.1, 0.3]])
        >>> assign_masks(pooled, "threshold").tolist(), assign_masks(pooled, "argmax").tolist()
        ([[True, True], [False, False]], [[True, False], [False, True]])
    """
    if rule == "threshold":
        return pooled >= SIMILARITY_THRESHOLD
    best = np.zeros(pooled.shape, bool)
    if pooled.size:
        best[np.arange(len(pooled)), pooled.argmax(axis=1)] = True
    return best


def covered_points(masks: MaskSet, points: ImagePoints) -> NDArray[np.bool_]:
    """Which of N masks cover which of P points, (N, P) bool; masks are decoded one at a time."""
    rows, columns = points.pixels(masks.height, masks.width)
    covered = np.zeros((len(masks), len(points.x)), bool)
    for i, mask in enumerate(masks):
        covered[i] = mask[rows, columns]
    return covered


def union_prediction(
    covered: NDArray[np.bool_], belongs: NDArray[np.bool_], points: ImagePoints
) -> NDArray[np.bool_]:
    """GEM-SAM: does any mask of the point's class cover the point? (P,) bool.

    Args:
        covered: (N, P) from `covered_points`.
        belongs: (N, C) from `assign_masks`.
        points: the answered points.
    """
    return np.asarray((covered & belongs[:, points.class_index]).any(axis=0))


def mask_prediction(masks: MaskSet, belongs: NDArray[np.bool_], points: ImagePoints) -> NDArray[np.bool_]:
    """`union_prediction` of N masks that belong (N, C) to classes, (P,) bool."""
    return union_prediction(covered_points(masks, points), belongs, points)


class PointTotals:
    """Adds up the counts of any number of images; holds one row a class, nothing per image.

    Example:
        A cat with IoU 1/2 and a dog with 1 in one image, a cat with 1 in another; a class without counts has
        no IoU.

        >>> totals = PointTotals()
        >>> totals.add(["cat", "dog", "cup"], np.array([[1, 0, 1], [2, 0, 0], [0, 0, 0]]))
        >>> totals.add(["cat"], np.array([[3, 0, 0]]))
        >>> averages = totals.averages()
        >>> [round(value, 4) for value in (averages.pairs, averages.images, averages.classes)]
        [0.8333, 0.875, 0.9]
        >>> {name: round(iou, 2) for name, iou in totals.class_ious().items()}
        {'cat': 0.8, 'dog': 1.0}
    """

    def __init__(self) -> None:
        self.counts: dict[str, NDArray[np.int64]] = {}
        self.pairs = self.images = 0
        self._pair_sum = self._image_sum = 0.0

    def add(self, classes: Sequence[str], counts: NDArray[np.int64]) -> None:
        """Add one image.

        Args:
            classes: its C distinct classes.
            counts: (C, 3) TP, FP, FN. A class without any count (no yes-point and nothing wrongly predicted)
                has no IoU and is left out.
        """
        valid = counts.sum(axis=1) > 0
        ious = counts[valid, 0] / counts[valid].sum(axis=1)
        if len(ious):
            self.pairs += len(ious)
            self.images += 1
            self._pair_sum += float(ious.sum())
            self._image_sum += float(ious.mean())
        for name, row in zip(classes, counts, strict=True):
            self.counts[name] = self.counts.get(name, 0) + row

    def class_ious(self) -> dict[str, float]:
        """IoU of each class from its counts pooled over all images."""
        return {name: float(row[0] / row.sum()) for name, row in self.counts.items() if row.sum()}

    def averages(self) -> PointAverages:
        """The three averages; 0 where there is nothing to average."""
        ious = self.class_ious()
        return PointAverages(
            pairs=self._pair_sum / max(1, self.pairs),
            images=self._image_sum / max(1, self.images),
            classes=sum(ious.values()) / max(1, len(ious)),
        )


def average_iou(images: Iterable[tuple[Sequence[str], NDArray[np.int64]]]) -> PointAverages:
    """The three averages over all images, each with its class names and their (C, 3) counts."""
    totals = PointTotals()
    for names, counts in images:
        totals.add(names, counts)
    return totals.averages()
