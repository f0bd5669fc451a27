"""Annotation files out of a dataset, and corrections back."""

from __future__ import annotations

import base64
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import UsageError
from gem_label.formats.drawing import WriteSettings
from gem_label.formats.reading import KINDS
from gem_label.formats.writing import FORMATS, check_target
from gem_label.plugin.base import Result, SteppedOperator, is_own_process
from gem_label.plugin.decide import required_field
from gem_label.plugin.forms import (
    add_mask_field,
    add_target,
    check_file,
    mark_wrong,
    possible_targets,
    read_selection,
    refuse,
    titled,
)
from gem_label.plugin.paths import allowed_file, allowed_path, check_replaceable, existing_exports
from gem_label.progress import Progress
from gem_label.review.exchange.box_masks import load_box_drawer
from gem_label.review.exchange.corrections import import_corrections
from gem_label.review.exchange.export import export_masks
from gem_label.review.storage.selection import Selection
from gem_label.review.tasks.labeling import default_run_folder, runs_folder

WHICH = {
    "not rejected": ["undecided", "accepted", "renamed"],
    "accepted": ["accepted", "renamed"],
    "all": None,
}
PROBLEMS = 50
"""So many annotations that an import left out are listed."""

MAX_UPLOAD = 5_000_000
"""Bytes of an uploaded file: a delegated operation keeps it twice, in base64, in a document of at most 16 MB."""

UPLOADED = ".json,.xml,.csv,.parquet,.zip"


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
        _ask_for_file(form, ctx)
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
        field = required_field(ctx)
        boxes: Any = ctx.params.get("boxes") or "rectangle"
        with chosen_file(ctx) as path:
            report = yield from import_corrections(
                ctx.dataset,
                field,
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


def _ask_for_file(form: types.Object, ctx: Any) -> None:
    """The file with the corrections: on the machine where FiftyOne runs, or on that of the browser."""
    sources = types.RadioGroup(orientation="horizontal")
    sources.add_choice("path", label="On the machine where FiftyOne runs")
    sources.add_choice("upload", label=f"On this computer, up to {MAX_UPLOAD // 1_000_000} MB")
    form.enum("file_from", sources.values(), default="path", label="The file is", view=sources)
    if ctx.params.get("file_from") == "upload":
        form.define_property(
            "file",
            types.UploadedFile(),
            label="File",
            required=True,
            description="COCO or Label Studio (.json), CVAT (.xml), a table (.csv, .parquet), or any kind as .zip",
            view=types.FileView(types=UPLOADED, max_size=MAX_UPLOAD),
        )
        if ctx.params.get("file"):
            refuse(form, "file", lambda: uploaded(ctx))
        return
    form.str("path", required=True, label="File", description=f"{KINDS}, also as .zip")
    check_file(form, ctx, "path", or_folder=True)


@contextmanager
def chosen_file(ctx: Any) -> Iterator[Path]:
    """The file with the corrections; what was uploaded is there while the block runs.

    Raises:
        UsageError: there is none, or the App may not read it.
    """
    if ctx.params.get("file_from") != "upload":
        if not ctx.params.get("path"):
            raise UsageError("give the file with the corrections")
        yield allowed_file(ctx, ctx.params["path"], or_folder=True)
        return
    name, data = uploaded(ctx)
    with TemporaryDirectory(prefix="gem-label-") as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        yield path


def uploaded(ctx: Any) -> tuple[str, bytes]:
    """Name and content of the file that came with the form.

    Raises:
        UsageError: there is none, it is too large, or of a kind that is more than one file.
    """
    file = ctx.params.get("file")
    content = file.get("content") if isinstance(file, dict) else None
    if not isinstance(content, str):
        raise UsageError("choose the file with the corrections")
    suffix = PurePosixPath(str(file.get("name"))).suffix.lower()
    if suffix not in UPLOADED.split(","):
        raise UsageError(f"upload one of {UPLOADED}: YOLO's folder as a .zip")
    try:
        data = base64.b64decode(content.rpartition(",")[2], validate=True)
    except ValueError as error:
        raise UsageError("the file did not arrive whole: choose it again") from error
    if len(data) > MAX_UPLOAD:
        raise UsageError(f"the file has more than {MAX_UPLOAD // 1_000_000} MB: bring it to the server")
    return f"corrections{suffix}", data
