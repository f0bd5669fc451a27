"""Polygons of a mask: exact ones along its pixel borders, simplified ones, and one polygon for all of it.

A polygon through pixel centers loses half a pixel all around. These run along the borders between pixels, so
the area of exact ones is the pixel count, and pycocotools draws exactly the same mask from them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from gem_label.errors import UsageError
from gem_label.formats.outlines.borders import Borders, count_corners, hole_cuts, signed_areas, trace_borders
from gem_label.formats.outlines.simplification import simplify_borders

Polygon = NDArray[np.float64]

CORNERS = 1_000_000
"""`outline` simplifies a mask whose borders have more corners than this at half its resolution."""

PARTS = 200
"""`single_outline` joins so many parts of a mask, the largest ones."""

_NEAREST_AMONG = 64
"""Corners of each part, evenly along its border, between which `single_outline` looks for the shortest bridge."""


@dataclass(frozen=True)
class Outline:
    """Polygons in place of a mask, and what they keep of it.

    Attributes:
        polygons: (k, 2) float64 arrays of x, y in pixels, all of them whole or half ones; k >= 3.
        iou: intersection over union in [0, 1] of the mask with what pycocotools draws from the polygons.
        dropped: how many parts of the mask have no polygon.
        block: side in pixels of the blocks that the outline follows; 1 unless the mask had too many corners.
    """

    polygons: list[Polygon]
    iou: float
    dropped: int = 0
    block: int = 1


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
    return Borders(borders.points + corner, borders.starts).split()


def outline(mask: NDArray[np.bool_], tolerance: float, holes: Literal["bridge", "cut"] = "bridge") -> Outline:
    """Polygons with few corners, close to the borders of a mask.

    Corners are left out where the border stays within the tolerance of the line in their place. Lines do not cross,
    and parts and holes that would lose all of their area keep their corners. A mask whose borders have more than
    `CORNERS` corners is halved in resolution first, as often as it takes; with a tolerance of 0 it never is.

    Args:
        mask: (height, width) booleans.
        tolerance: greatest distance in pixels between the exact border and the polygons; 0 leaves out nothing.
        holes: "bridge" gives one polygon a part, in which a bridge of no width leads to each hole and back; "cut"
            gives simple polygons, as `mask_polygons` does.

    Returns:
        The polygons and the intersection over union with the mask that they keep.

    Raises:
        UsageError: the tolerance is negative or not finite.

    Example:
        >>> ring = np.ones((5, 7), bool)
        >>> ring[2, 2:4] = False
        >>> [len(polygon) for polygon in outline(ring, 0).polygons]
        [11]
    """
    if not 0 <= tolerance < np.inf:
        raise UsageError(f"the tolerance is {tolerance} pixels; it takes a number from 0 up")
    if holes not in ("bridge", "cut"):
        raise UsageError(f'holes are "bridge" or "cut", not {holes!r}')
    inside, corner = _crop(mask)
    small, block = inside, 1
    while tolerance > 0 and count_corners(small) > CORNERS:
        block *= 2
        small = _reduce(inside, block)
    borders = trace_borders(small, hole_cuts(small, through=holes == "cut"))
    points, starts = simplify_borders(borders, tolerance / block)
    polygons = Borders(np.minimum(points * block, inside.shape[::-1]), starts).split()
    iou = drawn_iou(polygons, inside)
    return Outline([polygon + corner for polygon in polygons], iou, block=block)


def single_outline(mask: NDArray[np.bool_], tolerance: float) -> Outline:
    """One polygon for all parts and holes of a mask, for formats whose shapes are one polygon (YOLO).

    Bridges of no width join the parts, each at corners near each other.

    Args:
        mask: (height, width) booleans.
        tolerance: as for `outline`.

    Returns:
        One polygon, or none for an empty mask. Only the `PARTS` largest parts are joined; `dropped` counts the
        others.

    Raises:
        UsageError: the tolerance is negative or not finite.
    """
    parts = outline(mask, tolerance)
    polygons = parts.polygons
    if len(polygons) < 2:
        return parts
    starts = np.cumsum([0, *map(len, polygons)])
    areas = signed_areas(Borders(np.concatenate(polygons), starts))
    largest = np.argsort(-areas, kind="stable")[:PARTS]
    joined = _join([polygons[i] for i in largest.tolist()])
    inside, corner = _crop(mask)
    iou = drawn_iou([joined - corner], inside)
    return Outline([joined], iou, len(polygons) - len(largest), parts.block)


def drawn_iou(polygons: Sequence[NDArray[np.number]], mask: NDArray[np.bool_]) -> float:
    """Intersection over union in [0, 1] of a mask with what pycocotools draws from polygons.

    Args:
        polygons: (k, 2) arrays of x, y in pixels, k >= 3.
        mask: (height, width) booleans; what polygons cover beyond it does not count.
    """
    if not polygons or not mask.any():
        return float(not polygons and not mask.any())
    drawn = coco_mask.frPyObjects([polygon.ravel().tolist() for polygon in polygons], *mask.shape)
    while len(drawn) > 1:  # merging many into one at once takes quadratic time
        drawn = [coco_mask.merge(drawn[i : i + 16]) for i in range(0, len(drawn), 16)]
    truth = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return float(coco_mask.iou(drawn, [truth], [False])[0, 0])


def _crop(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The mask inside its box, and the x, y of the box."""
    mask = np.ascontiguousarray(mask, bool)
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return mask[y : y + height, x : x + width], np.array([x, y])


