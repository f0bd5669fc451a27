"""Changes of the masks themselves (merging, corrections), logged so that they can be undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gem_label.errors import GemLabelError, UsageError
from gem_label.review.editing.decisions import undo
from gem_label.review.storage.decision_log import (
    Decision,
    collections,
    declare_attributes,
    forget,
    now,
    record,
)
from gem_label.review.storage.detections import Document
from gem_label.review.storage.internals import dataset_id, samples_of
from gem_label.review.storage.less_likely import settle


@dataclass(frozen=True, slots=True)
class MaskChanges:
    """New detections of one sample, as MongoDB documents.

    Attributes:
        replaced: pairs of a detection as it was and as it shall be, with the same `_id`.
        removed: detections that go.
        added: detections that come.
    """

    replaced: list[tuple[Document, Document]] = field(default_factory=list)
    removed: list[Document] = field(default_factory=list)
    added: list[Document] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.replaced) + len(self.removed) + len(self.added)


def replace_masks(dataset: Any, field: str, action: str, changes: Mapping[Any, MaskChanges]) -> Decision:
    """Change the masks themselves, as one decision that can be undone.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        action: its name in the log.
        changes: sample id, as in the database -> what changes there; changed and new masks get `decided_at` and
            `decision`.

    Raises:
        UsageError: nothing changes.
        GemLabelError: the database did not take it; then nothing changed either.
    """
    from bson import ObjectId
    from bson.errors import BSONError
    from pymongo import UpdateOne
    from pymongo.errors import PyMongoError

    changes = {sample: change for sample, change in changes.items() if len(change)}
    if not changes:
        raise UsageError("nothing changes")
    declare_attributes(dataset, field)
    decision = Decision(str(ObjectId()), action, field, sum(map(len, changes.values())), now())
    stamp = {"decided_at": decision.at, "decision": decision.id}
    entries, updates = [], []
    for sample, change in changes.items():
        old = [*(before for before, _ in change.replaced), *change.removed]
        new = [{**after, **stamp} for _, after in change.replaced]
        entries.append(
            {
                "sample": sample,
                "decision": decision.id,
                "dataset": dataset_id(dataset),
                "field": field,
                "ids": [mask["_id"] for mask in old],
                "before": old,
                "added": [mask["_id"] for mask in change.added],
                "removed": [mask["mask_id"] for mask in change.removed if mask.get("mask_id") is not None],
            }
        )
        at = {"$indexOfArray": [[mask["_id"] for mask in new], "$$mask._id"]}
        gone = {"$in": ["$$mask._id", [mask["_id"] for mask in change.removed]]}
        stay = {
            "$filter": {
                "input": {"$ifNull": [f"${field}.detections", []]},
                "as": "mask",
                "cond": {"$not": [gone]},
            }
        }
        replaced = {
            "$let": {
                "vars": {"at": at},
                "in": {
                    "$cond": [{"$gte": ["$$at", 0]}, {"$arrayElemAt": [{"$literal": new}, "$$at"]}, "$$mask"]
                },
            }
        }
        added = {"$literal": [{**mask, **stamp} for mask in change.added]}
        detections = {"$concatArrays": [{"$map": {"input": stay, "as": "mask", "in": replaced}}, added]}
        values = {
            f"{field}.detections": detections,
            f"{field}._cls": "Detections",
            "last_modified_at": "$$NOW",
        }
        updates.append(UpdateOne({"_id": sample}, [{"$set": values}]))
    _, log = collections()
    logged = False
    try:
        log.insert_many(entries)
        record(dataset, decision)
        logged = True
        samples_of(dataset).bulk_write(updates, ordered=False)
        settle(dataset, field, list(changes))
    except (PyMongoError, BSONError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        try:
            if logged:
                undo(dataset, field, decision.id)  # of what was written before
            else:
                forget(decision.id)
        except (PyMongoError, GemLabelError):
            raise GemLabelError(
                f"FiftyOne's database failed: undo {action!r} when it is back ({reason})"
            ) from error
        raise GemLabelError(
            f"FiftyOne's database did not take the changes, nothing changed: {reason}"
        ) from error
    dataset.reload()
    return decision
