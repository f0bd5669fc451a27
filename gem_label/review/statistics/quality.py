"""How good the labels of a field are now, and how many more decisions make them as good as wanted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from gem_label.learning.estimates import decisions_for_precision, estimate_precision
from gem_label.learning.sampling import random_keys, random_sample
from gem_label.review.statistics.progress import Precision
from gem_label.review.storage.fields import main_field, pushed_fields
from gem_label.review.storage.mask_reader import read_table
from gem_label.review.storage.selection import STATES

LEAST_SAMPLE = 20
"""Decisions about the random sample without which no precision is told."""
WANTED = (0.8, 0.9, 0.95)
"""Precisions for which the remaining decisions are counted."""


@dataclass(frozen=True, slots=True)
class LabelQuality:
    """How good the labels of a field are now.

    Attributes:
        labels: undecided, accepted and renamed masks.
        sample: decisions about the random sample that the estimate rests on.
        missing: masks of the random sample that are still to be decided before there is an estimate.
        precision: share of right labels with an exact 95% interval; None while the sample is too small.
        more: wanted precision -> further decisions that it takes when the least sure labels come first (0: it is
            reached); empty without an estimate.
    """

    labels: int
    sample: int
    missing: int
    precision: Precision | None
    more: Mapping[float, int]


def label_quality(dataset: Any, field: str, seed: int = 0) -> LabelQuality:
    """Estimate the precision of the labels of a field as they are now.

    Accepted and renamed masks are right, and rejected ones are not among the labels. How many of the undecided masks
    are right is estimated from the masks that stand first in the random order of `queue_masks` and are all decided,
    in whatever order that happened. Decisions from before the last push or relabel do not count, because they were
    about other labels. Masks that were decided with other tools have no time and do not count either, nor do deleted
    masks: reject masks of the sample that are wrong.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        seed: of the random order.

    Raises:
        UsageError: there is no such field.
    """
    table = read_table(dataset, field)
    is_undecided = table.states == STATES.index("undecided")
    is_confirmed = np.isin(table.states, [STATES.index("accepted"), STATES.index("renamed")])
    is_judged = ~is_undecided & (table.decided_at >= _pushed_at(dataset, field))
    members = np.flatnonzero((table.proposed >= 0) & (is_undecided | is_judged))
    judged = is_judged[members]
    right = judged & is_confirmed[members] & (table.labels == table.proposed)[members]
    keys = random_keys(table.ids[members], seed)
    sample = random_sample(keys, judged)
    confirmed, undecided = int(is_confirmed.sum()), int((~judged).sum())
    labels = confirmed + undecided
    first = np.argsort(keys, kind="stable")[:LEAST_SAMPLE]
    missing = int((~judged[first]).sum())
    if missing or not len(members):
        return LabelQuality(labels, len(sample), missing, None, {})
    estimate = estimate_precision(int(right[sample].sum()), len(sample), len(members))
    # of the right ones among all members, some are known
    shares = (estimate.precision or 0.0, estimate.low, estimate.high)
    unknown = [min(max(share * len(members) - right.sum(), 0.0), undecided) for share in shares]
    precision = Precision(*((confirmed + each) / labels for each in unknown)) if labels else None
    scores = table.scores[members[~judged]]
    share = unknown[0] / undecided if undecided else None
    more = {wanted: decisions_for_precision(scores, confirmed, wanted, share) for wanted in WANTED}
    return LabelQuality(
        labels, len(sample), 0, precision, {wanted: n for wanted, n in more.items() if n is not None}
    )


def _pushed_at(dataset: Any, field: str) -> float:
    """When the labels of a field came, in seconds since 1970; -inf where no push says so."""
    push = pushed_fields(dataset).get(main_field(dataset, field))
    return -math.inf if push is None else datetime.fromisoformat(push["pushed"]).timestamp()
