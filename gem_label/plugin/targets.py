"""Which masks a decision is about: what is selected in the App, and the part of a form that asks and says it."""

from __future__ import annotations

from typing import Any

from fiftyone.operators import types

from gem_label.errors import GemLabelError
from gem_label.plugin.forms import add_mask_field, mark_wrong, notice, wait_for
from gem_label.review.statistics.review import count_meant
from gem_label.review.storage.internals import is_patches
from gem_label.review.storage.selection import STATES, Selection

TARGETS = {
    "selection": "the selected masks",
    "samples": "masks of the selected photos",
    "view": "masks that the view shows",
    "dataset": "masks of the dataset",
}
SELECT_FIRST = "select masks first: patches in the grid, or labels in a photo"
_NAMED = 6  # classes that a form names


def selected_ids(ctx: Any, field: str) -> list[str]:
    """Ids of the masks of a field that are selected in the App: in a sample's view, or as patches in the grid."""
    ids = [label["label_id"] for label in ctx.selected_labels or [] if label.get("field", field) == field]
    if not ids and is_patches(ctx.view) and getattr(ctx.view, "patches_field", None) == field:
        ids = list(ctx.selected)
    return ids


def photos_selected(ctx: Any) -> bool:
    """Whether photos, not patches of them, are selected in the grid."""
    return bool(ctx.selected) and not is_patches(ctx.view)


def possible_targets(ctx: Any, field: str) -> list[str]:
    """Which of `TARGETS` there are at the moment, the narrowest first."""
    targets = ["dataset"]
    if ctx.has_custom_view:
        targets.insert(0, "view")
    if photos_selected(ctx):
        targets.insert(0, "samples")
    if selected_ids(ctx, field):
        targets.insert(0, "selection")
    return targets


def add_target(form: types.Object, targets: list[str], label: str) -> None:
    """Ask for one of some `TARGETS`; the first is the default."""
    _ask_target(form, {target: f"all {TARGETS[target]}" for target in targets}, targets[0], label)


def add_masks(form: types.Object, ctx: Any, field: str) -> None:
    """Ask which masks are meant, and say how many that are and of which classes.

    The selected masks where there are some: then nothing else is asked. Others are meant when they are chosen alone.
    """
    targets = possible_targets(ctx, field)
    default = "selection" if targets[0] == "selection" else None
    target = ctx.params.get("target") or default
    if target == "selection" and default is None:  # the selection went while the form was open
        mark_wrong(form, _ask_target(form, TARGETS, target, "Which masks"), "no mask is selected any more")
        return
    choices = {each: f"{'' if each == 'selection' else 'other: '}{TARGETS[each]}" for each in targets}
    if default is None:
        notice(form, "none_selected", "No masks are selected", "Select masks first, or say which are meant.")
        choices = {each: TARGETS[each] for each in targets}
    _ask_target(form, choices, default, "Which masks")
    if target is None:
        wait_for(form, "no_target", "say which masks are meant")
        return
    if target != "selection":
        add_mask_field(form, ctx)
        _ask_conditions(form, ctx, field)
    try:
        meant = count_meant(ctx.dataset, field, read_selection(ctx, field, target))
    except GemLabelError as error:
        notice(form, "meant", str(error))
        mark_wrong(form, "meant", str(error))
        return
    notice(form, "meant", meant_text(meant, field))
    if not meant:
        wait_for(form, "no_mask", "no mask is meant: select masks, or widen the view or the conditions")


def _ask_target(form: types.Object, choices: dict[str, str], default: str | None, label: str) -> str:
    """Returns the name of the property."""
    view = types.RadioGroup()
    for target, text in choices.items():
        view.add_choice(target, label=text)
    form.enum("target", list(choices), default=default, label=label, view=view)
    return "target"


def _ask_conditions(form: types.Object, ctx: Any, field: str) -> None:
    labels = types.AutocompleteView(allow_user_input=False, allow_duplicates=False)
    for name in ctx.dataset.distinct(f"{field}.detections.label"):
        labels.add_choice(name, label=name)
    form.list(
        "labels",
        types.String(),
        label="Only of these classes",
        description="Nothing chosen: of all",
        view=labels,
    )
    form.float("min_score", min=0, max=1, label="Only with at least this score")
    form.float("below_score", min=0, max=1, label="Only with a lower score than this")
    form.bool("undecided", default=False, label="Only masks that nobody decided about yet")


def meant_text(meant: dict[str, int], field: str) -> str:
    """One line: "12 masks of gem_label: 7 cat, 5 dog"."""
    if not meant:
        return f"No mask of {field} is meant"
    masks = sum(meant.values())
    parts = [f"{count} {label}" for label, count in list(meant.items())[:_NAMED]]
    more = len(meant) - _NAMED
    if more > 0:
        parts.append(f"and {more} more class{'' if more == 1 else 'es'}")
    return f"{masks} mask{'' if masks == 1 else 's'} of {field}: {', '.join(parts)}"


def read_selection(ctx: Any, field: str, target: str | None = None) -> Selection:
    """The masks that a form's answers mean.

    Args:
        ctx: the context.
        field: the field of the masks.
        target: one of `TARGETS`; None: what the form says, and called from Python the narrowest there is.
    """
    target = target or ctx.params.get("target") or possible_targets(ctx, field)[0]
    ids = view = None
    if target == "selection":
        ids = selected_ids(ctx, field)
    elif target == "samples":
        view = ctx.dataset.select(ctx.selected)
    elif target == "view":
        view = ctx.view
    return Selection(
        view=view,
        ids=ids,
        labels=ctx.params.get("labels") or None,
        min_score=ctx.params.get("min_score"),
        below_score=ctx.params.get("below_score"),
        states=STATES[:1] if ctx.params.get("undecided") else None,
    )
