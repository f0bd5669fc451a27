"""Masks as FiftyOne keeps them in its database, from run lengths, many at a time.

FiftyOne's own way (decode the photo-sized mask, crop, `np.save`, zlib) costs several times as much. The bytes are of
the same kind: a zlib stream of a `.npy` file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

PIXELS_AT_ONCE = 1 << 22
"""How many pixels of boxes are decoded together."""


def serialize_crop(crop: NDArray[np.bool_]) -> bytes:
    """What `fiftyone.core.utils.serialize_numpy_array` gives, up to the compressor's choices.

    Args:
        crop: (height, width) booleans, row-major.
    """
    shape = f"{{'descr': '|b1', 'fortran_order': False, 'shape': {crop.shape}, }}"
    length = -(-(10 + len(shape) + 1) // 64) * 64 - 10
    header = b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + shape.ljust(length - 1).encode() + b"\n"
    # runs are all there is to find in a mask: this strategy is four times as fast as the default, and as small
    compressor = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 8, zlib.Z_RLE)
    return compressor.compress(header + crop.tobytes()) + compressor.flush()


def crop_masks(
    counts: Sequence[bytes], heights: NDArray[np.int64], boxes: NDArray[np.int64]
) -> Iterator[NDArray[np.bool_]]:
    """Masks inside their tight boxes, for the masks of many photos.

    Args:
        counts: N compressed COCO run lengths, none of an empty mask.
        heights: (N,) of each mask's photo in pixels.
        boxes: (N, 4) x, y, width, height in pixels, each the tight box of its mask.

    Yields:
        N arrays (box height, box width), row-major.
    """
    sizes = boxes[:, 2] * boxes[:, 3]
    start = 0
    while start < len(counts):
        taken = int(np.searchsorted(np.cumsum(sizes[start:]), PIXELS_AT_ONCE, side="right"))
        some = slice(start, start + max(1, taken))
        yield from _crop_some(counts[some], heights[some], boxes[some])
        start = some.stop


def _crop_some(
    counts: Sequence[bytes], heights: NDArray[np.int64], boxes: NDArray[np.int64]
) -> Iterator[NDArray[np.bool_]]:
    lengths, owner, place = run_lengths(counts)
    set_ = (place % 2 == 1) & (lengths > 0)
    owner, lengths, stop = owner[set_], lengths[set_], _sums_by_owner(lengths, owner)[set_]
    # pixels that are set lie in the box; a run goes on in the next column only where the box has all rows
    x, y, width, height = boxes.T
    offsets = np.cumsum(width * height) - width * height

    def place_in_box(pixel: NDArray[np.int64]) -> NDArray[np.int64]:
        column, row = np.divmod(pixel, heights[owner])
        return (column - x[owner]) * height[owner] + row - y[owner] + offsets[owner]

    edges = np.stack([place_in_box(stop - lengths), place_in_box(stop - 1) + 1], axis=1).ravel()
    runs = np.diff(np.concatenate([[0], edges, [int((width * height).sum())]]))
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    for offset, box_width, box_height in zip(offsets.tolist(), width.tolist(), height.tolist(), strict=True):
        part = columns[offset : offset + box_width * box_height]
        yield np.ascontiguousarray(part.reshape(box_width, box_height).T)


def run_lengths(counts: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The run lengths of several compressed COCO encodings (see `gem_label.export.crops.run_lengths`).

    Returns:
        (R,) lengths, (R,) which encoding each belongs to, and (R,) its place there; even places are runs of zeros.
    """
    digits = np.frombuffer(b"".join(counts), np.uint8).astype(np.int64) - 48
    last = (digits & 0x20) == 0
    stops = np.flatnonzero(last)
    starts = np.concatenate([[0], stops[:-1] + 1])
    digit = np.arange(len(digits)) - np.repeat(starts, stops - starts + 1)
    lengths = np.add.reduceat((digits & 0x1F) << (5 * digit), starts)
    lengths -= np.where(digits[stops] & 0x10, np.int64(1) << (5 * (stops - starts + 1)), 0)
    begins = np.cumsum([0, *map(len, counts[:-1])])
    owner = np.searchsorted(begins, starts, side="right") - 1
    place = np.arange(len(lengths)) - np.searchsorted(owner, np.arange(len(counts)))[owner]
    for parity in (0, 1):  # from the fourth on, a length is written as the difference to the one two before
        chosen = (place % 2 == parity) & (place > 0)
        lengths[chosen] = _sums_by_owner(lengths[chosen], owner[chosen])
    return lengths, owner, place


def _sums_by_owner(values: NDArray[np.int64], owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cumulative sums that begin anew with each owner; owners ascend."""
    if len(values) == 0:
        return values
    sums = np.cumsum(values)
    first = np.flatnonzero(np.diff(owner, prepend=owner[0] - 1))
    before = sums[first] - values[first]
    return sums - np.repeat(before, np.diff(first, append=len(values)))
