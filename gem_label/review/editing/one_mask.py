"""Decisions about one mask, as `many_masks` stores those about some."""

from __future__ import annotations

from typing import Any

from gem_label.review.editing.many_masks import Answer, MaskDecision, decide_masks, undo_masks
from gem_label.review.queues.order import MaskReference


def decide_mask(
    dataset: Any,
    field: str,
    mask: MaskReference,
    label: str | None,
    seen: str | None,
    request: str,
    author: str | None = None,
) -> Answer:
    """Accept a mask with a label, or reject it (None); see `decide_masks`."""
    (answer,) = decide_masks(dataset, field, [MaskDecision(mask, label, seen)], request, author)
    return answer


def undo_request(dataset: Any, field: str, mask: MaskReference, request: str) -> Answer:
    """Take back what a request of `decide_mask` decided; see `undo_masks`."""
    (answer,) = undo_masks(dataset, field, [mask], request)
    return answer
