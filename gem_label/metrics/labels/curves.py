"""Precision and recall over all thresholds, thresholds for an aim, average precision, reliability. Pure numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RECALL_STEPS = np.linspace(0.0, 1.0, 101)
"""Recalls at which COCO reads precision."""


@dataclass(frozen=True)
class Counts:
    """Labels and instances counted; ratios are None where nothing is divided.

    Attributes:
        tp: labels that find an instance.
        fp: labels that find none.
        fn: instances that no label finds.
    """

    tp: int
    fp: int
    fn: int

    @property
    def precision(self) -> float | None:
        """TP / (TP + FP)."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """TP / (TP + FN)."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float | None:
        """2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def ratio(part: float, whole: float) -> float | None:
    """part / whole, None where whole is 0."""
    return part / whole if whole else None


@dataclass(frozen=True)
class ThresholdPoint:
    """One threshold and what it gives; shares in [0, 1].

    Attributes:
        threshold: keeps labels with at least this score.
        labels: how many it keeps (ignored ones not counted).
        precision, recall, f1: of these labels; recall and F1 are None where there is no instance.
    """

    threshold: float
    labels: int
    precision: float
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Curve:
    """Counts at each of K distinct scores as the threshold, highest first.

    Attributes:
        thresholds: (K,) descending.
        tp, fp: (K,) labels with at least that score that find an instance, and that find none.
        instances: how many instances there are to find.
    """

    thresholds: NDArray[np.float64]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    instances: int

    @property
    def precision(self) -> NDArray[np.float64]:
        """(K,) in [0, 1]."""
        return self.tp / (self.tp + self.fp)

    @property
    def recall(self) -> NDArray[np.float64]:
        """(K,) in [0, 1]; 0 without instances."""
        return self.tp / max(self.instances, 1)

    @property
    def f1(self) -> NDArray[np.float64]:
        """(K,) in [0, 1]."""
        return 2 * self.tp / (self.tp + self.fp + self.instances)

    def counts_at(self, threshold: float) -> Counts:
        """Counts of the labels with at least this score."""
        k = int(np.searchsorted(-self.thresholds, -threshold, side="right"))
        tp, fp = (int(self.tp[k - 1]), int(self.fp[k - 1])) if k else (0, 0)
        return Counts(tp, fp, self.instances - tp)

    def best_f1(self) -> ThresholdPoint | None:
        """The point of highest F1, the highest threshold among equals; None when no label is right."""
        if not len(self.tp) or not self.tp[-1]:
            return None
        return self._point(int(self.f1.argmax()))

    def lowest_threshold(self, precision: float) -> ThresholdPoint | None:
        """The lowest threshold whose labels have at least this precision, in [0, 1]; None when there is none."""
        reached = np.flatnonzero((self.tp >= precision * (self.tp + self.fp) - 1e-9) & (self.tp > 0))
        return self._point(int(reached[-1])) if len(reached) else None

    def _point(self, k: int) -> ThresholdPoint:
        below = float(self.thresholds[k + 1]) if k + 1 < len(self.thresholds) else -1.0
        counts = Counts(int(self.tp[k]), int(self.fp[k]), self.instances - int(self.tp[k]))
        assert counts.precision is not None
        threshold = short_threshold(float(self.thresholds[k]), below)
        return ThresholdPoint(threshold, counts.tp + counts.fp, counts.precision, counts.recall, counts.f1)


def short_threshold(score: float, below: float) -> float:
    """The number with fewest decimals (at least two places are tried) in (below, score].

    As a threshold it keeps the same labels as `score`, when `below` is the next lower score that occurs.

    Example:
        >>> short_threshold(0.4567, 0.4391), short_threshold(0.4567, 0.4561)
        (0.45, 0.4567)
    """
    for decimals in range(2, 16):
        # the tiny addend keeps 0.29 (28.999... / 100) what it is
        value = math.floor(score * 10**decimals + 1e-6) / 10**decimals
        if below < value <= score:
            return value
    return score


def curve(score: NDArray[np.float64], right: NDArray[np.bool_], instances: int) -> Curve:
    """The curve of L labels (ignored ones left out before).

    Args:
        score: (L,).
        right: (L,) bool, true positives.
        instances: number of instances.
    """
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    tp = np.cumsum(right[order])
    # the last label of each score: a threshold keeps all labels of equal score or none
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], np.ones(min(len(ordered), 1), bool)))
    return Curve(ordered[last], tp[last].astype(np.int64), (last + 1 - tp[last]).astype(np.int64), instances)


def average_precision(score: NDArray[np.float64], right: NDArray[np.bool_], instances: int) -> float | None:
    """COCO's AP of one class at one IoU: the mean over 101 recalls of the highest precision from there on.

    Equal scores keep their order, as in COCOeval. None without instances.
    """
    if not instances:
        return None
    order = np.argsort(-score, kind="stable")
    tp = np.cumsum(right[order])
    precision = tp / np.arange(1, len(tp) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(tp / instances, RECALL_STEPS, side="left")
    return float(np.append(precision, 0.0)[np.minimum(places, len(tp))].mean())


@dataclass(frozen=True)
class ReliabilityBin:
    """Labels with a score in [low, high), the last bin with 1.0; means are None in an empty bin."""

    low: float
    high: float
    labels: int
    mean_score: float | None
    precision: float | None


@dataclass(frozen=True)
class Reliability:
    """How far scores are probabilities of being right (Guo et al., ICML 2017).

    Attributes:
        bins: equal-width bins of score.
        expected_calibration_error: sum over bins of (labels / all labels) |precision - mean score|; None: no label.
    """

    bins: tuple[ReliabilityBin, ...]
    expected_calibration_error: float | None


def reliability(score: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 10) -> Reliability:
    """Share of right labels by score.

    Args:
        score: (L,) in [0, 1].
        right: (L,) bool.
        bins: how many equal-width bins.
    """
    index = np.minimum((score * bins).astype(np.int64), bins - 1)
    labels, sums, hits = (np.bincount(index, weights, bins) for weights in (None, score, right))
    rows = tuple(
        ReliabilityBin(i / bins, (i + 1) / bins, int(n), ratio(float(s), float(n)), ratio(float(h), float(n)))
        for i, (n, s, h) in enumerate(zip(labels, sums, hits, strict=True))
    )
    error = ratio(float(np.abs(hits - sums).sum()), len(score))
    return Reliability(rows, error)
