"""`gem-label export` and `gem-label import`: annotation files out of runs and datasets, and corrections back."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from gem_label.cli import options, output
from gem_label.cli.options import Device, DeviceOption
from gem_label.defaults import DEFAULT_SAM
from gem_label.errors import UsageError
from gem_label.stores import is_address

if TYPE_CHECKING:
    from gem_label.formats.annotations import Annotations

Result = TypeVar("Result")
SHOWN_PROBLEMS = 20
"""So many lines about what an import left out are printed; the rest is counted."""


class Format(StrEnum):
    """File formats of `export`."""

    coco = "coco"
    lvis = "lvis"
    cvat = "cvat"
    label_studio = "label-studio"
    yolo = "yolo"
    csv = "csv"
    parquet = "parquet"


class Segmentation(StrEnum):
    """How files hold masks."""

    rle = "rle"
    polygon = "polygon"


class Photos(StrEnum):
    """What becomes of photos in a format that is a folder."""

    link = "link"
    copy = "copy"
    list = "list"


class Which(StrEnum):
    """Masks of a dataset by what reviewers decided."""

    not_rejected = "not-rejected"
    accepted = "accepted"
    all = "all"


class Missing(StrEnum):
    """What becomes of masks that a file does not have."""

    keep = "keep"
    reject = "reject"
    delete = "delete"


class Boxes(StrEnum):
    """What becomes of boxes without a mask."""

    rectangle = "rectangle"
    sam = "sam"
    leave = "leave"


def export(
    run_or_name: Annotated[
        str, typer.Argument(metavar="RUN|NAME", help="A run directory or a dataset's name.")
    ],
    out: Annotated[Path, typer.Option(help="The file to write; for yolo a folder.")],
    format: Annotated[
        Format,
        typer.Option(help="docs/formats.md says what each keeps; lvis is COCO with the fields of LVIS."),
    ] = Format.coco,
    segmentation: Annotated[
        Segmentation | None,
        typer.Option(help="rle is exact and the default; polygon is for tools that read nothing else."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="PX",
            help="Write polygons that stay within this distance from the border; default: exact ones (yolo: 1).",
        ),
    ] = None,
    photos: Annotated[
        Photos, typer.Option(help="yolo: link photos into the folder, copy them, or only list them.")
    ] = Photos.link,
    image_prefix: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="label-studio: prefix of the photos' paths; default: its local storage."
        ),
    ] = None,
    photos_per_file: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Write OUT-000001.json and so on, N photos each; ids are unique over the files.",
        ),
    ] = None,
    min_score: options.MinScore = None,
    purpose: options.For = None,
    field: Annotated[str, typer.Option(help="Of a dataset: the field of masks.")] = "gem_label",
    which: Annotated[
        Which | None,
        typer.Option(
            help="Of a dataset: which masks; default: not-rejected. Renamed masks count as accepted."
        ),
    ] = None,
) -> None:
    """Write the masks of a run or of a reviewed dataset as annotations.

    Of a run these are the masks that it keeps, or those that --min-score or --for let through. Says what a format
    cannot hold.

    \b
    Example: gem-label export street --which accepted --format yolo --out street-yolo/
    """
    from gem_label.formats.drawing import WriteSettings
    from gem_label.formats.splitting import write_in_parts
    from gem_label.formats.writing import write_annotations
    from gem_label.runs import open_run
    from gem_label.runs.export import run_annotations

    segmentation = segmentation or (Segmentation.rle if tolerance is None else Segmentation.polygon)
    settings = WriteSettings(segmentation.value, tolerance, photos.value, image_prefix)
    if is_address(run_or_name) or Path(run_or_name).is_dir():
        if which is not None:
            raise UsageError("--which is about a reviewed dataset, and this is a run")
        opened = open_run(run_or_name)
        if format is Format.yolo and photos is not Photos.list:
            output.note_changed_photos(opened)
        annotations = run_annotations(opened, options.asked_thresholds(min_score, purpose))
    else:
        if min_score is not None or purpose is not None:
            raise UsageError("--min-score and --for are about a run: of a dataset choose with --which")
        annotations = _of_dataset(run_or_name, field, which or Which.not_rejected)
    if photos_per_file is None:
        written = write_annotations(annotations, out, format.value, settings)
    else:
        written = write_in_parts(annotations, out, photos_per_file, format.value, settings)
    report = output.with_bar(written, "export")
    print(f"{out}: {report}")


def _of_dataset(name: str, field: str, which: Which) -> Annotations:
    from gem_label.review.database import open_dataset
    from gem_label.review.exchange.export import WHICH, dataset_annotations
    from gem_label.review.storage.selection import Selection

    states = WHICH[which.value.replace("-", " ")]
    dataset = open_dataset(name, "neither a run directory nor a FiftyOne dataset")
    return dataset_annotations(dataset, field, Selection(states=states))


def import_annotations(
    file: Annotated[
        Path, typer.Argument(help="COCO, CVAT, Label Studio, YOLO or a table; also a .zip of one.")
    ],
    dataset: Annotated[str, typer.Option(metavar="NAME", help="The FiftyOne dataset.")],
    field: Annotated[str, typer.Option(help="The field that takes the masks.")] = "gem_label",
    missing: Annotated[
        Missing, typer.Option(help="What to do with masks of its photos that the file does not have.")
    ] = Missing.keep,
    boxes: Annotated[
        Boxes,
        typer.Option(
            help="Boxes without a mask: make a rectangle, ask SAM for the mask in the box, or leave them out."
        ),
    ] = Boxes.rectangle,
    sam: Annotated[
        str, typer.Option(help="With --boxes sam: mobile_sam, vit_b, vit_l, vit_h or a checkpoint file.")
    ] = DEFAULT_SAM,
    device: DeviceOption = Device.auto,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="PX",
            help="Masks within this distance from the old border count as unchanged; for files with polygons.",
        ),
    ] = None,
    resize: Annotated[bool, typer.Option("--resize", help="Also take masks of another resolution.")] = False,
    accept_unchanged: Annotated[
        bool, typer.Option("--accept-unchanged", help="Also accept masks that are unchanged.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
) -> None:
    """Bring corrections from other tools into a dataset.

    Masks are found again by their mask id, else by overlap. New and changed masks count as accepted, and all of it is
    one decision that can be undone. Exit code 1 when annotations could not be used; they are listed, and the masks
    that they name stay as they are.

    \b
    Example: gem-label import corrected.json --dataset street --missing reject --dry-run
    """
    from gem_label.review.database import open_dataset
    from gem_label.review.exchange.corrections import import_corrections

    opened = open_dataset(dataset)
    draw_boxes = None
    if boxes is Boxes.sam:
        from gem_label.review.exchange.box_masks import load_box_drawer

        draw_boxes = load_box_drawer(options.absolute_sam(sam), options.resolve_device(device))
    work = import_corrections(
        opened,
        field,
        file,
        missing.value,
        accept_unchanged,
        boxes.value,
        resize,
        dry_run,
        draw_boxes,
        tolerance,
    )
    report = output.with_bar(work, "import")
    for line in report.problems[:SHOWN_PROBLEMS]:
        print(f"note: {line}", file=sys.stderr)
    if len(report.problems) > SHOWN_PROBLEMS:
        print(f"note: and {len(report.problems) - SHOWN_PROBLEMS} more", file=sys.stderr)
    print(f"{'would change: ' if dry_run else ''}{report}")
    if report.refused:
        raise typer.Exit(1)
