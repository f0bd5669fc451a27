"""What the review panel's component calls for pages of masks, and for decisions about some masks at a time."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gem_label.review.editing.many_masks import MaskDecision, decide_masks, undo_masks
from gem_label.review.queues.order import MaskReference, count_undecided
from gem_label.review.queues.pages import PAGE, make_pages, next_class
from gem_label.review.storage.second_looks import forget_second_looks, record_second_looks
from gem_label.review.storage.selection import Selection


def decide(ctx: Any) -> dict[str, Any]:
    """Store decisions; gives what each mask is now."""
    params = ctx.params
    decisions = [
        MaskDecision(MaskReference(*each["mask"]), each["label"], each.get("seen"))
        for each in params["decisions"]
    ]
    answers = decide_masks(ctx.dataset, params["field"], decisions, params["request"], params.get("author"))
    if params.get("second_look"):
        answered = zip(decisions, answers, strict=True)
        stored = {each.mask.label_id: now.decision for each, now in answered if now.outcome == "stored"}
        record_second_looks(ctx.dataset, stored)
    return {"answers": [asdict(each) for each in answers]}


def undo(ctx: Any) -> dict[str, Any]:
    """Take a request back; gives what each mask is now."""
    params = ctx.params
    masks = [MaskReference(*each) for each in params["masks"]]
    forget_second_looks(ctx.dataset, [mask.label_id for mask in masks])
    answers = undo_masks(ctx.dataset, params["field"], masks, params["request"])
    return {"answers": [asdict(each) for each in answers]}


def pages_of_class(ctx: Any, selection: Selection) -> dict[str, Any]:
    """Make the pages of a class.

    Args:
        ctx: with the params `field`, `current` (the class to continue with; None: the one with the most undecided
            masks), `finished` (classes that are not to come any more) and `size`, masks of a page.
        selection: the masks that the panel is about.

    Returns:
        `label`, None where no class is left; `pages` of pairs of a sample's and a detection's id; `remaining`, the
        undecided masks of all classes that are meant.
    """
    params = ctx.params
    field = params["field"]
    remaining = count_undecided(ctx.dataset, field, selection)
    label = params.get("current") or next_class(ctx.dataset, field, selection, params.get("finished") or ())
    pages = make_pages(ctx.dataset, field, label, selection, int(params.get("size") or PAGE)) if label else []
    return {
        "label": label,
        "pages": [[[mask.sample_id, mask.label_id] for mask in page] for page in pages],
        "remaining": remaining,
    }
