"""Corrections that were made elsewhere, back into a dataset."""

from __future__ import annotations

import base64
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import UsageError
from gem_label.formats.reading import KINDS
from gem_label.plugin.base import Result, SteppedOperator
from gem_label.plugin.decide import required_field
from gem_label.plugin.forms import add_mask_field, check_file, refuse, titled
from gem_label.plugin.paths import allowed_file
from gem_label.progress import Progress
from gem_label.review.exchange.box_masks import load_box_drawer
from gem_label.review.exchange.corrections import import_corrections

PROBLEMS = 50
"""So many annotations that an import left out are listed."""

MAX_UPLOAD = 5_000_000
"""Bytes of an uploaded file: a delegated operation keeps it twice, in base64, in a document of at most 16 MB."""

UPLOADED = ".json,.xml,.csv,.parquet,.zip"


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
