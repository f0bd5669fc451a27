"""The panel "GEM-Label": a desk for reviewing masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import GemLabelError, UsageError
from gem_label.plugin import charts
from gem_label.plugin.desk_layout import (
    ALL,
    CLASSES_PER_PAGE,
    CLOSE,
    QUEUE,
    chosen_class,
    chosen_field,
    desk_layout,
    page_of,
    shown_field,
)
from gem_label.plugin.forms import possible_targets, read_selection
from gem_label.review.editing.decisions import decide, undo
from gem_label.review.statistics.review import confused_pairs, least_certain, review_statistics
from gem_label.review.storage.decision_log import Decision, list_decisions
from gem_label.review.storage.fields import has_less_likely, label_fields, less_likely_field
from gem_label.review.storage.selection import STATES, Selection
from gem_label.review.storage.views import masks_view, patches_in_order


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
        """Choose the field and count; the desk opens on the labels, not on the less likely ones."""
        if ctx.panel.state.less_likely:
            self._draw_labels(ctx)
        self._load(ctx)

    def on_change_dataset(self, ctx: Any) -> None:
        """Another dataset, or the same after an operator changed it."""
        if ctx.dataset and ctx.panel.state.dataset != ctx.dataset.name:
            ctx.panel.state.less_likely = False
        self._load(ctx)

    def refresh(self, ctx: Any) -> None:
        """Count again."""
        self._load(ctx)

    def change_field(self, ctx: Any) -> None:
        """Review another field."""
        ctx.panel.state.field = ctx.params["value"]
        ctx.panel.state.less_likely = False
        self._begin(ctx)

    def toggle_less_likely(self, ctx: Any) -> None:
        """Review the less likely labels, or the labels again: in the desk, and drawn in the grid."""
        ctx.panel.state.less_likely = not ctx.panel.state.less_likely
        ctx.panel.state.queue = None
        if ctx.panel.state.less_likely:
            ctx.ops.set_active_fields([shown_field(ctx)])
            self._show(ctx, Selection(states=STATES[:1]))
        else:
            self._draw_labels(ctx)
            ctx.ops.clear_view()
        self._begin(ctx)

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
        classes = len(review_statistics(ctx.dataset, shown_field(ctx)).classes)
        pages = max(1, -(-classes // CLASSES_PER_PAGE))
        ctx.panel.state.page = ((ctx.panel.state.page or 0) + ctx.params["step"]) % pages
        self._refresh(ctx)

    def move_threshold(self, ctx: Any) -> None:
        """A slider was moved."""
        statistics = review_statistics(ctx.dataset, shown_field(ctx))
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
        operator = ctx.params["operator"]
        answers = {} if operator == "label" else {"field": shown_field(ctx)}
        ctx.prompt(f"{self.plugin_name}/{operator}", params=answers, on_success=self.refresh)

    def undo_last(self, ctx: Any) -> None:
        """Take the last decision back."""

        def work() -> Decision:
            last = max(
                (each for field in self._fields(ctx) for each in list_decisions(ctx.dataset, field, 1)),
                key=lambda decision: decision.at,
                default=None,
            )
            if last is None:
                raise UsageError(f"there is nothing to undo in field {shown_field(ctx)!r}")
            return undo(ctx.dataset, last.field, last.id)[0]

        self._decided(ctx, work, "undone: ")

    def _begin(self, ctx: Any) -> None:
        """Look at another field."""
        ctx.panel.state.thresholds = None  # an empty dictionary would be merged into what is there
        ctx.panel.state.label = ALL
        ctx.panel.state.page = 0
        self._refresh(ctx)

    # --- what events do ------------------------------------------------------------------------------------------

    def _load(self, ctx: Any) -> None:
        """Choose the field and count."""
        fields = label_fields(ctx.dataset) if ctx.dataset else []
        ctx.panel.state.dataset = ctx.dataset.name if ctx.dataset else None
        if ctx.panel.state.field not in fields:
            ctx.panel.state.field = fields[0] if fields else None
        ctx.panel.state.tab = ctx.panel.state.tab or "classes"
        self._refresh(ctx)

    def _draw_labels(self, ctx: Any) -> None:
        """Draw what the dataset has drawn at first, in place of the less likely labels."""
        ctx.panel.state.less_likely = False
        active = ctx.dataset.app_config.active_fields
        ctx.ops.set_active_fields(list(active.paths) if active else label_fields(ctx.dataset))

    def _show(self, ctx: Any, selection: Selection) -> None:
        ctx.panel.state.queue = None
        ctx.ops.set_view(masks_view(ctx.dataset, shown_field(ctx), selection))

    def _show_queue(self, ctx: Any) -> None:
        label, field = ctx.panel.state.queue, shown_field(ctx)
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
        fields = [f for f in self._fields(ctx) if possible_targets(ctx, f)[0] == "selection"]
        if not fields:
            ctx.ops.notify("select masks first: patches in the grid, or labels in a photo", variant="info")
            return
        for field in fields:
            self._decide(ctx, action, Selection(ids=read_selection(ctx, field).ids), field)
        ctx.ops.clear_selected_samples()
        ctx.ops.clear_selected_labels()

    def _decide(self, ctx: Any, action: Any, selection: Selection, field: str | None = None) -> None:
        self._decided(ctx, lambda: decide(ctx.dataset, field or shown_field(ctx), action, selection))

    def _fields(self, ctx: Any) -> list[str]:
        """The field of the labels and that of the less likely ones, if there is one."""
        field = ctx.panel.state.field
        return [field, less_likely_field(field)] if has_less_likely(ctx.dataset, field) else [field]

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
        field = chosen_field(ctx)
        if not field:
            return
        statistics = review_statistics(ctx.dataset, field)
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
