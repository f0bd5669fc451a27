"""Accept, reject, rename and delete masks, with undo; the database does all of it, one mask or all of them.

A decided mask carries `decided_at` and the id of its last `decision`, and the tag "accepted" or "rejected" or a
label that differs from `proposed_label`: what `merge_detections` leaves alone when a run is pushed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from gem_label.errors import UsageError
from gem_label.review.storage.decision_log import (
    UNDO_STEPS,
    Decision,
    add_class,
    apply_log,
    collections,
    count_logged,
    decided_samples,
    declare_attributes,
    drop_missed,
    forget,
    list_decisions,
    now,
    record,
    recount,
)
from gem_label.review.storage.detections import DECIDED_TAGS
from gem_label.review.storage.fields import check_mask_field, less_likely_field, main_field
from gem_label.review.storage.internals import dataset_id, samples_name, samples_of
from gem_label.review.storage.less_likely import settle, unsettle
from gem_label.review.storage.selection import TAGS, Expression, Selection, aggregate_masks

Action = Literal["accept", "reject", "rename", "delete"]

_RESTORED = ("_id", "label", "tags", "decided_at", "decision")
"""What a decision changes of a mask that stays."""

_ATTEMPTS = 8  # that many people deciding the same at once


def decide(
    dataset: Any,
    field: str,
    action: Action,
    selection: Selection | None = None,
    label: str | None = None,
    author: str | None = None,
    request: str | None = None,
) -> Decision:
    """Decide about masks; less likely labels that are accepted or renamed come into the labels' field.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        action: "accept" and "reject" tag the masks; "rename" gives them another label; "delete" takes them out of
            the dataset, and a later push does not bring them back.
        selection: which masks; None: all of the field.
        label: the new label, for "rename" alone.
        author: the name of the person who decides, for the log.
        request: an id by which the log shows what came of a request.

    Raises:
        UsageError: no mask is meant, or the request does not make sense, or somebody else changed all of the masks
            at the same moment (what they did stays; of some masks, `missed` counts them).
    """
    from bson import ObjectId

    check_mask_field(dataset, field)
    label = (label or "").strip() or None
    if action not in ("accept", "reject", "rename", "delete"):
        raise UsageError(f"unknown decision {action!r}: accept, reject, rename or delete")
    if (action == "rename") != (label is not None):
        raise UsageError("rename needs the new label, and nothing else takes one")
    declare_attributes(dataset, field)
    decision = Decision(str(ObjectId()), action, field, 0, now(), label, author=author, request=request)
    _log_masks(dataset, decision, selection or Selection())
    decision = replace(decision, masks=count_logged(decision.id))
    if not decision.masks:
        raise UsageError("no mask is meant: select masks, or widen the view or the conditions")
    record(dataset, decision)
    masks = {"$ifNull": [f"${field}.detections", []]}
    chosen = _is_as_logged()
    if action == "delete":
        new: Expression = {"$filter": {"input": masks, "as": "mask", "cond": {"$not": [chosen]}}}
    else:
        change = {**_change(action, label), "decided_at": decision.at, "decision": decision.id}
        changed = {"$cond": [chosen, {"$mergeObjects": ["$$mask", change]}, "$$mask"]}
        new = {"$map": {"input": masks, "as": "mask", "in": changed}}
    main = main_field(dataset, field)
    fields = [field, less_likely_field(field) if main == field else main]
    for attempt in range(1, _ATTEMPTS + 1):
        apply_log(dataset, field, decision.id, ["ids", "before"], new)
        missed = drop_missed(dataset, fields, decision)
        if not missed:
            break
        if attempt < _ATTEMPTS and action != "delete":  # who decided the same meanwhile does not mind
            _log_masks(dataset, decision, _agreeing(decision, missed))
    decision = recount(decision)
    if not decision.masks:
        forget(decision.id)
        raise UsageError(
            "somebody else changed these masks at the same moment: look at them and decide again"
        )
    settle(dataset, field, decided_samples(decision.id))
    for name in {field, main} if label is not None else ():
        add_class(dataset, name, str(label))
    dataset.reload()  # samples that this process holds show the decision
    return decision


def _is_as_logged() -> Expression:
    """Whether `$$mask` is one of the log's `$$ids` and nobody decided about it since it was logged."""
    same = [{"$eq": [_logged("$$mask", name), _logged("$$old", name)]} for name in _RESTORED if name != "_id"]
    old = {"$arrayElemAt": ["$$before", {"$indexOfArray": ["$$ids", "$$mask._id"]}]}
    return {
        "$and": [{"$in": ["$$mask._id", "$$ids"]}, {"$let": {"vars": {"old": old}, "in": {"$and": same}}}]
    }


