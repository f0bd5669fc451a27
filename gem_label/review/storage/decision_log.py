"""The log of reviewers' decisions, in two collections of FiftyOne's own database.

`gem_label.decisions` has one document a decision. `gem_label.decided_masks` has one document per decision and
sample: what its masks were before, so that a decision can be undone, and which masks were taken out, so that a
later push does not bring them back (`log_entries` applies and checks them). Logs of datasets that are gone are
dropped along the way.

A decision is recorded before anything else is written, and marked `writing` until all of it is: a process that is
killed leaves a decision that can be undone. Who undoes a decision marks it `undoing` first. A writer that finds this
mark at its end takes back what it wrote, so the two never mix.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gem_label.review.database import load_fiftyone
from gem_label.review.storage.internals import database, dataset_id
from gem_label.review.storage.locking import schema_lock

DECISIONS, DECIDED_MASKS = "gem_label.decisions", "gem_label.decided_masks"
UNDO_STEPS = 100
"""So many decisions per field can be undone; what older ones overwrote is forgotten."""
_LATEST_FIRST = [("at", -1), ("_id", -1)]  # ids of several processes are in order by the second alone


@dataclass(frozen=True, slots=True)
class Decision:
    """What a reviewer decided.

    Attributes:
        id: 24 hexadecimal digits; masks carry the id of their last decision as `decision`.
        action: "accept", "reject", "rename", "delete", "merge", "import" or "add".
        field: the dataset's field.
        masks: how many masks it changed.
        at: when, in UTC.
        label: the new label of "rename", the label of "add".
        missed: masks that were meant too, but changed in between and stay as they are now.
        author: the name of the person who decided, where it is known; masks carry it as `decided_by`.
        request: the id that the program gave its request, so that a repeated request is recognized.
    """

    id: str
    action: str
    field: str
    masks: int
    at: datetime
    label: str | None = None
    missed: int = 0
    author: str | None = None
    request: str | None = None

    @property
    def stamp(self) -> dict[str, Any]:
        """The attributes by which a mask tells of its last decision."""
        return {"decided_at": self.at, "decided_by": self.author, "decision": self.id}

    def __str__(self) -> str:
        """One line for a list: "reject 12 masks"."""
        target = f" {'as' if self.action == 'add' else 'to'} {self.label!r}" if self.label else ""
        missed = f" ({self.missed} changed meanwhile and stay as they are)" if self.missed else ""
        return f"{self.action} {self.masks} mask{'' if self.masks == 1 else 's'}{target}{missed}"


def collections() -> tuple[Any, Any]:
    """The two collections."""
    db = database()
    return db[DECISIONS], db[DECIDED_MASKS]


def _create_indexes() -> None:
    """Make the indexes of the two collections where they are missing."""
    decisions, masks = collections()
    decisions.create_index([("dataset", 1), ("field", 1), ("forgotten", 1), ("_id", -1)])
    decisions.create_index([("dataset", 1), ("undone", 1)])
    # all that `statistics.progress` needs, so that it reads no decision
    counted = ("dataset", "field", "undone", "author", "at", "masks", "request")
    decisions.create_index([(name, 1) for name in counted])
    masks.create_index("dataset")
    masks.create_index("decision")
    masks.create_index("sample")


def record(dataset: Any, decision: Decision) -> None:
    """Store a decision that is about to be written."""
    _create_indexes()
    decisions, _ = collections()
    decisions.insert_one(
        {
            "_id": decision.id,
            "dataset": dataset_id(dataset),
            "field": decision.field,
            "action": decision.action,
            "masks": decision.masks,
            "at": decision.at,
            "label": decision.label,
            "author": decision.author,
            "request": decision.request,
            "writing": True,
        }
    )


def announce(decision: Decision) -> None:
    """Store how many masks a decision is about, before they change: its process may be killed."""
    decisions, _ = collections()
    decisions.update_one({"_id": decision.id}, {"$set": {"masks": decision.masks}})


def complete(dataset: Any, decision: Decision) -> bool:
    """Store how many masks a decision changed, and forget what can no longer be undone.

    Returns:
        False when somebody undid the decision while it was written: what was written must be taken back.
    """
    decisions, masks = collections()
    change = {"$set": {"masks": decision.masks}, "$unset": {"writing": ""}}
    if not decisions.update_one({"_id": decision.id, "undoing": None}, change).matched_count:
        return False
    query = {"dataset": dataset_id(dataset), "field": decision.field, "forgotten": None}
    of_field = decisions.find(query, ["_id"])
    too_old = [document["_id"] for document in of_field.sort(_LATEST_FIRST).skip(UNDO_STEPS)]
    if too_old:
        masks.delete_many({"decision": {"$in": too_old}, "removed": []})
        decisions.update_many({"_id": {"$in": too_old}}, {"$set": {"forgotten": True}})
    # of writers that were killed: the others have long seen the mark and dropped their decision themselves
    left = {"dataset": dataset_id(dataset), "undone": True, "at": {"$lt": now() - timedelta(days=1)}}
    for document in list(decisions.find(left, ["_id"])):
        forget(document["_id"])
    # in this order: a dataset that comes meanwhile is in neither list
    logged = {each for collection in (decisions, masks) for each in collection.distinct("dataset")}
    gone = list(logged - set(database().datasets.distinct("_id", {"_id": {"$in": list(logged)}})))
    for collection in (decisions, masks) if gone else ():
        collection.delete_many({"dataset": {"$in": gone}})
    return True


def list_decisions(dataset: Any, field: str, limit: int = 20) -> list[Decision]:
    """The decisions about a field that can be undone, latest first."""
    decisions, _ = collections()
    query = {"dataset": dataset_id(dataset), "field": field, "forgotten": None, "undone": None}
    return [
        Decision(
            document["_id"],
            document["action"],
            field,
            document["masks"],
            document["at"].replace(tzinfo=UTC),
            document["label"],
            author=document.get("author"),
            request=document.get("request"),
        )
        for document in decisions.find(query).sort(_LATEST_FIRST).limit(limit)
    ]


def requests_of(decision_ids: Iterable[str | None]) -> dict[str, str | None]:
    """Decision -> the id of the request that it came from, also when it can no longer be undone."""
    decisions, _ = collections()
    found = decisions.find({"_id": {"$in": [each for each in decision_ids if each]}}, ["request"])
    return {document["_id"]: document.get("request") for document in found}


def decided_samples(decision: str) -> list[Any]:
    """The ids of the samples that a decision is about, as in the database."""
    _, masks = collections()
    return [document["sample"] for document in masks.find({"decision": decision}, ["sample"])]


def forget(decision: str) -> None:
    """Drop a decision and what was logged about it."""
    decisions, masks = collections()
    masks.delete_many({"decision": decision})
    decisions.delete_one({"_id": decision})


def begin_undo(decision: str) -> bool:
    """Mark a decision as being undone, for whoever still writes it; False when it is gone."""
    decisions, _ = collections()
    key = {"_id": decision, "undone": None}
    return bool(decisions.update_one(key, {"$set": {"undoing": True}}).matched_count)


def end_undo(decision: str) -> None:
    """Drop a decision that was undone, or leave it to its writer, who needs the log to take back the rest."""
    decisions, masks = collections()
    masks.update_many({"decision": decision}, {"$set": {"removed": []}})  # a push may bring them back
    if not decisions.update_one({"_id": decision, "writing": True}, {"$set": {"undone": True}}).matched_count:
        forget(decision)


def deleted_mask_ids(dataset: Any, fields: Sequence[str], samples: Sequence[Any]) -> dict[Any, set[str]]:
    """The masks that reviewers took out of some samples.

    Args:
        dataset: the FiftyOne dataset.
        fields: its fields of detections.
        samples: ids of samples, as in the database.

    Returns:
        sample id -> mask ids; samples without any are left out.
    """
    masks = database()[DECIDED_MASKS]
    query = {
        "dataset": dataset_id(dataset),
        "field": {"$in": list(fields)},
        "sample": {"$in": list(samples)},
        "removed": {"$ne": []},
    }
    found: dict[Any, set[str]] = {}
    for document in masks.find(query, ["sample", "removed"]):
        found.setdefault(document["sample"], set()).update(document["removed"])
    return found


def current_user() -> str | None:
    """The name of the person whose process this is; None where the system has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None


