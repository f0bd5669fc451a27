"""Polygons of a mask: exact ones along its pixel borders, simplified ones, and one polygon for all of it.

A polygon through pixel centers loses half a pixel all around. These run along the borders between pixels, so
the area of exact ones is the pixel count, and pycocotools draws exactly the same mask from them again.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gem_label.formats.borders import hole_cuts, trace_borders


def mask_polygons(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Simple polygons without holes that together cover exactly the mask.

    COCO's polygons know no holes, and bridges of no width, the usual way out, are not valid polygons. So a part with
    holes is cut straight up and straight down from each hole. The time grows with the number of pixels alone.

    Args:
        mask: (height, width) booleans.

    Returns:
        (k, 2) arrays of x, y corners in pixels, k >= 4; none overlap, and their areas sum to the mask's.
    """
    inside, corner = _crop(mask)
    borders = trace_borders(inside, hole_cuts(inside, through=True))
    borders.points[:] += corner
    return borders.split()


def _crop(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The mask inside its box, and the x, y of the box."""
    mask = np.ascontiguousarray(mask, bool)
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return mask[y : y + height, x : x + width], np.array([x, y])
