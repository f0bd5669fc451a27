"""Polygons of a mask along its pixel borders: exact, simple, without holes (pure numpy and OpenCV).

A polygon through pixel centres loses half a pixel all around. These run along the borders between pixels, so
their area is the pixel count, and pycocotools draws exactly the same mask from them again.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def trace_loops(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The closed borders of a mask, each as its corners in order.

    Args:
        mask: (height, width) booleans.

    Returns:
        One (k, 2) array of x, y corner coordinates in pixels per border, 0 <= x <= width and
        0 <= y <= height. The mask lies to the right of the way (y points down), so outlines have a positive
        `signed_area` and holes a negative one. No border passes a point twice; pixels that only share a
        corner belong to two outlines unless they enclose a hole.
    """
    padded = np.pad(mask.astype(bool), 1)
    top_left, top_right = padded[:-1, :-1], padded[:-1, 1:]
    bottom_left, bottom_right = padded[1:, :-1], padded[1:, 1:]
    turns = top_left ^ top_right ^ bottom_left ^ bottom_right
    crossings = (top_left == bottom_right) & (top_right == bottom_left) & (top_left != top_right)

    # Corners in reading order, crossings twice. Along a row they pair up into horizontal edges, along a
    # column into vertical ones. At a crossing the order of the two copies keeps diagonal pixels apart.
    at = np.flatnonzero(turns | crossings)
    at = np.repeat(at, 1 + crossings.ravel()[at])
    if len(at) == 0:
        return []
    second = np.r_[False, at[1:] == at[:-1]]
    falling = top_left.ravel()[at]
    ys, xs = np.divmod(at, turns.shape[1])
    order = np.lexsort((np.where(falling, second, ~second), ys, xs))
    vertical = np.empty_like(order)
    vertical[order[0::2]], vertical[order[1::2]] = order[1::2], order[0::2]

    below = bottom_right.ravel()[at].tolist()
    next_vertical, keys = vertical.tolist(), at.tolist()
    visited = bytearray(len(keys))
    loops = []
    for left in range(0, len(keys), 2):
        if visited[left]:
            continue
        start = left if below[left] else left + 1
        loop, corner = [], start
        while True:
            other = corner ^ 1
            visited[corner] = visited[other] = 1
            loop += [keys[corner], keys[other]]
            corner = next_vertical[other]
            if corner == start:
                break
        loops += _split_at_repeats(loop)
    return [np.stack((k % turns.shape[1], k // turns.shape[1]), axis=1) for k in map(np.asarray, loops)]


def _split_at_repeats(loop: list[int]) -> list[list[int]]:
    """Cut a closed way into ways that pass every point once."""
    if len(set(loop)) == len(loop):
        return [loop]
    pieces: list[list[int]] = []
    path: list[int] = []
    where: dict[int, int] = {}
    for point in loop:
        if point in where:
            start = where[point]
            pieces.append(path[start:])
            for passed in path[start + 1 :]:
                del where[passed]
            del path[start + 1 :]
        else:
            where[point] = len(path)
            path.append(point)
    return [*pieces, path]


def signed_area(loop: NDArray[np.int64]) -> float:
    """Shoelace area in pixels of a (k, 2) polygon; of `trace_loops`' borders, holes come out negative."""
    x, y = loop[:, 0], loop[:, 1]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def mask_polygons(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Simple polygons without holes that together cover exactly the mask.

    A part with holes is cut in two along a pixel column amid them, until no hole is left: COCO's
    polygons know no holes, and bridges of no width, the usual way out, are not valid polygons.

    Args:
        mask: (height, width) booleans.

    Returns:
        (k, 2) arrays of x, y corners in pixels, k >= 4; none overlap, and their areas sum to the mask's.
    """
    polygons: list[NDArray[np.int64]] = []
    waiting = [(np.asarray(mask, bool), 0, 0)]
    while waiting:
        part, x, y = waiting.pop()
        loops = trace_loops(part)
        holes = [loop for loop in loops if signed_area(loop) < 0]
        if not holes:
            polygons += [loop + np.array([x, y]) for loop in loops]
            continue
        count, components, stats, _ = cv2.connectedComponentsWithStats(part.astype(np.uint8), connectivity=4)
        if count > 2:
            for component in range(1, count):
                left, top, width, height, _ = stats[component].tolist()
                crop = components[top : top + height, left : left + width] == component
                waiting.append((crop, x + left, y + top))
            continue
        # the median hole keeps the number of cuts logarithmic in the number of holes
        cut = int(np.median([(loop[:, 0].min() + loop[:, 0].max()) // 2 for loop in holes]))
        waiting += [(part[:, :cut], x, y), (part[:, cut:], x + cut, y)]
    return polygons
