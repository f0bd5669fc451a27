"""How a review goes: what is done of each class, how many labels were right, and who decides how fast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gem_label.review.storage.decision_log import collections
from gem_label.review.storage.fields import less_likely_field, main_field
from gem_label.review.storage.internals import dataset_id
from gem_label.review.storage.mask_reader import read_table
from gem_label.review.storage.selection import STATES

_Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True, slots=True)
class Precision:
    """The share of reviewed labels that were right, with Wilson's 95 % interval, all in [0, 1].

    It tells about all masks only where the reviewed ones are a random sample of them.
    """

    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassProgress:
    """What is done of a class.

    Attributes:
        label: the class that the run proposed; masks that people renamed count here, as wrong.
        reviewed: masks that somebody decided about.
        remaining: undecided masks.
        right: reviewed masks of which the proposed label was accepted.
    """

    label: str
    reviewed: int
    remaining: int
    right: int

    @property
    def precision(self) -> Precision | None:
        """Of its reviewed masks; None where there are none."""
        return wilson(self.right, self.reviewed)


@dataclass(frozen=True, slots=True)
class PersonProgress:
    """What a person did.

    Attributes:
        name: as the decisions have it, None where it is not known.
        masks: masks that the person decided about, once for every decision.
        per_minute: masks a minute in the review panel, counting the minutes with a decision; None outside of it.
    """

    name: str | None
    masks: int
    per_minute: float | None


@dataclass(frozen=True, slots=True)
class ReviewProgress:
    """How the review of a field goes.

    Attributes:
        classes: most masks first.
        people: most masks first.
        drawn: masks that people drew or added, which have no proposed label to judge.
    """

    classes: tuple[ClassProgress, ...]
    people: tuple[PersonProgress, ...]
    drawn: int

    @property
    def total(self) -> ClassProgress:
        """All classes together, under the label ""."""
        sums = (
            sum(getattr(each, name) for each in self.classes) for name in ("reviewed", "remaining", "right")
        )
        return ClassProgress("", *sums)


def wilson(right: int, total: int) -> Precision | None:
    """Wilson's 95 % interval of a share; None of nothing.

    Args:
        right: how many were right.
        total: of how many.
    """
    if not total:
        return None
    share = right / total
    middle = (share + _Z**2 / (2 * total)) / (1 + _Z**2 / total)
    half = _Z / (1 + _Z**2 / total) * math.sqrt(share * (1 - share) / total + _Z**2 / (4 * total**2))
    return Precision(share, max(0.0, middle - half), min(1.0, middle + half))


def review_progress(dataset: Any, field: str) -> ReviewProgress:
    """How the review of a field goes.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.

    Raises:
        UsageError: there is no such field.

    Example:
        progress = review_progress(dataset, "gem_label")
        progress.total.precision
    """
    table = read_table(dataset, field)
    decided = table.states != STATES.index("undecided")
    accepted = table.states == STATES.index("accepted")
    has_proposal = table.proposed >= 0
    drawn = decided & ~has_proposal
    labels = np.where(has_proposal, table.proposed, table.labels)
    columns = (
        decided & has_proposal,
        ~decided,
        accepted & has_proposal & (table.labels == table.proposed),
    )
    counts = np.stack([_count(labels[rows & (labels >= 0)], len(table.names)) for rows in columns], axis=1)
    order = sorted(
        np.flatnonzero(counts.any(axis=1)).tolist(), key=lambda i: (-counts[i, :2].sum(), table.names[i])
    )
    classes = tuple(ClassProgress(table.names[i], *counts[i].tolist()) for i in order)
    return ReviewProgress(classes, tuple(_people(dataset, field)), int(drawn.sum()))


def _count(codes: Any, names: int) -> Any:
    return np.bincount(codes, minlength=names)


def _people(dataset: Any, field: str) -> Sequence[PersonProgress]:
    """Who decided, from the log of a field and of the other one that its masks move to or from."""
    decisions, _ = collections()
    main = main_field(dataset, field)
    fields = [main, less_likely_field(main)]
    is_in_panel = {"$gt": ["$request", None]}
    minute = {"$dateTrunc": {"date": "$at", "unit": "minute"}}
    rows = decisions.aggregate(
        [
            {"$match": {"dataset": dataset_id(dataset), "field": {"$in": fields}, "undone": {"$ne": True}}},
            {"$group": {
                "_id": {"author": "$author", "minute": {"$cond": [is_in_panel, minute, None]}},
                "masks": {"$sum": "$masks"},
            }},
            {"$group": {
                "_id": "$_id.author",
                "masks": {"$sum": "$masks"},
                "in_panel": {"$sum": {"$cond": [{"$gt": ["$_id.minute", None]}, "$masks", 0]}},
                "minutes": {"$sum": {"$cond": [{"$gt": ["$_id.minute", None]}, 1, 0]}},
            }},
            {"$sort": {"masks": -1, "_id": 1}},
        ]
    )  # fmt: skip
    return [
        PersonProgress(row["_id"], row["masks"], row["in_panel"] / row["minutes"] if row["minutes"] else None)
        for row in rows
    ]
