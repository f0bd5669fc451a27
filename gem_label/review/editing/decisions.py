"""Accept, reject, rename and delete masks, with undo; the database does all of it, one mask or all of them.

A decided mask carries `decided_at`, `decided_by` and the id of its last `decision`, and the tag "accepted" or
"rejected" or a label that differs from `proposed_label`: what `merge_detections` leaves alone when a run is pushed
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from gem_label.errors import UsageError
from gem_label.review.editing.restoring import confirms, count_restored, logged, restore
from gem_label.review.storage.decision_log import (
    UNDO_STEPS,
    Decision,
    add_class,
    announce,
    begin_undo,
    collections,
    complete,
    current_user,
    decided_samples,
    declare_attributes,
    end_undo,
    forget,
    list_decisions,
    now,
    record,
)
from gem_label.review.storage.detections import DECIDED_TAGS
from gem_label.review.storage.fields import check_mask_field, main_field
from gem_label.review.storage.internals import dataset_id
from gem_label.review.storage.less_likely import settle
from gem_label.review.storage.log_entries import apply_log, count_logged, drop_missed
from gem_label.review.storage.selection import TAGS, Expression, Selection, aggregate_masks

Action = Literal["accept", "reject", "rename", "delete"]

_RESTORED = ("_id", "label", "tags", "decided_at", "decided_by", "decision")
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
        author: the name of the person who decides; None: whose process this is.
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
    author = author or current_user()
    decision = Decision(str(ObjectId()), action, field, 0, now(), label, author=author, request=request)
    record(dataset, decision)
    try:
        _log_masks(dataset, decision, selection or Selection())
        decision = count_logged(decision)
        if not decision.masks:
            raise UsageError("no mask is meant: select masks, or widen the view or the conditions")
    except UsageError:
        forget(decision.id)
        raise
    announce(decision)
    masks = {"$ifNull": [f"${field}.detections", []]}
    chosen = _is_as_logged(action)
    if action == "delete":
        new: Expression = {"$filter": {"input": masks, "as": "mask", "cond": {"$not": [chosen]}}}
    else:
        stamp = {name: {"$literal": value} for name, value in decision.stamp.items()}
        change = {**_change(action, label), **stamp}
        changed = {"$cond": [chosen, {"$mergeObjects": ["$$mask", change]}, "$$mask"]}
        new = {"$map": {"input": masks, "as": "mask", "in": changed}}
    for attempt in range(1, _ATTEMPTS + 1):
        apply_log(dataset, decision.id, {field: new})
        missed = drop_missed(dataset, decision)
        if not missed:
            break
        if attempt < _ATTEMPTS and action != "delete":  # who decided the same meanwhile does not mind
            _log_masks(dataset, decision, _agreeing(decision, missed))
    settle(dataset, field, decided_samples(decision.id))
    decision = finish_decision(dataset, decision)
    for name in {field, main_field(dataset, field)} if label is not None else ():
        add_class(dataset, name, str(label))
    dataset.reload()  # samples that this process holds show the decision
    return decision


def finish_decision(dataset: Any, decision: Decision) -> Decision:
    """End the writing of a decision: `masks` and `missed` as they came out, in its list too.

    Raises:
        UsageError: somebody else changed all of the masks, or undid the decision already; then nothing of it is left.
    """
    done = count_logged(decision)
    if not done.masks:
        forget(decision.id)
        raise UsageError(
            "somebody else changed these masks at the same moment: look at them and decide again"
        )
    if not complete(dataset, done):
        restore(dataset, decision)
        forget(decision.id)
        raise UsageError("somebody else undid this at the same moment: look at the masks and decide again")
    return replace(done, missed=decision.masks - done.masks)


def _is_as_logged(action: Action) -> Expression:
    """Whether `$$mask` is one of the log's `$$ids` and nobody decided about it since it was logged.

    A mask that is to be deleted must be the same in everything: a new outline would be lost with it.
    """
    names = [name for name in _RESTORED if name != "_id"]
    same: list[Expression] = [{"$eq": [logged("$$mask", name), logged("$$old", name)]} for name in names]
    if action == "delete":
        same = [{"$eq": ["$$mask", "$$old"]}]
    old = {"$arrayElemAt": ["$$before", {"$indexOfArray": ["$$ids", "$$mask._id"]}]}
    return {
        "$and": [{"$in": ["$$mask._id", "$$ids"]}, {"$let": {"vars": {"old": old}, "in": {"$and": same}}}]
    }


def _change(action: Action, label: str | None) -> Expression:
    """The attributes that a mask gets."""
    is_decision = {"$in": ["$$tag", sorted(DECIDED_TAGS)]}
    others = {"$filter": {"input": TAGS, "as": "tag", "cond": {"$not": [is_decision]}}}
    if action == "rename":
        confirmed = {"$concatArrays": [others, ["accepted"]]}
        return {"label": {"$literal": label}, "tags": {"$cond": [confirms(label), confirmed, TAGS]}}
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
    kept = {name: logged("$$mask", name) for name in _RESTORED}
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
        The decision, with the masks that were changed again since in `missed`, and how many masks are again what they
        were. Masks that were decided about again since stay as they are now, by hand in the App too, and so do joined
        and imported masks whose label, tags or shape was changed. Other tags and labels that came since stay.

    Raises:
        UsageError: there is nothing to undo.
    """
    check_mask_field(dataset, field)
    decisions = list_decisions(dataset, field, UNDO_STEPS)
    found = next((each for each in decisions if decision in (None, each.id)), None)
    if found is None or not begin_undo(found.id):
        raise UsageError(f"there is nothing to undo in field {field!r}")
    restore(dataset, found)
    restored, left = count_restored(dataset, found)
    end_undo(found.id)
    dataset.reload()
    return replace(found, masks=restored, missed=left), restored
