"""A run learns from the decisions of reviewers: what to expect, a preview, and the labels."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import GemLabelError, UsageError
from gem_label.evaluation.results import percent
from gem_label.metrics.labels.curves import Counts
from gem_label.plugin.base import Result, SteppedOperator
from gem_label.plugin.decide import required_field
from gem_label.plugin.encoders import text_encoder
from gem_label.plugin.forms import add_mask_field, problem, titled
from gem_label.plugin.relabel import PREVIEW_PHOTOS, preview_text
from gem_label.plugin.targets import photos_selected
from gem_label.progress import Progress
from gem_label.review.database import open_dataset
from gem_label.review.storage.decision_log import list_decisions
from gem_label.review.storage.fields import less_likely_field, main_field, run_of
from gem_label.review.tasks.learning import apply_lesson, learn_from_decisions
from gem_label.review.tasks.relabeling import preview_labels
from gem_label.runs.learn import LearnReport
from gem_label.tables import markdown_cell

LEARN, FORGET = "learn", "forget"


class Learn(SteppedOperator):
    """All masks of a run get labels that rest on what reviewers decided about some of them."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name, label and when the form is asked for."""
        return foo.OperatorConfig(
            name="learn",
            label="GEM-Label: Learn from decisions",
            description="Give all masks labels that rest on the decisions so far; decided masks stay as they are",
            icon="school",
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
        )

    def resolve_input(self, ctx: Any) -> types.Property:
        """What was learned, how much better labels of unseen photos get, and what changes on the current page."""
        form = types.Object()
        field = add_mask_field(form, ctx)
        if field:
            try:
                self._add_choice(form, ctx, field)
                if _choice(ctx) == LEARN:
                    self._add_lesson(form, ctx, field)
            except GemLabelError as error:
                problem(form, "nothing", str(error))
        forgets = _choice(ctx) == FORGET
        return titled(form, "Learn from decisions", "Forget" if forgets else "Learn")

    def _add_choice(self, form: types.Object, ctx: Any, field: str) -> None:
        """Learn or forget, where something was learned before."""
        if run_of(ctx.dataset, field).learned is None:
            return
        choices = types.RadioGroup(orientation="horizontal")
        choices.add_choice(LEARN, label="Learn again from all decisions")
        choices.add_choice(FORGET, label="Forget what was learned: labels by the words alone")
        form.enum("choice", choices.values(), default=LEARN, label="What to do", view=choices)

    def _add_lesson(self, form: types.Object, ctx: Any, field: str) -> None:
        report = lesson_of(ctx.dataset, field)
        form.md(lesson_text(report), name="lesson")
        _check(report)
        photos = ctx.dataset.select(ctx.selected) if photos_selected(ctx) else ctx.view
        run = run_of(ctx.dataset, field)
        changes = preview_labels(
            ctx.dataset,
            field,
            photos[:PREVIEW_PHOTOS].values("filepath"),
            replace(report.vocabulary, negatives=()),
            text_encoder(run),
            list(report.vocabulary.negatives),
            learned=report.learned,
        )
        form.md(preview_text(changes), name="preview")

    def steps(self, ctx: Any) -> Generator[Progress, None, Result]:
        """Learn, label the run again, bring the labels into the dataset."""
        field = required_field(ctx)
        forgets = _choice(ctx) == FORGET
        yield Progress(0, 3, "forgetting" if forgets else "learning from the decisions")
        report = None if forgets else lesson_of(ctx.dataset, field)
        if report is not None:
            _check(report)
        encoder = text_encoder(run_of(ctx.dataset, field))
        pushed = yield from apply_lesson(ctx.dataset, field, encoder, report)
        what = "by the words alone" if report is None else f"by {len(report.photos)} reviewed photos"
        stay = f"; {pushed.decided} decided masks stay as they are" if pushed.decided else ""
        return {
            "message": f"{pushed.detections} masks in {pushed.field!r} are labeled {what}{stay}",
            "masks": pushed.detections,
            "decided": pushed.decided,
        }


def _choice(ctx: Any) -> str:
    return FORGET if ctx.params.get("choice") == FORGET else LEARN


def _check(report: LearnReport) -> None:
    """Refuse to change labels where nothing is learned.

    Raises:
        UsageError: the decisions teach nothing that helps.
    """
    if not report.teaches:
        raise UsageError("nothing that helps is learned from these decisions yet: review more photos")


def lesson_of(dataset: Any, field: str) -> LearnReport:
    """What the decisions so far teach; a second call before the next decision costs nothing.

    Raises:
        GemLabelError: as `learn_from_decisions`.
    """
    field = main_field(dataset, field)
    run = run_of(dataset, field)
    both = (field, less_likely_field(field))
    last = max((each.id for name in both for each in list_decisions(dataset, name, 1)), default="")
    return _learn(dataset.name, field, str(run.path), str(run.manifest.get("updated")), last)


@lru_cache(maxsize=1)  # a form asks again with every change of it
def _learn(dataset: str, field: str, run: str, updated: str, last_decision: str) -> LearnReport:
    opened = open_dataset(dataset)
    return learn_from_decisions(opened, field, text_encoder(run_of(opened, field)))


def lesson_text(report: LearnReport) -> str:
    """What was learned and what to expect, as Markdown."""
    lesson = report.lesson
    learned = ["when a score can be trusted"] if lesson.validation.used else []
    if lesson.word_validation.used:
        learned.append("what classes look like")
    lines = [
        f"**{len(report.photos)} reviewed photos teach** {' and '.join(learned) or 'nothing that helps'}.",
        "",
        "| labels of reviewed photos | right | wrong | missed | precision | recall |",
        "|---|---:|---:|---:|---:|---:|",
        _row("by the words alone", report.before),
        _row("by what the other photos teach", report.after),
    ]
    if report.added.classes:
        names = ", ".join(map(markdown_cell, report.added.classes))
        lines += ["", f"Classes that reviewers added and that all masks may have then: {names}."]
    if report.mistakes:
        lines += [
            "",
            f"{len(report.mistakes)} decisions look like mistakes: *Second look* in the review panel shows them.",
        ]
    return "\n".join(lines)


def _row(name: str, counts: Counts) -> str:
    return (
        f"| {name} | {counts.tp} | {counts.fp} | {counts.fn} | {percent(counts.precision)} | "
        f"{percent(counts.recall)} |"
    )
