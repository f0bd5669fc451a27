"""Pairs of masks of one photo that may be the same thing: duplicates, and parts of a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gem_label.masks import MaskSet
from gem_label.overlaps import STEPS, find_overlaps

MIN_IOU = 0.7
"""Masks with at least this IoU are likely the same thing."""

MIN_INSIDE = 0.9
"""A mask with at least this share of its area in a larger one is likely a part of it."""


@dataclass(frozen=True, slots=True)
class OverlappingPair:
    """Two masks of one photo that overlap.

    Attributes:
        smaller: the index of the mask with the smaller area (of equal areas, the first mask).
        larger: the index of the other mask.
        iou: pixels in both as a share of the pixels in either, in [0, 1].
        inside: pixels in both as a share of the smaller mask's area, in [0, 1].
    """

    smaller: int
    larger: int
    iou: float
    inside: float

    @property
    def kind(self) -> Literal["duplicate", "part"]:
        """Whether the two are likely the same thing, or the smaller mask a part of the larger."""
        return "duplicate" if self.iou >= MIN_IOU else "part"


def overlapping_pairs(
    rles: Sequence[dict[str, Any]], min_iou: float = MIN_IOU, min_inside: float = MIN_INSIDE
) -> list[OverlappingPair]:
    """The pairs of masks that are likely duplicates, or a part and its whole.

    Args:
        rles: the N masks of one photo as compressed COCO run lengths, all of the photo's size.
        min_iou: pairs with at least this IoU are found.
        min_inside: so are pairs with at least this share of the smaller mask in the larger.

    Returns:
        The pairs, highest IoU first. Shares are exact to 1/255.
    """
    if not rles:
        return []
    height, width = rles[0]["size"]
    zeros = np.zeros(len(rles), np.float32)
    counts = tuple(rle["counts"] for rle in rles)
    masks = MaskSet(height, width, counts, zeros, zeros, np.zeros((len(rles), 2), np.float32))
    areas, overlaps = masks.areas, find_overlaps(masks)
    pairs = []
    for first, second, steps in zip(overlaps.first, overlaps.second, overlaps.share, strict=True):
        smaller, larger = (first, second) if areas[first] <= areas[second] else (second, first)
        inside = float(steps) / STEPS
        common = inside * float(areas[smaller])
        iou = common / (float(areas[smaller]) + float(areas[larger]) - common)
        if iou >= min_iou or inside >= min_inside:
            pairs.append(OverlappingPair(int(smaller), int(larger), iou, inside))
    return sorted(pairs, key=lambda pair: (-pair.iou, pair.smaller, pair.larger))
