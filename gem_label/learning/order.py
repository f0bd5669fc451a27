"""What to review next: masks that would teach most, of many photos and classes, and a random part of all."""

from __future__ import annotations

from collections.abc import Container
from heapq import heapify, heappop, heappush, heapreplace

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError

RANDOM_PART = 0.2
"""Share of the queue that is drawn at random, so that estimates of the precision stay honest."""

_LEAST_WORTH = 1e-6  # labels that are surer than this are equally sure


def review_order(
    probability: NDArray[np.floating],
    classes: NDArray[np.integer],
    photos: NDArray[np.integer],
    limit: int,
    keys: NDArray[np.generic],
    decided: NDArray[np.bool_] | None = None,
    random_part: float = RANDOM_PART,
) -> NDArray[np.int64]:
    """Order undecided labels for review.

    Every mask is worth 4 p (1 - p), the uncertainty of its label, halved for every mask of its photo and for every
    mask of its class that comes before it or is decided. Every fifth mask (`random_part`) is the next one of a random
    order instead. So the first masks of that order are decided before long, and say how good the labels are
    (`sampling.random_sample`). After decisions about the first masks, the queue continues as it would have.

    Args:
        probability: (M,) that each label is right, in [0, 1].
        classes: (M,) index of each label's class.
        photos: (M,) number of each mask's photo.
        limit: at most so many.
        keys: (M,) numbers, the smallest of which is the first of the random order.
        decided: (M,) bool, masks that are not listed and count as masks of their photo and class; None: none is.
        random_part: share of masks that the random order gives, in [0, 1].

    Returns:
        (L,) indices of undecided masks, the first to review first.

    Raises:
        UsageError: a share that is none.
    """
    if not 0 <= random_part <= 1:
        raise UsageError(f"random_part must be between 0 and 1, not {random_part:g}")
    decided = np.zeros(len(probability), bool) if decided is None else decided
    rows = np.flatnonzero(~decided)
    p = np.asarray(probability, np.float64)
    worth = np.log2(np.maximum(4 * p * (1 - p), _LEAST_WORTH))
    varied = _Varied(worth, classes, photos, decided)
    drawn = iter(rows[np.argsort(keys[rows], kind="stable")[:limit]].tolist())
    order: dict[int, None] = {}
    for place in range(len(p) - len(rows), len(p) - len(rows) + min(limit, len(rows))):
        # the random places are at even distances, the first of them in the middle of its distance
        is_random = int((place + 1) * random_part + 0.5) > int(place * random_part + 0.5)
        mask = next(each for each in drawn if each not in order) if is_random else varied.best(order)
        order[mask] = None
        varied.count(mask)
    return np.fromiter(order, np.int64, len(order))


class _Varied:
    """Undecided masks by worth, whose logarithm falls by one with every mask of the same photo and the same class."""

    def __init__(
        self,
        worth: NDArray[np.float64],
        classes: NDArray[np.integer],
        photos: NDArray[np.integer],
        decided: NDArray[np.bool_],
    ) -> None:
        self._worth = worth
        names, self._class = np.unique(classes, return_inverse=True)
        numbers, self._photo = np.unique(photos, return_inverse=True)
        self._class_counts = np.bincount(self._class[decided], minlength=len(names)).tolist()
        self._photo_counts = np.bincount(self._photo[decided], minlength=len(numbers)).tolist()
        rows = np.flatnonzero(~decided)
        ranked = rows[np.lexsort((-worth[rows], self._class[rows]))]
        is_first = np.diff(self._class[ranked], prepend=-1) != 0
        self._following = np.full(len(worth), -1)
        self._following[ranked[:-1][~is_first[1:]]] = ranked[1:][~is_first[1:]]
        # of a class, only the masks up to the best one that was not looked at yet are in its heap
        self._heaps = {
            int(self._class[mask]): [(-float(worth[mask]), mask)] for mask in ranked[is_first].tolist()
        }
        self._best = [(heap[0][0] + self._class_counts[name], name) for name, heap in self._heaps.items()]
        heapify(self._best)

    def count(self, mask: int) -> None:
        """Further masks of its photo and class are worth less."""
        self._photo_counts[self._photo[mask]] += 1
        self._class_counts[self._class[mask]] += 1

    def best(self, taken: Container[int]) -> int:
        """The mask that is worth most, of those that are not taken; there must be one."""
        while True:
            bound, name = self._best[0]
            heap = self._heaps[name]
            now = heap[0][0] + self._class_counts[name]
            if now > bound:  # worths only fall: one that is out of date is put back with what it is worth now
                heapreplace(self._best, (now, name))
                continue
            value, mask = heappop(heap)
            follower = int(self._following[mask])
            if follower >= 0:
                heappush(heap, (-float(self._worth[follower]), follower))
                self._following[mask] = -1
            worth = self._photo_counts[self._photo[mask]] - float(self._worth[mask])
            is_best = worth <= value and mask not in taken
            if worth > value:
                heappush(heap, (worth, mask))
            if heap:
                heapreplace(self._best, (heap[0][0] + self._class_counts[name], name))
            else:
                heappop(self._best)
            if is_best:
                return mask
