"""What the review desk shows: progress and decisions above, one part of the desk below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fiftyone.operators import types

from gem_label.errors import GemLabelError
from gem_label.labeling import Thresholds
from gem_label.plugin import charts
from gem_label.plugin.desk_state import ALL, TABS, DeskState
from gem_label.review.statistics.review import (
    ReviewStatistics,
    confused_pairs,
    least_certain,
    review_statistics,
)
from gem_label.review.storage.fields import has_less_likely, label_fields, less_likely_field, run_of
from gem_label.review.storage.selection import STATES
from gem_label.tables import markdown_cell

CLASSES_PER_PAGE = 24
QUEUE = 60
WORDS_WIDTH = 400  # of a cell with several words
CLOSE = 0.2
LABEL = {"operator": "label"}

# one column that is as wide as the panel, whatever stands in it; rows of buttons that wrap
COLUMN = {"grid": {"sx": {"gridTemplateColumns": "minmax(0, 1fr)", "p": 2}}}
OF_ITS_WIDTH = {"item": {"sx": {"width": "auto"}}}


def desk_layout(desk: Any, state: DeskState) -> types.Property:
    """The panel.

    Args:
        desk: the panel, whose methods are the handlers of its events.
        state: what it shows.
    """
    panel = types.Object()
    view = types.GridView(orientation="vertical", gap=2, componentsProps=COLUMN)
    try:
        if state.dataset is None:
            panel.md("**No dataset.** Open one above; the last one may have been deleted.", name="empty")
        elif state.field is None:
            _empty(panel, desk)
        else:
            _review(panel, desk, state)
    except GemLabelError as error:  # somebody deletes the field or moves the run at this moment
        panel.md(f"**{error}**", name="problem")
    return types.Property(panel, view=view)


def _empty(panel: types.Object, desk: Any) -> None:
    panel.md("**No masks yet.** Label the photos, or push a run into this dataset.", name="empty")
    row = _row(panel, "first")
    _button(row, "label", "Label photos", "auto_awesome", desk.open_form, variant="contained", params=LABEL)
    _button(row, "refresh", "Refresh", "refresh", desk.refresh)


def _review(panel: types.Object, desk: Any, state: DeskState) -> None:
    statistics = review_statistics(state.dataset, state.shown_field)
    fields = label_fields(state.dataset)
    if len(fields) > 1:
        choices = types.DropdownView()
        for name in fields:
            choices.add_choice(name, label=name)
        panel.enum(
            "field", fields, default=state.field, label="Field", view=choices, on_change=desk.change_field
        )
    _progress(panel, statistics, state.less_likely)
    if state.field and has_less_likely(state.dataset, state.field):
        _toggle(panel, desk, state)
    _decisions(panel, desk)
    tabs = _row(panel, "tabs")  # buttons: FiftyOne's tabs remember by themselves which was clicked last
    for tab, label in TABS.items():
        chosen = tab == state.tab
        _button(tabs, tab, label, None, desk.change_tab, **_TAB_STYLES[chosen], params={"tab": tab})
    parts = {
        "classes": _classes,
        "thresholds": _thresholds,
        "queue": _queue,
        "words": _words,
        "run": _run,
    }
    parts[state.tab](panel, desk, state, statistics)


_TAB_STYLES: dict[bool, dict[str, Any]] = {True: {"variant": "contained"}, False: {"variant": "outlined"}}


def _progress(panel: types.Object, statistics: ReviewStatistics, less_likely: bool) -> None:
    total = statistics.total
    share = (total - statistics.by_state["undecided"]) / total if total else 0.0
    panel.float("share", default=share, view=types.ProgressView(variant="linear"))
    panel.md(progress_text(statistics, less_likely), name="progress")


def _row(panel: types.Object, name: str) -> types.Object:
    return panel.grid(name, orientation="2d", gap=1, align_y="center")


def _button(
    row: types.Object,
    name: str,
    label: str,
    icon: str | None,
    on_click: Any,
    variant: str = "outlined",
    **options: Any,
) -> None:
    row.btn(
        name, label, icon=icon, variant=variant, on_click=on_click, componentsProps=OF_ITS_WIDTH, **options
    )


def _decisions(panel: types.Object, desk: Any) -> None:
    row = _row(panel, "decisions")
    _button(row, "accept", "Accept", "thumb_up", desk.accept_selected, variant="contained")
    _button(row, "reject", "Reject", "thumb_down", desk.reject_selected)
    _button(row, "undo", "Undo", "undo", desk.undo_last)
    tools = {
        "rename": "Rename",
        "merge": "Merge",
        "delete": "Delete",
        "relabel": "Relabel",
        "learn": "Learn",
        "search_masks": "Search",
        "evaluate_labels": "Measure",
        "export_annotations": "Export",
    }
    for name, label in tools.items():  # no icons: at 1280 x 720 they would take a third row
        _button(row, name, label, None, desk.open_form, variant="square", params={"operator": name})
    _button(row, "show_all", "Show all", None, desk.show_all, variant="square")
    _button(row, "refresh", "Refresh", None, desk.refresh, variant="square")


def _toggle(panel: types.Object, desk: Any, state: DeskState) -> None:
    """The button that shows the less likely labels, or the labels again."""
    row = _row(panel, "less_likely")
    if state.less_likely:
        hide: dict[str, Any] = {"params": {"less_likely": False}}
        _button(row, "toggle", "Hide the less likely labels", "visibility_off", desk.show_less_likely, **hide)
        text = "Labels below the threshold. Those that are accepted or renamed come to the others."
        row.md(text, name="less_likely_text", componentsProps=OF_ITS_WIDTH)
        return
    field = less_likely_field(str(state.field))
    masks = review_statistics(state.dataset, field).by_state["undecided"]
    label = f"Show {masks} less likely label{'' if masks == 1 else 's'}"
    show: dict[str, Any] = {"params": {"less_likely": True}, "disabled": not masks}
    _button(row, "toggle", label, "visibility", desk.show_less_likely, **show)


def _choose_class(panel: types.Object, desk: Any, state: DeskState, statistics: ReviewStatistics) -> None:
    labels = types.DropdownView()
    for label in (ALL, *statistics.classes):
        labels.add_choice(label, label=label)
    chosen = state.label if state.label in statistics.classes else ALL
    panel.enum(
        "label", labels.values(), default=chosen, label="Class", view=labels, on_change=desk.change_label
    )


def _classes(panel: types.Object, desk: Any, state: DeskState, statistics: ReviewStatistics) -> None:
    hidden = len(statistics.classes) - charts.MAX_CLASSES
    more = f" The {charts.MAX_CLASSES} largest of {len(statistics.classes)} classes." if hidden > 0 else ""
    panel.md(f"**Masks per class.** Click a bar to see its masks.{more}", name="class_title")
    _plot(panel, "class_bars", charts.class_bars(statistics), desk.click_class)
    panel.md("**Scores.** Click a bar to see its masks.", name="score_title")
    _choose_class(panel, desk, state, statistics)
    label = state.label if state.label in statistics.classes else None
    _plot(panel, "score_histogram", charts.score_histogram(statistics, label), desk.click_score)


def _plot(panel: types.Object, name: str, chart: charts.Chart, on_click: Any) -> None:
    traces, layout = chart
    panel.plot(name, data=traces, layout=layout, config=charts.CONFIG, on_click=on_click)


def _thresholds(panel: types.Object, desk: Any, state: DeskState, statistics: ReviewStatistics) -> None:
    panel.md(
        "**A threshold per class.** Click where the scores of its undecided masks begin to be right: those below go.",
        name="threshold_title",
    )
    effects = [statistics.effect(label, value) for label, value in state.thresholds.items() if value > 0]
    go, stay = sum(effect.go for effect in effects), sum(effect.stay for effect in effects)
    row = _row(panel, "apply")
    _button(row, "show_changes", f"Show the {go} that go", None, desk.show_changes, disabled=not go)
    _button(row, "reject_below", f"Reject the {go}", None, desk.reject_below, disabled=not go)
    _button(row, "accept_above", f"Accept the {stay} that stay", None, desk.accept_above, disabled=not stay)
    _button(row, "clear", "Clear", None, desk.clear_thresholds, disabled=not effects)
    first = min(state.page * CLASSES_PER_PAGE, max(0, len(statistics.classes) - 1))
    first -= first % CLASSES_PER_PAGE
    classes = statistics.classes[first : first + CLASSES_PER_PAGE]
    chart = charts.threshold_rows(statistics, classes, state.thresholds)
    _plot(panel, "threshold_rows", chart, desk.move_threshold)
    if len(statistics.classes) > CLASSES_PER_PAGE:
        pages = _row(panel, "pages")
        _button(pages, "back", "Back", "chevron_left", desk.turn_page, variant="square", params={"step": -1})
        where = f"classes {first + 1} to {first + len(classes)} of {len(statistics.classes)}"
        pages.md(where, name="page", componentsProps=OF_ITS_WIDTH)
        _button(pages, "next", "Next", "chevron_right", desk.turn_page, variant="square", params={"step": 1})


def threshold_of(score: float) -> float:
    """The threshold that a click on the chart of thresholds means: where the cell begins."""
    return int(score / charts.STEP + 1e-9) * charts.STEP


def _queue(panel: types.Object, desk: Any, state: DeskState, statistics: ReviewStatistics) -> None:
    panel.md(
        f"**The least certain masks first.** The {QUEUE} undecided masks with the smallest margin between their two "
        "best words, as patches in the grid. Select some, accept or reject them, and the queue moves on.",
        name="queue_title",
    )
    _choose_class(panel, desk, state, statistics)
    row = _row(panel, "start")
    _button(row, "open_queue", "Open the queue", "playlist_play", desk.open_queue, variant="contained")
    labels = [state.label] if state.label in statistics.classes else None
    masks = least_certain(state.dataset, state.shown_field, 8, labels)
    lines = ["| label | second best | margin |", "|---|---|---:|"]
    lines += [
        f"| {markdown_cell(mask.label)} | {markdown_cell(mask.runner_up or '')} | {mask.margin:.3f} |"
        for mask in masks
    ]
    panel.md("\n".join(lines) if masks else "No undecided masks are left.", name="queue_table")


def _words(panel: types.Object, desk: Any, state: DeskState, statistics: ReviewStatistics) -> None:
    panel.md(
        f"**Words that are nearly equal.** Undecided masks whose second-best word is at most {CLOSE} behind their "
        "label. Click a number to see its masks.",
        name="words_title",
    )
    pairs = confused_pairs(state.dataset, state.shown_field, CLOSE)
    if not pairs:
        panel.md("No masks are that close.", name="no_pairs")
        return
    _plot(panel, "confusion", charts.confusion(pairs), desk.click_pair)


def _run(panel: types.Object, desk: Any, state: DeskState, statistics: ReviewStatistics) -> None:
    try:
        run = run_of(state.dataset, str(state.field))
    except GemLabelError as error:
        panel.md(f"**No run.** {error}", name="no_run")
        return
    panel.md(run_text(run.path, run.manifest), name="run")


def progress_text(statistics: ReviewStatistics, less_likely: bool = False) -> str:
    """How far the review is, as Markdown.

    Args:
        statistics: of the field that is shown.
        less_likely: it holds less likely labels.
    """
    total, states = statistics.total, statistics.by_state
    decided = total - states["undecided"]
    counts = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
    what = "less likely masks" if less_likely else "masks"
    return f"**{decided} of {total} {what} decided**: {counts}"


def run_text(path: Path, manifest: dict[str, Any]) -> str:
    """A run's settings as a table."""
    settings, labeling = manifest["settings"], manifest["labeling"]
    vocabulary = manifest["vocabulary"]
    proposals = settings.get("proposals") or {}
    words, negatives = vocabulary["classes"], vocabulary.get("negatives", [])
    rows = {
        "folder": str(path),
        "CLIP": settings.get("clip", ""),
        "SAM": settings.get("sam", ""),
        "prompts per side": proposals.get("points_per_side", ""),
        "classes": _first_few(words),
        "background": ", ".join(vocabulary["background"]) or "none",
        "negative words": _first_few(negatives),
        "minimum score": str(Thresholds.from_json(labeling["settings"]["min_score"])),
        "photos": manifest["counts"]["photos"],
        "photos that failed": manifest["counts"]["failed"],
        "proposals": manifest["counts"]["masks"],
        "kept": manifest["counts"]["kept"],
        "last changed": manifest["updated"],
    }
    return "\n".join(
        [
            "| | |",
            "|---|---|",
            *(f"| {name} | {markdown_cell(str(value), WORDS_WIDTH)} |" for name, value in rows.items()),
        ]
    )


def _first_few(words: Sequence[str]) -> str:
    """How many words, and the first of them."""
    return f"{len(words)}: {', '.join(words[:20])}{' ...' if len(words) > 20 else ''}" if words else "none"
