"""A random order of masks that stays the same while masks are decided, and the random sample that decisions leave."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 10
"""A sample grows by this many masks at a time."""


def random_keys(ids: NDArray[np.bytes_], seed: int = 0) -> NDArray[np.uint64]:
    """Pseudo-random numbers that depend on the ids and the seed alone.

    The order of these numbers is a random order of the masks. It does not change when other masks come or go, and the
    order of a part of the masks is a random order of that part.

    Args:
        ids: (N,) ids of 12 bytes.
        seed: another seed gives another order.

    Returns:
        (N,) numbers, different for different ids up to chance.
    """
    words = np.ascontiguousarray(ids.astype("S12")).view("<u4").reshape(-1, 3).astype(np.uint64)
    keys = np.full(len(words), seed, np.uint64)
    for column in words.T:
        keys = _mix(keys ^ column)
    return keys


def _mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64: every bit of the result depends on every bit of a number."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def random_sample(keys: NDArray[np.uint64], decided: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The masks of which all are decided that a random draw begins with, in whatever order they were decided.

    Masks that were chosen because they are unsure are wrong more often than others. So decisions tell about all masks
    only where they cover the first masks of a random order without a gap. Whole blocks count: a run of decided masks
    that happens to follow would make the sample prefer masks that were chosen.

    Args:
        keys: (N,) of all masks, as `random_keys` gives them.
        decided: (N,) bool.

    Returns:
        (n,) indices, where n is a multiple of `BLOCK`, or N when all masks are decided.
    """
    order = np.argsort(keys, kind="stable")
    gaps = np.flatnonzero(~decided[order])
    if not len(gaps):
        return order
    return order[: gaps[0] // BLOCK * BLOCK]
