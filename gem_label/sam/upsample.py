"""SAM's low-resolution logits as masks of the photo, computed only where they can be positive.

`Sam.postprocess_masks` upsamples every mask to the whole photo, 48 MB a mask at 12 megapixels. Bilinear
interpolation never exceeds the values it lies between, so outside the rows and columns whose logits pass the
cutoff there is nothing to compute; large masks are computed in strips of columns, the order of COCO run
lengths. All functions are pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

_STRIP_PIXELS = 1 << 20  # logits of one strip: 4 MiB of float32, which a CPU cache holds


@dataclass(frozen=True)
class Taps:
    """Where bilinear interpolation along one axis reads: out = (1 - weight) * in[low] + weight * in[high].

    Attributes:
        low: (n,) int64 source index.
        high: (n,) int64 source index, low or low + 1.
        weight: (n,) float32 in [0, 1].
    """

    low: Tensor
    high: Tensor
    weight: Tensor

    def __getitem__(self, where: slice) -> Taps:
        return Taps(self.low[where], self.high[where], self.weight[where])


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


def axis_taps(source: int, target: int, device: torch.device | str = "cpu") -> Taps:
    """Taps that resize an axis of `source` samples to `target`, as `F.interpolate(mode="bilinear")` does.

    In float32 like PyTorch's kernels, so that the weights are the same to the last bit.
    """
    scale = torch.tensor(source, dtype=torch.float32) / target
    place = ((torch.arange(target, dtype=torch.float32) + 0.5) * scale - 0.5).clamp(min=0)
    low = place.long().clamp(max=source - 1)
    weight = (place - low).clamp(0, 1)
    return Taps(low.to(device), (low + 1).clamp(max=source - 1).to(device), weight.to(device))


def reached(taps: Taps, occupied: Tensor) -> slice:
    """The smallest range of target samples that holds every one reading an occupied source sample.

    Args:
        taps: of one axis.
        occupied: (source,) bool.
    """
    hit = (occupied[taps.low] | occupied[taps.high]).nonzero()
    return slice(int(hit[0]), int(hit[-1]) + 1) if len(hit) else slice(0, 0)


def interpolate(logits: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Bilinear interpolation of (h, w) logits at the given rows and columns: (rows, columns)."""
    first, last = int(rows.low[0]), int(rows.high[-1]) + 1
    band = logits[first:last]
    # index_select: the same as indexing, several times as fast
    left, right = band.index_select(1, columns.low), band.index_select(1, columns.high)
    band = torch.lerp(left, right, columns.weight)
    upper, lower = band.index_select(0, rows.low - first), band.index_select(0, rows.high - first)
    return torch.lerp(upper, lower, rows.weight[:, None])


def outline(
    logits: Tensor,
    rows: Taps,
    columns: Taps,
    top_left: tuple[int, int],
    height: int,
    cutoff: float,
    offset: float,
) -> Outline:
    """The mask `logits > cutoff` after resizing, placed into the photo.

    Args:
        logits: (h, w) of the crop, without padding.
        rows: taps from h to the crop's height in pixels.
        columns: taps from w to the crop's width in pixels.
        top_left: y0, x0 of the crop in the photo.
        height: of the photo in pixels.
        cutoff: logit above which a pixel belongs to the mask.
        offset: distance of the higher and the lower cutoff for stability, at least 0.
    """
    passed = logits > cutoff - offset
    window_y, window_x = reached(rows, passed.any(1)), reached(columns, passed.any(0))
    inner = outer = 0
    strips = []
    for strip in _strips(window_y, window_x):
        values = interpolate(logits, rows[window_y], columns[strip])
        inner += int(torch.count_nonzero(values > cutoff + offset))
        outer += int(torch.count_nonzero(values > cutoff - offset))
        y, x = _turns((values > cutoff).cpu().numpy())
        strips.append((y + window_y.start + top_left[0], x + strip.start + top_left[1]))
    stability = inner / outer if outer else 0.0
    y = np.concatenate([strip[0] for strip in strips]) if strips else np.zeros(0, np.int64)
    if not len(y):
        return Outline(y, (0, 0, 0, 0), stability)
    x = np.concatenate([strip[1] for strip in strips])
    box = (int(x.min()), int(y.min()), int(x.max()), int(y.max()) - 1)
    return Outline(_join_columns(np.sort(x * height + y)), box, stability)


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


def _turns(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns where the mask turns on or off going down; row h is the end below the last pixel."""
    edges = np.zeros((mask.shape[0] + 1, mask.shape[1]), np.bool_)
    edges[0] = mask[0]
    np.not_equal(mask[1:], mask[:-1], out=edges[1:-1])
    edges[-1] = mask[-1]
    y, x = np.nonzero(edges)
    return y, x


def _join_columns(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Without the ends at a column's foot where the mask goes on at the next column's head."""
    same = np.zeros(len(positions), np.bool_)
    same[1:] = positions[1:] == positions[:-1]
    same[:-1] |= same[1:]
    return positions[~same]
