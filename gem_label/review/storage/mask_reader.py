"""Keeps the table of all masks of a field in memory, up to date.

The database cannot order masks by an index, since they are inside samples: every question about them would read every
sample. So this process reads them once, and after that only samples that changed since (`last_modified_at`, which
FiftyOne and our own writes set).
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.review.storage.decision_log import now
from gem_label.review.storage.detections import Document, detections_of
from gem_label.review.storage.fields import check_mask_field
from gem_label.review.storage.internals import samples_of
from gem_label.review.storage.mask_table import MaskTable, in_order, join_tables
from gem_label.review.storage.selection import STATES

_ATTRIBUTES = ("label", "tags", "proposed_label", "runner_up", "margin", "confidence", "decided_at")
_IDS = "ids"
_CLOCKS = timedelta(seconds=30)
"""Clocks of machines that write to one database may differ by this much, and a write may take so long."""

_SAMPLES_AT_ONCE = 2000


def read_table(dataset: Any, name: str) -> MaskTable:
    """The masks of a field as they are now; reads only samples that changed since the last call.

    Args:
        dataset: the FiftyOne dataset.
        name: its field of detections.

    Raises:
        UsageError: there is no such field.
    """
    check_mask_field(dataset, name)
    return _reader(_Samples(samples_of(dataset)), name).read()


@dataclass(frozen=True, slots=True)
class _Samples:
    """A collection of samples; equal to another with the same name in the same database."""

    collection: Any

    def __hash__(self) -> int:
        return hash(self.collection.full_name)


# every click of a review asks: only what changed since is read
@lru_cache(maxsize=4)
def _reader(samples: _Samples, name: str) -> _Reader:
    return _Reader(samples.collection, name)


@dataclass(slots=True)
class _Reader:
    """Keeps the table of one field up to date; one thread at a time reads."""

    collection: Any
    name: str
    table: MaskTable | None = None
    codes: _Codes = field(default_factory=lambda: _Codes())
    since: datetime | None = None
    lock: Lock = field(default_factory=Lock)

    def read(self) -> MaskTable:
        with self.lock, _without_collection():
            started = now()
            query = {} if self.since is None else {"last_modified_at": {"$gte": self.since - _CLOCKS}}
            table = self._merge(self.table, self._read(query))
            if len(table.samples) != self.collection.estimated_document_count():
                table = self._without_deleted(table)
            self.table, self.since = table, started
            return table

    def _read(self, query: Document) -> MaskTable:
        stages = [
            {"$match": query},
            {"$project": {each: f"${self.name}.detections.{each}" for each in _ATTRIBUTES}},
        ]
        stages[1]["$project"] |= {"_id": 1, _IDS: f"${self.name}.detections._id"}
        # an array of paths would leave out masks without a time, which most samples have
        time = {"$ifNull": ["$$mask.decided_at", None]}
        masks = {"$ifNull": [f"${self.name}.detections", []]}
        stages[1]["$project"]["decided_at"] = {"$map": {"input": masks, "as": "mask", "in": time}}
        rows = self.collection.aggregate(stages, batchSize=_SAMPLES_AT_ONCE)
        parts = [self._columns([])]
        while batch := list(islice(rows, _SAMPLES_AT_ONCE)):
            parts.append(self._columns(batch))
        return join_tables(parts, self.codes.names)

    def _columns(self, rows: Sequence[Document]) -> MaskTable:
        """The masks of some samples, in their order."""
        of_samples = [{name: row.get(name) or [] for name in (_IDS, *_ATTRIBUTES)} for row in rows]
        incomplete = [
            row["_id"] for row, given in zip(rows, of_samples, strict=True) if not _is_complete(given)
        ]
        one_by_one = self._one_by_one(incomplete) if incomplete else {}
        columns: dict[str, list[Any]] = {name: [] for name in (_IDS, *_ATTRIBUTES)}
        counts = []
        for row, given in zip(rows, of_samples, strict=True):
            values = one_by_one.get(row["_id"], given)
            counts.append(len(values[_IDS]))
            for name, column in columns.items():
                column.extend(values[name] or [None] * counts[-1])
        labels, proposed, runner_ups = (
            np.fromiter(map(self.codes.__getitem__, columns[name]), np.int32)
            for name in ("label", "proposed_label", "runner_up")
        )
        scores = np.array(columns["confidence"], np.float64)  # None becomes NaN
        return MaskTable(
            samples=_ids([row["_id"] for row in rows]),
            counts=np.array(counts, np.int64),
            ids=_ids(columns[_IDS]),
            labels=labels,
            proposed=proposed,
            runner_ups=runner_ups,
            margins=np.array(columns["margin"], np.float64),
            scores=np.where(np.isnan(scores), 0.0, scores),
            states=_states(columns["tags"], (proposed >= 0) & (labels != proposed)),
            decided_at=np.fromiter(map(_seconds, columns["decided_at"]), np.float64),
            names=self.codes.names,
        )

    def _one_by_one(self, samples: Sequence[Any]) -> dict[Any, dict[str, list[Any]]]:
        """Sample id -> the attributes of its masks, None where a mask lacks one: arrays of paths leave that out."""
        shown = {f"{self.name}.detections.{name}": 1 for name in ("_id", *_ATTRIBUTES)}
        found: dict[Any, dict[str, list[Any]]] = {
            sample: {name: [] for name in (_IDS, *_ATTRIBUTES)} for sample in samples
        }
        for document in self.collection.find({"_id": {"$in": list(samples)}}, shown):
            masks = detections_of(document, self.name)
            found[document["_id"]] = {name: [mask.get(name) for mask in masks] for name in _ATTRIBUTES}
            found[document["_id"]][_IDS] = [mask["_id"] for mask in masks]
        return found

    def _merge(self, old: MaskTable | None, new: MaskTable) -> MaskTable:
        new = in_order(new)
        if old is None or not len(old.samples):
            return new
        if not len(new.samples):
            return old
        places = np.minimum(np.searchsorted(old.samples, new.samples), len(old.samples) - 1)
        is_old = old.samples[places] == new.samples
        if is_old.all() and (old.counts[places] == new.counts).all():  # decisions change no number of masks
            return old.with_rows(old.rows_of(places), new)
        stay = old.take(np.delete(np.arange(len(old.samples)), places[is_old]))
        return in_order(join_tables([stay, new], new.names))

    def _without_deleted(self, table: MaskTable) -> MaskTable:
        there = _ids([document["_id"] for document in self.collection.find({}, ["_id"])])
        return table.take(np.flatnonzero(np.isin(table.samples, there)))


def _is_complete(given: dict[str, list[Any]]) -> bool:
    """Whether every mask of a sample has an attribute, or none has it."""
    count = len(given[_IDS])
    return all(len(values) in (0, count) for values in given.values())


def _ids(ids: Sequence[Any]) -> NDArray[np.bytes_]:
    """Ids as 12 bytes each; numpy drops zeros at the end, which changes no order."""
    return np.frombuffer(b"".join(each.binary for each in ids), "S12")


def _seconds(time: datetime | None) -> float:
    """Seconds since 1970 of a time in UTC as the database gives it; NaN of none."""
    return math.nan if time is None else time.replace(tzinfo=UTC).timestamp()


def _states(tags: Sequence[Sequence[str] | None], renamed: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The states of masks as indices of `STATES`, as `state_of` says them of one mask."""
    states = np.where(renamed, STATES.index("renamed"), STATES.index("undecided")).astype(np.uint8)
    for row in np.flatnonzero(np.fromiter(map(bool, tags), bool)).tolist():
        for state in ("accepted", "rejected"):
            if state in (tags[row] or ()):
                states[row] = STATES.index(state)
    return states


class _Codes(dict[Any, int]):
    """Numbers for names in the order in which they are met; -1 for None."""

    def __init__(self) -> None:
        super().__init__({None: -1})
        self.names: tuple[str, ...] = ()

    def __missing__(self, name: Any) -> int:
        if isinstance(name, str):
            self[name] = len(self.names)
            self.names += (name,)
        else:
            self[name] = self[str(name)]
        return self[name]


@contextmanager
def _without_collection() -> Iterator[None]:
    """Keep Python's collector of reference cycles from going through millions of rows, which have none.

    It takes three quarters of the time of reading a million masks.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
