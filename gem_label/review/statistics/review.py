"""How a review stands: counts per class, state and score, the least certain masks, and which words are confused.

One aggregation over the dataset gives a table of counts; class bars, histograms and thresholds are sums over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.review.storage.fields import check_mask_field
from gem_label.review.storage.internals import samples_of
from gem_label.review.storage.selection import STATE, STATES, Expression, Selection, aggregate_masks

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
    """Count the masks of a field; answers from memory as long as no sample changed.

    Raises:
        UsageError: there is no such field of detections.
    """
    check_mask_field(dataset, field)
    collection = samples_of(dataset)
    last = collection.find_one({}, ["last_modified_at"], sort=[("last_modified_at", -1)]) or {}
    stamp = (last.get("last_modified_at"), last.get("_id"), collection.estimated_document_count())
    return _count(_Samples(collection), field, stamp)


@dataclass(frozen=True, slots=True)
class _Samples:
    """A collection of samples; equal to another with the same name in the same database."""

    collection: Any

    def __hash__(self) -> int:
        return hash(self.collection.full_name)


# a slider asks again and again: only a change of the samples, which `stamp` tells, makes it count again
@lru_cache(maxsize=8)
def _count(samples: _Samples, field: str, stamp: tuple[Any, ...]) -> ReviewStatistics:
    score = {"$ifNull": ["$$mask.confidence", 0.0]}
    bin_of = {"$floor": {"$add": [{"$multiply": [score, 100.0]}, _ROUNDING]}}
    facts = {
        "label": {"$ifNull": ["$$mask.label", NO_LABEL]},
        "state": STATE,
        "bin": {"$max": [0, {"$min": [{"$toInt": bin_of}, SCORE_BINS - 1]}]},
    }
    pipeline: list[Expression] = [
        {
            "$project": {
                "_id": 0,
                "mask": {"$map": {"input": f"${field}.detections", "as": "mask", "in": facts}},
            }
        },
        {"$unwind": "$mask"},
        {"$group": {"_id": "$mask", "masks": {"$sum": 1}}},
    ]
    rows = [(row["_id"], row["masks"]) for row in samples.collection.aggregate(pipeline)]
    totals: dict[str, int] = {}
    for key, masks in rows:
        name = str(key["label"])
        totals[name] = totals.get(name, 0) + masks
    classes = tuple(sorted(totals, key=lambda name: (-totals[name], name)))
    index = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(STATES), SCORE_BINS), np.int64)
    for key, masks in rows:
        counts[index[str(key["label"])], STATES.index(key["state"]), key["bin"]] += masks
    return ReviewStatistics(classes, counts)


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
    rows = aggregate_masks(
        dataset,
        field,
        Selection(states=["undecided"]),
        [
            _attributes("label", "runner_up", "margin"),
            {"$unwind": "$masks"},
            {
                "$match": {
                    "masks.margin": {"$lte": max_margin},
                    "masks.runner_up": {"$ne": None},
                    "masks.label": {"$ne": None},
                }
            },
            {
                "$group": {
                    "_id": {"label": "$masks.label", "runner_up": "$masks.runner_up"},
                    "masks": {"$sum": 1},
                    "margin": {"$avg": "$masks.margin"},
                }
            },
            {"$sort": {"masks": -1, "_id": 1}},
            {"$limit": limit},
        ],
    )
    return [
        ConfusedPair(row["_id"]["label"], row["_id"]["runner_up"], row["masks"], row["margin"])
        for row in rows
    ]


def _attributes(*names: str) -> Expression:
    """A stage that keeps some attributes of masks: the pixels need not travel on."""
    return {"$project": {f"masks.{name}": 1 for name in names}}