def _logged(mask: str, name: str) -> Expression:
    """An attribute of a mask as the log has it: FiftyOne takes no null for tags."""
    return {"$ifNull": [f"{mask}.{name}", [] if name == "tags" else None]}


def _change(action: Action, label: str | None) -> Expression:
    """The attributes that a mask gets."""
    if action == "rename":
        return {"label": {"$literal": label}}
    is_decision = {"$in": ["$$tag", sorted(DECIDED_TAGS)]}
    others = {"$filter": {"input": TAGS, "as": "tag", "cond": {"$not": [is_decision]}}}
    return {"tags": {"$concatArrays": [others, ["accepted" if action == "accept" else "rejected"]]}}


def _agreeing(decision: Decision, masks: Sequence[Any]) -> Selection:
    """Those of some masks that are already what a decision makes of them."""
    ids = [str(each) for each in masks]
    if decision.label is not None:
        return Selection(ids=ids, labels=[decision.label])
    return Selection(ids=ids, states=[f"{decision.action}ed"])


def _log_masks(dataset: Any, decision: Decision, selection: Selection) -> None:
    """Write down which masks a decision is about and what they are before it, sample by sample."""
    _, log = collections()
    removes = decision.action == "delete"
    kept = {name: _logged("$$mask", name) for name in _RESTORED}
    removed = {"$filter": {"input": "$masks.mask_id", "as": "id", "cond": {"$gt": ["$$id", None]}}}
    entry = {
        "_id": 0,
        "sample": "$_id",
        "decision": {"$literal": decision.id},
        "dataset": {"$literal": dataset_id(dataset)},
        "field": {"$literal": decision.field},
        "ids": "$masks._id",
        "before": {"$map": {"input": "$masks", "as": "mask", "in": "$$mask" if removes else kept}},
        "added": [],
        "removed": removed if removes else [],
    }
    aggregate_masks(
        dataset,
        decision.field,
        selection,
        [{"$project": entry}, {"$merge": {"into": log.name, "whenMatched": "fail"}}],
    )


