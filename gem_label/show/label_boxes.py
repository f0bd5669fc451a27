"""Where words are drawn on a picture: label boxes that neither overlap nor leave it, near what they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

GAP = 2  # pixels between two boxes
# Costs are in masks hidden: a box that covers half of a mask costs 0.5.
LATER_ANCHOR = 0.03  # for each anchor that is preferred to it
AWAY = 0.15  # for a box that needs a leader line at all
DISTANCE = 3.0  # for one as long as the picture's long side


@dataclass(frozen=True)
class DrawnMask:
    """A mask in the pixels of the picture.

    Attributes:
        corner: x and y of the upper left pixel of its box.
        pixels: (h, w) uint8, 1 inside.
        body: (h, w) uint8, 1 in its connected part that is named: the one with the first pole.
        poles: x and y of points deep inside the body, the one that is farthest from its edge first.
    """

    corner: tuple[int, int]
    pixels: NDArray[np.uint8]
    body: NDArray[np.uint8]
    poles: list[tuple[int, int]]

    @classmethod
    def scaled(cls, mask: NDArray[np.bool_], width: int, height: int) -> DrawnMask:
        """A mask of the photo, (H, W), on a picture of `width` times `height` pixels; one pixel of it at least."""
        scaled = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) >= 0.5
        if not scaled.any():
            y, x = np.argwhere(mask)[0] if mask.any() else (0, 0)
            scaled[y * height // mask.shape[0], x * width // mask.shape[1]] = True
        left, top, right, bottom = _extent(scaled)
        pixels = scaled[top:bottom, left:right].astype(np.uint8)
        x, y = _poles(pixels, most=1)[0]
        _, parts = cv2.connectedComponents(pixels, connectivity=4)
        body = (parts == parts[y, x]).astype(np.uint8)
        return cls((left, top), pixels, body, [(left + x, top + y) for x, y in _poles(body, most=4)])

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of its box."""
        (x, y), (height, width) = self.corner, self.pixels.shape
        return slice(y, y + height), slice(x, x + width)

    def anchors(self, size: tuple[int, int]) -> NDArray[np.int64]:
        """Upper left corners (K, 2) for a box: on the first pole; above, below, right and left; on other poles."""
        (width, height), (left, top, right, bottom) = size, _extent(self.body > 0)
        above, below = (int(np.flatnonzero(self.body[row]).mean()) for row in (top, bottom - 1))
        before, after = (int(np.flatnonzero(self.body[:, column]).mean()) for column in (left, right - 1))
        outside = np.array([(above, top), (below, bottom), (right, after), (left, before)]) + self.corner
        outside -= np.array([(width // 2, height), (width // 2, 0), (0, height // 2), (width, height // 2)])
        inside = np.array(self.poles) - (width // 2, height // 2)
        return np.concatenate([inside[:1], outside, inside[1:]])

    def touches(self, box: Sequence[int], gap: int = 6) -> bool:
        """Whether a box (x0, y0, x1, y1) covers pixels of the body, or comes within `gap` pixels of them."""
        (x, y), (x0, y0, x1, y1) = self.corner, box
        rows = slice(max(0, y0 - gap - y), max(0, y1 + gap - y))
        return bool(self.body[rows, max(0, x0 - gap - x) : max(0, x1 + gap - x)].any())


def _extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _poles(pixels: NDArray[np.uint8], most: int) -> list[tuple[int, int]]:
    """x and y of the point farthest from the edge (pole of inaccessibility), and of others off its surroundings."""
    distance = cv2.distanceTransform(np.pad(pixels, 1), cv2.DIST_L2, 5)[1:-1, 1:-1].copy()
    poles: list[tuple[int, int]] = []
    while len(poles) < most and distance.max() > 0:
        y, x = divmod(int(distance.argmax()), distance.shape[1])
        poles.append((x, y))
        cv2.circle(distance, (x, y), int(1.5 * distance[y, x]) + 1, 0.0, -1)
    return poles


def place_labels(
    sizes: ArrayLike,
    anchors: Sequence[ArrayLike],
    bounds: tuple[int, int],
    *,
    targets: ArrayLike | None = None,
    hidden: NDArray[np.floating] | None = None,
    taken: ArrayLike | None = None,
    reach: float = np.inf,
) -> NDArray[np.int64]:
    """A box for each label, greedily in the given order: the cheapest of its anchors and of the free places around.

    Args:
        sizes: (N, 2) width and height of the boxes in pixels.
        anchors: N times (K, 2), x and y of a box's upper left corner, preferred ones first; moved into the picture.
        bounds: width and height of the picture.
        targets: (N, 2) x and y of the points that labels belong to; places around are tried with them alone.
        hidden: (height, width) what it costs to cover each pixel; None for nothing.
        taken: (M, 4) boxes that are there already.
        reach: largest distance in pixels between a target and a box that is none of the anchors.

    Returns:
        (N, 4) x0, y0, x1, y1 of the boxes, the latter two excluded; -1 for a label without a free place.
    """
    sizes = np.asarray(sizes, np.int64).reshape(-1, 2)
    boxes = np.full((len(sizes), 4), -1, np.int64)
    occupied = np.zeros((0, 4), np.int64) if taken is None else np.asarray(taken, np.int64).reshape(-1, 4)
    sums = None if hidden is None else np.pad(hidden, ((1, 0), (1, 0))).cumsum(0, np.float64).cumsum(1)
    for i, size in enumerate(sizes):
        if (size > bounds).any():
            continue
        corners = np.clip(np.asarray(anchors[i], np.int64).reshape(-1, 2), 0, np.subtract(bounds, size))
        costs = LATER_ANCHOR * np.arange(len(corners))
        if targets is not None:
            target = np.asarray(targets, np.float64)[i]
            around, distances = _places_around(target, size, bounds, reach)
            corners = np.concatenate([corners, around])
            costs = np.concatenate([costs, AWAY + DISTANCE * distances / max(bounds)])
        places = np.concatenate([corners, corners + size], axis=1)
        free = ~overlap(places, occupied, GAP).any(axis=1)
        places, costs = places[free], costs[free]
        if not len(places):
            continue
        if sums is not None:
            x0, y0, x1, y1 = places.T
            costs = costs + sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
        boxes[i] = places[costs.argmin()]
        occupied = np.concatenate([occupied, boxes[i : i + 1]])
    return boxes


def overlap(boxes: NDArray[np.int64], others: NDArray[np.int64], gap: int = 0) -> NDArray[np.bool_]:
    """Which boxes overlap, or come closer than `gap` pixels.

    Args:
        boxes: (N, 4) x0, y0, x1, y1.
        others: (M, 4).
        gap: pixels.

    Returns:
        (N, M) booleans.
    """
    x0, y0, x1, y1 = boxes.T[..., None]
    left, top, right, bottom = others.T + np.array([[0], [0], [gap], [gap]])
    return (x0 < right) & (y0 < bottom) & (left < x1 + gap) & (top < y1 + gap)


def _places_around(
    target: NDArray[np.float64], size: NDArray[np.int64], bounds: tuple[int, int], reach: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Corners (K, 2) on a grid over the picture whose boxes are within `reach` of a point, and the distances (K,)."""
    step = max(2, int(size[1]) // 2)
    axes = []
    for axis in (0, 1):
        last = bounds[axis] - int(size[axis])
        low = max(0, target[axis] - size[axis] - reach)
        high = min(last, target[axis] + reach)
        grid = np.append(np.arange(0, last, step), last)
        axes.append(grid[(grid >= low) & (grid <= high)])
    corners = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    distances = np.linalg.norm(target - np.clip(target, corners, corners + size), axis=1)
    near = distances <= reach
    return corners[near], distances[near]