def _reduce(mask: NDArray[np.bool_], block: int) -> NDArray[np.bool_]:
    """A mask of blocks of pixels: those of which at least half are in the mask, or any if there is none such."""
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % block), (0, -width % block))).astype(np.float32)
    size = (padded.shape[1] // block, padded.shape[0] // block)
    share = cv2.resize(padded, size, interpolation=cv2.INTER_AREA)
    half = share > 0.499
    return half if half.any() else share > 0


def _join(polygons: list[Polygon]) -> Polygon:
    """One polygon of several: the first, and bridges from what is joined already to the part nearest to it."""
    strides = [-(-len(polygon) // _NEAREST_AMONG) for polygon in polygons]
    samples = [polygon[::stride] for polygon, stride in zip(polygons, strides, strict=True)]
    waiting = list(range(1, len(polygons)))
    nearest = dict.fromkeys(waiting, (np.inf, 0, 0, 0))  # distance; part and corner there; corner here
    children: list[list[tuple[int, int, int]]] = [[] for _ in polygons]  # corner, child, its corner
    newest = 0
    while waiting:
        flat = np.concatenate([samples[i] for i in waiting])
        gaps = flat[:, None, :] - samples[newest][None]
        squares = (gaps**2).sum(axis=2)
        there = squares.argmin(axis=1)
        least = squares[np.arange(len(flat)), there]
        begin = 0
        for part in waiting:
            here = begin + int(least[begin : begin + len(samples[part])].argmin())
            if least[here] < nearest[part][0]:
                corner, own = int(there[here]) * strides[newest], (here - begin) * strides[part]
                nearest[part] = (float(least[here]), newest, corner, own)
            begin += len(samples[part])
        newest = min(waiting, key=lambda part: nearest[part][0])
        _, parent, corner, own = nearest[newest]
        children[parent].append((corner, newest, own))
        waiting.remove(newest)
    return np.concatenate(_walk(polygons, children, 0, 0))


def _walk(
    polygons: list[Polygon], children: list[list[tuple[int, int, int]]], part: int, begin: int
) -> list[Polygon]:
    """The way around a part from one of its corners, and from corners on the way around the parts joined there."""
    polygon, pieces, done = polygons[part], [], 0
    size = len(polygon)
    turned = np.roll(polygon, -begin, axis=0)
    for place, child, own in sorted(
        ((corner - begin) % size, child, own) for corner, child, own in children[part]
    ):
        pieces.append(turned[done : place + 1])
        around = _walk(polygons, children, child, own)
        pieces += [*around, around[0][:1], turned[place : place + 1]]
        done = place + 1
    pieces.append(turned[done:])
    return [piece for piece in pieces if len(piece)]
