"""Detections as MongoDB documents, and which of them a reviewer decided about."""

from __future__ import annotations

from typing import Any

from gem_label.formats.annotations import State

Document = dict[str, Any]

DECIDED_TAGS = frozenset({"accepted", "rejected"})
"""A detection with one of these tags is a reviewer's decision, and a push leaves it as it is."""


def is_decided(detection: Document) -> bool:
    """Whether a reviewer tagged a detection as decided, or gave it another label than the run proposed."""
    proposed = detection.get("proposed_label")
    changed = proposed is not None and detection.get("label") != proposed
    return changed or not DECIDED_TAGS.isdisjoint(detection.get("tags") or ())


def is_accepted(detection: Document) -> bool:
    """Whether a reviewer accepted a detection, or gave it another label, and did not reject it."""
    return is_decided(detection) and "rejected" not in (detection.get("tags") or ())


def state_of(detection: Document) -> State:
    """What a reviewer decided about a detection; the database says the same of it (`selection.STATE`)."""
    tags = detection.get("tags") or ()
    if "rejected" in tags:
        return "rejected"
    if "accepted" in tags:
        return "accepted"
    return "renamed" if is_decided(detection) else "undecided"
