"""The panel "GEM-Label": a desk for reviewing masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import GemLabelError
from gem_label.review.decision_log import Decision
from gem_label.review.decisions import decide, undo
from gem_label.review.fields import mask_fields
from gem_label.review.selection import STATES, Selection
from gem_label.review.statistics import confused_pairs, least_certain, review_statistics
from gem_label.review.views import masks_view, patches_in_order

from . import charts
from .desk_layout import ALL, CLASSES_PER_PAGE, CLOSE, QUEUE, chosen_class, desk_layout, page_of
from .forms import possible_targets, read_selection


class ReviewDesk(foo.Panel):
    """Counts, thresholds, the queue of uncertain masks, confused words, and the run's settings."""

    @property
    def config(self) -> foo.PanelConfig:
        """Name and label of the tab."""
        return foo.PanelConfig(
            name="review_desk",
            label="GEM-Label",
            icon="fact_check",
            help_markdown="Review the masks of a label field; see docs/review.md of gem-label.",
        )

    # --- events --------------------------------------------------------------------------------------------------

    def on_load(self, ctx: Any) -> None:
        """Choose the field and count."""
        fields = mask_fields(ctx.dataset) if ctx.dataset else []
        ctx.panel.state.field = (
            ctx.panel.state.field if ctx.panel.state.field in fields else (fields or [None])[0]
        )
        ctx.panel.state.tab = ctx.panel.state.tab or "classes"
        self._refresh(ctx)

    def on_change_dataset(self, ctx: Any) -> None:
        """Another dataset, or the same after an operator changed it."""
        self.on_load(ctx)

    def refresh(self, ctx: Any) -> None:
        """Count again."""
        self.on_load(ctx)

    def change_field(self, ctx: Any) -> None:
        """Review another field."""
        ctx.panel.state.field = ctx.params["value"]
        ctx.panel.state.thresholds = None  # an empty dictionary would be merged into what is there
        ctx.panel.state.label = ALL
        self._refresh(ctx)

    def change_tab(self, ctx: Any) -> None:
        """Show another part of the desk."""
        ctx.panel.state.tab = ctx.params["value"]
        self._refresh(ctx)

    def change_label(self, ctx: Any) -> None:
        """Show the scores of another class."""
        ctx.panel.state.label = ctx.params["value"]
        self._refresh(ctx)

    def click_class(self, ctx: Any) -> None:
        """Show the masks of the class (and state) that was clicked."""
        state = ctx.params.get("trace")
        selection = Selection(labels=[ctx.params["y"]], states=[state] if state in STATES else None)
        self._show(ctx, selection)

    def click_score(self, ctx: Any) -> None:
        """Show the masks in the range of scores that was clicked."""
        low = int(float(ctx.params["x"]) * 20) / 20
        label = chosen_class(ctx)
        labels = None if label is None else [label]
        below = None if low >= 0.95 else round(low + 0.05, 2)
        self._show(ctx, Selection(labels=labels, min_score=low, below_score=below))

    def click_pair(self, ctx: Any) -> None:
        """Show the masks that are called one word and nearly the other."""
        label, runner_up = ctx.params["y"], ctx.params["x"]
        self._show(
            ctx, Selection(labels=[label], runner_ups=[runner_up], max_margin=CLOSE, states=STATES[:1])
        )

    def show_all(self, ctx: Any) -> None:
        """Back to the whole dataset."""
        ctx.panel.state.queue = None
        ctx.ops.clear_view()

    def turn_page(self, ctx: Any) -> None:
        """The next classes' sliders."""
        classes = len(review_statistics(ctx.dataset, ctx.panel.state.field).classes)
        pages = max(1, -(-classes // CLASSES_PER_PAGE))
        ctx.panel.state.page = ((ctx.panel.state.page or 0) + ctx.params["step"]) % pages
        self._refresh(ctx)

    def move_threshold(self, ctx: Any) -> None:
        """A slider was moved."""
        statistics = review_statistics(ctx.dataset, ctx.panel.state.field)
        place = int(ctx.params["path"].rpartition("threshold")[2])
        label = page_of(ctx, statistics)[place]
        ctx.panel.state.thresholds = {
            **(ctx.panel.state.thresholds or {}),
            label: round(float(ctx.params["value"]), 2),
        }
        self._refresh(ctx)

    def show_changes(self, ctx: Any) -> None:
        """Show the masks below their thresholds."""
        self._with_thresholds(ctx, lambda t: self._show(ctx, Selection(falling=t, states=STATES[:1])))

    def reject_below(self, ctx: Any) -> None:
        """Reject the undecided masks below their thresholds."""
        self._with_thresholds(
            ctx, lambda t: self._decide(ctx, "reject", Selection(falling=t, states=STATES[:1]))
        )

    def accept_above(self, ctx: Any) -> None:
        """Accept the undecided masks that reach their thresholds."""
        self._with_thresholds(
            ctx, lambda t: self._decide(ctx, "accept", Selection(reaching=t, states=STATES[:1]))
        )

    def open_queue(self, ctx: Any) -> None:
        """Show the least certain masks as patches."""
        ctx.panel.state.queue = ctx.panel.state.label or ALL
        self._show_queue(ctx)

    def accept_selected(self, ctx: Any) -> None:
        """Accept the selected masks."""
        self._decide_selected(ctx, "accept")

    def reject_selected(self, ctx: Any) -> None:
        """Reject the selected masks."""
        self._decide_selected(ctx, "reject")

    def open_form(self, ctx: Any) -> None:
        """Ask what one of the operators asks, and count again when it is done."""
        ctx.prompt(f"{self.plugin_name}/{ctx.params['operator']}", on_success=self.refresh)

    def undo_last(self, ctx: Any) -> None:
        """Take the last decision back."""

        def work() -> Decision:
            return undo(ctx.dataset, ctx.panel.state.field)[0]

        self._decided(ctx, work, "undone: ")

    # --- what events do ------------------------------------------------------------------------------------------

    def _show(self, ctx: Any, selection: Selection) -> None:
        ctx.panel.state.queue = None
        ctx.ops.set_view(masks_view(ctx.dataset, ctx.panel.state.field, selection))

    def _show_queue(self, ctx: Any) -> None:
        label, field = ctx.panel.state.queue, ctx.panel.state.field
        masks = least_certain(ctx.dataset, field, QUEUE, None if label == ALL else [label])
        if masks:
            ctx.ops.set_view(patches_in_order(ctx.dataset, field, [(m.sample_id, m.label_id) for m in masks]))
        else:
            ctx.panel.state.queue = None
            ctx.ops.clear_view()
            ctx.ops.notify("no undecided masks are left", variant="success")

    def _with_thresholds(self, ctx: Any, act: Callable[[dict[str, float]], None]) -> None:
        thresholds = {
            label: value for label, value in (ctx.panel.state.thresholds or {}).items() if value > 0
        }
        if thresholds:
            act(thresholds)
        else:
            ctx.ops.notify("move a slider first", variant="info")

    def _decide_selected(self, ctx: Any, action: Any) -> None:
        field = ctx.panel.state.field
        if possible_targets(ctx, field)[0] != "selection":
            ctx.ops.notify("select masks first: patches in the grid, or labels in a photo", variant="info")
            return
        selection = Selection(ids=read_selection(ctx, field).ids)
        self._decide(ctx, action, selection)
        ctx.ops.clear_selected_samples()
        ctx.ops.clear_selected_labels()

    def _decide(self, ctx: Any, action: Any, selection: Selection) -> None:
        self._decided(ctx, lambda: decide(ctx.dataset, ctx.panel.state.field, action, selection))

    def _decided(self, ctx: Any, work: Callable[[], Decision], prefix: str = "") -> None:
        try:
            decision = work()
        except GemLabelError as error:
            ctx.ops.notify(str(error), variant="warning")
            return
        ctx.ops.notify(f"{prefix}{decision}", variant="success")
        if ctx.panel.state.queue:
            self._show_queue(ctx)
        else:
            ctx.ops.reload_dataset()
        self._refresh(ctx)

    def _refresh(self, ctx: Any) -> None:
        """Compute what the tab shows."""
        field = ctx.panel.state.field
        if not field:
            return
        statistics = review_statistics(ctx.dataset, ctx.panel.state.field)
        tab = ctx.panel.state.tab
        if tab == "classes":
            bars, _ = charts.class_bars(statistics)
            histogram, _ = charts.score_histogram(statistics, chosen_class(ctx))
            self._draw(ctx, class_bars=bars, score_histogram=histogram)
        elif tab == "words":
            pairs = confused_pairs(ctx.dataset, field, CLOSE)
            ctx.panel.state.pairs = len(pairs)
            traces, ctx.panel.state.confusion_layout = charts.confusion(pairs)
            self._draw(ctx, confusion=traces)

    def _draw(self, ctx: Any, **data: charts.Traces) -> None:
        """Give charts their data."""
        keys = {chart: charts.key_of(chart, traces) for chart, traces in data.items()}
        ctx.panel.state.chart_keys = keys
        ctx.ops.set_panel_data({keys[chart]: traces for chart, traces in data.items()})

    def render(self, ctx: Any) -> types.Property:
        """The layout of what the state says."""
        return desk_layout(self, ctx)


class OpenReviewDesk(foo.Operator):
    """A button above the grid that opens the desk."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name and label."""
        return foo.OperatorConfig(
            name="open_review_desk",
            label="GEM-Label: Open the review desk",
            description="Counts, thresholds, the queue of uncertain masks, and decisions",
            icon="fact_check",
        )

    def resolve_placement(self, ctx: Any) -> types.Placement:
        """Above the grid."""
        button = types.Button(label="Review masks with GEM-Label", icon="fact_check", prompt=False)
        return types.Placement(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS, button)

    def execute(self, ctx: Any) -> None:
        """Open it beside the grid."""
        ctx.ops.open_panel("review_desk", layout="horizontal", is_active=True)
