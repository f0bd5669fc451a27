"""Decisions of a review panel: one mask at a time, safe to send again when no answer came.

A panel sends its decisions in the background, and again when an answer is lost. The id that it gives every request is
in the log of decisions, so that a repeated request is recognized, and an undo needs no other id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gem_label.errors import UsageError
from gem_label.review.editing.decisions import Action, decide, undo
from gem_label.review.queues.order import MaskReference
from gem_label.review.storage.decision_log import UNDO_STEPS, Decision, list_decisions, request_of
from gem_label.review.storage.detections import Document, state_of
from gem_label.review.storage.fields import check_mask_field, less_likely_field, main_field
from gem_label.review.storage.internals import samples_of
from gem_label.review.storage.selection import Selection

Outcome = Literal["stored", "conflict", "gone"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request.

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


def decide_mask(
    dataset: Any,
    field: str,
    mask: MaskReference,
    label: str | None,
    seen: str | None,
    request: str,
    author: str | None = None,
) -> Answer:
    """Accept a mask with a label, or reject it.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        mask: which mask.
        label: its right label, which may be the one it has; None: the mask is rejected.
        seen: the id of the last decision about the mask that the panel knows of.
        request: the panel's id of this request, the same when it is sent again.
        author: the name of the person who decides.

    Returns:
        What the mask is now.

    Raises:
        UsageError: there is no such field, or the label is empty.
    """
    if label is not None and not label.strip():
        raise UsageError("give the new label")
    check_mask_field(dataset, field)
    found = _find(dataset, field, mask)
    if found is None:
        return Answer("gone")
    last = found[1].get("decision")
    if last != seen and request_of(last) != request:
        return _answer("conflict", found[1])
    wanted = None if label is None else label.strip()
    for _ in range(3):  # at most: out of the rejected ones, the other label, accepted
        name, detection = found
        step = _next_step(detection, wanted)
        if step is None:
            break
        new = wanted if step == "rename" else None
        chosen = Selection(ids=[mask.label_id], samples=[mask.sample_id])
        decide(dataset, name, step, chosen, new, author=author, request=request)
        found = _find(dataset, field, mask)
        if found is None:
            return Answer("gone")
    return _answer("stored", found[1])


def undo_request(dataset: Any, field: str, mask: MaskReference, request: str) -> Answer:
    """Take back what a request of `decide_mask` decided; nothing happens when that was done already.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        mask: the mask of that request.
        request: the id of that request.

    Returns:
        What the mask is now; what somebody else decided about it since stays.

    Raises:
        UsageError: there is no such field, or too many decisions were made since.
    """
    check_mask_field(dataset, field)
    for decision in list(_decisions_of(dataset, field, request)):
        undo(dataset, decision.field, decision.id)
    found = _find(dataset, field, mask)
    if found is None:
        return Answer("gone")
    if request_of(found[1].get("decision")) == request:
        raise UsageError(f"only the last {UNDO_STEPS} decisions can be undone")
    return _answer("stored", found[1])


def _next_step(detection: Document, label: str | None) -> Action | None:
    """The next decision on the way to a label (None: to a rejected mask); None: the mask is there."""
    state = state_of(detection)
    if label is None:
        return None if state == "rejected" else "reject"
    if detection.get("label") != label:
        return "accept" if state == "rejected" else "rename"
    return "accept" if state in ("undecided", "rejected") else None


def _decisions_of(dataset: Any, field: str, request: str) -> Iterator[Decision]:
    """Yield the decisions of a request that can be undone, latest first."""
    main = main_field(dataset, field)
    fields = {field, main, less_likely_field(main)}
    decisions = [each for name in fields for each in list_decisions(dataset, name, UNDO_STEPS)]
    for decision in sorted(decisions, key=lambda each: each.id, reverse=True):
        if decision.request == request:
            yield decision


def _find(dataset: Any, field: str, mask: MaskReference) -> tuple[str, Document] | None:
    """A mask and the field that it is in: less likely ones move when they are accepted."""
    from bson import ObjectId

    main = main_field(dataset, field)
    fields = dict.fromkeys([field, main, less_likely_field(main)])
    label = ObjectId(mask.label_id)
    shown = dict.fromkeys(("_id", "label", "tags", "proposed_label", "decision"), 1)
    names = {f"{name}.detections.{attribute}": 1 for name in fields for attribute in shown}
    document = samples_of(dataset).find_one({"_id": ObjectId(mask.sample_id)}, names) or {}
    for name in fields:
        for detection in (document.get(name) or {}).get("detections") or ():
            if detection["_id"] == label:
                return name, detection
    return None


def _answer(outcome: Outcome, detection: Document) -> Answer:
    return Answer(outcome, detection.get("label"), state_of(detection), detection.get("decision"))
