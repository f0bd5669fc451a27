"""Is a word labeled in a photo at all: presence per (photo, word), and SA-Co's metrics. Pure numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gem_label.metrics.coverage import IOU_THRESHOLDS
from gem_label.metrics.labels.curves import ratio
from gem_label.metrics.labels.matching import Comparison


@dataclass(frozen=True)
class Presence:
    """Every photo with every word: is the word labeled there, and is it there.

    Attributes:
        tp: words that are there and labeled.
        fp: absent words labeled.
        fn: words that are there and not labeled.
        tn: absent words not labeled.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def precision(self) -> float | None:
        """TP / (TP + FP), None where nothing is labeled."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """TP / (TP + FN), None where nothing is there."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def false_positive_rate(self) -> float | None:
        """FP / (FP + TN): the share of absent (photo, word) pairs that are labeled; None without absent pairs."""
        return ratio(self.fp, self.fp + self.tn)

    @property
    def mcc(self) -> float:
        """Matthews correlation coefficient in [-1, 1]; 0 where it is not defined."""
        both = (self.tp + self.fp) * (self.tp + self.fn) * (self.tn + self.fp) * (self.tn + self.fn)
        return (self.tp * self.tn - self.fp * self.fn) / math.sqrt(both) if both else 0.0


def presence(comparison: Comparison) -> Presence:
    """Presence by the kept labels; a word is there when the photo has an annotation of it, a crowd too."""
    c = comparison
    labeled = np.unique((c.label_photo * c.classes + c.label_class)[c.kept])
    there = np.unique(c.truth_photo * c.classes + c.truth_class)
    tp = len(np.intersect1d(labeled, there, assume_unique=True))
    fp, fn = len(labeled) - tp, len(there) - tp
    return Presence(tp, fp, fn, c.photos * c.classes - tp - fp - fn)


@dataclass(frozen=True)
class SaCo:
    """SA-Co's metrics (SAM 3, Carion et al., 2025; as sam3/eval/cgf1_eval.py computes them).

    Attributes:
        il_mcc: image-level MCC, that of `Presence`, in [-1, 1].
        pmf1: positive micro F1 in [0, 1], the mean over IoU thresholds 0.5, 0.55, ..., 0.95; None without instances.
        cgf1: classification-gated F1, 100 * pmf1 * il_mcc, in [-100, 100].
    """

    il_mcc: float
    pmf1: float | None
    cgf1: float | None


def saco(comparison: Comparison, il_mcc: float) -> SaCo:
    """SA-Co's metrics of the kept labels.

    A *pair* is a photo and a word. Of pairs with at least one instance, labels and instances are matched one to one
    so that the sum of their IoUs is highest; at each threshold the matches that reach it are true positives. Labels
    that `match` ignores (on a crowd) are left out; SA-Co itself has no crowds.
    """
    c = comparison
    usable = c.kept & ~c.kept_matching.ignored
    matched = [np.zeros(0)]
    for block in c.blocks:
        iou = block.iou[np.ix_(usable[block.labels], ~c.crowd[block.truths])]
        matched.append(best_assignment(iou))
    found = np.concatenate(matched)
    instances = ~c.crowd
    pairs = np.unique((c.truth_photo * c.classes + c.truth_class)[instances])
    labels = int(np.isin((c.label_photo * c.classes + c.label_class)[usable], pairs).sum())
    total = labels + int(instances.sum())
    if not instances.any():
        return SaCo(il_mcc, None, None)
    # 2 TP / (2 TP + FP + FN), with FP = labels - TP and FN = instances - TP
    f1 = [2 * float((found >= t).sum()) / total for t in IOU_THRESHOLDS]
    pmf1 = float(np.mean(f1))
    return SaCo(il_mcc, pmf1, 100 * pmf1 * il_mcc)


def best_assignment(iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """The IoUs of the one-to-one matching whose sum is highest, pairs without overlap left out.

    The Hungarian method with shortest augmenting paths (Jonker and Volgenant, 1987), as
    scipy.optimize.linear_sum_assignment, which this package does not require.

    Args:
        iou: (N, G) in [0, 1].
    """
    overlaps = iou > 0
    if not overlaps.any():
        return np.zeros(0)
    iou = iou[overlaps.any(axis=1)][:, overlaps.any(axis=0)]
    overlaps = iou > 0
    if overlaps.sum(axis=0).max() == 1 and overlaps.sum(axis=1).max() == 1:
        return iou[overlaps]  # nobody competes, as nearly always
    if iou.shape[0] > iou.shape[1]:
        iou = iou.T
    rows, columns = iou.shape
    # potentials of rows and columns; column 0 stands for "not matched yet"
    u, v = np.zeros(rows + 1), np.zeros(columns + 1)
    row_of = np.zeros(columns + 1, np.int64)
    for row in range(1, rows + 1):
        row_of[0], column = row, 0
        shortest, previous = np.full(columns + 1, np.inf), np.zeros(columns + 1, np.int64)
        done = np.zeros(columns + 1, bool)
        while row_of[column]:
            done[column] = True
            i = row_of[column]
            reduced = np.append(np.inf, -iou[i - 1] - u[i] - v[1:])
            better = ~done & (reduced < shortest)
            shortest[better], previous[better] = reduced[better], column
            following = int(np.where(done, np.inf, shortest).argmin())
            delta = shortest[following]
            u[row_of[done]] += delta
            v[done] -= delta
            shortest[~done] -= delta
            column = following
        while column:
            row_of[column] = row_of[previous[column]]
            column = int(previous[column])
    taken = np.flatnonzero(row_of[1:])
    values = iou[row_of[1:][taken] - 1, taken]
    return values[values > 0]
