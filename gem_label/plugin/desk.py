"""The panel "GEM-Label": a desk for reviewing masks."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types
from pymongo.errors import PyMongoError

from gem_label.errors import GemLabelError, UsageError
from gem_label.plugin.base import show_stored
from gem_label.plugin.desk_layout import CLASSES_PER_PAGE, CLOSE, QUEUE, desk_layout, threshold_of
from gem_label.plugin.desk_state import ALL, TABS, DeskState, read_state, write_state
from gem_label.plugin.targets import SELECT_FIRST, selected_ids
from gem_label.review.editing.decisions import decide, undo
from gem_label.review.statistics.review import least_certain, review_statistics
from gem_label.review.storage.decision_log import Decision, list_decisions
from gem_label.review.storage.fields import label_fields
from gem_label.review.storage.selection import STATES, Selection
from gem_label.review.storage.views import masks_view, patches_in_order

Event = Callable[["ReviewDesk", Any, DeskState], None]


def event(work: Event) -> Callable[[ReviewDesk, Any], None]:
    """Make a handler of an event: it gets the state made right, and what is wrong becomes one line in the App."""

    @wraps(work)
    def handler(desk: ReviewDesk, ctx: Any) -> None:
        try:
            work(desk, ctx, read_state(ctx))
        except GemLabelError as error:
            ctx.ops.notify(str(error), variant="warning")
        except PyMongoError as error:
            ctx.ops.notify(f"the database does not answer: {error}", variant="error")

    return handler


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

    # --- what the desk shows -------------------------------------------------------------------------------------

    @event
    def on_load(self, ctx: Any, state: DeskState) -> None:
        """The desk opens on the labels, not on the less likely ones."""
        if state.less_likely:
            _draw_labels(ctx, state.dataset)
        write_state(ctx, state, less_likely=False)

    @event
    def on_change_dataset(self, ctx: Any, state: DeskState) -> None:
        """Another dataset, or the same after an operator changed it."""
        write_state(ctx, state)

    @event
    def refresh(self, ctx: Any, state: DeskState) -> None:
        """Count again."""
        write_state(ctx, state)

    @event
    def change_field(self, ctx: Any, state: DeskState) -> None:
        """Review another field."""
        field = _text(ctx, "value")
        if state.dataset is not None and field in label_fields(state.dataset):
            state = DeskState(state.dataset, field, tab=state.tab, stored=state.stored)
        write_state(ctx, state)

    @event
    def show_less_likely(self, ctx: Any, state: DeskState) -> None:
        """Review the less likely labels, or the labels again: in the desk, and drawn in the grid."""
        wanted = (
            ctx.params.get("less_likely") is True
        )  # of the button: a second click on it asks for the same
        shown = state.shown_field
        if wanted and len(state.fields) == 1:
            raise UsageError(f"field {shown!r} has no less likely labels")
        # one change of the grid where possible: two while masks are painted can lose them (docs/fiftyone-issues.md)
        if ctx.has_custom_view:
            ctx.ops.clear_view()
        if wanted:
            _draw(ctx, state.fields[1:])
        else:
            _draw_labels(ctx, state.dataset)
        write_state(ctx, DeskState(state.dataset, state.field, wanted, state.tab, stored=state.stored))

    @event
    def change_tab(self, ctx: Any, state: DeskState) -> None:
        """Show another part of the desk."""
        tab = _text(ctx, "tab")
        write_state(ctx, state, tab=tab if tab in TABS else state.tab)

    @event
    def change_label(self, ctx: Any, state: DeskState) -> None:
        """Look at another class."""
        label = _text(ctx, "value")
        write_state(ctx, state, label=None if label == ALL else label)

    @event
    def turn_page(self, ctx: Any, state: DeskState) -> None:
        """The next classes' thresholds."""
        classes = len(review_statistics(state.dataset, state.shown_field).classes)
        pages = max(1, -(-classes // CLASSES_PER_PAGE))
        step = ctx.params.get("step")
        write_state(ctx, state, page=(state.page + (step if isinstance(step, int) else 0)) % pages)

    @event
    def move_threshold(self, ctx: Any, state: DeskState) -> None:
        """A cell of the chart of thresholds was clicked: the class goes from there on."""
        label, score = _text(ctx, "y"), _number(ctx, "x")
        if label is not None and score is not None:
            write_state(ctx, state, thresholds={**state.thresholds, label: threshold_of(score)})

    @event
    def clear_thresholds(self, ctx: Any, state: DeskState) -> None:
        """All classes from 0 on again."""
        write_state(ctx, state, thresholds={})

    # --- what the grid shows -------------------------------------------------------------------------------------

    @event
    def click_class(self, ctx: Any, state: DeskState) -> None:
        """Show the masks of the class (and state) that was clicked."""
        label, kind = _text(ctx, "y"), ctx.params.get("trace")
        if label is not None:
            _show(ctx, state, Selection(labels=[label], states=[kind] if kind in STATES else None))

    @event
    def click_score(self, ctx: Any, state: DeskState) -> None:
        """Show the masks in the range of scores that was clicked."""
        score = _number(ctx, "x")
        if score is None:
            return
        low = int(score * 20) / 20
        labels = None if state.label is None else [state.label]
        below = None if low >= 0.95 else round(low + 0.05, 2)
        _show(ctx, state, Selection(labels=labels, min_score=low, below_score=below))

    @event
    def click_pair(self, ctx: Any, state: DeskState) -> None:
        """Show the masks that are called one word and nearly the other."""
        label, runner_up = _text(ctx, "y"), _text(ctx, "x")
        if label is not None and runner_up is not None:
            close = Selection(labels=[label], runner_ups=[runner_up], max_margin=CLOSE, states=STATES[:1])
            _show(ctx, state, close)

    @event
    def show_all(self, ctx: Any, state: DeskState) -> None:
        """Back to the whole dataset."""
        if ctx.has_custom_view:  # the App paints all masks again even when there is no view to clear
            ctx.ops.clear_view()
        write_state(ctx, state, queue=None)

    @event
    def show_changes(self, ctx: Any, state: DeskState) -> None:
        """Show the masks below their thresholds."""
        _show(ctx, state, Selection(falling=_moved(state), states=STATES[:1]))

    @event
    def open_queue(self, ctx: Any, state: DeskState) -> None:
        """Show the least certain masks as patches."""
        _show_queue(ctx, write_state(ctx, state, queue=state.label or ALL))

    # --- decisions -----------------------------------------------------------------------------------------------

    @event
    def reject_below(self, ctx: Any, state: DeskState) -> None:
        """Reject the undecided masks below their thresholds."""
        below = Selection(falling=_moved(state), states=STATES[:1])
        _decided(ctx, state, decide(state.dataset, state.shown_field, "reject", below))

    @event
    def accept_above(self, ctx: Any, state: DeskState) -> None:
        """Accept the undecided masks that reach their thresholds."""
        above = Selection(reaching=_moved(state), states=STATES[:1])
        _decided(ctx, state, decide(state.dataset, state.shown_field, "accept", above))

    @event
    def accept_selected(self, ctx: Any, state: DeskState) -> None:
        """Accept the selected masks."""
        _decide_selected(ctx, state, "accept")

    @event
    def reject_selected(self, ctx: Any, state: DeskState) -> None:
        """Reject the selected masks."""
        _decide_selected(ctx, state, "reject")

    @event
    def undo_last(self, ctx: Any, state: DeskState) -> None:
        """Take the last decision back."""
        last = max(
            (each for field in state.fields for each in list_decisions(state.dataset, field, 1)),
            key=lambda decision: decision.at,
            default=None,
        )
        if last is None:
            raise UsageError(f"there is nothing to undo in field {state.shown_field!r}")
        _decided(ctx, state, undo(state.dataset, last.field, last.id)[0], "undone: ")

    @event
    def open_form(self, ctx: Any, state: DeskState) -> None:
        """Ask what an operator asks, and show what is stored when it is done."""
        operator = _text(ctx, "operator")
        if operator is None:
            return
        answers: dict[str, Any] = {}
        if operator != "label":
            answers = {"field": self._field_of_form(ctx, state), "from_desk": True}
        ctx.prompt(f"{self.plugin_name}/{operator}", params=answers, on_success=self.form_done)

    def _field_of_form(self, ctx: Any, state: DeskState) -> str:
        """The field that has selected masks, or else the one that the desk shows."""
        shown = state.shown_field
        selected = [field for field in state.fields if selected_ids(ctx, field)]
        return shown if shown in selected or not selected else selected[0]

    @event
    def form_done(self, ctx: Any, state: DeskState) -> None:
        """An operator of `open_form` has done its work: the queue moves on, other views show what is stored."""
        asked, result = ctx.params.get("original_params"), ctx.params.get("result")
        by_desk = isinstance(asked, dict) and asked.get("from_desk")
        if state.dataset is not None and by_desk and isinstance(result, dict) and "decision" in result:
            _show_decided(ctx, state)
        else:
            write_state(ctx, state)

    def render(self, ctx: Any) -> types.Property:
        """The layout of what the state says."""
        return desk_layout(self, read_state(ctx))


def _text(ctx: Any, name: str) -> str | None:
    """A parameter of an event that is text; None where it is something else."""
    value = ctx.params.get(name)
    return value if isinstance(value, str) else None


def _number(ctx: Any, name: str) -> float | None:
    """A parameter of an event that is a score in [0, 1]; None where it is something else."""
    value = ctx.params.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else None


def _draw_labels(ctx: Any, dataset: Any) -> None:
    """Draw what the dataset has drawn at first, in place of the less likely labels."""
    active = dataset.app_config.active_fields
    _draw(ctx, list(active.paths) if active else label_fields(dataset))


def _draw(ctx: Any, fields: list[str]) -> None:
    """Draw these label fields, also when a view arrives meanwhile: plugins/review_panel/src/drawFields.ts."""
    ctx.trigger("@gem-label/gem-label/draw_fields", {"fields": fields})


def _show(ctx: Any, state: DeskState, selection: Selection) -> None:
    ctx.ops.set_view(masks_view(state.dataset, state.shown_field, selection))
    write_state(ctx, state, queue=None)


def _show_queue(ctx: Any, state: DeskState) -> None:
    field = state.shown_field
    labels = None if state.queue in (None, ALL) else [state.queue]
    masks = least_certain(state.dataset, field, QUEUE, labels)
    if masks:
        view = patches_in_order(state.dataset, field, [(mask.sample_id, mask.label_id) for mask in masks])
        show_stored(ctx, view)
        return
    write_state(ctx, state, queue=None)
    show_stored(ctx, state.dataset.view())
    ctx.ops.notify("no undecided masks are left", variant="success")


def _moved(state: DeskState) -> dict[str, float]:
    """The thresholds that were moved.

    Raises:
        UsageError: none was.
    """
    thresholds = {label: score for label, score in state.thresholds.items() if score > 0}
    if not thresholds:
        raise UsageError("click a threshold first")
    return thresholds


def _decide_selected(ctx: Any, state: DeskState, action: Any) -> None:
    selected = {field: ids for field in state.fields if (ids := selected_ids(ctx, field))}
    if not selected:
        raise UsageError(SELECT_FIRST)
    try:
        for field, ids in selected.items():
            _tell(ctx, decide(state.dataset, field, action, Selection(ids=ids)))
    finally:
        _show_decided(ctx, state)


def _decided(ctx: Any, state: DeskState, decision: Decision, prefix: str = "") -> None:
    _tell(ctx, decision, prefix)
    _show_decided(ctx, state)


def _tell(ctx: Any, decision: Decision, prefix: str = "") -> None:
    ctx.ops.notify(f"{prefix}{decision}", variant="success")


def _show_decided(ctx: Any, state: DeskState) -> None:
    """Show what is stored after a decision: the queue moves on."""
    if state.queue:
        _show_queue(ctx, state)
    else:
        show_stored(ctx)
    write_state(ctx, read_state(ctx))


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
