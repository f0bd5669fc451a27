"""COCO's compressed run lengths: read for many masks at once, and masks inside their own boxes without the photo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""


def run_lengths(counts: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The run lengths of compressed COCO encodings, alternately of zeros and ones, column by column.

    Each length is written in digits of five bits, least significant first, plus a bit that says that more
    follow and 48 to make it text; from the fourth on, as the signed difference to the length two before.

    Args:
        counts: N encodings; an empty one has no lengths.

    Returns:
        (R,) lengths, one encoding after the other, each beginning with a run of zeros; (N,) how many each has.
    """
    digits = np.frombuffer(b"".join(counts), np.uint8) - np.uint8(48)
    stops = np.flatnonzero(digits < 32)
    if not len(stops):
        return np.zeros(0, np.int64), np.zeros(len(counts), np.int64)
    starts = np.empty_like(stops)
    starts[0], starts[1:] = 0, stops[:-1] + 1
    more = stops - starts
    low = (digits & 31).astype(np.int64)
    lengths = low[starts]
    long = np.flatnonzero(digits[starts] >= 32)
    for place in range(1, int(more.max()) + 1):
        lengths[long] |= low[starts[long] + place] << (5 * place)
        long = long[more[long] > place]
    # the highest bit of the last digit is the sign
    lengths -= (low[stops] & 16) << (5 * more + 1)
    letters = np.cumsum([len(each) for each in counts])
    terms = np.diff(np.searchsorted(stops, letters), prepend=0)
    firsts = np.cumsum(terms) - terms
    for parity in (1, 2):
        each = np.maximum(terms - parity + 1, 0) // 2
        chosen = every_second(firsts + parity, each)
        sums = np.cumsum(lengths[chosen])
        heads = (np.cumsum(each) - each)[each > 0]
        sums -= np.repeat(sums[heads] - lengths[chosen[heads]], each[each > 0])
        lengths[chosen] = sums
    return lengths, terms


def every_second(first: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """first[0], first[0] + 2, ... of which there are count[0], then the same for first[1], and so on."""
    before = np.cumsum(count) - count
    return 2 * np.arange(count.sum()) + np.repeat(first - 2 * before, count)


def crop_mask(counts: bytes, height: int, box: Box) -> NDArray[np.bool_]:
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


def encode_crop(crop: NDArray[np.bool_], box: Box, height: int, width: int) -> dict[str, Any]:
    """Compressed COCO run lengths of a mask that is known inside a box, without making the whole photo.

    Args:
        crop: (box height, box width) booleans.
        box: x, y, width, height in pixels.
        height: of the photo.
        width: of the photo.

    Returns:
        {"size": [height, width], "counts": bytes}.
    """
    x, y, box_width, box_height = box
    columns = np.zeros((box_width, height), bool)  # column-major, as the run lengths go
    columns[:, y : y + box_height] = crop.T
    flat = np.r_[False, columns.ravel(), False]
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + x * height
    counts = np.diff(np.r_[0, edges, height * width]).tolist()
    if counts[-1] == 0:
        del counts[-1]
    return coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
