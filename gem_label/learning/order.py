"""What to review next: masks that would teach most, of many photos and classes, and a random part of all."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError

RANDOM_PART = 0.2
"""Share of the queue that is drawn at random, so that estimates of the precision stay honest."""
REPEAT = 0.5
"""What a further mask of a photo or class counts, of what the one before counted."""


def review_order(
    probability: NDArray[np.floating],
    classes: NDArray[np.integer],
    photos: NDArray[np.integer],
    limit: int,
    random_part: float = RANDOM_PART,
    seed: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Order undecided labels for review.

    Every mask is worth 4 p (1 - p), the uncertainty of its label, halved for every mask of its photo and for every
    mask of its class that comes before it. At even distances, masks stand between these that are drawn from all
    undecided ones with the same chance: decisions about them say how good the labels are.

    Args:
        probability: (M,) that each label is right, in [0, 1].
        classes: (M,) index of each label's class.
        photos: (M,) number of each mask's photo.
        limit: at most so many.
        random_part: share of masks that are drawn at random, in [0, 1].
        seed: of the draw.

    Returns:
        (L,) indices of the masks, the first to review first, and (L,) bool, which of them were drawn at random.

    Raises:
        UsageError: a share that is none.
    """
    if not 0 <= random_part <= 1:
        raise UsageError(f"random_part must be between 0 and 1, not {random_part:g}")
    count = len(probability)
    length = min(limit, count)
    drawn = np.random.default_rng(seed).permutation(count)[: round(length * random_part)]
    is_drawn = np.zeros(count, bool)
    is_drawn[drawn] = True
    worth = 4 * np.asarray(probability, np.float64) * (1 - np.asarray(probability, np.float64))
    rest = np.flatnonzero(~is_drawn)
    chosen = rest[_varied(worth[rest], classes[rest], photos[rest], length - len(drawn))]
    order = np.concatenate([chosen, drawn])
    # the i-th of n masks stands at (i + 1/2) / n of the way, so that both kinds are spread evenly
    places = np.concatenate([(np.arange(len(part)) + 0.5) / max(len(part), 1) for part in (chosen, drawn)])
    order = order[np.argsort(places, kind="stable")]
    return order.astype(np.int64), is_drawn[order]


def _varied(
    worth: NDArray[np.float64], classes: NDArray[np.integer], photos: NDArray[np.integer], limit: int
) -> NDArray[np.int64]:
    """Greedy order by worth, which falls with every mask of the same photo and of the same class."""
    taken_photos: dict[int, int] = {}
    taken_classes: dict[int, int] = {}
    heap = [(-value, index) for index, value in enumerate(worth.tolist())]
    heapify(heap)
    order: list[int] = []
    while heap and len(order) < limit:
        value, index = heappop(heap)
        photo, name = int(photos[index]), int(classes[index])
        # worths only fall: one that is out of date is put back with what it is worth now
        repeats = taken_photos.get(photo, 0) + taken_classes.get(name, 0)
        now = -float(worth[index]) * REPEAT**repeats
        if now > value + 1e-15:
            heappush(heap, (now, index))
            continue
        order.append(index)
        taken_photos[photo] = taken_photos.get(photo, 0) + 1
        taken_classes[name] = taken_classes.get(name, 0) + 1
    return np.array(order, np.int64)
