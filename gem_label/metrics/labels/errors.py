"""What wrong labels are: TIDE's kinds of error and what each costs, and which words are taken for which.

TIDE: Bolya, Foley, Hays, Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020.
Pure numpy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gem_label.metrics.labels.curves import Counts, average_precision
from gem_label.metrics.labels.matching import IOU_THRESHOLD, Comparison, Matching

BACKGROUND_IOU = 0.1
"""Below this IoU with every instance a label lies on nothing (TIDE's t_b)."""
KINDS = ("wrong word", "badly outlined", "both", "duplicate", "background", "missed")
"""TIDE's Cls, Loc, Both, Dupe, Bkg and Miss, in this order."""
WRONG_WORD, BADLY_OUTLINED, BOTH, DUPLICATE, BACKGROUND = range(5)
INVENTED, MISSED = "invented", "missed"


@dataclass(frozen=True)
class ErrorKind:
    """One kind of error.

    Attributes:
        kind: one of `KINDS`.
        count: errors among the kept labels (of "missed": instances).
        f1_cost: how much the pooled F1 of the kept labels rises when this kind alone is fixed; None: F1 undefined.
        count_all: errors among all labels.
        ap50_cost: how much AP50 of all labels rises when this kind alone is fixed (TIDE's dAP); None: no instance.
    """

    kind: str
    count: int
    f1_cost: float | None
    count_all: int
    ap50_cost: float | None


@dataclass(frozen=True)
class Errors:
    """The errors of one matching.

    Attributes:
        kind: (L,) index into `KINDS` of each wrong label, -1 for labels that are right or do not count.
        fixable: (L,) bool, wrong labels that TIDE turns into right ones; the other wrong ones it removes.
        target: (L,) the instance that a fixable label then finds.
        missed: (G,) bool, instances that no label finds, not even a fixed one.
    """

    kind: NDArray[np.int64]
    fixable: NDArray[np.bool_]
    target: NDArray[np.int64]
    missed: NDArray[np.bool_]


def find_errors(comparison: Comparison, matching: Matching) -> Errors:
    """Give each wrong label its kind, in TIDE's order.

    With IoU_own and IoU_other the label's highest IoU with an instance of its class and of another class:

    - badly outlined: 0.1 <= IoU_own < 0.5;
    - else wrong word: IoU_other >= 0.5;
    - else duplicate: IoU_own >= 0.5, and better labels find the instances;
    - else background: IoU_own and IoU_other are both below 0.1;
    - else both: wrong word and badly outlined at once.

    The fix of a wrong word or a badly outlined label makes it find the instance that it lies on, if that is not found
    yet; among several labels with the same instance the best score is fixed and the others go. All other kinds go.
    Instances that neither a right label nor such a fix finds are missed.
    """
    c = comparison
    wrong = matching.wrong
    own, other = c.own_iou, c.other_iou
    kind = np.select(
        [
            (own >= BACKGROUND_IOU) & (own < IOU_THRESHOLD),
            other >= IOU_THRESHOLD,
            own >= IOU_THRESHOLD,
            np.maximum(own, other) < BACKGROUND_IOU,
        ],
        [BADLY_OUTLINED, WRONG_WORD, DUPLICATE, BACKGROUND],
        BOTH,
    )
    kind = np.where(wrong, kind, -1)
    target = np.select([kind == WRONG_WORD, kind == BADLY_OUTLINED], [c.other_truth, c.own_truth], -1)
    found = np.zeros(len(c.crowd), bool)
    found[matching.truth[matching.right]] = True
    rows = np.flatnonzero(target >= 0)
    rows = rows[~found[target[rows]]]
    rows = rows[np.argsort(-c.score[rows], kind="stable")]
    _, first = np.unique(target[rows], return_index=True)
    fixable = np.zeros(len(kind), bool)
    fixable[rows[first]] = True
    missed = ~c.crowd & ~found
    missed[target[fixable]] = False
    return Errors(kind, fixable, np.where(fixable, target, -1), missed)


def error_budget(comparison: Comparison) -> tuple[ErrorKind, ...]:
    """Each of `KINDS`: how many, and what fixing it alone gains.

    As in TIDE a fix never counts as a loss, and of a class whose instances are all missed none is left to average
    over once "missed" is fixed.
    """
    c = comparison
    kept, everything = find_errors(c, c.kept_matching), find_errors(c, c.matching)
    f1, ap50 = _pooled_f1(c), _mean_ap50(c, c.matching, everything, None)
    rows = []
    for index, name in enumerate(KINDS):
        fixed_f1, fixed_ap50 = _fixed_f1(c, kept, index), _mean_ap50(c, c.matching, everything, index)
        is_missed = index == len(KINDS) - 1
        rows.append(
            ErrorKind(
                name,
                int(kept.missed.sum() if is_missed else (kept.kind == index).sum()),
                None if f1 is None else max((1.0 if fixed_f1 is None else fixed_f1) - f1, 0.0),
                int(everything.missed.sum() if is_missed else (everything.kind == index).sum()),
                None if ap50 is None else max((1.0 if fixed_ap50 is None else fixed_ap50) - ap50, 0.0),
            )
        )
    return tuple(rows)


def _pooled_f1(c: Comparison) -> float | None:
    tp = int(c.kept_matching.right.sum())
    return Counts(tp, int(c.kept_matching.wrong.sum()), int((~c.crowd).sum()) - tp).f1


def _fixed_f1(c: Comparison, errors: Errors, kind: int) -> float | None:
    """Pooled F1 of the kept labels with one kind fixed; None when nothing is left to find or to label."""
    tp, fp = int(c.kept_matching.right.sum()), int(c.kept_matching.wrong.sum())
    instances = int((~c.crowd).sum())
    if kind == len(KINDS) - 1:
        instances -= int(errors.missed.sum())
    else:
        fp -= int((errors.kind == kind).sum())
        tp += int((errors.fixable & (errors.kind == kind)).sum())
    return Counts(tp, fp, instances - tp).f1


def _mean_ap50(c: Comparison, matching: Matching, errors: Errors, kind: int | None) -> float | None:
    """Mean over classes with instances of AP at IoU 0.5, with one kind fixed or none."""
    used, right = matching.counted, matching.right
    label_class, instances = c.label_class, c.instances
    if kind == len(KINDS) - 1:
        instances = instances - np.bincount(c.truth_class[errors.missed], minlength=c.classes)
    elif kind is not None:
        this = errors.kind == kind
        fixed = this & errors.fixable
        used, right = used & ~(this & ~fixed), right | fixed
        label_class = (
            np.where(fixed, c.truth_class[errors.target], label_class) if fixed.any() else label_class
        )
    rows = np.flatnonzero(used)
    rows = rows[np.argsort(label_class[rows], kind="stable")]
    stops = np.searchsorted(label_class[rows], np.arange(c.classes + 1))
    found = [
        average_precision(c.score[part], right[part], int(instances[k]))
        for k, part in enumerate(rows[a:b] for a, b in pairwise(stops))
    ]
    values = [value for value in found if value is not None]
    return float(np.mean(values)) if values else None


@dataclass(frozen=True)
class Confusion:
    """How often one word stands where another belongs.

    Attributes:
        label: the word of the labels; "missed" where there is no label.
        truth: the word of the instances; "invented" where there is nothing.
        count: how often.
    """

    label: str
    truth: str
    count: int


def confusions(comparison: Comparison, classes: Sequence[str]) -> tuple[Confusion, ...]:
    """Wrong words among the kept labels, the most frequent first.

    - label, truth: wrong labels that lie with IoU >= 0.5 on an instance of another class and on none of their own;
    - label, "invented": wrong labels whose IoU with every instance is below 0.1;
    - "missed", truth: instances that no kept label finds and on which no label of the first kind lies.

    Duplicates and badly outlined labels are no confusion of words; `error_budget` counts them.
    """
    c, m = comparison, comparison.kept_matching
    swapped = m.wrong & (c.own_iou < IOU_THRESHOLD) & (c.other_iou >= IOU_THRESHOLD)
    nothing = m.wrong & (np.maximum(c.own_iou, c.other_iou) < BACKGROUND_IOU)
    open_truths = ~c.crowd
    open_truths[m.truth[m.right]] = False
    open_truths[c.other_truth[swapped]] = False
    counts: Counter[tuple[str, str]] = Counter()
    pairs = zip(c.label_class[swapped].tolist(), c.truth_class[c.other_truth[swapped]].tolist(), strict=True)
    counts.update((classes[label], classes[truth]) for label, truth in pairs)
    counts.update((classes[label], INVENTED) for label in c.label_class[nothing].tolist())
    counts.update((MISSED, classes[truth]) for truth in c.truth_class[open_truths].tolist())
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Confusion(label, truth, count) for (label, truth), count in ordered)
