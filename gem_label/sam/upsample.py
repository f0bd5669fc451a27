"""SAM's low-resolution logits at the photo's size, computed only where they are asked for.

`Sam.postprocess_masks` resizes every mask twice, to the model's input and from there to the photo. Along one axis
both are one narrow matrix. Bilinear interpolation never exceeds the values it lies between, so outside the rows and
columns whose logits pass a cutoff there is nothing to compute. All functions are pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_SAMPLES_AT_ONCE = 64  # along an axis: few enough that they read a narrow band of the logits


@dataclass(frozen=True)
class ResizeMatrix:
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


def resize_matrix(
    source: int, steps: Sequence[tuple[int, int]], device: torch.device | str = "cpu"
) -> ResizeMatrix:
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
    return ResizeMatrix(weights[0].T.contiguous().to(device), first.numpy(), last.numpy())


def reached(axis: ResizeMatrix, occupied: NDArray[np.bool_]) -> slice:
    """The smallest range of target samples that holds every one reading an occupied source sample.

    Args:
        axis: how target samples read source samples.
        occupied: (source,), or shorter when the axis reads no more.
    """
    before = np.concatenate([[0], np.cumsum(occupied)])
    hit = np.flatnonzero(before[axis.last + 1] > before[axis.first])
    return slice(int(hit[0]), int(hit[-1]) + 1) if len(hit) else slice(0, 0)


def interpolate(logits: Tensor, rows: ResizeMatrix, columns: ResizeMatrix, y: slice, x: slice) -> Tensor:
    """A window of the resized logits, column by column: (columns in x, rows in y).

    Args:
        logits: (h, w).
        rows: from h to the target's height.
        columns: from w to the target's width.
        y: rows of the target.
        x: columns of the target.
    """
    return _resized(_resized(logits, columns, x).T, rows, y)


def _resized(values: Tensor, axis: ResizeMatrix, window: slice) -> Tensor:
    """Target samples of an axis in a window, (m, source) -> (m, n): each few of them from the samples they read."""
    result = values.new_empty(len(values), window.stop - window.start)
    for start in range(window.start, window.stop, _SAMPLES_AT_ONCE):
        end = min(start + _SAMPLES_AT_ONCE, window.stop)
        read = slice(int(axis.first[start]), int(axis.last[end - 1]) + 1)
        part = slice(start - window.start, end - window.start)
        torch.mm(values[:, read], axis.weights[start:end, read].T, out=result[:, part])
    return result
