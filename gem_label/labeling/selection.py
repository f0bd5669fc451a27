"""Each thing once: which of the overlapping masks of a photo stay (numpy only).

SAM proposes a thing, its parts, their parts, and groups of things. Selection is greedy: masks are taken best score
first, and a mask goes when it repeats one that was taken before. Whether a mask stays therefore depends on better
masks alone, so that the masks kept at a threshold are the selected ones that reach it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gem_label.checks import SHARE, check_numbers
from gem_label.masks import Overlaps
from gem_label.overlaps import STEPS


@dataclass(frozen=True)
class SelectionRule:
    """When a mask repeats a better one; all are shares in [0, 1].

    Attributes:
        duplicate: IoU from which two masks are of one thing, whatever their classes.
        part: share of a mask inside a better one of its class from which it is a part of it.
        whole: share of a better mask of its class inside a mask from which it is a group or a loose outline.
        inside: share of a mask inside a better one of another class from which it is a part of that thing, unless
            its score is at least `own` of the better one's (a bottle on a person stays).
        own: see `inside`.
    """

    duplicate: float = 0.5
    part: float = 0.5
    whole: float = 0.5
    inside: float = 0.6
    own: float = 0.7

    def __post_init__(self) -> None:
        check_numbers(self, dict.fromkeys(("duplicate", "part", "whole", "inside", "own"), SHARE))


def select_masks(
    scores: NDArray[np.float32],
    classes: NDArray[np.integer],
    areas: NDArray[np.integer],
    overlaps: Overlaps,
    rule: SelectionRule | None = None,
) -> NDArray[np.bool_]:
    """The masks that stay when every thing is labeled once.

    Masks may be of several photos, as long as pairs are of one photo each. Of equal scores the larger mask is the
    better one, then the one with the lower index.

    Args:
        scores: (N,) in [0, 1].
        classes: (N,) index of each mask's class; a mask of class -1 neither stays nor makes another go.
        areas: (N,) pixels.
        overlaps: the pairs that overlap.
        rule: thresholds; None: the defaults.

    Returns:
        (N,) bool.
    """
    better, worse = repeated_pairs(scores, classes, areas, overlaps, rule or SelectionRule())
    stays, goes = np.zeros(len(scores), bool), np.asarray(classes) < 0
    # Greedy selection in rounds instead of mask by mask: in each, every mask is taken that no undecided one can
    # still make go. A chain of nested masks is a few long, and so are the rounds.
    while True:
        open_pairs = ~goes[better] & ~stays[worse] & ~goes[worse]
        better, worse = better[open_pairs], worse[open_pairs]
        if not len(worse):
            break
        waits = np.zeros(len(scores), bool)
        waits[worse] = True
        stays |= ~waits & ~goes
        goes[worse[stays[better]]] = True
    return stays | ~goes


def repeated_pairs(
    scores: NDArray[np.float32],
    classes: NDArray[np.integer],
    areas: NDArray[np.integer],
    overlaps: Overlaps,
    rule: SelectionRule,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of which the worse mask goes when the better one stays; arguments as for `select_masks`.

    Returns:
        (K,) indices of the better masks and (K,) of the worse ones.
    """
    first, second = overlaps.first.astype(np.int64), overlaps.second.astype(np.int64)
    named = (classes[first] >= 0) & (classes[second] >= 0)
    first, second, share = first[named], second[named], overlaps.share[named].astype(np.float64) / STEPS
    by_score = scores[second] - scores[first]
    second_is_better = (by_score > 0) | ((by_score == 0) & (areas[second] > areas[first]))
    better = np.where(second_is_better, second, first)
    worse = np.where(second_is_better, first, second)
    common = share * np.minimum(areas[first], areas[second])
    worse_inside, better_inside = common / areas[worse], common / areas[better]
    iou = common / (areas[first] + areas[second] - common)
    same = classes[better] == classes[worse]
    strong = scores[worse] >= rule.own * scores[better]
    repeats = (iou >= rule.duplicate) | np.where(
        same,
        (worse_inside >= rule.part) | (better_inside >= rule.whole),
        (worse_inside >= rule.inside) & ~strong,
    )
    return better[repeats], worse[repeats]
