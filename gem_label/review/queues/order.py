"""Ordered lists of masks to review, without reading their pixels.

A queue is made once and then worked through, so a list is bounded by `limit`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError
from gem_label.learning.order import review_order
from gem_label.learning.sampling import random_keys
from gem_label.phrases import as_words
from gem_label.review.storage.fields import check_mask_field
from gem_label.review.storage.mask_reader import read_table
from gem_label.review.storage.mask_table import MaskTable
from gem_label.review.storage.selection import STATES, Expression, Selection, aggregate_masks

Order = Literal["teaches", "uncertain", "likely", "random", "photo"]
ORDERS: tuple[Order, ...] = get_args(Order)
UNDECIDED = ("undecided",)

_NO_MARGIN = 2.0  # sorts after every margin, which is at most 1


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
        order: "teaches": unsure labels of many photos and classes first, and every fifth mask from the random sample
            (`review_order`); "uncertain": the smallest margin between the two best classes first, masks without a
            margin last; "likely": the highest score first, as a lower threshold would add less likely labels;
            "random": a random sample, where every mask is as likely as any other; "photo": photo by photo.
        selection: which masks; only undecided ones unless it has `states`. A class is `labels=[label]`, a pair of
            confused classes `labels=[label], runner_ups=[runner_up]`.
        limit: at most this many.
        seed: of the random order. It gives the same order again, whatever masks come, go or are decided: those that
            are decided are left out of it.

    Raises:
        UsageError: there is no such field or order.

    Example:
        queue_masks(dataset, "gem_label", "uncertain", Selection(labels=["cat"]), limit=50)
    """
    check_mask_field(dataset, field)
    if order not in ORDERS:
        raise UsageError(f"unknown order {order!r}: {', '.join(ORDERS)}")
    chosen = selection or Selection()
    states = UNDECIDED if chosen.states is None else chosen.states
    if order == "photo":
        return _photo_order(dataset, field, replace(chosen, states=states), limit)
    table = read_table(dataset, field)
    wanted = np.isin(table.states, [STATES.index(state) for state in as_words(states)])
    meant = _meant(table, dataset, field, replace(chosen, states=None))
    if order == "teaches":
        return references(table, _teaching_order(table, np.flatnonzero(meant), wanted, limit, seed))
    rows = np.flatnonzero(meant & wanted)
    if order == "random":
        return references(table, rows[np.argsort(random_keys(table.ids[rows], seed), kind="stable")][:limit])
    keys = -table.scores if order == "likely" else np.nan_to_num(table.margins, nan=_NO_MARGIN)
    return references(table, _smallest(keys, table.ids, rows, limit))


def count_undecided(dataset: Any, field: str, selection: Selection | None = None) -> int:
    """How many masks of a selection nobody has decided about."""
    return int(_undecided(read_table(dataset, field), dataset, field, selection).sum())


def count_undecided_by_class(dataset: Any, field: str, selection: Selection | None = None) -> dict[str, int]:
    """How many masks of a selection nobody has decided about: by label, most first; without masks that have none."""
    table = read_table(dataset, field)
    labels = table.labels[_undecided(table, dataset, field, selection) & (table.labels >= 0)]
    counts = np.bincount(labels, minlength=len(table.names)).tolist()
    found = [(name, count) for name, count in zip(table.names, counts, strict=True) if count]
    return dict(sorted(found, key=lambda each: (-each[1], each[0])))


def references(table: MaskTable, rows: NDArray[np.int64]) -> list[MaskReference]:
    """The masks at some rows of a table, in the order of the rows."""
    samples = table.samples[np.searchsorted(np.cumsum(table.counts), rows, side="right")]
    return [
        MaskReference(_hex(sample), _hex(mask)) for sample, mask in zip(samples, table.ids[rows], strict=True)
    ]


def _hex(identifier: bytes) -> str:
    return identifier.ljust(12, b"\0").hex()


def _undecided(table: MaskTable, dataset: Any, field: str, selection: Selection | None) -> NDArray[np.bool_]:
    """(N,) which masks of a table meet a selection, whatever its states, and are undecided."""
    meant = _meant(table, dataset, field, replace(selection or Selection(), states=None))
    return meant & (table.states == STATES.index("undecided"))


def _meant(table: MaskTable, dataset: Any, field: str, selection: Selection) -> NDArray[np.bool_]:
    """(N,) which masks of a table meet a selection."""
    meant = np.ones(len(table), bool)
    for column, names in ((table.labels, selection.labels), (table.runner_ups, selection.runner_ups)):
        if names is not None:
            meant &= np.isin(column, [table.code(name) for name in as_words(names)])
    rest = replace(selection, labels=None, runner_ups=None)
    if rest.view is not None and rest.view in (dataset, dataset.view()):
        rest = replace(rest, view=None)
    if any(getattr(rest, each.name) is not None for each in fields(rest)):  # the database says it
        rows = aggregate_masks(dataset, field, rest, [{"$project": {"masks._id": 1}}])
        ids = [mask["_id"].binary for row in rows for mask in row["masks"]]
        meant &= np.isin(table.ids, np.array(ids, "S12"))
    return meant


def _teaching_order(
    table: MaskTable, rows: NDArray[np.int64], wanted: NDArray[np.bool_], limit: int, seed: int
) -> NDArray[np.int64]:
    """Those of some rows that are wanted, what teaches most first; the others count as decided."""
    photos = np.repeat(np.arange(len(table.counts)), table.counts)
    order = review_order(
        table.scores[rows],
        np.where(table.proposed < 0, table.labels, table.proposed)[rows],
        photos[rows],
        limit,
        random_keys(table.ids[rows], seed),
        ~wanted[rows],
    )
    return rows[order]


def _smallest(
    keys: NDArray[np.float64], ids: NDArray[np.bytes_], rows: NDArray[np.int64], limit: int
) -> NDArray[np.int64]:
    """The `limit` rows with the smallest keys in order; equal keys are in the order of the ids."""
    if 0 < limit < len(rows):
        last = np.partition(keys[rows], limit - 1)[limit - 1]
        rows = rows[keys[rows] <= last]
    return rows[np.lexsort((ids[rows], keys[rows]))][: max(0, limit)]


def _photo_order(dataset: Any, field: str, selection: Selection, limit: int) -> list[MaskReference]:
    """Photo by photo as the dataset has them: the database stops when it has found so many."""
    ids: Expression = {"$project": {"masks._id": 1}}
    stages: list[Expression] = [{"$limit": limit}, ids, {"$unwind": "$masks"}, {"$limit": limit}]
    rows = aggregate_masks(dataset, field, selection, stages)
    return [MaskReference(str(row["_id"]), str(row["masks"]["_id"])) for row in rows]
