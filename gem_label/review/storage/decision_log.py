"""The log of reviewers' decisions, in two collections of FiftyOne's own database.

`gem_label.decisions` has one document a decision. `gem_label.decided_masks` has one document per decision and
sample: what its masks were before, so that a decision can be undone, and which masks were taken out, so that a
later push does not bring them back. Logs of datasets that are gone are dropped along the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from gem_label.review.database import load_fiftyone
from gem_label.review.storage.internals import database, dataset_id, samples_name
from gem_label.review.storage.selection import Expression

DECISIONS, DECIDED_MASKS = "gem_label.decisions", "gem_label.decided_masks"
UNDO_STEPS = 100
"""So many decisions per field can be undone; what older ones overwrote is forgotten."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a reviewer decided.

    Attributes:
        id: 24 hexadecimal digits; masks carry the id of their last decision as `decision`.
        action: "accept", "reject", "rename", "delete", "merge" or "import".
        field: the dataset's field.
        masks: how many masks it changed.
        at: when, in UTC.
        label: the new label, of "rename" alone.
        missed: masks that were meant too, but changed in between and stay as they are now.
        author: the name of the person who decided, where it is known.
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

    def __str__(self) -> str:
        """One line for a list: "reject 12 masks"."""
        target = f" to {self.label!r}" if self.label else ""
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
    masks.create_index("decision")
    masks.create_index("sample")


def record(dataset: Any, decision: Decision) -> None:
    """Store a decision, and forget what can no longer be undone."""
    _create_indexes()
    decisions, masks = collections()
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
        }
    )
    query = {"dataset": dataset_id(dataset), "field": decision.field, "forgotten": None}
    of_field = decisions.find(query, ["_id"])
    too_old = [document["_id"] for document in of_field.sort("_id", -1).skip(UNDO_STEPS)]
    if too_old:
        masks.delete_many({"decision": {"$in": too_old}, "removed": []})
        decisions.update_many({"_id": {"$in": too_old}}, {"$set": {"forgotten": True}})
    # in this order: a dataset that comes meanwhile is in neither list
    logged = {each for collection in (decisions, masks) for each in collection.distinct("dataset")}
    gone = list(logged - set(database().datasets.distinct("_id", {"_id": {"$in": list(logged)}})))
    for collection in (decisions, masks) if gone else ():
        collection.delete_many({"dataset": {"$in": gone}})


def list_decisions(dataset: Any, field: str, limit: int = 20) -> list[Decision]:
    """The decisions about a field that can be undone, latest first."""
    decisions, _ = collections()
    query = {"dataset": dataset_id(dataset), "field": field, "forgotten": None}
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
        for document in decisions.find(query).sort("_id", -1).limit(limit)
    ]


def request_of(decision: str | None) -> str | None:
    """The id of the request that a decision came from, also when it can no longer be undone."""
    decisions, _ = collections()
    return (decisions.find_one({"_id": decision}, ["request"]) or {}).get("request")


def decided_samples(decision: str) -> list[Any]:
    """The ids of the samples that a decision is about, as in the database."""
    _, masks = collections()
    return [document["sample"] for document in masks.find({"decision": decision}, ["sample"])]


def forget(decision: str) -> None:
    """Drop a decision that was undone."""
    decisions, masks = collections()
    masks.delete_many({"decision": decision})
    decisions.delete_one({"_id": decision})


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


