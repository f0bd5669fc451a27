"""SAM's low-resolution logits as masks of the photo: where each begins and ends down the columns, COCO's order.

`Sam.postprocess_masks` holds 48 MB a mask at 12 megapixels. On a CPU a mask is computed inside its own box, in strips
of columns that a cache holds. A GPU does whole photos in less time than it takes to be asked about one mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional

from gem_label.sam.upsample import ResizeMatrix, interpolate, reached

_STRIP_PIXELS = 1 << 20  # logits of one strip: 4 MiB of float32, which a CPU cache holds
_PIXELS_TOGETHER = 1 << 27  # on a GPU: 512 MiB of float32


@dataclass(frozen=True)
class MaskRuns:
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


@dataclass(frozen=True)
class Frame:
    """Where logits lie in the photo, and what of them is a mask.

    Attributes:
        rows: from the logits' rows to the crop's height in pixels.
        columns: from their columns to its width.
        top_left: y0, x0 of the crop in the photo.
        height: of the photo in pixels.
        cutoff: logit above which a pixel belongs to the mask.
        offset: distance of the higher and the lower cutoff for stability, at least 0.
    """

    rows: ResizeMatrix
    columns: ResizeMatrix
    top_left: tuple[int, int]
    height: int
    cutoff: float
    offset: float


def iter_mask_runs(logits: Tensor, frame: Frame) -> Iterator[MaskRuns]:
    """The masks `logits > cutoff` after resizing, placed into the photo.

    Args:
        logits: (N, h, w), all that the frame's rows and columns read.
        frame: where they lie.

    Yields:
        The runs of N masks.
    """
    if logits.device.type == "cpu":
        return (find_mask_runs(each, frame) for each in logits)
    return iter_mask_runs_together(logits, frame)


def find_mask_runs(logits: Tensor, frame: Frame) -> MaskRuns:
    """One mask, computed inside its own box, on a CPU.

    Args:
        logits: (h, w) on the CPU, all that the frame's rows and columns read.
        frame: where they lie.
    """
    passed = logits > frame.cutoff - frame.offset
    window_y, window_x = (
        reached(axis, passed.any(dim).numpy()) for axis, dim in ((frame.rows, 1), (frame.columns, 0))
    )
    inner = outer = 0
    strips = []
    for strip in _strips(window_y, window_x):
        values = interpolate(logits, frame.rows, frame.columns, window_y, strip)
        inner += int(torch.count_nonzero(values > frame.cutoff + frame.offset))
        outer += int(torch.count_nonzero(values > frame.cutoff - frame.offset))
        x, y = _turns((values > frame.cutoff).numpy())
        strips.append((x + strip.start, y + window_y.start))
    x, y = (np.concatenate([np.zeros(0, np.int64), *(strip[axis] for strip in strips)]) for axis in (0, 1))
    return _placed(x, y, frame, inner, outer)


def iter_mask_runs_together(logits: Tensor, frame: Frame) -> Iterator[MaskRuns]:
    """Many masks at a time over the whole crop, so that the host waits for the device once for all of them.

    Args:
        logits: (N, h, w), all that the frame's rows and columns read.
        frame: where they lie.

    Yields:
        The runs of N masks.
    """
    rows, columns = (
        axis.weights[:, :read]
        for axis, read in zip((frame.rows, frame.columns), logits.shape[1:], strict=True)
    )
    for part in logits.split(max(1, _PIXELS_TOGETHER // (len(rows) * len(columns)))):
        values = columns @ part.mT @ rows.T
        inner, outer = ((values > frame.cutoff + sign * frame.offset).sum((1, 2)) for sign in (1, -1))
        mask = functional.pad(values > frame.cutoff, (1, 1))
        turns = (mask[..., 1:] != mask[..., :-1]).nonzero().cpu().numpy()
        first = np.searchsorted(turns[:, 0], np.arange(len(part) + 1))
        for index, stability in enumerate(torch.stack([inner, outer], dim=1).cpu().tolist()):
            x, y = turns[first[index] : first[index + 1], 1:].T
            yield _placed(x, y, frame, *stability)


def encode_runs(positions: NDArray[np.int64], height: int, width: int) -> bytes:
    """Compressed COCO run lengths of the mask that turns on and off at `positions` (see `MaskRuns`)."""
    edges = np.concatenate([[0], positions, [height * width]])
    runs = np.diff(edges)
    if len(runs) > 1 and runs[-1] == 0:  # the mask holds the photo's last pixel: nothing follows it
        runs = runs[:-1]
    return coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)["counts"]


def _placed(x: NDArray[np.int64], y: NDArray[np.int64], frame: Frame, inner: int, outer: int) -> MaskRuns:
    """A mask from the columns and rows of the crop where it turns on and off, see `_turns`."""
    stability = inner / outer if outer else 0.0
    if not len(x):
        return MaskRuns(x, (0, 0, 0, 0), stability)
    top, left = frame.top_left
    box = (int(x[0]) + left, int(y.min()) + top, int(x[-1]) + left, int(y.max()) + top - 1)
    return MaskRuns(_join_columns((x + left) * frame.height + y + top), box, stability)


def _strips(window_y: slice, window_x: slice) -> Iterator[slice]:
    height = window_y.stop - window_y.start
    step = max(1, _STRIP_PIXELS // max(1, height))
    for start in range(window_x.start, window_x.stop if height else window_x.start, step):
        yield slice(start, min(start + step, window_x.stop))


def _turns(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns and rows where the mask, (columns, rows), turns on or off going down; row h ends the last pixel."""
    edges = np.zeros((mask.shape[0], mask.shape[1] + 1), np.bool_)
    edges[:, 0] = mask[:, 0]
    np.not_equal(mask[:, 1:], mask[:, :-1], out=edges[:, 1:-1])
    edges[:, -1] = mask[:, -1]
    # a sixth of the time that NumPy takes to find the entries of a matrix
    x, y = np.divmod(np.flatnonzero(edges), edges.shape[1])
    return x, y


def _join_columns(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Without the ends at a column's foot where the mask continues at the next column's head."""
    same = np.zeros(len(positions), np.bool_)
    same[1:] = positions[1:] == positions[:-1]
    same[:-1] |= same[1:]
    return positions[~same]
