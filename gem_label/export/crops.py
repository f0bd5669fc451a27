"""One mask of a `MaskSet` decoded inside its own box: what a large photo's many small masks need (pure numpy)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def run_lengths(counts: bytes) -> NDArray[np.int64]:
    """The run lengths of a compressed COCO encoding, alternately of zeros and ones, column by column.

    Each length is written in digits of five bits, least significant first, plus a bit that says that more
    follow and 48 to make it text; from the fourth on, as the signed difference to the length two before.
    """
    digits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    last = (digits & 0x20) == 0
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)[: len(ends)]
    if len(ends) == 0:
        return np.zeros(0, np.int64)
    place = np.arange(len(digits)) - np.repeat(starts, ends - starts + 1)
    lengths = np.add.reduceat((digits & 0x1F) << (5 * place), starts)
    negative = (digits[ends] & 0x10) != 0
    lengths -= np.where(negative, np.int64(1) << (5 * (ends - starts + 1)), 0)
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return lengths


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
    edges = np.cumsum(run_lengths(counts)) - x * height
    lengths = np.diff(edges.clip(0, box_width * height), prepend=0)
    values = np.arange(len(lengths)) % 2 == 1
    columns = np.repeat(values, lengths).reshape(box_width, height)[:, y : y + box_height]
    return np.ascontiguousarray(columns.T)
