"""How good labels are: counts, precision with an interval, and the decisions that a wanted precision takes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError
from gem_label.labeling.labels import MaskLabels
from gem_label.learning.judging import RIGHT, UNKNOWN, WRONG
from gem_label.learning.training import ReviewedPhoto, judge_photos, thing_classes
from gem_label.metrics.labels.curves import Counts, ThresholdPoint, curve

CONFIDENCE = 0.95
LEAST_THINGS = 50
"""Things that a threshold is chosen on; on fewer it does harm (docs/learning.md)."""


def count_labels(photos: Sequence[ReviewedPhoto], labels: MaskLabels) -> Counts:
    """Count the kept labels of reviewed photos: right ones, each thing once, wrong ones, and things that none finds.

    Labels and things that nothing is known about do not count.

    Args:
        photos: with M masks.
        labels: of all masks.
    """
    judged = judge_photos(photos, labels)
    classes = thing_classes(photos, labels.classes)
    right = labels.kept & (judged.verdict == RIGHT)
    found = np.unique(judged.thing[right & (judged.thing >= 0)])
    things = int((classes >= 0).sum())
    hits = len(np.intersect1d(found, np.flatnonzero(classes >= 0)))
    wrong = int((labels.kept & (judged.verdict == WRONG)).sum()) + int(right.sum()) - hits
    return Counts(hits, wrong, things - hits)


def best_threshold(photos: Sequence[ReviewedPhoto], labels: MaskLabels) -> ThresholdPoint | None:
    """The threshold with the best F1 in reviewed photos; None where they have too few things to tell.

    Args:
        photos: with M masks, reviewed in full: what nobody decided about counts neither as right nor as missed.
        labels: of all masks, by what the other photos taught (`Lesson.after`).
    """
    things = int((thing_classes(photos, labels.classes) >= 0).sum())
    if things < LEAST_THINGS:
        return None
    judged = judge_photos(photos, labels)
    rows = np.flatnonzero(labels.selected & (judged.verdict != UNKNOWN))
    rows = rows[np.argsort(-labels.score[rows], kind="stable")]
    right = judged.verdict[rows] == RIGHT
    # of several labels on a thing only the first is right
    _, first = np.unique(np.where(right, judged.thing[rows], -1), return_index=True)
    right &= np.isin(np.arange(len(rows)), first)
    return curve(labels.score[rows].astype(np.float64), right, things).best_f1() if right.any() else None


@dataclass(frozen=True)
class PrecisionEstimate:
    """The share of right labels, from decisions about a random part of them.

    Attributes:
        precision: right decisions / decisions; None without decisions.
        low, high: interval that holds the precision of all labels with `CONFIDENCE`.
        decisions: how many.
        labels: how many labels there are.
    """

    precision: float | None
    low: float
    high: float
    decisions: int
    labels: int


def estimate_precision(right: int, decisions: int, labels: int) -> PrecisionEstimate:
    """The precision of labels of which a random part was decided about.

    The interval is exact for a draw without replacement: all numbers of right labels for which a draw like this one,
    or one further off on either side, has a probability of at least (1 - CONFIDENCE) / 2.

    Args:
        right: decisions that found the label right.
        decisions: about labels that were drawn at random.
        labels: how many there are, the decided ones included.

    Raises:
        UsageError: numbers that do not go together.
    """
    if not 0 <= right <= decisions <= labels:
        raise UsageError(f"{right} right of {decisions} decisions about {labels} labels make no sense")
    if not decisions:
        return PrecisionEstimate(None, 0.0, 1.0, 0, labels)
    least, most = _right_labels(right, decisions, labels)
    return PrecisionEstimate(right / decisions, least / labels, most / labels, decisions, labels)


def _right_labels(right: int, decisions: int, labels: int) -> tuple[int, int]:
    """The fewest and the most right labels of which so many right ones could well be drawn."""
    from scipy.stats import hypergeom

    tail = (1 - CONFIDENCE) / 2
    lowest, highest = right, labels - (decisions - right)
    # P(at least `right` are drawn) grows with how many there are, P(at most `right`) falls
    least = bisect_left(
        range(lowest, highest), tail, key=lambda count: hypergeom.sf(right - 1, labels, count, decisions)
    )
    most = bisect_left(
        range(lowest + 1, highest + 1),
        -tail,
        key=lambda count: -hypergeom.cdf(right, labels, count, decisions),
    )
    return lowest + least, lowest + most


def decisions_for_precision(
    probability: NDArray[np.floating], accepted: int, wanted: float, precision: float | None = None
) -> int | None:
    """How many more decisions bring a wanted precision, the least sure labels first.

    A decision about a wrong label takes it away. So the expected precision is that of accepted labels and of the
    undecided ones that are left.

    Args:
        probability: (U,) that each undecided label is right, in [0, 1].
        accepted: labels that were accepted already.
        wanted: in [0, 1].
        precision: of the undecided labels, as an estimate from random decisions says; probabilities are shifted so
            that their mean is this. None: they are taken as they are.

    Returns:
        None where even deciding about all labels is not enough, as there is none to begin with.
    """
    p = np.sort(np.asarray(probability, np.float64))
    if precision is not None and len(p):
        p = shifted_to_mean(p, precision)
    if not len(p) and not accepted:
        return None
    right = p.sum()
    # after k decisions: right ones of these k stay, wrong ones go
    decided = np.concatenate([[0.0], np.cumsum(p)])
    left = len(p) - np.arange(len(p) + 1)
    total = accepted + decided + left
    reached = (accepted + right) / np.maximum(total, 1e-12) >= wanted - 1e-12
    return int(np.argmax(reached)) if reached.any() else None


def shifted_to_mean(probability: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """The same probabilities with a common shift of their log-odds, so that their mean is `mean`."""
    bounded = np.clip(probability, 1e-9, 1 - 1e-9)
    odds, low, high = np.log(bounded / (1 - bounded)), -40.0, 40.0
    for _ in range(80):
        middle = (low + high) / 2
        if (1 / (1 + np.exp(-(odds + middle)))).mean() < mean:
            low = middle
        else:
            high = middle
    shifted: NDArray[np.float64] = 1 / (1 + np.exp(-(odds + high)))
    return shifted
