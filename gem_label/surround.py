"""The surround of a mask: the ring of patches around it, which tells a part of a thing from the whole.

A part of a thing has the thing's word in its surround too; the whole does not. Like the pooled embedding of the mask,
that of its surround is linear in the patch features, so that new words need neither the photo nor a vision model.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gem_label.masks import MaskSet, patch_weights

RING_WIDTH = 0.15
"""Width of the ring, as a share of the square root of the mask's area."""

CELLS_PER_PATCH = 4
"""Rings are drawn on a grid this much finer than the patches, along each side."""


def surround_weights(masks: MaskSet, grid: tuple[int, int]) -> NDArray[np.float32]:
    """Share of each patch's area that lies in the ring around each mask.

    The ring of mask m is m dilated by `RING_WIDTH * sqrt(area)` pixels, without m. What lies outside the photo does
    not count. Rings are drawn on a grid of `CELLS_PER_PATCH` cells along each side of a patch, and are at least one
    cell wide.

    Args:
        masks: N masks of one photo.
        grid: (h, w) patches that cover the whole photo evenly.

    Returns:
        (N, h, w) float32 in [0, 1]; all zeros for a mask that fills the photo and for an empty one.
    """
    (rows, columns), k = grid, CELLS_PER_PATCH
    covered = patch_weights(masks, (rows * k, columns * k))
    # cells are as wide and high as the photo's sides divide: one radius for each direction
    radii = RING_WIDTH * np.sqrt(masks.areas)
    across = np.maximum(np.rint(radii * (columns * k / masks.width)), 1).astype(int)
    down = np.maximum(np.rint(radii * (rows * k / masks.height)), 1).astype(int)
    rings = np.zeros_like(covered)
    # the cells that a mask and its ring can touch, and not the whole grid for each mask
    boxes = masks.boxes
    cell = np.array([masks.width, masks.height]) / (columns * k, rows * k)
    low = np.floor(boxes[:, :2] / cell).astype(int) - np.stack([across, down], axis=1)
    high = np.ceil((boxes[:, :2] + boxes[:, 2:]) / cell).astype(int) + np.stack([across, down], axis=1)
    low = np.maximum(low, 0)
    for i, ((x0, y0), (x1, y1)) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        share = covered[i, y0:y1, x0:x1]
        largest = float(share.max(initial=0.0))
        if largest == 0.0:
            continue
        solid = (share >= min(0.5, largest)).astype(np.uint8)  # a mask smaller than half a cell counts as one
        size = (2 * int(across[i]) + 1, 2 * int(down[i]) + 1)
        dilated = cv2.dilate(solid, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size))
        np.multiply(dilated, 1.0 - share, out=rings[i, y0:y1, x0:x1])
    return rings.reshape(len(masks), rows, k, columns, k).mean(axis=(2, 4))
