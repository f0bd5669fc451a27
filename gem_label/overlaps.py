"""How much of one mask lies in another: found once, when masks are made, since no word changes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from gem_label.masks import MaskSet, Overlaps

SMALLEST_SHARE = 0.05
"""Pairs of which the smaller mask shares less than this with the larger are not kept."""

STEPS = 255
"""Shares are kept in steps of 1/255, a byte each."""


def find_overlaps(masks: MaskSet) -> Overlaps:
    """The pairs of masks of which the smaller has at least `SMALLEST_SHARE` of its area in the larger.

    Args:
        masks: N masks of one photo.
    """
    boxes, areas = masks.boxes, masks.areas
    x, y, w, h = boxes.T.astype(np.float64)
    # boxes first: they rule out most pairs, and run lengths are slow to intersect
    common = np.maximum(np.minimum.outer(x + w, x + w) - np.maximum.outer(x, x), 0)
    common *= np.maximum(np.minimum.outer(y + h, y + h) - np.maximum.outer(y, y), 0)
    possible = np.tril(common > SMALLEST_SHARE * np.minimum.outer(areas, areas), -1)
    rles = masks.rles
    first, second, shares = [], [], []
    for j in np.flatnonzero(possible.any(axis=1)).tolist():
        others = np.flatnonzero(possible[j])
        # iscrowd divides the intersection by the first mask's area alone
        inside = np.asarray(coco_mask.iou([rles[j]], [rles[i] for i in others], [1] * len(others)))[0]
        share = inside * areas[j] / np.minimum(areas[j], areas[others])
        enough = share >= SMALLEST_SHARE
        first.append(others[enough])
        second.append(np.full(int(enough.sum()), j))
        shares.append(share[enough])
    if not first:
        return Overlaps()
    return Overlaps(
        np.concatenate(first).astype(np.int32),
        np.concatenate(second).astype(np.int32),
        np.rint(np.minimum(np.concatenate(shares), 1.0) * STEPS).astype(np.uint8),
    )


def join_overlaps(photos: Sequence[Overlaps], masks: Sequence[int]) -> Overlaps:
    """The pairs of several photos as one list, with indices into all their masks.

    Args:
        photos: the pairs of each photo.
        masks: how many masks each photo has.
    """
    if not photos:
        return Overlaps()
    starts = np.cumsum([0, *masks])[:-1].astype(np.int32)
    return Overlaps(
        np.concatenate([each.first + start for each, start in zip(photos, starts, strict=True)]),
        np.concatenate([each.second + start for each, start in zip(photos, starts, strict=True)]),
        np.concatenate([each.share for each in photos]),
    )
