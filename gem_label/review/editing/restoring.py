"""Taking back what a decision wrote, where nobody changed it since: expressions that the database evaluates."""

from __future__ import annotations

from typing import Any

from gem_label.review.storage.decision_log import Decision, collections
from gem_label.review.storage.detections import DECIDED_TAGS
from gem_label.review.storage.fields import main_field
from gem_label.review.storage.internals import samples_name
from gem_label.review.storage.log_entries import apply_log, both_fields
from gem_label.review.storage.selection import TAGS, Expression

WHOLE_MASKS = ("merge", "import", "add")
"""Actions that change the masks themselves: the log has them as they were and as they were written."""

_WRITTEN = ("label", "tags", "bounding_box", "mask", "mask_path", "decision")
"""What such an action writes of a mask; a mask that differs in one of them since stays as it is."""


def restore(dataset: Any, decision: Decision) -> None:
    """Give masks back what a decision overwrote, unless they were changed since.

    Masks that the decision added go, and those that it took out come back unless the sample has one with the same
    `_id`. Masks that the decision moved out of a field of less likely labels go back there. Each sample changes in
    one update, and a second call changes nothing.
    """
    field, (_, other) = decision.field, both_fields(dataset, decision.field)
    untouched = _is_untouched(decision)
    was_added = {"$and": [{"$in": ["$$mask._id", "$$added"]}, untouched]}
    here, detections = _masks_of(field), {}
    if main_field(dataset, field) != field:
        leaves = {"$and": [{"$in": ["$$mask._id", {"$concatArrays": ["$$ids", "$$added"]}]}, untouched]}
        comes = {"$and": [leaves, {"$not": [{"$in": ["$$mask._id", _ids_of(field)]}]}]}
        detections[other] = _filter(_masks_of(other), {"$not": [leaves]})
        here = {"$concatArrays": [here, _filter(_masks_of(other), comes)]}
    stay = _filter(here, {"$not": [was_added]})
    old = _at("$$before", "$$ids", "$$mask._id")
    was_changed = {"$and": [{"$in": ["$$mask._id", "$$ids"]}, untouched]}
    restored = {"$let": {"vars": {"old": old}, "in": _restored(decision)}}
    present = {"$map": {"input": stay, "as": "mask", "in": {"$cond": [was_changed, restored, "$$mask"]}}}
    is_there = {"$in": ["$$mask._id", {"$concatArrays": [_ids_of(field), _ids_of(other)]}]}
    was_replaced = {"$in": ["$$mask._id", "$$after._id"]}  # gone since: somebody deleted it
    was_removed = {"$and": [{"$gt": ["$$mask._cls", None]}, {"$not": [is_there]}, {"$not": [was_replaced]}]}
    detections[field] = {"$concatArrays": [present, _filter("$$before", was_removed)]}
    apply_log(dataset, decision.id, detections)


def count_restored(dataset: Any, decision: Decision) -> tuple[int, int]:
    """How many masks of a decision are again what they were, and how many are not.

    A mask is when its last decision is the one before; an added one when it is gone. Masks of samples that are gone
    count as none of the two.
    """
    _, log = collections()
    stamp = {"_id": "$$mask._id", "decision": {"$ifNull": ["$$mask.decision", None]}}
    fields = {"$concatArrays": [_masks_of(name) for name in both_fields(dataset, decision.field)]}
    old = {"$map": {"input": "$before", "as": "mask", "in": stamp}}
    restored = {"$size": {"$setIntersection": [old, "$now"]}}
    gone = {"$size": {"$setDifference": ["$added", "$now._id"]}}
    rows = log.aggregate(
        [
            {"$match": {"decision": decision.id}},
            {"$lookup": {"from": samples_name(dataset), "localField": "sample", "foreignField": "_id", "pipeline": [
                {"$project": {"now": {"$map": {"input": fields, "as": "mask", "in": stamp}}}}], "as": "sample"}},
            {"$match": {"sample": {"$ne": []}}},
            {"$set": {"now": {"$first": "$sample.now"}}},
            {"$group": {"_id": None, "done": {"$sum": {"$add": [restored, gone]}},
                        "all": {"$sum": {"$add": [{"$size": "$ids"}, {"$size": "$added"}]}}}},
        ]
    )  # fmt: skip
    for row in rows:
        return row["done"], row["all"] - row["done"]
    return 0, 0


