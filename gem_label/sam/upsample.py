"""SAM's low-resolution logits as masks of the photo, computed only where they can be positive.

`Sam.postprocess_masks` resizes every mask twice, to the model's input and from there to the photo: 48 MB a mask at 12
megapixels. Along one axis both are one narrow matrix. Bilinear interpolation never exceeds the values it lies
between, so outside the rows and columns whose logits pass the cutoff there is nothing to compute; large masks are
computed in strips of columns, the order of COCO run lengths. All functions are pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional

_STRIP_PIXELS = 1 << 20  # logits of one strip: 4 MiB of float32, which a CPU cache holds
_SAMPLES_AT_ONCE = 64  # along an axis: few enough that they read a narrow band of the logits


@dataclass(frozen=True)
class Axis:
    """Resizing along one axis, linear in the samples: out = weights @ in.

    Attributes:
        weights: (n, source) float32; rows sum to one, what is not zero in a row lies together.
        first: (n,) int64, the first source sample that each target sample reads.
        last: (n,) int64, the last one.
    """

    weights: Tensor
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @property
    def reach(self) -> int:
        """How many source samples are read, from the first on."""
        return int(self.last.max()) + 1


@dataclass(frozen=True)
class Outline:
    """A mask as the places where it begins and ends down the columns.

    Attributes:
        positions: increasing int64 offsets in the photo, column by column (x * height + y), at which the mask
            turns on, off, on, ... and at last off.
        box: x0, y0, x1, y1 of the tight box in pixels, x1 and y1 inclusive; zeros for an empty mask.
        stability: IoU of the masks at the higher and at the lower cutoff, in [0, 1]; 0 when both are empty.
    """

    positions: NDArray[np.int64]
    box: tuple[int, int, int, int]
    stability: float


def resizing(source: int, steps: Sequence[tuple[int, int]], device: torch.device | str = "cpu") -> Axis:
    """The axis that does, one after the other, what `F.interpolate(mode="bilinear")` does along one side.

    Args:
        source: number of samples to begin with.
        steps: to how many samples to resize, and how many of these to keep, from the first on.
        device: where the weights are wanted.
    """
    weights = torch.eye(source)[None]
    for size, kept in steps:
        weights = functional.interpolate(weights, size, mode="linear", align_corners=False)[..., :kept]
    read = weights[0].T != 0
    first = read.int().argmax(dim=1)
    last = source - 1 - read.flip(1).int().argmax(dim=1)
    return Axis(weights[0].T.contiguous().to(device), first.numpy(), last.numpy())


def reached(axis: Axis, occupied: NDArray[np.bool_]) -> slice:
    """The smallest range of target samples that holds every one reading an occupied source sample.

    Args:
        axis: how target samples read source samples.
        occupied: (source,), or shorter when the axis reads no more.
    """
    before = np.concatenate([[0], np.cumsum(occupied)])
    hit = np.flatnonzero(before[axis.last + 1] > before[axis.first])
    return slice(int(hit[0]), int(hit[-1]) + 1) if len(hit) else slice(0, 0)


def interpolate(logits: Tensor, rows: Axis, columns: Axis, y: slice, x: slice) -> Tensor:
    """A window of the resized logits, column by column: (columns in x, rows in y).

    Args:
        logits: (h, w).
        rows: from h to the target's height.
        columns: from w to the target's width.
        y: rows of the target.
        x: columns of the target.
    """
    return _resized(_resized(logits, columns, x).T, rows, y)


def outline(
    logits: Tensor,
    rows: Axis,
    columns: Axis,
    top_left: tuple[int, int],
    height: int,
    cutoff: float,
    offset: float,
) -> Outline:
    """The mask `logits > cutoff` after resizing, placed into the photo.

    Args:
        logits: (h, w), all that `rows` and `columns` read.
        rows: from h to the crop's height in pixels.
        columns: from w to the crop's width in pixels.
        top_left: y0, x0 of the crop in the photo.
        height: of the photo in pixels.
        cutoff: logit above which a pixel belongs to the mask.
        offset: distance of the higher and the lower cutoff for stability, at least 0.
    """
    passed = logits > cutoff - offset
    window_y, window_x = (
        reached(axis, passed.any(dim).cpu().numpy()) for axis, dim in ((rows, 1), (columns, 0))
    )
    inner = outer = 0
    strips = []
    for strip in _strips(window_y, window_x):
        values = interpolate(logits, rows, columns, window_y, strip)
        inner += int(torch.count_nonzero(values > cutoff + offset))
        outer += int(torch.count_nonzero(values > cutoff - offset))
        x, y = _turns((values > cutoff).cpu().numpy())
        strips.append((x + strip.start + top_left[1], y + window_y.start + top_left[0]))
    stability = inner / outer if outer else 0.0
    x = np.concatenate([strip[0] for strip in strips]) if strips else np.zeros(0, np.int64)
    if not len(x):
        return Outline(x, (0, 0, 0, 0), stability)
    y = np.concatenate([strip[1] for strip in strips])
    box = (int(x[0]), int(y.min()), int(x[-1]), int(y.max()) - 1)
    return Outline(_join_columns(x * height + y), box, stability)


def encode_outline(positions: NDArray[np.int64], height: int, width: int) -> bytes:
    """Compressed COCO run lengths of the mask that turns on and off at `positions` (see `Outline`)."""
    edges = np.concatenate([[0], positions, [height * width]])
    runs = np.diff(edges)
    if len(runs) > 1 and runs[-1] == 0:  # the mask holds the photo's last pixel: nothing follows it
        runs = runs[:-1]
    return coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)["counts"]


def _strips(window_y: slice, window_x: slice) -> Iterator[slice]:
    height = window_y.stop - window_y.start
    step = max(1, _STRIP_PIXELS // max(1, height))
    for start in range(window_x.start, window_x.stop if height else window_x.start, step):
        yield slice(start, min(start + step, window_x.stop))


def _resized(values: Tensor, axis: Axis, window: slice) -> Tensor:
    """Target samples of an axis in a window, (m, source) -> (m, n): each few of them from the samples they read."""
    result = values.new_empty(len(values), window.stop - window.start)
    # a GPU multiplies by all the zeros in less time than it takes to start many small products
    step = _SAMPLES_AT_ONCE if values.device.type == "cpu" else max(1, result.shape[1])
    for start in range(window.start, window.stop, step):
        end = min(start + step, window.stop)
        read = slice(int(axis.first[start]), int(axis.last[end - 1]) + 1)
        part = slice(start - window.start, end - window.start)
        torch.mm(values[:, read], axis.weights[start:end, read].T, out=result[:, part])
    return result


def _turns(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns and rows where the mask, (columns, rows), turns on or off going down; row h ends the last pixel."""
    edges = np.zeros((mask.shape[0], mask.shape[1] + 1), np.bool_)
    edges[:, 0] = mask[:, 0]
    np.not_equal(mask[:, 1:], mask[:, :-1], out=edges[:, 1:-1])
    edges[:, -1] = mask[:, -1]
    x, y = np.nonzero(edges)
    return x, y


def _join_columns(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Without the ends at a column's foot where the mask goes on at the next column's head."""
    same = np.zeros(len(positions), np.bool_)
    same[1:] = positions[1:] == positions[:-1]
    same[:-1] |= same[1:]
    return positions[~same]
