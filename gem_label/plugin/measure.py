"""Measure the labels of a field against ground truth in the dataset."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.metrics.labels import LabelReport
from gem_label.metrics.labels.curves import ThresholdPoint
from gem_label.plugin.base import Result, SteppedOperator
from gem_label.plugin.decide import required_field
from gem_label.plugin.forms import add_mask_field, notice, problem, titled
from gem_label.progress import Progress
from gem_label.review.statistics.measuring import Measurement, measure_labels, truth_fields
from gem_label.review.storage.fields import main_field

COLUMNS = {
    "label": "Class",
    "instances": "Annotated",
    "labels": "Labels",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "ap50": "AP50",
    "best": "Best threshold",
    "best_f1": "F1 there",
}


class EvaluateLabels(SteppedOperator):
    """Labels against annotated instances."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name, label and when the form is asked for."""
        return foo.OperatorConfig(
            name="evaluate_labels",
            label="GEM-Label: Measure labels against ground truth",
            description="Precision, recall, kinds of errors and the best threshold of each class",
            icon="straighten",
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
        )

    def resolve_input(self, ctx: Any) -> types.Property:
        """Field, ground truth, target."""
        form = types.Object()
        form.view_target(ctx, action_description="Measure")
        notice(
            form,
            "about",
            "A label is right when it overlaps an annotation of the same word by an IoU of at least 0.5. Rejected "
            "labels do not count; less likely ones count for the best thresholds alone.",
        )
        field = add_mask_field(form, ctx)
        if field:
            fields = truth_fields(ctx.dataset, main_field(ctx.dataset, field))
            if fields:
                choices = types.DropdownView()
                for name in fields:
                    choices.add_choice(name, label=name)
                form.enum("truth_field", fields, default=fields[0], label="Ground truth", view=choices)
            else:
                problem(
                    form,
                    "no_truth",
                    "this dataset has no ground truth: it takes a field of detections with masks, or of polylines",
                )
        return titled(form, "Measure labels against ground truth", "Measure")

    def steps(self, ctx: Any) -> Generator[Progress, None, Result]:
        """Compare."""
        field = main_field(ctx.dataset, required_field(ctx))
        truth_field = ctx.params.get("truth_field") or next(iter(truth_fields(ctx.dataset, field)), "")
        measured = yield from measure_labels(ctx.dataset, field, truth_field, ctx.target_view())
        report = measured.report
        return {
            "message": f"precision {percent(report.micro.precision)}, recall {percent(report.micro.recall)}, "
            f"F1 {percent(report.micro.f1)} over {report.photos} photos",
            "precision": report.micro.precision,
            "recall": report.micro.recall,
            "f1": report.micro.f1,
            "labels_per_thing": report.labels_per_thing,
            "absent_labeled": report.absent_rate,
            "summary": summary_text(measured),
            "min_score": report.min_score("best_f1"),
            "per_class": class_rows(report),
        }

    def after(self, ctx: Any, result: Result) -> Generator[Any, None, None]:
        """Show the tables."""
        yield ctx.ops.show_output(outputs=self.resolve_output(ctx).to_json(), results=result)
        yield ctx.ops.notify(result["message"], variant="success")

    def resolve_output(self, ctx: Any) -> types.Property:
        """The figures and the table of classes."""
        form = types.Object()
        form.str("summary", view=types.MarkdownView())
        form.str(
            "min_score",
            label="Thresholds of the best F1",
            description="Paste them into the score that 'GEM-Label: Relabel' asks for",
        )
        table = types.TableView()
        for name, label in COLUMNS.items():
            table.add_column(name, label=label)
        form.list("per_class", types.Object(), label="Per class", view=table)
        return types.Property(form)


def summary_text(measured: Measurement) -> str:
    """The figures of all classes together, and the errors, as Markdown."""
    report = measured.report
    counts, there = report.micro, report.presence
    per_thing = "-" if report.labels_per_thing is None else f"{report.labels_per_thing:.2f}"
    rows = {
        "precision": f"{percent(counts.precision)} ({counts.tp} of {counts.tp + counts.fp} labels are right)",
        "recall": f"{percent(counts.recall)} ({counts.tp} of {report.instances} annotated things are found)",
        "F1": percent(counts.f1),
        "labels per thing found": per_thing,
        "absent words labeled": f"{percent(report.absent_rate)} ({there.fp} of {there.fp + there.tn})",
        "AP50": percent(report.coco.ap50),
        "one threshold for the best F1": _point(report.best_f1),
    }
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    lines += ["", "| error | how many | F1 gains when they are fixed |", "|---|---:|---:|"]
    lines += [f"| {each.kind} | {each.count} | {percent(each.f1_cost)} |" for each in report.errors]
    if report.confusions:
        lines += ["", "| label | but it is | how many |", "|---|---|---:|"]
        lines += [f"| {each.label} | {each.truth} | {each.count} |" for each in report.confusions[:10]]
    lines += ["", *(f"- {note}" for note in measured.notes)]
    return "\n".join(lines)


def class_rows(report: LabelReport) -> list[dict[str, Any]]:
    """The table of classes, most annotated first."""
    rows = []
    for each in sorted(report.per_class, key=lambda row: (-row.instances, -row.labels, row.name)):
        best = each.best_f1
        rows.append(
            {
                "label": each.name,
                "instances": each.instances,
                "labels": each.labels,
                "precision": percent(each.counts.precision),
                "recall": percent(each.counts.recall),
                "f1": percent(each.counts.f1),
                "ap50": percent(each.ap50),
                "best": "-" if best is None else f"{best.threshold:g}",
                "best_f1": "-" if best is None else percent(best.f1),
            }
        )
    return rows


def percent(share: float | None) -> str:
    """A share in [0, 1] as one reads it; "-" for None."""
    return "-" if share is None else f"{100 * share:.1f}%"


def _point(point: ThresholdPoint | None) -> str:
    if point is None:
        return "none: no label is right"
    return f"{point.threshold:g} (F1 {percent(point.f1)})"
