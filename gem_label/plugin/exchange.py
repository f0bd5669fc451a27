"""Export to COCO and CVAT, and corrections back."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import UsageError
from gem_label.plugin.base import Result, SteppedOperator
from gem_label.plugin.decide import required_field
from gem_label.plugin.forms import (
    add_mask_field,
    add_target,
    check_file,
    mark_wrong,
    possible_targets,
    read_selection,
    titled,
)
from gem_label.review.exchange.corrections import import_corrections
from gem_label.review.exchange.export import FORMATS, export_masks
from gem_label.review.progress import Progress
from gem_label.review.storage.selection import Selection
from gem_label.review.tasks.labeling import default_run_folder

WHICH = {
    "not rejected": ["undecided", "accepted", "renamed"],
    "accepted": ["accepted", "renamed"],
    "all": None,
}
PROBLEMS = 50
"""So many annotations that an import left out are listed."""


class ExportCoco(SteppedOperator):
    """Write an annotation file."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name, label and when the form is asked for."""
        return foo.OperatorConfig(
            name="export_coco",
            label="GEM-Label: Export COCO",
            description="COCO instances (or CVAT's XML) of the reviewed masks, with their mask ids",
            icon="download",
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
        )

    def resolve_input(self, ctx: Any) -> types.Property:
        """Field, which masks, format, file."""
        form = types.Object()
        field = add_mask_field(form, ctx)
        if not field:
            return titled(form, "Export", "Export")
        targets = [target for target in possible_targets(ctx, field) if target != "selection"]
        add_target(form, targets, "Which photos")
        which = types.RadioGroup(orientation="horizontal")
        which.add_choice("not rejected", label="Not rejected")
        which.add_choice("accepted", label="Accepted and renamed only")
        which.add_choice("all", label="All")
        form.enum("which", which.values(), default="not rejected", label="Which masks", view=which)
        form.float("min_score", min=0, max=1, label="Only with at least this score")
        formats = types.DropdownView()
        formats.add_choice("rle", label="COCO, run lengths (exact)")
        formats.add_choice("polygon", label="COCO, polygons (exact, for tools that read nothing else)")
        formats.add_choice("cvat", label="CVAT for images 1.1 (XML)")
        form.enum("format", list(FORMATS), default="rle", label="Format", view=formats)
        form.str(
            "path",
            default=str(default_path(ctx, field)),
            label="File",
            description="On the machine where FiftyOne runs",
        )
        path = Path(ctx.params.get("path") or default_path(ctx, field)).expanduser()
        if path.is_dir():
            mark_wrong(form, "path", f"{path} is a folder: give a file name")
        elif path.exists():
            form.view("exists", types.Warning(label=f"{path.name} exists and will be replaced"))
        return titled(form, "Export", "Export")

    def steps(self, ctx: Any) -> Generator[Progress, None, Result]:
        """Write the file."""
        field = required_field(ctx)
        which = ctx.params.get("which") or "not rejected"
        if which not in WHICH:
            raise UsageError(f"which masks: {', '.join(WHICH)}, not {which!r}")
        chosen = read_selection(ctx, field)
        selection = Selection(view=chosen.view, states=WHICH[which], min_score=ctx.params.get("min_score"))
        path = Path(ctx.params.get("path") or default_path(ctx, field)).expanduser()
        counts = yield from export_masks(
            ctx.dataset, field, path, ctx.params.get("format") or "rle", selection
        )
        left_out = {"without a label": counts.unlabeled, "without a pixel": counts.empty}
        notes = "".join(f"; {count} {kind} left out" for kind, count in left_out.items() if count)
        written = f"{counts.annotations} masks of {counts.images} photos in {counts.categories} classes"
        return {
            "message": f"{written}{notes}: {path}",
            "path": str(path),
            "link": f"/media?filepath={quote(str(path))}",
            "annotations": counts.annotations,
            "images": counts.images,
        }

    def after(self, ctx: Any, result: Result) -> Generator[Any, None, None]:
        """Offer the file."""
        yield ctx.ops.show_output(outputs=self.resolve_output(ctx).to_json(), results=result)
        yield ctx.ops.notify(result["message"], variant="success")

    def resolve_output(self, ctx: Any) -> types.Property:
        """Where the file is."""
        form = types.Object()
        form.str("message", label="Done")
        form.str("path", label="File")
        form.str("link", label="Download", view=types.LinkView(label="Download"))
        return types.Property(form)


def default_path(ctx: Any, field: str) -> Path:
    """A file beside the field's run."""
    suffix = ".xml" if ctx.params.get("format") == "cvat" else ".json"
    return default_run_folder(ctx.dataset, field).parent / f"{ctx.dataset.name}-{field}{suffix}"


class ImportAnnotations(SteppedOperator):
    """Take corrections back in."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name, label and when the form is asked for."""
        return foo.OperatorConfig(
            name="import_annotations",
            label="GEM-Label: Import corrections",
            description="A COCO or CVAT file that was exported here and corrected elsewhere; masks keep their ids",
            icon="upload",
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
        )

    def resolve_input(self, ctx: Any) -> types.Property:
        """Field, file, what about missing masks."""
        form = types.Object()
        field = add_mask_field(form, ctx)
        if not field:
            return titled(form, "Import corrections", "Import")
        form.str(
            "path",
            required=True,
            label="File",
            description="COCO instances (.json) or CVAT for images 1.1 (.xml), also as .zip, on the machine where "
            "FiftyOne runs",
        )
        check_file(form, ctx, "path")
        missing = types.RadioGroup(orientation="horizontal")
        missing.add_choice("keep", label="Stay as they are")
        missing.add_choice("reject", label="Are rejected")
        missing.add_choice("delete", label="Are deleted")
        form.enum(
            "missing",
            missing.values(),
            default="keep",
            label="Masks that the file does not have",
            view=missing,
        )
        boxes = types.RadioGroup(orientation="horizontal")
        boxes.add_choice("rectangle", label="Become rectangles")
        boxes.add_choice("leave", label="Are left out")
        form.enum("boxes", boxes.values(), default="rectangle", label="Boxes without a mask", view=boxes)
        form.bool("accept_unchanged", default=False, label="Accept the masks that did not change, too")
        return titled(form, "Import corrections", "Import")

    def steps(self, ctx: Any) -> Generator[Progress, None, Result]:
        """Compare and change."""
        path = ctx.params.get("path")
        if not path:
            raise UsageError("give the file with the corrections")
        report = yield from import_corrections(
            ctx.dataset,
            required_field(ctx),
            path,
            ctx.params.get("missing") or "keep",
            bool(ctx.params.get("accept_unchanged")),
            ctx.params.get("boxes") or "rectangle",
        )
        parts = {
            "relabeled": report.relabeled,
            "redrawn": report.redrawn,
            "added": report.added,
            "unchanged": report.unchanged,
            "missing": report.missing,
            "refused": report.refused,
        }
        text = ", ".join(f"{count} {name}" for name, count in parts.items() if count)
        return {
            "message": f"{report.photos} photos: {text or 'no masks'}",
            "unknown": report.unknown,
            **parts,
            "problems": "\n".join(report.problems[:PROBLEMS]),
        }

    def resolve_output(self, ctx: Any) -> types.Property:
        """What changed."""
        form = types.Object()
        form.str("message", label="Done")
        form.int("unknown", label="Photos of the file that the dataset does not have")
        form.str("problems", label=f"What was left out (the first {PROBLEMS})")
        return types.Property(form)
