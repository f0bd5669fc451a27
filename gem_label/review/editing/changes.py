"""Changes of the masks themselves (joining, corrections), logged so that they can be undone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gem_label.errors import GemLabelError, UsageError
from gem_label.review.database import database_reason
from gem_label.review.editing.decisions import finish_decision
from gem_label.review.editing.restoring import restore
from gem_label.review.storage.decision_log import (
    Decision,
    collections,
    current_user,
    declare_attributes,
    forget,
    now,
    record,
)
from gem_label.review.storage.detections import Document
from gem_label.review.storage.internals import dataset_id
from gem_label.review.storage.less_likely import settle
from gem_label.review.storage.log_entries import apply_log, drop_missed, removed_ids
from gem_label.review.storage.selection import Expression

_LARGEST_ENTRY = 12 << 20
"""Bytes of masks in one document of the log; MongoDB refuses those above 16 MB."""


@dataclass(frozen=True, slots=True)
class MaskChanges:
    """New detections of one sample, as MongoDB documents.

    Attributes:
        replaced: pairs of a detection as it was read and as it shall be, with the same `_id`.
        removed: detections that go, as they were read.
        added: detections that come, each with an `_id`.
        together: sets of `_id`s of replaced and removed detections that change together or not at all; every other
            detection changes for itself.
    """

    replaced: list[tuple[Document, Document]] = field(default_factory=list)
    removed: list[Document] = field(default_factory=list)
    added: list[Document] = field(default_factory=list)
    together: list[set[Any]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.replaced) + len(self.removed) + len(self.added)


def replace_masks(
    dataset: Any,
    field: str,
    action: str,
    changes: Mapping[Any, MaskChanges],
    label: str | None = None,
    author: str | None = None,
    request: str | None = None,
) -> Decision:
    """Change the masks themselves, as one decision that can be undone.

    A detection that is not as it was read any more (somebody changed, moved or deleted it) stays as it is now, with
    all that change together with it, and counts as missed. Each sample changes in one update of the database, or in a
    few where its masks have many megabytes.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        action: its name in the log, "merge", "import" or "add".
        changes: sample id, as in the database -> what changes there; changed and new masks get `decided_at`,
            `decided_by` and `decision`.
        label: the label that the masks get, for the log.
        author: the name of the person who decides; None: whose process this is.
        request: an id by which the log shows what came of a request.

    Raises:
        UsageError: nothing changes, or somebody else changed all of the masks meanwhile.
        GemLabelError: the database did not take it; then nothing changed either.
    """
    from bson import ObjectId
    from bson.errors import BSONError
    from pymongo.errors import PyMongoError

    changes = {sample: change for sample, change in changes.items() if len(change)}
    if not changes:
        raise UsageError("nothing changes")
    declare_attributes(dataset, field)
    count = sum(map(len, changes.values()))
    author = author or current_user()
    decision = Decision(str(ObjectId()), action, field, count, now(), label, author=author, request=request)
    _, log = collections()
    try:
        record(dataset, decision)
        for sample, change in changes.items():
            of_sample = {
                "sample": sample,
                "decision": decision.id,
                "dataset": dataset_id(dataset),
                "field": field,
            }
            for entry in _iter_entries(change, decision.stamp):
                log.insert_one({**of_sample, **entry})
        apply_log(dataset, decision.id, {field: _changed(field)})
        settle(dataset, field, list(changes))
        drop_missed(dataset, decision)
    except (PyMongoError, BSONError, OverflowError) as error:
        reason = database_reason(error)
        try:
            restore(dataset, decision)  # what was written before
            forget(decision.id)
        except PyMongoError:
            raise GemLabelError(
                f"FiftyOne's database does not answer ({reason}): when it is back, do the same again, or undo "
                f"{action!r}"
            ) from error
        raise GemLabelError(
            f"FiftyOne's database did not take the changes, nothing changed: {reason}"
        ) from error
    decision = finish_decision(dataset, decision)
    dataset.reload()
    return decision


def _iter_entries(change: MaskChanges, stamp: Document) -> Iterator[Document]:
    """Entries of the log for one sample, as many as their size asks for; what changes together is in one of them."""
    from bson import encode

    new = {after["_id"]: {**after, **stamp} for _, after in change.replaced}
    numbers = {each: number for number, together in enumerate(change.together) for each in together}
    parts: dict[Any, list[Document]] = {}  # number of a group, or `_id` of a mask for itself
    for old in (*(before for before, _ in change.replaced), *change.removed):
        parts.setdefault(numbers.get(old["_id"], old["_id"]), []).append(old)
    entry, size = _empty_entry(), 0
    for number, part in enumerate(parts.values()):
        after = [new[old["_id"]] for old in part if old["_id"] in new]
        length = sum(len(encode(mask)) for mask in (*part, *after))
        if size and size + length > _LARGEST_ENTRY:
            yield entry
            entry, size = _empty_entry(), 0
        entry["ids"] += [old["_id"] for old in part]
        entry["before"] += part
        entry["group"] += [number] * len(part)
        entry["after"] += after
        entry["removed"] += removed_ids([old for old in part if old["_id"] not in new])
        size += length
    for mask in change.added:
        length = len(encode(mask))
        if size and size + length > _LARGEST_ENTRY:
            yield entry
            entry, size = _empty_entry(), 0
        entry["added"].append(mask["_id"])
        entry["after"].append({**mask, **stamp})
        size += length
    yield entry


def _empty_entry() -> Document:
    return {name: [] for name in ("ids", "before", "group", "after", "added", "removed")}


def _changed(field: str) -> Expression:
    """A sample's detections after what an entry of the log says; see `log_entries`.

    A second evaluation on its own result changes nothing, as no mask is then what it was before.
    """
    here = {"$arrayElemAt": ["$$masks", {"$indexOfArray": ["$$present", "$$old._id"]}]}
    is_same = {"$and": [{"$in": ["$$old._id", "$$present"]}, {"$eq": ["$$old", here]}]}
    places = {"$range": [0, {"$size": "$$ids"}]}
    old = {"$arrayElemAt": ["$$before", "$$i"]}
    differs = {"$let": {"vars": {"old": old}, "in": {"$not": [is_same]}}}
    group = {"$arrayElemAt": ["$$group", "$$i"]}
    held = {
        "$map": {"input": {"$filter": {"input": places, "as": "i", "cond": differs}}, "as": "i", "in": group}
    }
    free = {"$filter": {"input": places, "as": "i", "cond": {"$not": [{"$in": [group, "$$held"]}]}}}
    taken = {"$map": {"input": free, "as": "i", "in": {"$arrayElemAt": ["$$ids", "$$i"]}}}
    goes = {"$and": [{"$in": ["$$mask._id", "$$taken"]}, {"$not": [{"$in": ["$$mask._id", "$$written"]}]}]}
    stay = {"$filter": {"input": "$$masks", "as": "mask", "cond": {"$not": [goes]}}}
    new = {"$arrayElemAt": ["$$after", {"$indexOfArray": ["$$written", "$$mask._id"]}]}
    replaced = {"$cond": [{"$in": ["$$mask._id", "$$taken"]}, new, "$$mask"]}
    comes = {"$and": [{"$in": ["$$mask._id", "$$added"]}, {"$not": [{"$in": ["$$mask._id", "$$present"]}]}]}
    result: Expression = {
        "$concatArrays": [
            {"$map": {"input": stay, "as": "mask", "in": replaced}},
            {"$filter": {"input": "$$after", "as": "mask", "cond": comes}},
        ]
    }
    masks: Expression = {"masks": {"$ifNull": [f"${field}.detections", []]}, "written": "$$after._id"}
    masks["present"] = {"$ifNull": [f"${field}.detections._id", []]}
    for name, value in (("taken", taken), ("held", held)):
        result = {"$let": {"vars": {name: value}, "in": result}}
    return {"$let": {"vars": masks, "in": result}}
