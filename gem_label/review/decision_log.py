"""The log of reviewers' decisions, in two collections of FiftyOne's own database.

`gem_label.decisions` has one document a decision. `gem_label.decided_masks` has one document per decision and
sample: what its masks were before, so that a decision can be undone, and which masks were taken out, so that a
later push does not bring them back. Logs of datasets that are gone are dropped along the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gem_label.review.database import load_fiftyone
from gem_label.review.selection import Expression

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
    """

    id: str
    action: str
    field: str
    masks: int
    at: datetime
    label: str | None = None

    def __str__(self) -> str:
        """One line for a list: "reject 12 masks"."""
        target = f" to {self.label!r}" if self.label else ""
        return f"{self.action} {self.masks} mask{'' if self.masks == 1 else 's'}{target}"


def collections() -> tuple[Any, Any]:
    """The two collections, with their indexes."""
    database = _database()
    decisions, masks = database[DECISIONS], database[DECIDED_MASKS]
    decisions.create_index([("dataset", 1), ("field", 1)])
    masks.create_index("decision")
    masks.create_index("sample")
    return decisions, masks


def _database() -> Any:
    from fiftyone.core.odm import get_db_conn

    return get_db_conn()


def record(dataset: Any, decision: Decision) -> None:
    """Store a decision, and forget what can no longer be undone."""
    decisions, masks = collections()
    decisions.insert_one(
        {
            "_id": decision.id,
            "dataset": dataset._doc.id,
            "field": decision.field,
            "action": decision.action,
            "masks": decision.masks,
            "at": decision.at,
            "label": decision.label,
        }
    )
    of_field = decisions.find({"dataset": dataset._doc.id, "field": decision.field}, ["_id"])
    too_old = [document["_id"] for document in of_field.sort("_id", -1).skip(UNDO_STEPS)]
    if too_old:
        masks.delete_many({"decision": {"$in": too_old}, "removed": []})
        decisions.update_many({"_id": {"$in": too_old}}, {"$set": {"forgotten": True}})
    gone = {"dataset": {"$nin": _database().datasets.distinct("_id")}}
    for collection in (decisions, masks):
        collection.delete_many(gone)


def list_decisions(dataset: Any, field: str, limit: int = 20) -> list[Decision]:
    """The decisions about a field that can be undone, latest first."""
    decisions, _ = collections()
    query = {"dataset": dataset._doc.id, "field": field, "forgotten": None}
    return [
        Decision(
            document["_id"],
            document["action"],
            field,
            document["masks"],
            document["at"].replace(tzinfo=UTC),
            document["label"],
        )
        for document in decisions.find(query).sort("_id", -1).limit(limit)
    ]


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
    masks = _database()[DECIDED_MASKS]
    query = {
        "dataset": dataset._doc.id,
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

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        decision: its id in the log.
        names: what `detections` uses of the log's document, as `$$name`.
        detections: an expression on the sample's document.
    """
    _, log = collections()
    values = {f"{field}.detections": detections, "last_modified_at": "$$NOW"}
    log.aggregate(
        [
            {"$match": {"decision": decision}},
            {"$project": {"_id": "$sample", **dict.fromkeys(names, 1)}},
            {
                "$merge": {
                    "into": dataset._sample_collection_name,
                    "on": "_id",
                    "let": {name: f"${name}" for name in names},
                    "whenMatched": [{"$set": values}],
                    "whenNotMatched": "discard",
                }
            },
        ]
    )
