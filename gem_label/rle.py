"""COCO's compressed run lengths, read for many masks at once (pure numpy)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


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
    for place in range(1, int(more.max()) + 1):
        long = np.flatnonzero(more >= place)
        lengths[long] |= low[starts[long] + place] << (5 * place)
    negative = np.flatnonzero(digits[stops] & 16)
    lengths[negative] -= np.int64(32) << (5 * more[negative])
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
