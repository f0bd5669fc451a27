"""What the review panel can review, and the queues that it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gem_label.errors import UsageError
from gem_label.plugin.encoders import text_encoder
from gem_label.plugin.learn import lesson_of
from gem_label.review.queues.duplicates import duplicate_queue
from gem_label.review.queues.order import MaskReference, count_undecided, queue_masks
from gem_label.review.queues.search import search_queue
from gem_label.review.queues.second_look import second_look_queue
from gem_label.review.statistics.review import NO_LABEL, confused_pairs, review_statistics
from gem_label.review.storage.claims import masks_of_others, release_masks
from gem_label.review.storage.decision_log import current_user
from gem_label.review.storage.fields import (
    has_less_likely,
    less_likely_field,
    main_field,
    mask_fields,
    run_of,
)
from gem_label.review.storage.selection import Selection

QUEUE = 2000
"""So many masks are in a queue at most; at its end the panel asks for the next ones."""

DUPLICATES = 400
"""So many likely duplicates at most: pixels are compared to find them."""

_PAIRS = 50

Reply = dict[str, Any]


def describe_field(ctx: Any) -> Reply:
    """The fields of a dataset, and the classes, counts and confused pairs of one of them."""
    fields = mask_fields(ctx.dataset) if ctx.dataset else []
    field = ctx.params.get("field")
    if field not in fields:
        field = fields[0] if fields else None
    if field is None:
        nothing = {"field": None, "main": None, "less_likely": None}
        return {"fields": [], **nothing, "classes": [], "pairs": [], "author": current_user() or ""}
    statistics = review_statistics(ctx.dataset, field)
    undecided = {
        name: int(counts[0])
        for name, counts in zip(statistics.classes, statistics.by_class, strict=True)
        if name != NO_LABEL
    }
    declared = dict.fromkeys([*undecided, *ctx.dataset.classes.get(field, [])])
    pairs = confused_pairs(ctx.dataset, field, limit=_PAIRS)
    main = main_field(ctx.dataset, field)
    return {
        "fields": fields,
        "field": field,
        "main": main,
        "less_likely": less_likely_field(main) if has_less_likely(ctx.dataset, main) else None,
        "classes": [{"name": name, "undecided": undecided.get(name, 0)} for name in declared],
        "pairs": [{"label": each.label, "runner_up": each.runner_up, "masks": each.masks} for each in pairs],
        "author": current_user() or "",
    }


def make_queue(ctx: Any) -> Reply:
    """The ids of the masks to review, in order, and how many are left of the choice."""
    masks, remaining = _queue(ctx, selection_of(ctx))
    holder = ctx.params.get("holder")
    taken: set[str] = set()
    if holder:
        release_masks(ctx.dataset, holder)
        taken = masks_of_others(ctx.dataset, holder)
    free = [[mask.sample_id, mask.label_id] for mask in masks if mask.label_id not in taken]
    return {"masks": free, "remaining": remaining}


def selection_of(ctx: Any) -> Selection:
    """The masks that the panel is about: params `scope`, `label` and `runner_up`."""
    return Selection(
        view=_view(ctx, ctx.params.get("scope") or "dataset"),
        labels=_given(ctx.params.get("label")),
        runner_ups=_given(ctx.params.get("runner_up")),
    )


def _queue(ctx: Any, selection: Selection) -> tuple[list[MaskReference], int]:
    """The masks of a queue, and how many masks of the choice are undecided."""
    field, order = ctx.params["field"], ctx.params["order"]
    if order == "search":
        embedding = text_encoder(run_of(ctx.dataset, field)).encode([_phrase(ctx)])
        limit = QUEUE
        masks = search_queue(ctx.dataset, field, embedding, selection, limit)
    elif order == "duplicates":
        limit = DUPLICATES
        masks = duplicate_queue(ctx.dataset, field, selection, limit)
    elif order == "second_look":
        limit = QUEUE
        mistakes = lesson_of(ctx.dataset, field).mistaken_masks
        masks = second_look_queue(ctx.dataset, field, mistakes, selection, limit)
    else:
        limit = QUEUE
        masks = queue_masks(ctx.dataset, field, order, selection, limit, int(ctx.params.get("seed") or 0))
    return masks, len(masks) if len(masks) < limit else count_undecided(ctx.dataset, field, selection)


def _phrase(ctx: Any) -> str:
    phrase = (ctx.params.get("phrase") or "").strip()
    if not phrase:
        raise UsageError("type a phrase to search for")
    return phrase


def _view(ctx: Any, scope: str) -> Any:
    """The photos that a queue is made of; None: all."""
    if scope == "dataset":
        return None
    if scope == "view":
        return ctx.view
    if not ctx.selected:
        raise UsageError("no photo is selected: tick photos in the grid, or choose all photos")
    return ctx.dataset.select(ctx.selected)


def _given(word: str | None) -> Sequence[str] | None:
    return [word] if word else None