def now() -> datetime:
    """The time in UTC, to the millisecond as MongoDB stores it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def declare_attributes(dataset: Any, field: str) -> None:
    """Make the attributes of decided masks known to FiftyOne."""
    fo = load_fiftyone()
    kinds = {"decided_at": fo.DateTimeField, "decided_by": fo.StringField, "decision": fo.StringField}

    def missing() -> list[str]:
        return [name for name in kinds if dataset.get_field(f"{field}.detections.{name}") is None]

    if not missing():
        return
    with schema_lock(dataset.name):
        dataset.reload()  # another process may have made them
        for name in missing():
            dataset.add_sample_field(f"{field}.detections.{name}", kinds[name])


def new_labels(dataset: Any, fields: Sequence[str]) -> list[str]:
    """The labels that reviewers gave masks of some fields, renamed or added ones, in alphabetical order."""
    query = {"dataset": dataset_id(dataset), "field": {"$in": list(fields)}, "label": {"$ne": None}}
    return sorted(database()[DECISIONS].distinct("label", query))


def add_class(dataset: Any, field: str, label: str) -> None:
    """Add a label to a field's declared classes, if it has any, whoever else adds one at the same time."""
    key = {"_id": dataset_id(dataset), f"classes.{field}": {"$type": "array", "$ne": label}}
    change = {"$push": {f"classes.{field}": label}, "$currentDate": {"last_modified_at": True}}
    database().datasets.update_one(key, change)
