"""The panel "GEM-Label: Review": one mask or a page of masks at a time, a key a decision.

What is seen is a component of the plugin's JavaScript (plugins/review_panel); it calls the methods here.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import GemLabelError, UsageError
from gem_label.plugin import review_page
from gem_label.review.queues.details import NEXT_BEST, mask_details
from gem_label.review.queues.order import MaskReference, count_undecided, queue_masks
from gem_label.review.statistics.review import NO_LABEL, confused_pairs, review_statistics
from gem_label.review.storage.fields import mask_fields
from gem_label.review.storage.selection import Selection

COMPONENT = "GemLabelReview"
"""The name under which the plugin's JavaScript registers the component."""

QUEUE = 2000
PAIRS = 50

Reply = dict[str, Any]


class ReviewPanel(foo.Panel):
    """Shows one mask after the other and stores what a key says about it."""

    @property
    def config(self) -> foo.PanelConfig:
        """Name and label of the tab."""
        return foo.PanelConfig(
            name="review_masks",
            label="GEM-Label: Review",
            icon="keyboard",
            help_markdown="One mask or a page at a time, a key a decision; `?` lists the keys.",
        )

    def render(self, ctx: Any) -> types.Property:
        """The component and the methods that it may call."""
        view = types.View(
            component=COMPONENT,
            composite_view=True,
            describe_field=self.describe_field,
            make_queue=self.make_queue,
            get_details=self.get_details,
            decide=self.decide,
            undo=self.undo,
            make_pages=self.make_pages,
        )
        return types.Property(types.Object(), view=view)

    def describe_field(self, ctx: Any) -> Reply:
        """Params `field` (optional); gives the fields, and of one its classes, counts and confused pairs."""
        return _reply(lambda: _describe_field(ctx))

    def make_queue(self, ctx: Any) -> Reply:
        """Params `field`, `order`, `scope`, `label`, `runner_up`, `seed`; gives the ids of the masks in order."""
        return _reply(lambda: _make_queue(ctx))

    def get_details(self, ctx: Any) -> Reply:
        """Params `field`, `masks` (pairs of a sample's and a detection's id), `classes`; gives what is drawn."""
        return _reply(lambda: _get_details(ctx))

    def decide(self, ctx: Any) -> Reply:
        """Params `field`, `decisions` (mask, label or None, seen), `request`, `author`; stores decisions."""
        return _reply(lambda: review_page.decide(ctx))

    def undo(self, ctx: Any) -> Reply:
        """Params `field`, `masks`, `request`; takes back what that request decided."""
        return _reply(lambda: review_page.undo(ctx))

    def make_pages(self, ctx: Any) -> Reply:
        """Params as `make_queue`, and `current`, `finished`, `size`; gives the pages of a class."""
        return _reply(
            lambda: review_page.pages_of_class(ctx, _view(ctx, ctx.params.get("scope") or "dataset"))
        )


class OpenReviewPanel(foo.Operator):
    """A button above the grid that opens the panel."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name and label."""
        return foo.OperatorConfig(
            name="open_review_panel",
            label="GEM-Label: Review with the keyboard",
            description="One mask at a time, a key a decision",
            icon="keyboard",
        )

    def resolve_placement(self, ctx: Any) -> types.Placement:
        """Above the grid."""
        button = types.Button(label="Review with the keyboard", icon="keyboard", prompt=False)
        return types.Placement(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS, button)

    def execute(self, ctx: Any) -> None:
        """Open it as a tab of its own: masks need room."""
        ctx.ops.open_panel("review_masks", is_active=True)


def _reply(work: Callable[[], Reply]) -> Reply:
    """What a method gives the component: its result, or one line about bad input."""
    try:
        return work()
    except GemLabelError as error:
        return {"error": str(error)}


def _describe_field(ctx: Any) -> Reply:
    fields = mask_fields(ctx.dataset) if ctx.dataset else []
    field = ctx.params.get("field")
    if field not in fields:
        field = fields[0] if fields else None
    if field is None:
        return {"fields": [], "field": None, "classes": [], "pairs": [], "author": _user()}
    statistics = review_statistics(ctx.dataset, field)
    undecided = {
        name: int(counts[0])
        for name, counts in zip(statistics.classes, statistics.by_class, strict=True)
        if name != NO_LABEL
    }
    declared = dict.fromkeys([*undecided, *ctx.dataset.classes.get(field, [])])
    pairs = confused_pairs(ctx.dataset, field, limit=PAIRS)
    return {
        "fields": fields,
        "field": field,
        "classes": [{"name": name, "undecided": undecided.get(name, 0)} for name in declared],
        "pairs": [{"label": each.label, "runner_up": each.runner_up, "masks": each.masks} for each in pairs],
        "author": _user(),
    }


def _user() -> str:
    """The name of the person whose server this is, empty where the system has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _make_queue(ctx: Any) -> Reply:
    params = ctx.params
    selection = Selection(
        view=_view(ctx, params.get("scope") or "dataset"),
        labels=_given(params.get("label")),
        runner_ups=_given(params.get("runner_up")),
    )
    masks = queue_masks(
        ctx.dataset, params["field"], params["order"], selection, QUEUE, int(params.get("seed") or 0)
    )
    remaining = len(masks) if len(masks) < QUEUE else count_undecided(ctx.dataset, params["field"], selection)
    return {"masks": [[mask.sample_id, mask.label_id] for mask in masks], "remaining": remaining}


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


def _get_details(ctx: Any) -> Reply:
    masks = [MaskReference(*pair) for pair in ctx.params["masks"]]
    classes = ctx.params.get("classes") or ()
    found = mask_details(ctx.dataset, ctx.params["field"], masks, classes[: NEXT_BEST + 1])
    return {"details": [each.to_json() for each in found]}
