"""Detections as MongoDB documents, and which of them a reviewer decided about."""

from __future__ import annotations

import math
from typing import Any

from gem_label.formats.annotations import State
from gem_label.rle import Box

Document = dict[str, Any]

DECIDED_TAGS = frozenset({"accepted", "rejected"})
"""A detection with one of these tags is a reviewer's decision, and a push leaves it as it is."""


def detections_of(document: Document, field: str) -> list[Document]:
    """A field's detections in a sample's document, none where the sample has none."""
    return (document.get(field) or {}).get("detections") or []


_WITHIN = 1e-9
"""Pixels that a relative box is inside of its pixels, so that rounding down gives these pixels."""


def relative_box(box: Box, width: int, height: int) -> tuple[float, float, float, float]:
    """A box relative to its photo's sides, as FiftyOne has it.

    FiftyOne multiplies by the photo's sides and rounds down; x / width alone may come out a pixel too low.

    Args:
        box: x, y, width, height in pixels.
        width: of the photo in pixels.
        height: of the photo in pixels.

    Returns:
        x, y, width, height in [0, 1].
    """
    x, w = _relative_side(box[0], box[2], width)
    y, h = _relative_side(box[1], box[3], height)
    return x, y, w, h


def _relative_side(start: int, length: int, whole: int) -> tuple[float, float]:
    first = (start + _WITHIN) / whole if start else 0.0
    if start + length < whole:
        return first, (length + (0 if start else _WITHIN)) / whole
    rest = 1.0 - first
    return first, rest if first + rest >= 1.0 else math.nextafter(rest, 1.0)


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