def logged(mask: str, name: str) -> Expression:
    """An attribute of a mask as the log has it: FiftyOne takes no null for tags."""
    return {"$ifNull": [f"{mask}.{name}", [] if name == "tags" else None]}


def confirms(label: str | None) -> Expression:
    """Whether a new label of `$$mask` is what was proposed, so that only a tag tells that it is decided."""
    proposed = {"$ifNull": ["$$mask.proposed_label", None]}
    return {"$in": [proposed, [None, {"$literal": label}]]}


def _masks_of(field: str) -> Expression:
    return {"$ifNull": [f"${field}.detections", []]}


def _ids_of(field: str) -> Expression:
    return {"$ifNull": [f"${field}.detections._id", []]}


def _filter(masks: Any, condition: Expression) -> Expression:
    return {"$filter": {"input": masks, "as": "mask", "cond": condition}}


def _at(values: str, keys: str, key: str) -> Expression:
    """The element of an array at the place where another has a key; nothing where it has not."""
    place = {"$indexOfArray": [keys, key]}
    found = {"$cond": [{"$gte": ["$$place", 0]}, {"$arrayElemAt": [values, "$$place"]}, None]}
    return {"$let": {"vars": {"place": place}, "in": found}}


def _is_untouched(decision: Decision) -> Expression:
    """Whether `$$mask` is as a decision left it."""
    parts: list[Expression] = [{"$eq": ["$$mask.decision", decision.id]}]
    if decision.action in ("accept", "reject"):
        parts.append({"$in": [f"{decision.action}ed", TAGS]})
    elif decision.action == "rename":
        parts.append({"$eq": ["$$mask.label", {"$literal": decision.label}]})
    elif decision.action in WHOLE_MASKS:
        same = [{"$eq": [logged("$$mask", name), logged("$$written", name)]} for name in _WRITTEN]
        written = _at("$$after", "$$after._id", "$$mask._id")
        parts.append({"$let": {"vars": {"written": written}, "in": {"$and": same}}})
    return {"$and": parts}


def _restored(decision: Decision) -> Expression:
    """`$$mask` with what it gets back of `$$old`: what the decision overwrote, and nothing that came since."""
    if decision.action in WHOLE_MASKS:
        names = (*_WRITTEN, "decided_at", "decided_by")
        rest = {"$mergeObjects": ["$$mask", {name: logged("$$old", name) for name in names}]}
        # attributes that came since stay; without any the mask is exactly the old one
        is_written = {"$eq": ["$$mask", _at("$$after", "$$after._id", "$$mask._id")]}
        return {"$cond": [is_written, "$$old", rest]}
    parts: Expression = {name: f"$$old.{name}" for name in ("decided_at", "decided_by", "decision")}

    def split(tags: Expression, decided: bool) -> Expression:
        is_decision = {"$in": ["$$tag", sorted(DECIDED_TAGS)]}
        cond = is_decision if decided else {"$not": [is_decision]}
        return {"$filter": {"input": tags, "as": "tag", "cond": cond}}

    old, others = logged("$$old", "tags"), split(TAGS, False)
    same = {"$eq": [split(old, False), others]}
    tags = {"$cond": [same, old, {"$concatArrays": [others, split(old, True)]}]}
    if decision.action == "rename":
        parts["label"] = "$$old.label"
        tags = {"$cond": [confirms(decision.label), tags, TAGS]}
    return {"$mergeObjects": ["$$mask", {**parts, "tags": tags}]}
