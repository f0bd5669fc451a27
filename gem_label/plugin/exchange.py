"""Annotation files out of a dataset, and corrections back."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import UsageError
from gem_label.formats.drawing import WriteSettings
from gem_label.formats.reading import KINDS
from gem_label.formats.writing import FORMATS, check_target
from gem_label.plugin.base import Result, SteppedOperator
from gem_label.plugin.decide import required_field
from gem_label.plugin.forms import (
    add_mask_field,
    check_file,
    mark_wrong,
    titled,
)
from gem_label.plugin.targets import add_target, possible_targets, read_selection
from gem_label.progress import Progress
from gem_label.review.exchange.box_masks import load_box_drawer
from gem_label.review.exchange.corrections import import_corrections
from gem_label.review.exchange.export import export_masks
from gem_label.review.storage.selection import Selection
from gem_label.review.tasks.labeling import default_run_folder

WHICH = {
    "not rejected": ["undecided", "accepted", "renamed"],
    "accepted": ["accepted", "renamed"],
    "all": None,
}
PROBLEMS = 50
"""So many annotations that an import left out are listed."""


class ExportAnnotations(SteppedOperator):
    """Write an annotation file."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name, label and when the form is asked for."""
        return foo.OperatorConfig(
            name="export_annotations",
            label="GEM-Label: Export annotations",
            description="The reviewed masks as COCO, CVAT, Label Studio, YOLO or a table",
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
        for name, kind in FORMATS.items():
            formats.add_choice(name, label=kind.title)
        form.enum("format", list(FORMATS), default="coco", label="Format", view=formats)
        _add_settings(form, ctx)
        path = chosen_path(ctx, field)
        form.str(
            "path",
            default=str(path),
            label="File or folder",
            description="On the machine where FiftyOne runs",
        )
        try:
            check_target(path, chosen_format(ctx))
        except UsageError as error:
            mark_wrong(form, "path", str(error))
        else:
            if path.exists():
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
        path, format = chosen_path(ctx, field), chosen_format(ctx)
        settings = WriteSettings(
            ctx.params.get("segmentation") or "rle",
            ctx.params.get("tolerance"),
            ctx.params.get("photos") or "link",
            ctx.params.get("image_prefix") or None,
        )
        report = yield from export_masks(ctx.dataset, field, path, format, selection, settings)
        result = {
            "message": f"{report}: {path}",
            "path": str(path),
            "annotations": report.masks,
            "images": report.photos,
        }
        return result if path.is_dir() else {**result, "link": f"/media?filepath={quote(str(path))}"}

    def after(self, ctx: Any, result: Result) -> Generator[Any, None, None]:
        """Offer the file."""
        yield ctx.ops.show_output(outputs=self.resolve_output(ctx).to_json(), results=result)
        yield ctx.ops.notify(result["message"], variant="success")

    def resolve_output(self, ctx: Any) -> types.Property:
        """Where the file is."""
        form = types.Object()
        form.str("message", label="Done")
        form.str("path", label="File")
        if not FORMATS[chosen_format(ctx)].is_folder:
            form.str("link", label="Download", view=types.LinkView(label="Download"))
        return types.Property(form)


def _add_settings(form: types.Object, ctx: Any) -> None:
    """What concerns the chosen format."""
    format = chosen_format(ctx)
    polygons = format == "yolo" or ctx.params.get("segmentation") == "polygon"
    if format in ("coco", "lvis", "label-studio"):
        shapes = types.RadioGroup(orientation="horizontal")
        shapes.add_choice("rle", label="Run lengths, exact")
        shapes.add_choice("polygon", label="Polygons")
        form.enum("segmentation", shapes.values(), default="rle", label="Masks as", view=shapes)
    if polygons and format in ("coco", "lvis", "label-studio", "yolo"):
        form.float(
            "tolerance", min=0, max=100, label="Pixels that an outline may depart from the mask's border"
        )
    if format == "yolo":
        photos = types.RadioGroup(orientation="horizontal")
        photos.add_choice("link", label="Linked")
        photos.add_choice("copy", label="Copied")
        photos.add_choice("list", label="Only listed")
        form.enum("photos", photos.values(), default="link", label="Photos are", view=photos)
    if format == "label-studio":
        form.str(
            "image_prefix",
            label="What stands before the photos' paths",
            description="By default Label Studio's local storage",
        )


def chosen_format(ctx: Any) -> str:
    """The format that the form names.

    Raises:
        UsageError: it is none.
    """
    format = ctx.params.get("format") or "coco"
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}: {', '.join(FORMATS)}")
    return format


def chosen_path(ctx: Any, field: str) -> Path:
    """The file of the form; otherwise one beside the field's run."""
    given = ctx.params.get("path")
    if given:
        return Path(given).expanduser()
    suffix = FORMATS[chosen_format(ctx)].suffix
    return default_run_folder(ctx.dataset, field).parent / f"{ctx.dataset.name}-{field}{suffix}"


class ImportAnnotations(SteppedOperator):
    """Take corrections back in."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name, label and when the form is asked for."""
        return foo.OperatorConfig(
            name="import_annotations",
            label="GEM-Label: Import corrections",
            description="A file that was exported here and corrected elsewhere; masks keep their ids",
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
            description=f"{KINDS}, also as .zip; on the machine where FiftyOne runs",
        )
        check_file(form, ctx, "path", or_folder=True)
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
        boxes.add_choice("sam", label="Become what SAM sees in them")
        boxes.add_choice("leave", label="Are left out")
        form.enum("boxes", boxes.values(), default="rectangle", label="Boxes without a mask", view=boxes)
        form.bool("resize", default=False, label="Take masks of another resolution of a photo, too")
        form.bool("accept_unchanged", default=False, label="Accept the masks that did not change, too")
        form.bool("dry_run", default=False, label="Only say what would change")
        return titled(form, "Import corrections", "Import")

    def steps(self, ctx: Any) -> Generator[Progress, None, Result]:
        """Compare and change."""
        path = ctx.params.get("path")
        if not path:
            raise UsageError("give the file with the corrections")
        boxes: Any = ctx.params.get("boxes") or "rectangle"
        report = yield from import_corrections(
            ctx.dataset,
            required_field(ctx),
            path,
            ctx.params.get("missing") or "keep",
            bool(ctx.params.get("accept_unchanged")),
            boxes,
            bool(ctx.params.get("resize")),
            bool(ctx.params.get("dry_run")),
            load_box_drawer() if boxes == "sam" else None,
        )
        return {
            "message": f"{'would change: ' if ctx.params.get('dry_run') else ''}{report}",
            "unknown": report.unknown,
            **report.counts,
            "problems": "\n".join(report.problems[:PROBLEMS]),
        }

    def resolve_output(self, ctx: Any) -> types.Property:
        """What changed."""
        form = types.Object()
        form.str("message", label="Done")
        form.int("unknown", label="Photos of the file that the dataset does not have")
        form.str("problems", label=f"What was left out (the first {PROBLEMS})")
        return types.Property(form)
