"""Accept, reject, rename, merge and delete masks, and undo."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import UsageError
from gem_label.plugin.base import GemLabelOperator, Result
from gem_label.plugin.forms import (
    add_mask_field,
    add_masks,
    chosen_field,
    mark_wrong,
    notice,
    problem,
    read_selection,
    titled,
)
from gem_label.review.editing.decisions import Action, decide, undo
from gem_label.review.editing.joining import join_masks
from gem_label.review.storage.decision_log import Decision, list_decisions


def required_field(ctx: Any) -> str:
    """The field that a form's answers name.

    Raises:
        UsageError: the dataset has none.
    """
    field = chosen_field(ctx)
    if field is None:
        raise UsageError(f"dataset {ctx.dataset.name!r} has no masks yet: label it first")
    return field


class _Decide(GemLabelOperator):
    """A decision about masks."""

    action: Action
    label: str
    icon: str
    explanation: str

    @property
    def config(self) -> foo.OperatorConfig:
        """Name, label and when the form is asked for."""
        return foo.OperatorConfig(
            name=self.action,
            label=f"GEM-Label: {self.label}",
            description=self.explanation,
            icon=self.icon,
            dynamic=True,
            allow_delegated_execution=True,
        )

    def resolve_input(self, ctx: Any) -> types.Property:
        """Which field, which masks."""
        form = types.Object()
        notice(form, "about", self.explanation)
        field = add_mask_field(form, ctx)
        if field:
            self.ask(form, ctx, field)
            add_masks(form, ctx, field)
        return titled(form, self.label, self.label.split()[0])

    def ask(self, form: types.Object, ctx: Any, field: str) -> None:
        """Further questions."""

    def run(self, ctx: Any) -> Result:
        """Decide."""
        field = required_field(ctx)
        return _told(decide(ctx.dataset, field, self.action, read_selection(ctx, field)))


def _told(decision: Decision) -> Result:
    return {"message": str(decision), "decision": decision.id, "masks": decision.masks}


class Accept(_Decide):
    """Accept masks."""

    action, label, icon = "accept", "Accept masks", "thumb_up"
    explanation = "Accepted masks keep their label whatever the dataset is labeled with later."


class Reject(_Decide):
    """Reject masks."""

    action, label, icon = "reject", "Reject masks", "thumb_down"
    explanation = "Rejected masks stay in the dataset with the tag 'rejected' and are left out of exports."


class Delete(_Decide):
    """Delete masks."""

    action, label, icon = "delete", "Delete masks", "delete"
    explanation = (
        "Deleted masks leave the dataset and do not come back with later labels; undo brings them back."
    )


class Rename(_Decide):
    """Give masks another label."""

    action, label, icon = "rename", "Rename masks", "edit"
    explanation = "Give masks another label. To merge classes, choose them below and give the name of one."

    def ask(self, form: types.Object, ctx: Any, field: str) -> None:
        """The new label."""
        names = types.AutocompleteView(allow_user_input=True)
        for name in dict.fromkeys(
            [*ctx.dataset.classes.get(field, []), *ctx.dataset.distinct(f"{field}.detections.label")]
        ):
            names.add_choice(name, label=name)
        form.str("label", required=True, label="New label", view=names)
        if "label" in ctx.params and not (ctx.params["label"] or "").strip():
            mark_wrong(form, "label", "give the new label")

    def run(self, ctx: Any) -> Result:
        """Rename."""
        field = required_field(ctx)
        label = ctx.params.get("label")
        return _told(decide(ctx.dataset, field, "rename", read_selection(ctx, field), label))


class Merge(GemLabelOperator):
    """Join masks of one thing."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name, label and when the form is asked for."""
        return foo.OperatorConfig(
            name="merge",
            label="GEM-Label: Merge masks",
            description="Make one mask of several parts of a thing",
            icon="call_merge",
            dynamic=True,
            allow_delegated_execution=True,
        )

    def resolve_input(self, ctx: Any) -> types.Property:
        """Which field, which masks."""
        form = types.Object()
        notice(
            form,
            "about",
            "In each photo, the masks with the same label become one, which is accepted and keeps the id of the mask "
            "with the highest score.",
        )
        field = add_mask_field(form, ctx)
        if field:
            add_masks(form, ctx, field)
        return titled(form, "Merge masks", "Merge")

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
