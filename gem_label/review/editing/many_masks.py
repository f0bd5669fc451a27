"""Decisions of a review panel: some masks in one request, safe to send again when no answer came.

A panel sends its decisions in the background, and again when an answer is lost. The id that it gives every request is
in the log of decisions, so that a repeated request is recognized, and an undo needs no other id. The log gets one
decision for each action and new label of a request, whatever the number of masks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from gem_label.errors import UsageError
from gem_label.review.editing.decisions import Action, decide, undo
from gem_label.review.queues.order import MaskReference
from gem_label.review.storage.decision_log import UNDO_STEPS, Decision, list_decisions, requests_of
from gem_label.review.storage.detections import Document, detections_of, state_of
from gem_label.review.storage.fields import check_mask_field, less_likely_field, main_field
from gem_label.review.storage.internals import samples_of
from gem_label.review.storage.selection import Selection

Outcome = Literal["stored", "conflict", "gone"]

_ROUNDS = 3
"""Decisions that a mask takes at most: out of the rejected ones, another label, accepted."""


@dataclass(frozen=True, slots=True)
class MaskDecision:
    """What is decided about a mask.

    Attributes:
        mask: which mask.
        label: its right label, which may be the one it has; None: the mask is rejected.
        seen: the id of the last decision about the mask that the panel knows of.
    """

    mask: MaskReference
    label: str | None
    seen: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request for one mask.

    Attributes:
        outcome: "stored"; "conflict": somebody else decided about the mask since the panel saw it, and that stays;
            "gone": the mask is not in the dataset any more.
        label: the mask's class now.
        state: its state now, one of `selection.STATES`.
        decision: the id of the last decision about it.
    """

    outcome: Outcome
    label: str | None = None
    state: str | None = None
    decision: str | None = None


Found = dict[str, tuple[str, Document]]
"""Detection id -> the field that it is in (less likely ones move when they are accepted), and the detection."""


def decide_masks(
    dataset: Any,
    field: str,
    decisions: Sequence[MaskDecision],
    request: str,
    author: str | None = None,
) -> list[Answer]:
    """Accept masks with their labels, or reject them.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        decisions: what is decided, each about another mask.
        request: the panel's id of this request, the same when it is sent again.
        author: the name of the person who decides.

    Returns:
        What each mask is now, in the order of `decisions`. A conflict about one mask does not keep the others from
        being stored.

    Raises:
        UsageError: there is no such field, or a label is empty.
    """
    if any(each.label is not None and not each.label.strip() for each in decisions):
        raise UsageError("give the new label")
    check_mask_field(dataset, field)
    masks = [each.mask for each in decisions]
    wanted = {each.mask.label_id: each.label and each.label.strip() for each in decisions}
    found = _find(dataset, field, masks)
    conflicts = _conflicts(found, decisions, request)
    steps = _next_steps(found, masks, wanted, conflicts)
    for _ in range(_ROUNDS):
        for (name, action, label), some in steps.items():
            ids, samples = [each.label_id for each in some], [each.sample_id for each in some]
            # of masks that somebody else changes at this moment, the next look says what they are
            with suppress(UsageError):
                decide(dataset, name, action, Selection(ids=ids, samples=samples), label, author, request)
        if not steps:
            break
        found = _find(dataset, field, masks)
        conflicts |= _conflicts(found, decisions, request)
        steps = _next_steps(found, masks, wanted, conflicts)
    conflicts |= {each.label_id for some in steps.values() for each in some}
    return [_answer(found, each.label_id, each.label_id in conflicts) for each in masks]


def undo_masks(dataset: Any, field: str, masks: Sequence[MaskReference], request: str) -> list[Answer]:
    """Take back what a request of `decide_masks` decided; nothing happens when that was done already.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        masks: the masks of that request.
        request: the id of that request.

    Returns:
        What each mask is now; what somebody else decided about one since stays.

    Raises:
        UsageError: there is no such field, or too many decisions were made since.
    """
    check_mask_field(dataset, field)
    for decision in _decisions_of(dataset, field, request):
        undo(dataset, decision.field, decision.id)
    found = _find(dataset, field, masks)
    if request in requests_of(_last_decisions(found).values()).values():
        raise UsageError(f"only the last {UNDO_STEPS} decisions can be undone")
    return [_answer(found, each.label_id) for each in masks]


def _conflicts(found: Found, decisions: Sequence[MaskDecision], request: str) -> set[str]:
    """The masks that somebody else decided about since the panel saw them."""
    last = _last_decisions(found)
    others = {
        each.mask.label_id: last[each.mask.label_id]
        for each in decisions
        if each.mask.label_id in last and last[each.mask.label_id] != each.seen
    }
    requests = requests_of(others.values())
    return {mask for mask, decision in others.items() if decision is None or requests[decision] != request}


def _last_decisions(found: Found) -> dict[str, str | None]:
    return {mask: detection.get("decision") for mask, (_, detection) in found.items()}


def _next_steps(
    found: Found, masks: Sequence[MaskReference], wanted: Mapping[str, str | None], left_out: Set[str]
) -> dict[tuple[str, Action, str | None], list[MaskReference]]:
    """Field, action and new label of the next decisions on the way to the wanted labels -> the masks."""
    steps: dict[tuple[str, Action, str | None], list[MaskReference]] = {}
    for mask in masks:
        if mask.label_id not in found or mask.label_id in left_out:
            continue
        name, detection = found[mask.label_id]
        label = wanted[mask.label_id]
        action = _next_step(detection, label)
        if action is not None:
            steps.setdefault((name, action, label if action == "rename" else None), []).append(mask)
    return steps


def _next_step(detection: Document, label: str | None) -> Action | None:
    """The next decision on the way to a label (None: to a rejected mask); None: the mask is there."""
    state = state_of(detection)
    if label is None:
        return None if state == "rejected" else "reject"
    if detection.get("label") != label:
        return "accept" if state == "rejected" else "rename"
    return "accept" if state in ("undecided", "rejected") else None


def _decisions_of(dataset: Any, field: str, request: str) -> list[Decision]:
    """The decisions of a request that can be undone, latest first."""
    main = main_field(dataset, field)
    fields = {field, main, less_likely_field(main)}
    decisions = [each for name in fields for each in list_decisions(dataset, name, UNDO_STEPS)]
    of_request = [each for each in decisions if each.request == request]
    return sorted(of_request, key=lambda each: each.id, reverse=True)


def _find(dataset: Any, field: str, masks: Sequence[MaskReference]) -> Found:
    """Masks as they are now; those that are gone are left out."""
    from bson import ObjectId

    main = main_field(dataset, field)
    fields = dict.fromkeys([field, main, less_likely_field(main)])
    shown = ("_id", "label", "tags", "proposed_label", "decision")
    names = {f"{name}.detections.{attribute}": 1 for name in fields for attribute in shown}
    samples = {ObjectId(mask.sample_id) for mask in masks}
    wanted = {mask.label_id for mask in masks}
    found: Found = {}
    for document in samples_of(dataset).find({"_id": {"$in": list(samples)}}, names):
        for name in fields:
            for detection in detections_of(document, name):
                if str(detection["_id"]) in wanted:
                    found.setdefault(str(detection["_id"]), (name, detection))
    return found


def _answer(found: Found, mask: str, is_conflict: bool = False) -> Answer:
    if mask not in found:
        return Answer("gone")
    _, detection = found[mask]
    outcome: Outcome = "conflict" if is_conflict else "stored"
    return Answer(outcome, detection.get("label"), state_of(detection), detection.get("decision"))
