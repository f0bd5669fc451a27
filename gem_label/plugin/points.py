"""Evaluate the masks of a field with point labels."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import UsageError
from gem_label.plugin.base import Result, SteppedOperator
from gem_label.plugin.decide import required_field
from gem_label.plugin.forms import add_mask_field, check_file, notice, titled
from gem_label.plugin.paths import allowed_file
from gem_label.progress import Progress
from gem_label.review.statistics.points import PointReport, evaluate_points, import_points, result_names


class EvaluatePoints(SteppedOperator):
    """Open Images V7 point labels against a label field."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name, label and when the form is asked for."""
        return foo.OperatorConfig(
            name="evaluate_points",
            label="GEM-Label: Evaluate with points",
            description="p-mIoU of a label field from point labels, with results on samples and points to filter by",
            icon="my_location",
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
        )

    def resolve_input(self, ctx: Any) -> types.Property:
        """Field, points, target."""
        form = types.Object()
        form.view_target(ctx, action_description="Evaluate")
        notice(
            form,
            "about",
            "Each point asks whether one class covers it. The union of a class's masks is its prediction. Classes "
            "that nobody saw in a photo, unsure points and rejected masks do not count.",
        )
        field = add_mask_field(form, ctx)
        if not field:
            return titled(form, "Evaluate with points", "Evaluate")
        fields = keypoint_fields(ctx.dataset)
        sources = types.RadioGroup(orientation="horizontal")
        if fields:
            sources.add_choice("field", label="A field of keypoints")
        sources.add_choice("csv", label="A CSV file")
        form.enum("points_from", sources.values(), default=sources.values()[0], label="Points", view=sources)
        if _source(ctx) == "field":
            choices = types.DropdownView()
            for name in fields:
                choices.add_choice(name, label=name)
            form.enum("points_field", fields, default=fields[0], label="Field of points", view=choices)
        else:
            form.str(
                "points_csv",
                required=True,
                label="CSV file",
                description="Open Images V7's columns ImageId,X,Y,Label,EstimatedYesNo; goes into the field 'points'",
                view=types.TextFieldView(placeholder="labels/points.csv"),
            )
            check_file(form, ctx, "points_csv")
        mean, attribute = result_names(field)
        form.md(
            f"Results: the sample field `{mean}` (mean IoU of the photo) and the attribute `{attribute}` of each "
            "point (TP, FP, FN, TN).",
            name="where",
        )
        return titled(form, "Evaluate with points", "Evaluate")

    def steps(self, ctx: Any) -> Generator[Progress, None, Result]:
        """Bring the points in, compare."""
        field = required_field(ctx)
        points_field = ctx.params.get("points_field") or "points"
        if _source(ctx) == "csv":
            path = ctx.params.get("points_csv")
            if not path:
                raise UsageError("give a CSV file of points")
            yield Progress(0, 1, "reading the points")
            import_points(ctx.dataset, allowed_file(ctx, path), points_field)
        elif not ctx.params.get("points_field"):
            points_field = keypoint_fields(ctx.dataset)[0]
        report = yield from evaluate_points(ctx.dataset, field, points_field, ctx.target_view())
        means = report.averages
        return {
            "message": f"p-mIoU {means.pairs:.3f} over image-class pairs, {means.images:.3f} over {report.images} "
            f"images, {means.classes:.3f} over {len(report.class_ious)} classes",
            "pairs": means.pairs,
            "images": means.images,
            "classes": means.classes,
            "points": report.points,
            "unused_classes": ", ".join(report.unused_classes),
            "per_class": _rows(report),
        }

    def after(self, ctx: Any, result: Result) -> Generator[Any, None, None]:
        """Show the table."""
        yield ctx.ops.reload_dataset()
        outputs = self.resolve_output(ctx)
        yield ctx.ops.show_output(outputs=outputs.to_json(), results=result)
        yield ctx.ops.notify(result["message"], variant="success")

    def resolve_output(self, ctx: Any) -> types.Property:
        """p-mIoU and the table of classes."""
        form = types.Object()
        form.str("message", label="Result")
        form.int("points", label="Points that counted")
        form.str("unused_classes", label="Classes that no mask has for a label")
        table = types.TableView()
        for name, label in (("label", "Class"), ("iou", "IoU"), ("tp", "TP"), ("fp", "FP"), ("fn", "FN")):
            table.add_column(name, label=label)
        form.list("per_class", types.Object(), label="Per class", view=table)
        return types.Property(form)


def keypoint_fields(dataset: Any) -> list[str]:
    """The dataset's fields of keypoints."""
    schema = dataset.get_field_schema(ftype=fo.EmbeddedDocumentField, embedded_doc_type=fo.Keypoints)
    return list(schema)


def _source(ctx: Any) -> str:
    given = ctx.params.get("points_from")
    if given:
        return given
    return "csv" if ctx.params.get("points_csv") or not keypoint_fields(ctx.dataset) else "field"


def _rows(report: PointReport) -> list[dict[str, Any]]:
    """The table, worst class first."""
    rows = []
    for label in sorted(report.class_ious, key=lambda name: (report.class_ious[name], name)):
        tp, fp, fn = report.class_counts[label]
        rows.append({"label": label, "iou": round(report.class_ious[label], 4), "tp": tp, "fp": fp, "fn": fn})
    return rows