def undo(dataset: Any, field: str, decision: str | None = None) -> tuple[Decision, int]:
    """Take a decision back.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        decision: its id; None: the last one about the field that was not undone.

    Returns:
        The decision, and how many masks are again what they were; masks that were decided about again since
        stay as they are now, by hand in the App too. Other tags and labels that came since stay.

    Raises:
        UsageError: there is nothing to undo.
    """
    check_mask_field(dataset, field)
    decisions = list_decisions(dataset, field, UNDO_STEPS)
    found = next((each for each in decisions if decision in (None, each.id)), None)
    if found is None:
        raise UsageError(f"there is nothing to undo in field {field!r}")
    untouched = _is_untouched(found)
    masks = {"$ifNull": [f"${field}.detections", []]}
    was_added = {"$and": [untouched, {"$in": ["$$mask._id", "$$added"]}]}
    before = {"$let": {"vars": {"at": {"$indexOfArray": ["$$ids", "$$mask._id"]}}, "in": {"$cond": [
        {"$gte": ["$$at", 0]}, {"$arrayElemAt": ["$$before", "$$at"]}, "$$mask"]}}}  # fmt: skip
    # the log has whole masks where a mask itself was changed, otherwise only what the decision overwrote
    overwritten = {"$mergeObjects": ["$$mask", _restored(found.action)]}
    restored = {"$let": {"vars": {"old": before}, "in": {"$cond": [
        {"$gt": ["$$old._cls", None]}, "$$old", overwritten]}}}  # fmt: skip
    stay = {"$filter": {"input": masks, "as": "mask", "cond": {"$not": [was_added]}}}
    present = {"$map": {"input": stay, "as": "mask", "in": {"$cond": [untouched, restored, "$$mask"]}}}
    is_gone = {"$not": [{"$in": ["$$mask._id", {"$ifNull": [f"${field}.detections._id", []]}]}]}
    was_removed = {"$and": [{"$gt": ["$$mask._cls", None]}, is_gone]}
    missing = {"$filter": {"input": "$$before", "as": "mask", "cond": was_removed}}
    samples = decided_samples(found.id)
    unsettle(dataset, field, untouched, samples)
    count = _count_restored(dataset, field, found.id, untouched, samples)
    apply_log(dataset, field, found.id, ["ids", "before", "added"], {"$concatArrays": [present, missing]})
    forget(found.id)
    dataset.reload()
    return found, count


def _is_untouched(decision: Decision) -> Expression:
    """Whether `$$mask` is as a decision left it."""
    parts: list[Expression] = [{"$eq": ["$$mask.decision", decision.id]}]
    if decision.action in ("accept", "reject"):
        parts.append({"$in": [f"{decision.action}ed", TAGS]})
    elif decision.action == "rename":
        parts.append({"$eq": ["$$mask.label", {"$literal": decision.label}]})
    return {"$and": parts}


def _restored(action: str) -> Expression:
    """What `$$mask` gets back of `$$old`: what the decision overwrote, and nothing that came since."""
    parts: Expression = {name: f"$$old.{name}" for name in ("decided_at", "decision")}
    if action == "rename":
        return {**parts, "label": "$$old.label"}

    def split(tags: Expression, decided: bool) -> Expression:
        is_decision = {"$in": ["$$tag", sorted(DECIDED_TAGS)]}
        cond = is_decision if decided else {"$not": [is_decision]}
        return {"$filter": {"input": tags, "as": "tag", "cond": cond}}

    old, others = _logged("$$old", "tags"), split(TAGS, False)
    same = {"$eq": [split(old, False), others]}
    return {**parts, "tags": {"$cond": [same, old, {"$concatArrays": [others, split(old, True)]}]}}


def _count_restored(
    dataset: Any, field: str, decision: str, untouched: Expression, samples: Sequence[Any]
) -> int:
    """How many masks of its samples an undo changes: those whose last decision it is, and those it took out."""
    _, log = collections()
    last = {
        "$filter": {
            "input": f"${field}.detections",
            "as": "mask",
            "cond": untouched,
        }
    }
    touched = samples_of(dataset).aggregate(
        [
            {"$match": {"_id": {"$in": list(samples)}, f"{field}.detections.decision": decision}},
            {"$group": {"_id": None, "masks": {"$sum": {"$size": last}}}},
        ]
    )
    taken_out = log.aggregate(
        [
            {"$match": {"decision": decision, "before._cls": {"$exists": True}}},
            {"$lookup": {"from": samples_name(dataset), "localField": "sample", "foreignField": "_id",
                         "pipeline": [{"$project": {"ids": f"${field}.detections._id"}}], "as": "now"}},
            {"$match": {"now": {"$ne": []}}},  # samples that are gone get nothing back
            {"$set": {"now": {"$ifNull": [{"$first": "$now.ids"}, []]}}},
            {"$group": {"_id": None, "masks": {"$sum": {"$size": {"$setDifference": ["$ids", "$now"]}}}}},
        ]
    )  # fmt: skip
    return sum(part["masks"] for counts in (touched, taken_out) for part in counts)
