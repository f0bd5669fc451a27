"""What the review panel draws, for one of several people who review the same dataset."""

from __future__ import annotations

from typing import Any

from gem_label.review.queues.details import NEXT_BEST, mask_details
from gem_label.review.queues.order import UNDECIDED, MaskReference
from gem_label.review.storage.claims import claim_masks, release_masks

Reply = dict[str, Any]


def get_details(ctx: Any) -> Reply:
    """What is drawn of some masks; those that are new to the panel are claimed for it."""
    params = ctx.params
    masks = [MaskReference(*pair) for pair in params["masks"]]
    holder, fresh = params.get("holder"), set(params.get("fresh") or ())
    if holder:
        mine = claim_masks(ctx.dataset, fresh, holder)
        masks = [mask for mask in masks if mask.label_id in mine or mask.label_id not in fresh]
    classes = (params.get("classes") or ())[: NEXT_BEST + 1]
    found = mask_details(ctx.dataset, params["field"], masks, classes)
    if not params.get("second_look"):
        # somebody else may have decided about a mask after the panel made its queue, and given it back
        found = [each for each in found if each.label_id not in fresh or each.state in UNDECIDED]
    return {"details": [each.to_json() for each in found]}


def renew_claims(ctx: Any) -> Reply:
    """Those of some masks that the panel still has."""
    return {"mine": sorted(claim_masks(ctx.dataset, ctx.params["masks"], ctx.params["holder"]))}


def release_claims(ctx: Any) -> Reply:
    """All masks of the panel go back."""
    release_masks(ctx.dataset, ctx.params["holder"])
    return {}
