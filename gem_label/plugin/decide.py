"""Accept, reject, rename, merge and delete masks, and undo."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import UsageError
from gem_label.plugin.base import GemLabelOperator, Result
from gem_label.plugin.forms import add_mask_field, chosen_field, mark_wrong, notice, problem, titled, wait_for
from gem_label.plugin.targets import add_masks, read_selection
from gem_label.review.editing.decisions import Action, decide, undo
from gem_label.review.editing.joining import join_masks
from gem_label.review.storage.decision_log import Decision, list_decisions
from gem_label.review.storage.internals import is_patches
from gem_label.tables import markdown_cell

_CLASSES_SHOWN = 12


def required_field(ctx: Any) -> str:
    """The field that a form's answers name.

    Raises:
        UsageError: the dataset has none.
    """
    field = chosen_field(ctx)
    if field is None:
        raise UsageError(f"dataset {ctx.dataset.name!r} has no masks yet: label it first")
    return field


class _AboutMasks(GemLabelOperator):
    """An operator that changes masks, and the form that asks which."""

    name: str
    label: str
    icon: str
    explanation: str

    @property
    def config(self) -> foo.OperatorConfig:
        """Name, label and when the form is asked for."""
        return foo.OperatorConfig(
            name=self.name,
            label=f"GEM-Label: {self.label}",
            description=self.explanation,
            icon=self.icon,
            dynamic=True,
            allow_delegated_execution=True,
        )

    def resolve_input(self, ctx: Any) -> types.Property:
        """Which masks: the selected ones, unless others are asked for."""
        form = types.Object()
        field = chosen_field(ctx)
        if field:
            self.ask(form, ctx, field)
            add_masks(form, ctx, field)
        else:
            add_mask_field(form, ctx)  # says that there is none
        notice(form, "about", self.explanation)
        return titled(form, self.label, self.label.split()[0])

    def ask(self, form: types.Object, ctx: Any, field: str) -> None:
        """Further questions, above the others."""

    def __call__(self, samples: Any, *arguments: Any, **params: Any) -> Any:
        """Call the operator from Python; without a `target` it is about the narrowest that is given."""
        selected, labels = params.get("selected"), params.get("selected_labels")
        is_view = not isinstance(samples, fo.Dataset)
        target = "view" if is_view else "dataset"
        if labels or (selected and is_view and is_patches(samples)):
            target = "selection"
        elif selected:
            target = "samples"
        return super().__call__(samples, *arguments, **{"target": target, **params})

    def after(self, ctx: Any, result: Result) -> Generator[Any, None, None]:
        """Show what is stored; the review desk, which may have the queue to move on, does it itself."""
        if ctx.params.get("from_desk"):
            yield ctx.ops.notify(result["message"], variant="success")
        else:
            yield from super().after(ctx, result)


class _Decide(_AboutMasks):
    """A decision about masks."""

    action: Action

    def run(self, ctx: Any) -> Result:
        """Decide."""
        field = required_field(ctx)
        return _told(decide(ctx.dataset, field, self.action, read_selection(ctx, field)))


def _told(decision: Decision) -> Result:
    return {"message": str(decision), "decision": decision.id, "masks": decision.masks}


class Accept(_Decide):
    """Accept masks."""

    name = action = "accept"
    label, icon = "Accept masks", "thumb_up"
    explanation = "Accepted masks keep their label whatever the dataset is labeled with later."


class Reject(_Decide):
    """Reject masks."""

    name = action = "reject"
    label, icon = "Reject masks", "thumb_down"
    explanation = "Rejected masks stay in the dataset with the tag 'rejected' and are left out of exports."


class Delete(_Decide):
    """Delete masks."""

    name = action = "delete"
    label, icon = "Delete masks", "delete"
    explanation = (
        "Deleted masks leave the dataset and do not come back with later labels; undo brings them back."
    )


class Rename(_Decide):
    """Give masks another label."""

    name = action = "rename"
    label, icon = "Rename masks", "edit"
    explanation = "Renamed masks keep their label whatever the dataset is labeled with later."

    def ask(self, form: types.Object, ctx: Any, field: str) -> None:
        """The new label: a text field, which has the focus, and the classes that begin with what is typed."""
        form.str("label", label="New label", view=types.TextFieldView(placeholder="a class, or a new word"))
        typed = (ctx.params.get("label") or "").strip()
        form.md(_classes_text(typed, _known_classes(ctx.dataset, field)), name="classes")
        if typed:
            return
        if ctx.params.get("label"):
            mark_wrong(form, "label", "give the new label")
        else:
            wait_for(form, "no_label", "give the new label")

    def run(self, ctx: Any) -> Result:
        """Rename."""
        field = required_field(ctx)
        label = (ctx.params.get("label") or "").strip()
        if not label:
            raise UsageError("give the new label")
        return _told(decide(ctx.dataset, field, "rename", read_selection(ctx, field), label))


def _known_classes(dataset: Any, field: str) -> list[str]:
    """The classes of a field: those that are declared, then others that occur."""
    declared = dataset.classes.get(field, [])
    return list(dict.fromkeys([*declared, *dataset.distinct(f"{field}.detections.label")]))


def _classes_text(typed: str, classes: Sequence[str]) -> str:
    """One line of Markdown: the classes that begin with what was typed, or that it is a new one."""
    if typed in classes:
        return f"{markdown_cell(typed)} is a class of this field."
    like = [name for name in classes if name.lower().startswith(typed.lower())][:_CLASSES_SHOWN]
    names = ", ".join(map(markdown_cell, like))
    if not typed:
        return f"Classes: {names}"
    return f"A new class. Classes that begin so: {names}" if like else "A new class."


class Merge(_AboutMasks):
    """Join masks of one thing."""

    name, label, icon = "merge", "Merge masks", "call_merge"
    explanation = (
        "In each photo, the masks with the same label become one, which is accepted and keeps the id of the mask "
        "with the highest score."
    )

    def run(self, ctx: Any) -> Result:
        """Merge."""
        field = required_field(ctx)
        return _told(join_masks(ctx.dataset, field, read_selection(ctx, field)))


class Undo(GemLabelOperator):
    """Take a decision back."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name, label and when the form is asked for."""
        return foo.OperatorConfig(
            name="undo",
            label="GEM-Label: Undo a decision",
            description="Take back what was decided about masks",
            icon="undo",
            dynamic=True,
        )

    def resolve_input(self, ctx: Any) -> types.Property:
        """Which decision."""
        form = types.Object()
        field = add_mask_field(form, ctx)
        if field:
            decisions = list_decisions(ctx.dataset, field)
            if not decisions:
                problem(form, "nothing", f"there is nothing to undo in {field!r}")
            else:
                choices = types.DropdownView()
                for decision in decisions:
                    choices.add_choice(decision.id, label=f"{decision.at:%Y-%m-%d %H:%M:%S} UTC: {decision}")
                form.enum(
                    "decision",
                    choices.values(),
                    default=decisions[0].id,
                    label="Decision",
                    description="Masks that were decided about again since stay as they are",
                    view=choices,
                )
        return titled(form, "Undo a decision", "Undo")

    def run(self, ctx: Any) -> Result:
        """Undo."""
        field = required_field(ctx)
        decision, masks = undo(ctx.dataset, field, ctx.params.get("decision"))
        left = decision.masks - masks
        rest = f"; {left} were decided about again since and stay" if left > 0 else ""
        return {"message": f"undone: {decision}{rest}", "decision": decision.id, "masks": masks}
