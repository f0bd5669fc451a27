"""The borders of a mask, traced between its pixels (pure numpy and OpenCV).

All work is linear in the number of pixels. Holes are opened by vertical cuts of no width, which the tracer passes on
both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Four pixels around a point as bits: top left 1, top right 2, bottom left 4, bottom right 8. A border turns at a
# point unless all are equal or the border runs straight through.
_TURNS = np.ones(16, bool)
_TURNS[[0, 15, 3, 12, 5, 10]] = False
_TURNS.setflags(write=False)


@dataclass(frozen=True)
class Borders:
    """Closed borders, one after the other.

    Attributes:
        points: (N, 2) x, y of corners in pixels, int64 where exact, 0 <= x <= width and 0 <= y <= height.
        starts: (L + 1,) int64; border i is points[starts[i]:starts[i + 1]].
    """

    points: NDArray[Any]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def split(self) -> list[NDArray[Any]]:
        """The borders as L arrays of shape (k, 2)."""
        ends = self.starts.tolist()
        return [self.points[a:b] for a, b in pairwise(ends)]


def count_corners(mask: NDArray[np.bool_]) -> int:
    """How many points there are at which the borders of a (height, width) mask turn."""
    return int(np.count_nonzero(_TURNS[_around(np.pad(mask, 1))]))


def trace_borders(mask: NDArray[np.bool_], cuts: NDArray[np.bool_] | None = None) -> Borders:
    """Trace the borders of a mask.

    The mask lies to the right of the way (y points down), so outer borders have a positive `signed_areas` and
    borders of holes a negative one. Pixels that share only a corner are kept apart.

    Args:
        mask: (height, width) booleans.
        cuts: (height, width + 1) booleans from `hole_cuts`: the edges left of each pixel that the mask is cut
            along. Both sides of a cut are traced, and both have a corner at each of its ends.

    Returns:
        The borders, in the reading order of their first points.
    """
    padded = np.pad(mask, 1)
    around = _around(padded)
    wanted = _TURNS[around]
    if cuts is not None:
        edges = np.pad(cuts, ((1, 1), (0, 0)))
        wanted |= edges[:-1] ^ edges[1:]
    at = np.flatnonzero(wanted)
    if not len(at):
        return Borders(np.zeros((0, 2), np.int64), np.zeros(1, np.int64))
    bits = around.ravel()[at]
    if cuts is None:
        up = down = np.zeros(len(at), bool)
    else:
        up, down = edges[:-1].ravel()[at], edges[1:].ravel()[at]
    rows, to_right, downward, mask_right, below = _corners(bits, up, down)
    keys, width = at[rows], wanted.shape[1]

    # In reading order corners pair up into horizontal edges. Where two meet, the one on the left comes first; the
    # two halves of a corner at which the border runs straight on stand between them and pair up with each other.
    order = np.argsort(keys * 3 + to_right, kind="stable")
    keys, to_right = keys[order], to_right[order]
    downward, mask_right, below = downward[order], mask_right[order], below[order]
    y, x = np.divmod(keys, width)
    # along a column likewise into vertical edges, those with the mask on one side apart from the others
    columns = np.argsort(((x * 2 + mask_right) * wanted.shape[0] + y) * 2 + downward, kind="stable")
    vertical = np.empty(len(keys), np.int64)
    vertical[columns[0::2]], vertical[columns[1::2]] = columns[1::2], columns[0::2]

    hop = vertical[np.arange(len(keys)) ^ 1].tolist()
    entry = (np.arange(0, len(keys), 2) + ~below[0::2]).tolist()
    passed = bytearray(len(entry))
    way: list[int] = []
    starts = [0]
    for pair, start in enumerate(entry):
        if passed[pair]:
            continue
        corner = start
        while True:
            passed[corner >> 1] = 1
            way.append(corner)
            corner = hop[corner]
            if corner == start:
                break
        starts.append(len(way))
    first = np.array(way, np.int64)
    both = np.stack((first, first ^ 1), axis=1)
    keep = np.ones(both.shape, bool)
    keep[:, 1] = to_right[first] != 1  # one of the two halves
    before = np.r_[0, np.cumsum(keep.sum(axis=1))]
    chosen = both[keep]
    return Borders(np.stack((x[chosen], y[chosen]), axis=1), before[starts])


def _around(padded: NDArray[np.bool_]) -> NDArray[np.integer]:
    """The four pixels around each point between the pixels, as bits: (h, w) -> (h - 1, w - 1)."""
    pixels = padded.view(np.uint8)
    return pixels[:-1, :-1] | pixels[:-1, 1:] << 1 | pixels[1:, :-1] << 2 | pixels[1:, 1:] << 3


def _corners(
    bits: NDArray[np.integer], up: NDArray[np.bool_], down: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """The corners of borders at points.

    Args:
        bits: (n,) the pixels around each point.
        up: (n,) whether a cut leads up from there.
        down: (n,) whether one leads down.

    Returns:
        For each corner: its point; 2, 0 or 1 for a horizontal edge to the right, to the left, or none; whether its
        vertical edge leads down; whether the mask is right of that; whether it is below the horizontal edge.
    """
    top_left, top_right = bits & 1 > 0, bits & 2 > 0
    bottom_left, bottom_right = bits & 4 > 0, bits & 8 > 0
    three_above_cut, three_below_cut = ~up, ~down
    kinds = [
        # one pixel, its edges free
        (bottom_right & ~top_right & (~bottom_left | down), 2, True, True, True),
        (bottom_left & ~top_left & (~bottom_right | down), 0, True, False, True),
        (top_right & ~bottom_right & (~top_left | up), 2, False, True, False),
        (top_left & ~bottom_left & (~top_right | up), 0, False, False, False),
        # three pixels that no cut separates
        ((bits == 7) & three_above_cut, 2, True, False, False),
        ((bits == 11) & three_above_cut, 0, True, True, False),
        ((bits == 13) & three_below_cut, 2, False, False, True),
        ((bits == 14) & three_below_cut, 0, False, True, True),
    ]
    # the end of a cut that the border passes straight on: two halves without a horizontal edge
    right_of_end = (down & ~up & (bits == 14)) | (up & ~down & (bits == 11))
    left_of_end = (down & ~up & (bits == 13)) | (up & ~down & (bits == 7))
    for downward in (False, True):
        kinds += [(right_of_end, 1, downward, True, False), (left_of_end, 1, downward, False, False)]
    rows = [np.flatnonzero(kind[0]) for kind in kinds]
    sizes = [len(each) for each in rows]
    to_right, downward_, mask_right, below = (
        np.repeat(np.array([kind[i] for kind in kinds]), sizes) for i in range(1, 5)
    )
    return np.concatenate(rows), to_right, downward_, mask_right, below


def hole_cuts(mask: NDArray[np.bool_], through: bool) -> NDArray[np.bool_] | None:
    """Vertical cuts that open all holes of a mask.

    A cut leads from a hole's highest pixel up to the next border, so that the mask's border around the hole becomes
    part of the outer one. `through` has a second cut lead down from its lowest pixel: the parts between the cuts are
    simple polygons, since whatever a border encloses has a cut that leads out at its top and one at its bottom.

    Args:
        mask: (height, width) booleans.
        through: whether each hole is cut at its top and bottom; otherwise only at its top.

    Returns:
        (height, width + 1) booleans, the edges left of each pixel that belong to a cut; None if there is no hole.
    """
    empty = np.pad(~mask, 1, constant_values=True).view(np.uint8)
    # Pixels of a hole that touch at a corner are one hole, whose border passes that corner twice. Simple polygons
    # pass no point twice, so for them they are holes of their own.
    count, labels, stats, _ = cv2.connectedComponentsWithStats(empty, connectivity=4 if through else 8)
    if count == 2:
        return None
    top, height = stats[:, cv2.CC_STAT_TOP], stats[:, cv2.CC_STAT_HEIGHT]
    cuts = _cuts_up(mask, labels, top)
    if through:
        cuts |= _cuts_up(mask[::-1], labels[::-1], len(labels) - top - height)[::-1]
    return cuts


def _cuts_up(mask: NDArray[np.bool_], labels: NDArray[Any], top: NDArray[Any]) -> NDArray[np.bool_]:
    """Cuts up from the highest pixels of holes.

    Args:
        mask: (height, width) booleans.
        labels: (height + 2, width + 2) the number of the hole that each pixel belongs to, with a frame of one pixel.
        top: the first row of each hole in `labels`.
    """
    height, width = mask.shape
    inside = labels[1:-1, 1:-1]
    y, x = np.nonzero(~mask[1:] & mask[:-1])
    y += 1
    hole = inside[y, x]
    highest = (hole != labels[0, 0]) & (top[hole] == y + 1)
    y, x, hole = y[highest], x[highest], hole[highest]
    # the first and the last pixel of each hole's highest row
    _, first = np.unique(hole, return_index=True)
    last = len(hole) - 1 - np.unique(hole[::-1], return_index=True)[1]
    row, left, right = y[first], x[first], x[last] + 1
    free_left, free_right = mask[row - 1, left - 1], mask[row - 1, right]
    free = free_left | free_right  # otherwise another hole touches at both corners
    row, line = row[free], np.where(free_left, left, right)[free]

    both = mask[:, :-1] & mask[:, 1:]
    reach = np.maximum.accumulate(np.where(both, 0, np.arange(1, height + 1)[:, None]), axis=0)
    change = np.zeros((height + 1, width + 1), np.int8)
    change[reach[row - 1, line - 1], line] += 1
    change[row, line] -= 1
    return np.cumsum(change[:-1], axis=0, dtype=np.int8) > 0


def signed_areas(borders: Borders) -> NDArray[np.float64]:
    """(L,) shoelace areas in square pixels; borders of holes come out negative."""
    if not len(borders):
        return np.zeros(0)
    x, y = borders.points[:, 0], borders.points[:, 1]
    after = np.arange(1, len(x) + 1)
    after[borders.starts[1:] - 1] = borders.starts[:-1]
    return np.add.reduceat(x * y[after] - x[after] * y, borders.starts[:-1]) / 2
