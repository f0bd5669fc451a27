"""What the review desk shows: progress and decisions above, one part of the desk below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fiftyone.operators import types

from gem_label.errors import GemLabelError, UsageError
from gem_label.labeling import Thresholds
from gem_label.plugin import charts
from gem_label.review.statistics.review import ReviewStatistics, least_certain, review_statistics
from gem_label.review.storage.fields import has_less_likely, label_fields, less_likely_field, run_of
from gem_label.review.storage.selection import STATES
from gem_label.tables import markdown_cell

TABS = {
    "classes": "Classes",
    "thresholds": "Thresholds",
    "queue": "Queue",
    "words": "Confused words",
    "run": "Run",
}
ALL = "all classes"
CLASSES_PER_PAGE = 6
QUEUE = 60
WORDS_WIDTH = 400  # of a cell with several words
CLOSE = 0.2
LABEL = {"operator": "label"}

# one column that is as wide as the panel, whatever stands in it; rows of buttons that wrap
COLUMN = {"grid": {"sx": {"gridTemplateColumns": "minmax(0, 1fr)", "p": 2}}}
OF_ITS_WIDTH = {"item": {"sx": {"width": "auto"}}}


def chosen_field(ctx: Any) -> str | None:
    """The field that the desk is about: that of the labels, or of the less likely ones; None: there is none yet."""
    field = ctx.panel.state.field
    if field and ctx.panel.state.less_likely and has_less_likely(ctx.dataset, field):
        return less_likely_field(field)
    return field


def shown_field(ctx: Any) -> str:
    """The field that the desk is about.

    Raises:
        UsageError: the dataset has none yet.
    """
    field = chosen_field(ctx)
    if field is None:
        raise UsageError("this dataset has no masks yet: label its photos first")
    return field


def chosen_class(ctx: Any) -> str | None:
    """The class that the desk looks at; None: all."""
    label = ctx.panel.state.label
    return None if label in (None, ALL) else label


def page_of(ctx: Any, statistics: ReviewStatistics) -> tuple[str, ...]:
    """The classes whose sliders are shown."""
    first = (ctx.panel.state.page or 0) * CLASSES_PER_PAGE
    return statistics.classes[first : first + CLASSES_PER_PAGE]


def desk_layout(desk: Any, ctx: Any) -> types.Property:
    """The panel.

    Args:
        desk: the panel, whose methods are the handlers of its events.
        ctx: the execution context; `ctx.panel.state` has field, less_likely, tab, label, page and thresholds.
    """
    panel = types.Object()
    view = types.GridView(orientation="vertical", gap=2, componentsProps=COLUMN)
    field = chosen_field(ctx)
    if not field:
        panel.md("**No masks yet.** Label the photos, or push a run into this dataset.", name="empty")
        row = _row(panel, "first")
        _button(
            row, "label", "Label photos", "auto_awesome", desk.open_form, variant="contained", params=LABEL
        )
        _button(row, "refresh", "Refresh", "refresh", desk.refresh)
        return types.Property(panel, view=view)
    statistics = review_statistics(ctx.dataset, field)
    fields, main = label_fields(ctx.dataset), ctx.panel.state.field
    if len(fields) > 1:
        choices = types.DropdownView()
        for name in fields:
            choices.add_choice(name, label=name)
        panel.enum("field", fields, default=main, label="Field", view=choices, on_change=desk.change_field)
    panel.md(progress_text(statistics, less_likely=field != main), name="progress")
    if has_less_likely(ctx.dataset, main):
        _toggle(panel, desk, ctx.dataset, main, shown=field != main)
    _decisions(panel, desk)
    tabs = types.TabsView()
    for tab, label in TABS.items():
        tabs.add_choice(tab, label=label)
    panel.enum("tab", list(TABS), default=ctx.panel.state.tab, view=tabs, on_change=desk.change_tab)
    {
        "classes": _classes,
        "thresholds": _thresholds,
        "queue": _queue,
        "words": _words,
        "run": _run,
    }[ctx.panel.state.tab](panel, desk, ctx, statistics)
    return types.Property(panel, view=view)


def _row(panel: types.Object, name: str) -> types.Object:
    return panel.grid(name, orientation="2d", gap=1, align_y="center")


def _button(
    row: types.Object,
    name: str,
    label: str,
    icon: str,
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
    for name, label, icon in (
        ("rename", "Rename", "edit"),
        ("merge", "Merge", "call_merge"),
        ("delete", "Delete", "delete"),
        ("relabel", "Relabel", "translate"),
        ("search_masks", "Search", "search"),
        ("evaluate_labels", "Measure", "straighten"),
        ("export_annotations", "Export", "download"),
    ):
        _button(row, name, label, icon, desk.open_form, variant="square", params={"operator": name})
    _button(row, "show_all", "Show all", "grid_view", desk.show_all, variant="square")
    _button(row, "refresh", "Refresh", "refresh", desk.refresh, variant="square")


def _toggle(panel: types.Object, desk: Any, dataset: Any, field: str, shown: bool) -> None:
    """The button that shows the less likely labels, or the labels again."""
    row = _row(panel, "less_likely")
    if shown:
        _button(row, "toggle", "Hide the less likely labels", "visibility_off", desk.toggle_less_likely)
        text = "Labels below the threshold. Those that are accepted or renamed come to the others."
        row.md(text, name="less_likely_text", componentsProps=OF_ITS_WIDTH)
        return
    masks = review_statistics(dataset, less_likely_field(field)).by_state["undecided"]
    label = f"Show {masks} less likely label{'' if masks == 1 else 's'}"
    _button(row, "toggle", label, "visibility", desk.toggle_less_likely, disabled=not masks)


def _choose_class(panel: types.Object, desk: Any, ctx: Any, statistics: ReviewStatistics) -> None:
    labels = types.DropdownView()
    for label in (ALL, *statistics.classes):
        labels.add_choice(label, label=label)
    chosen = chosen_class(ctx) or ALL
    panel.enum(
        "label", labels.values(), default=chosen, label="Class", view=labels, on_change=desk.change_label
    )


def _classes(panel: types.Object, desk: Any, ctx: Any, statistics: ReviewStatistics) -> None:
    hidden = len(statistics.classes) - charts.MAX_CLASSES
    more = f" The {charts.MAX_CLASSES} largest of {len(statistics.classes)} classes." if hidden > 0 else ""
    panel.md(f"**Masks per class.** Click a bar to see its masks.{more}", name="class_title")
    _, layout = charts.class_bars(statistics)
    _plot(panel, ctx, "class_bars", layout, desk.click_class)
    panel.md("**Scores.** Click a bar to see its masks.", name="score_title")
    _choose_class(panel, desk, ctx, statistics)
    _, layout = charts.score_histogram(statistics, chosen_class(ctx))
    _plot(panel, ctx, "score_histogram", layout, desk.click_score)


def _plot(panel: types.Object, ctx: Any, chart: str, layout: dict[str, Any], on_click: Any) -> None:
    """A chart, over the data that was drawn last."""
    panel.plot(ctx.panel.state.chart_keys[chart], layout=layout, config=charts.CONFIG, on_click=on_click)


def _thresholds(panel: types.Object, desk: Any, ctx: Any, statistics: ReviewStatistics) -> None:
    thresholds = ctx.panel.state.thresholds or {}
    panel.md(
        "**A threshold per class.** Undecided masks below it go, the others stay; decided masks do not change.",
        name="threshold_title",
    )
    effects = [statistics.effect(label, value) for label, value in thresholds.items() if value > 0]
    go, stay = sum(effect.go for effect in effects), sum(effect.stay for effect in effects)
    row = _row(panel, "apply")
    _button(row, "show_changes", f"Show the {go} that go", "visibility", desk.show_changes, disabled=not go)
    _button(row, "reject_below", f"Reject the {go}", "thumb_down", desk.reject_below, disabled=not go)
    _button(
        row, "accept_above", f"Accept the {stay} that stay", "thumb_up", desk.accept_above, disabled=not stay
    )
    for place, label in enumerate(page_of(ctx, statistics)):
        value = thresholds.get(label, 0.0)
        effect = statistics.effect(label, value)
        decided = f", {effect.decided} decided" if effect.decided else ""
        panel.float(
            f"threshold{place}",
            min=0,
            max=1,
            default=value,
            label=f"{label} from {value:.2f}: {effect.stay} stay, {effect.go} go{decided}",
            view=types.SliderView(
                label_position="top", value_label_display="auto", value_precision=2, min=0, max=1
            ),
            on_change=desk.move_threshold,
        )
    if len(statistics.classes) > CLASSES_PER_PAGE:
        first = (ctx.panel.state.page or 0) * CLASSES_PER_PAGE
        last = min(first + CLASSES_PER_PAGE, len(statistics.classes))
        pages = _row(panel, "pages")
        _button(pages, "back", "Back", "chevron_left", desk.turn_page, variant="square", params={"step": -1})
        where = f"classes {first + 1} to {last} of {len(statistics.classes)}"
        pages.md(where, name="page", componentsProps=OF_ITS_WIDTH)
        _button(pages, "next", "Next", "chevron_right", desk.turn_page, variant="square", params={"step": 1})


def _queue(panel: types.Object, desk: Any, ctx: Any, statistics: ReviewStatistics) -> None:
    panel.md(
        f"**The least certain masks first.** The {QUEUE} undecided masks with the smallest margin between their two "
        "best words, as patches in the grid. Select some, accept or reject them, and the queue moves on.",
        name="queue_title",
    )
    _choose_class(panel, desk, ctx, statistics)
    row = _row(panel, "start")
    _button(row, "open_queue", "Open the queue", "playlist_play", desk.open_queue, variant="contained")
    label = chosen_class(ctx)
    masks = least_certain(ctx.dataset, shown_field(ctx), 8, None if label is None else [label])
    lines = ["| label | second best | margin |", "|---|---|---:|"]
    lines += [
        f"| {markdown_cell(mask.label)} | {markdown_cell(mask.runner_up or '')} | {mask.margin:.3f} |"
        for mask in masks
    ]
    panel.md("\n".join(lines) if masks else "No undecided masks are left.", name="queue_table")


def _words(panel: types.Object, desk: Any, ctx: Any, statistics: ReviewStatistics) -> None:
    panel.md(
        f"**Words that are nearly equal.** Undecided masks whose second-best word is at most {CLOSE} behind their "
        "label. Click a number to see its masks.",
        name="words_title",
    )
    if not ctx.panel.state.pairs:
        panel.md("No masks are that close.", name="no_pairs")
        return
    _plot(panel, ctx, "confusion", ctx.panel.state.confusion_layout, desk.click_pair)


def _run(panel: types.Object, desk: Any, ctx: Any, statistics: ReviewStatistics) -> None:
    try:
        run = run_of(ctx.dataset, ctx.panel.state.field)
    except GemLabelError as error:
        panel.md(f"**No run.** {error}", name="no_run")
        return
    panel.md(run_text(run.path, run.manifest), name="run")


def progress_text(statistics: ReviewStatistics, less_likely: bool = False) -> str:
    """How far the review is, with a bar.

    Args:
        statistics: of the field that is shown.
        less_likely: it holds less likely labels.
    """
    total, states = statistics.total, statistics.by_state
    decided = total - states["undecided"]
    share = decided / total if total else 0.0
    full = round(24 * share)
    bar = "■" * full + "□" * (24 - full)
    counts = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
    what = "less likely masks" if less_likely else "masks"
    return f"{bar} **{decided} of {total} {what} decided ({share:.0%})**  \n{counts}"


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
