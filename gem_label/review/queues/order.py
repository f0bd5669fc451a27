"""Ordered lists of masks to review, without reading their pixels into this process.

The database sends ids alone. A queue is made once and then worked through, so a list is bounded by `limit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from gem_label.errors import UsageError
from gem_label.review.storage.fields import check_mask_field
from gem_label.review.storage.selection import STATE, Expression, Selection, aggregate_masks

Order = Literal["uncertain", "likely", "random", "photo"]
ORDERS: tuple[Order, ...] = get_args(Order)
UNDECIDED = ("undecided",)

_MARGIN: Expression = {"$ifNull": ["$masks.margin", 2.0]}  # sorts after every margin, which is at most 1
_BELOW_ONE: Expression = {"$subtract": [1.0, {"$ifNull": ["$masks.confidence", 0.0]}]}


@dataclass(frozen=True, slots=True)
class MaskReference:
    """A mask of a dataset: the ids of its sample and of its detection."""

    sample_id: str
    label_id: str


def queue_masks(
    dataset: Any,
    field: str,
    order: Order,
    selection: Selection | None = None,
    limit: int = 1000,
    seed: int = 0,
) -> list[MaskReference]:
    """The masks to review, in order.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        order: "uncertain": the smallest margin between the two best classes first, masks without a margin last;
            "likely": the highest score first, as a lower threshold would add less likely labels; "random": a random
            sample, where every mask is as likely as any other; "photo": photo by photo.
        selection: which masks; only undecided ones unless it has `states`. A class is `labels=[label]`, a pair of
            confused classes `labels=[label], runner_ups=[runner_up]`.
        limit: at most this many.
        seed: of the random order. It gives the same order again as long as no mask comes, goes or leaves the
            selection in another way than by a decision: those that are decided are left out of it.

    Raises:
        UsageError: there is no such field or order.

    Example:
        >>> queue_masks(dataset, "gem_label", "uncertain", Selection(labels=["cat"]), limit=50)
    """
    check_mask_field(dataset, field)
    chosen = selection or Selection()
    states = UNDECIDED if chosen.states is None else chosen.states
    if order == "random":
        return _random_order(dataset, field, replace(chosen, states=None), states, limit, seed)
    if order not in ORDERS:
        raise UsageError(f"unknown order {order!r}: {', '.join(ORDERS)}")
    ids: Expression = {"$project": {"masks._id": 1, "masks.margin": 1, "masks.confidence": 1}}
    unwind: Expression = {"$unwind": "$masks"}
    if order == "photo":
        stages = [{"$limit": limit}, ids, unwind, {"$limit": limit}]
    else:
        key = _MARGIN if order == "uncertain" else _BELOW_ONE
        stages = [
            ids,
            unwind,
            {"$set": {"key": key}},
            {"$sort": {"key": 1, "masks._id": 1}},
            {"$limit": limit},
        ]
    rows = aggregate_masks(dataset, field, replace(chosen, states=states), stages)
    return [MaskReference(str(row["_id"]), str(row["masks"]["_id"])) for row in rows]


def count_undecided(dataset: Any, field: str, selection: Selection | None = None) -> int:
    """How many masks of a selection nobody has decided about."""
    chosen = replace(selection or Selection(), states=UNDECIDED)
    count = {"$group": {"_id": None, "masks": {"$sum": {"$size": "$masks"}}}}
    return sum(row["masks"] for row in aggregate_masks(dataset, field, chosen, [count]))


def _random_order(
    dataset: Any, field: str, selection: Selection, states: Any, limit: int, seed: int
) -> list[MaskReference]:
    """The first masks in one of `states` of a random order of all masks of a selection."""
    in_states = {"$in": [STATE, list(states)]}
    facts = {
        "ids": "$masks._id",
        "wanted": {"$map": {"input": "$masks", "as": "mask", "in": in_states}},
    }
    rows = aggregate_masks(dataset, field, selection, [{"$project": facts}, {"$sort": {"_id": 1}}])
    pairs = [
        (row["_id"], mask, wanted)
        for row in rows
        for mask, wanted in zip(row["ids"], row["wanted"], strict=True)
    ]
    places = np.random.default_rng(seed).permutation(len(pairs))
    return list(_first_wanted(pairs, places.tolist(), limit))


def _first_wanted(
    pairs: list[tuple[Any, Any, bool]], places: list[int], limit: int
) -> Iterator[MaskReference]:
    """Yield the first `limit` masks that are wanted, in the order of their places."""
    for place in places:
        sample, mask, wanted = pairs[place]
        if limit <= 0:
            return
        if wanted:
            limit -= 1
            yield MaskReference(str(sample), str(mask))