def now() -> datetime:
    """The time in UTC, to the millisecond as MongoDB stores it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def declare_attributes(dataset: Any, field: str) -> None:
    """Make the attributes of decided masks known to FiftyOne."""
    fo = load_fiftyone()
    for attribute, kind in (("decided_at", fo.DateTimeField), ("decision", fo.StringField)):
        if dataset.get_field(f"{field}.detections.{attribute}") is None:
            dataset.add_sample_field(f"{field}.detections.{attribute}", kind)


def apply_log(dataset: Any, field: str, decision: str, names: Sequence[str], detections: Expression) -> None:
    """Give the samples that a decision is about new detections.

    The database computes each sample's from what the sample has at that moment, so nothing that is written in
    between is lost; `detections` must leave alone what is not as the log says.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        decision: its id in the log.
        names: what `detections` uses of the log's document, as `$$name`.
        detections: an expression on the sample's document.
    """
    _, log = collections()
    values = {
        f"{field}._cls": "Detections",
        f"{field}.detections": detections,
        "last_modified_at": "$$NOW",
    }
    log.aggregate(
        [
            {"$match": {"decision": decision}},
            {"$project": {"_id": "$sample", **dict.fromkeys(names, 1)}},
            {
                "$merge": {
                    "into": samples_name(dataset),
                    "on": "_id",
                    "let": {name: f"${name}" for name in names},
                    "whenMatched": [{"$set": values}],
                    "whenNotMatched": "discard",
                }
            },
        ]
    )


def drop_missed(dataset: Any, fields: Sequence[str], decision: Decision) -> list[Any]:
    """Take out of the log what a decision did not change, because somebody else changed it first.

    Args:
        dataset: the FiftyOne dataset.
        fields: the decision's field first, then others that a mask may have moved to.
        decision: a decision that was recorded and applied.

    Returns:
        The `_id`s of these masks.
    """
    _, log = collections()
    of_decision = {"input": f"${decision.field}.detections", "as": "mask"}
    if decision.action == "delete":  # what is still there was missed
        present = [{"$ifNull": [f"${field}.detections._id", []]} for field in fields]
        seen: Expression = {"$concatArrays": present}
        done: Expression = {"$not": [{"$in": ["$$id", "$seen"]}]}
    else:
        is_last = {"$eq": ["$$mask.decision", decision.id]}
        changed = {"$ifNull": [{"$filter": {**of_decision, "cond": is_last}}, []]}
        seen = {"$map": {"input": changed, "as": "mask", "in": "$$mask._id"}}
        done = {"$in": ["$$id", "$seen"]}
    rows = log.aggregate(
        [
            {"$match": {"decision": decision.id}},
            {"$lookup": {"from": samples_name(dataset), "localField": "sample", "foreignField": "_id",
                         "pipeline": [{"$project": {"seen": seen}}], "as": "now"}},
            {"$set": {"seen": {"$ifNull": [{"$first": "$now.seen"}, []]}}},
            {"$project": {"ids": 1, "done": {"$filter": {"input": "$ids", "as": "id", "cond": done}}}},
            {"$match": {"$expr": {"$ne": ["$ids", "$done"]}}},
        ]
    )  # fmt: skip
    missed: list[Any] = []
    for row in list(rows):
        missed += [each for each in row["ids"] if each not in row["done"]]
        entry = log.find_one({"_id": row["_id"]})
        before = [mask for mask in entry["before"] if mask["_id"] in row["done"]]
        values: dict[str, Any] = {"ids": [mask["_id"] for mask in before], "before": before}
        if decision.action == "delete":
            values["removed"] = [mask["mask_id"] for mask in before if mask.get("mask_id") is not None]
        if before:
            log.update_one({"_id": row["_id"]}, {"$set": values})
        else:
            log.delete_one({"_id": row["_id"]})
    return missed


def count_logged(decision: str) -> int:
    """How many masks the log has of a decision."""
    _, log = collections()
    count = {"$group": {"_id": None, "masks": {"$sum": {"$size": "$ids"}}}}
    return sum(row["masks"] for row in log.aggregate([{"$match": {"decision": decision}}, count]))


def recount(decision: Decision) -> Decision:
    """The decision with `masks` and `missed` as they came out, in its list too."""
    masks = count_logged(decision.id)
    if masks == decision.masks:
        return decision
    decisions, _ = collections()
    decisions.update_one({"_id": decision.id}, {"$set": {"masks": masks}})
    return replace(decision, masks=masks, missed=decision.masks - masks)


def new_labels(dataset: Any, fields: Sequence[str]) -> list[str]:
    """The labels that reviewers gave masks of some fields, in alphabetical order."""
    query = {"dataset": dataset_id(dataset), "field": {"$in": list(fields)}, "action": "rename"}
    return sorted(database()[DECISIONS].distinct("label", query))


def add_class(dataset: Any, field: str, label: str) -> None:
    """Add a label to a field's declared classes, if it has any, whoever else adds one at the same time."""
    key = {"_id": dataset_id(dataset), f"classes.{field}": {"$type": "array", "$ne": label}}
    change = {"$push": {f"classes.{field}": label}, "$currentDate": {"last_modified_at": True}}
    database().datasets.update_one(key, change)
