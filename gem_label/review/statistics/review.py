"""How a review stands: counts per class, state and score, the least certain masks, and which words are confused.

A table of counts is made of all masks; class bars, histograms and thresholds are sums over it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.review.storage.mask_reader import read_table
from gem_label.review.storage.selection import STATES, Expression, Selection, aggregate_masks

SCORE_BINS = 101
"""Bin k holds scores from k/100 up to (k + 1)/100; the last holds 1."""

NO_LABEL = "(no label)"
"""What masks without a label count as."""

_ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996


@dataclass(frozen=True, slots=True)
class ThresholdEffect:
    """What a threshold would do to the masks of a class.

    Attributes:
        stay: undecided masks that reach it.
        go: undecided masks below it.
        decided: masks that were decided about, which no threshold changes.
    """

    stay: int
    go: int
    decided: int


@dataclass(frozen=True, slots=True)
class ReviewStatistics:
    """Counts of the masks of a field.

    Attributes:
        classes: the C labels that occur, most masks first.
        counts: (C, 4, 101) masks per class, state (in the order of `STATES`) and bin of scores.
    """

    classes: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def total(self) -> int:
        """All masks."""
        return int(self.counts.sum())

    @property
    def by_state(self) -> dict[str, int]:
        """Masks per state."""
        return dict(zip(STATES, self.counts.sum(axis=(0, 2)).tolist(), strict=True))

    @property
    def by_class(self) -> NDArray[np.int64]:
        """(C, 4) masks per class and state."""
        return self.counts.sum(axis=2)

    def histogram(self, label: str | None = None, bins: int = 20) -> NDArray[np.int64]:
        """Masks per range of scores.

        Args:
            label: of this class; None: of all.
            bins: how many equal parts of [0, 1]; a divisor of 100.
        """
        rows = slice(None) if label is None else [self.classes.index(label)] if label in self.classes else []
        counts = self.counts[rows].sum(axis=(0, 1))
        counts = np.r_[counts[:99], counts[99] + counts[100]]  # 1 belongs to the last part
        return counts.reshape(bins, -1).sum(axis=1)

    def undecided_histogram(self, label: str, bins: int) -> NDArray[np.int64]:
        """Undecided masks of a class per range of scores: `bins`, a divisor of 100, equal parts of [0, 1]."""
        counts = self.counts[self.classes.index(label), 0]
        return np.r_[counts[:99], counts[99] + counts[100]].reshape(bins, -1).sum(axis=1)

    def effect(self, label: str, threshold: float) -> ThresholdEffect:
        """What a threshold in [0, 1] would do to a class; exact in steps of 0.01."""
        if label not in self.classes:
            return ThresholdEffect(0, 0, 0)
        counts = self.counts[self.classes.index(label)]
        first = int(threshold * 100 + _ROUNDING)
        below, all_undecided = int(counts[0, :first].sum()), int(counts[0].sum())
        return ThresholdEffect(all_undecided - below, below, int(counts[1:].sum()))


def review_statistics(dataset: Any, field: str) -> ReviewStatistics:
    """Count the masks of a field; reads only samples that changed since the last count.

    Raises:
        UsageError: there is no such field of detections.
    """
    table = read_table(dataset, field)
    labels = np.where(table.labels < 0, len(table.names), table.labels)
    bins = np.clip(np.floor(table.scores * 100.0 + _ROUNDING), 0, SCORE_BINS - 1).astype(np.int64)
    shape = (len(table.names) + 1, len(STATES), SCORE_BINS)
    places = np.ravel_multi_index((labels, table.states, bins), shape)
    counts = np.bincount(places, minlength=math.prod(shape)).reshape(shape)
    totals, names = counts.sum(axis=(1, 2)), [*table.names, NO_LABEL]
    order = sorted(np.flatnonzero(totals).tolist(), key=lambda i: (-totals[i], names[i]))
    return ReviewStatistics(tuple(names[i] for i in order), counts[order].astype(np.int64))


def count_meant(dataset: Any, field: str, selection: Selection) -> dict[str, int]:
    """How many masks are meant: by label, most first.

    Raises:
        UsageError: the view shows patches of another field.
    """
    rows = aggregate_masks(
        dataset,
        field,
        selection,
        [
            _attributes("label"),
            {"$unwind": "$masks"},
            {"$group": {"_id": {"$ifNull": ["$masks.label", NO_LABEL]}, "masks": {"$sum": 1}}},
            {"$sort": {"masks": -1, "_id": 1}},
        ],
    )
    return {str(row["_id"]): row["masks"] for row in rows}


@dataclass(frozen=True, slots=True)
class UncertainMask:
    """A mask of the queue: ids of its sample and detection, its two best words, and how close they are."""

    sample_id: str
    label_id: str
    label: str
    runner_up: str | None
    margin: float


def least_certain(
    dataset: Any, field: str, limit: int = 100, labels: str | Sequence[str] | None = None
) -> list[UncertainMask]:
    """The undecided masks with the smallest margin between their two best words, smallest first.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections; masks without a margin or a label are left out.
        limit: how many.
        labels: only masks with these labels.
    """
    selection = Selection(labels=labels, states=["undecided"])
    rows = aggregate_masks(
        dataset,
        field,
        selection,
        [
            _attributes("_id", "label", "runner_up", "margin"),
            {"$unwind": "$masks"},
            {"$match": {"masks.margin": {"$ne": None}, "masks.label": {"$ne": None}}},
            {"$sort": {"masks.margin": 1, "masks._id": 1}},
            {"$limit": limit},
        ],
    )
    return [
        UncertainMask(
            str(row["_id"]),
            str(row["masks"]["_id"]),
            row["masks"]["label"],
            row["masks"].get("runner_up"),
            row["masks"]["margin"],
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """Two words between which masks are undecided: how many masks have `label` with `runner_up` close behind."""

    label: str
    runner_up: str
    masks: int
    mean_margin: float


def confused_pairs(dataset: Any, field: str, max_margin: float = 0.2, limit: int = 100) -> list[ConfusedPair]:
    """Pairs of a label and the word that came second with at most `max_margin` between them, most masks first.

    Counts undecided masks alone.
    """
    table = read_table(dataset, field)
    rows = (table.margins <= max_margin) & (table.states == STATES.index("undecided"))
    rows &= (table.labels >= 0) & (table.runner_ups >= 0)
    names = len(table.names)
    pairs = table.labels[rows].astype(np.int64) * names + table.runner_ups[rows]
    found, place, masks = np.unique(pairs, return_inverse=True, return_counts=True)
    margins = np.bincount(place, table.margins[rows], len(found)) / np.maximum(masks, 1)
    confused = [
        ConfusedPair(table.names[pair // names], table.names[pair % names], int(count), float(margin))
        for pair, count, margin in zip(found.tolist(), masks, margins, strict=True)
    ]
    return sorted(confused, key=lambda pair: (-pair.masks, pair.label, pair.runner_up))[:limit]


def _attributes(*names: str) -> Expression:
    """A stage that keeps some attributes of masks: the pixels need not travel on."""
    return {"$project": {f"masks.{name}": 1 for name in names}}
