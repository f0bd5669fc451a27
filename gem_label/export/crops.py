"""Masks decoded inside their own boxes: what a large photo's many small masks need (pure numpy)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gem_label.rle import run_lengths


def crop_mask(counts: bytes, height: int, box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """The part of a mask inside a box, without decoding the whole photo.

    Args:
        counts: compressed COCO run lengths of a mask of a photo.
        height: the photo's height in pixels.
        box: x, y, width, height in pixels, inside the photo.

    Returns:
        (box height, box width) booleans, row-major: FiftyOne's App refuses column-major arrays.
    """
    x, y, box_width, box_height = box
    lengths, _ = run_lengths([counts])
    edges = np.cumsum(lengths) - x * height
    lengths = np.diff(edges.clip(0, box_width * height), prepend=0)
    values = np.arange(len(lengths)) % 2 == 1
    columns = np.repeat(values, lengths).reshape(box_width, height)[:, y : y + box_height]
    return np.ascontiguousarray(columns.T)
