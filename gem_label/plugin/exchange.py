"""Annotation files out of a dataset."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import UsageError
from gem_label.formats.drawing import WriteSettings
from gem_label.formats.writing import FORMATS, check_target
from gem_label.plugin.base import Result, SteppedOperator, is_own_process
from gem_label.plugin.decide import required_field
from gem_label.plugin.forms import (
    add_mask_field,
    mark_wrong,
    refuse,
    titled,
)
from gem_label.plugin.paths import allowed_path, check_replaceable, existing_exports
from gem_label.plugin.targets import add_target, possible_targets, read_selection
from gem_label.progress import Progress
from gem_label.review.exchange.export import WHICH, export_masks
from gem_label.review.storage.selection import Selection
from gem_label.review.tasks.labeling import default_run_folder, runs_folder


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
        form.str(
            "path",
            default=str(default_path(ctx, field)),
            label="File or folder",
            description="On the machine where FiftyOne runs",
        )
        refuse(form, "path", lambda: _ask_to_replace(form, ctx, field))
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
        yield from check_replaceable(path, format, bool(ctx.params.get("replace")))
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


def _ask_to_replace(form: types.Object, ctx: Any, field: str) -> None:
    """Look at the path of the form; what is there already takes a tick to be replaced.

    Raises:
        UsageError: no file of the format may be there.
    """
    path, format = chosen_path(ctx, field), chosen_format(ctx)
    existing = existing_exports(path, format)
    if not existing:
        return
    form.bool("replace", default=False, label=f"{existing[0].name} exists: replace it")
    if not ctx.params.get("replace"):
        mark_wrong(form, "replace", f"{existing[0]} exists: tick this, or give another name")


def default_path(ctx: Any, field: str) -> Path:
    """A file that is not there yet: beside the field's run where that is allowed, or else in `runs_folder`."""
    format = chosen_format(ctx)
    name = f"{ctx.dataset.name}-{field}"
    for folder in (default_run_folder(ctx.dataset, field).parent, runs_folder() / ctx.dataset.name):
        with suppress(UsageError):
            allowed_path(ctx, folder / name)
            break
    for number in count(1):
        path = folder / f"{name}{f'-{number}' if number > 1 else ''}{FORMATS[format].suffix}"
        if not existing_exports(path, format):
            break
    return path


def chosen_path(ctx: Any, field: str) -> Path:
    """The file or folder of the form, or else `default_path`.

    Raises:
        UsageError: it is not in a folder where the App may write, or has another suffix than files of the format: in
            files that programs run, such as `.pth`, a label could be code.
    """
    path = allowed_path(ctx, ctx.params.get("path") or default_path(ctx, field))
    kind = FORMATS[chosen_format(ctx)]
    check_target(path, chosen_format(ctx))
    if path.suffix.lower() != kind.suffix and not kind.is_folder and not is_own_process(ctx):
        raise UsageError(f"the name of a {kind.title} ends with {kind.suffix}")
    return path
