"""Annotation files that were corrected elsewhere, back into a dataset; masks keep their ids."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gem_label.errors import GemLabelError, UsageError
from gem_label.formats.annotations import AnnotatedPhoto, Size
from gem_label.formats.drawing import MAX_TOLERANCE
from gem_label.formats.photo_names import match_photos
from gem_label.formats.reading import read_annotations
from gem_label.progress import Progress
from gem_label.review.database import database_errors
from gem_label.review.editing.changes import MaskChanges, replace_masks
from gem_label.review.exchange.comparing import MISSING, Missing, compare_masks
from gem_label.review.exchange.file_masks import BOXES, BoxDrawer, Boxes, FileMasks, draw_file_masks
from gem_label.review.exchange.report import CorrectionReport
from gem_label.review.storage.detections import Document, detections_of
from gem_label.review.storage.documents import detection_rle, photo_sizes
from gem_label.review.storage.fields import (
    check_field_name,
    declare_mask_field,
    has_less_likely,
    less_likely_field,
    mask_fields,
)
from gem_label.review.storage.internals import samples_of
from gem_label.review.storage.less_likely import move_masks

_SAMPLES_AT_ONCE = 200
_IDS_AT_ONCE = 10_000


def import_corrections(
    dataset: Any,
    field: str,
    path: str | Path,
    missing: Missing = "keep",
    accept_unchanged: bool = False,
    boxes: Boxes = "rectangle",
    resize: bool = False,
    dry_run: bool = False,
    draw_boxes: BoxDrawer | None = None,
    tolerance: float | None = None,
) -> Generator[Progress, None, CorrectionReport]:
    """Take in an annotation file that was exported from a dataset and corrected elsewhere.

    Masks are found again by their mask id, and without one by overlap (`SAME_MASK_IOU`). Changed and new masks count
    as accepted. All of it is one decision that can be undone. Annotations that cannot be used are left out and
    reported; nothing changes before all photos are compared. A field that the dataset does not have is made.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        path: an annotation file of any format that `gem_label.formats.reading` knows.
        missing: what becomes of masks that the file does not have any more, in the photos that it has.
        accept_unchanged: accept the masks that are as they were, too.
        boxes: "rectangle": a box without a mask becomes a rectangle, unless it is the box of the mask that it names;
            "sam": it becomes what `draw_boxes` sees in it; "leave": it is left out and reported.
        resize: take masks of another resolution of a photo, too; otherwise they are reported.
        dry_run: change nothing, only say what would change.
        tolerance: a mask whose border stays within this many pixels of the old one's is unchanged, for files with
            outlines; None: what the file says that it was written with, else 0.
        draw_boxes: for "sam", such as `gem_label.review.exchange.box_masks.load_box_drawer()`.

    Yields:
        Progress; the generator returns the report.

    Raises:
        UsageError: the file cannot be read, or has none of the photos, or an option is none of what it may be.
        GemLabelError: FiftyOne's database did not take the changes.
    """
    if missing not in MISSING:
        raise UsageError(f"missing is one of {', '.join(MISSING)}, not {missing!r}")
    if boxes not in BOXES:
        raise UsageError(f"boxes is one of {', '.join(BOXES)}, not {boxes!r}")
    if boxes == "sam" and draw_boxes is None:
        raise UsageError("boxes become masks by SAM only where a SAM model is given")
    if tolerance is not None and not 0 <= tolerance <= MAX_TOLERANCE:
        raise UsageError(f"the tolerance is a number of pixels from 0 to {MAX_TOLERANCE}, not {tolerance}")
    with database_errors():
        check_field_name_or_masks(dataset, field)
        report = CorrectionReport()
        annotations = read_annotations(path)
        report.problems += annotations.left_out
        near = annotations.tolerance if tolerance is None else tolerance
        photos, report.unknown = _match(dataset, list(annotations.photos))
        if not photos:
            raise UsageError(
                f"{path} has none of the {len(dataset)} photos of {dataset.name!r}: file names must agree"
            )
        hidden = less_likely_field(field) if has_less_likely(dataset, field) else None
        homes = _homes_of_ids(dataset, [field, *([hidden] if hidden else [])], photos)
        changes: dict[Any, MaskChanges] = {}
        moving: list[Any] = []
        ids = list(photos)
        for document, size in _read_samples(
            dataset, ids, [name for name in (field, hidden) if name], not dry_run
        ):
            size = size or next((each.size for each in photos[document["_id"]] if each.size), None)
            of_file = draw_file_masks(
                photos[document["_id"]], size, document["filepath"], boxes, resize, draw_boxes
            )
            _disown(of_file, document["_id"], homes)
            report.refused += len(of_file.refused)
            report.problems += of_file.problems
            existing = detections_of(document, field)
            named = _named(detections_of(document, hidden), existing, of_file) if hidden else []
            existing, less_likely = [*existing, *named], {mask["_id"] for mask in named}
            rles = []
            if of_file.masks and size is not None:
                rles = [detection_rle(detection, size[1], size[0]) for detection in existing]
            change = compare_masks(existing, rles, of_file, missing, accept_unchanged, report, near)
            changes[document["_id"]] = change
            moving += [old["_id"] for old, _ in change.replaced if old["_id"] in less_likely]
            report.photos += 1
            if report.photos % 20 == 0 or report.photos == len(ids):
                yield Progress(report.photos, len(ids), f"{report.photos} of {len(ids)} photos compared")
        if not dry_run and any(len(change) for change in changes.values()):
            _apply(dataset, field, changes, moving, report)
    return report


def check_field_name_or_masks(dataset: Any, field: str) -> None:
    """Make sure that a field holds masks, or can be made.

    Raises:
        UsageError: it holds something else, or its name is none for a field.
    """
    if field not in mask_fields(dataset):
        check_field_name(dataset, field)


def _apply(
    dataset: Any, field: str, changes: Mapping[Any, MaskChanges], moving: list[Any], report: CorrectionReport
) -> None:
    if not dataset.has_field(field):
        declare_mask_field(dataset, field)
    # less likely masks that the file corrects are corrected like the others
    among = {"$in": ["$$mask._id", {"$literal": moving}]}
    if moving:
        move_masks(dataset, less_likely_field(field), field, among, list(changes))
    try:
        report.decision = replace_masks(dataset, field, "import", changes)
    except GemLabelError:
        if moving:
            move_masks(dataset, field, less_likely_field(field), among, list(changes))
        raise


def _match(dataset: Any, of_file: list[AnnotatedPhoto]) -> tuple[dict[Any, list[AnnotatedPhoto]], int]:
    """Sample id -> what the file has of it; and how many photos of the file match nothing."""
    paths = dict(zip(*dataset.values(["_id", "filepath"]), strict=True))
    matched: dict[Any, list[AnnotatedPhoto]] = {}
    unknown = 0
    for photo, sample in zip(of_file, match_photos(paths, [each.name for each in of_file]), strict=True):
        if sample is None:
            unknown += 1
        else:
            matched.setdefault(sample, []).append(photo)
    return matched, unknown


def _read_samples(
    dataset: Any, ids: list[Any], fields: list[str], store: bool
) -> Iterator[tuple[Document, Size | None]]:
    """Yield samples as documents with the sizes of their photos, which are stored where the dataset lacks them."""
    wanted = ["filepath", "metadata", *(f"{name}.detections" for name in fields)]
    for start in range(0, len(ids), _SAMPLES_AT_ONCE):
        some = ids[start : start + _SAMPLES_AT_ONCE]
        documents = list(samples_of(dataset).find({"_id": {"$in": some}}, wanted))
        sizes = photo_sizes(dataset, documents, store)
        for document in documents:
            width, height = sizes.get(document["_id"], (0, 0))
            yield document, (height, width) if width else None


def _homes_of_ids(
    dataset: Any, fields: Iterable[str], photos: Mapping[Any, list[AnnotatedPhoto]]
) -> dict[str, set[Any]]:
    """The samples that hold masks with the mask ids of a file."""
    wanted = sorted(
        {m.mask_id for of_file in photos.values() for photo in of_file for m in photo.masks if m.mask_id}
    )
    homes: dict[str, set[Any]] = {}
    for field in fields:
        for start in range(0, len(wanted), _IDS_AT_ONCE):
            some = wanted[start : start + _IDS_AT_ONCE]
            key = f"{field}.detections.mask_id"
            chosen = set(some)
            for document in samples_of(dataset).find({key: {"$in": some}}, [key]):
                for mask in detections_of(document, field):
                    if mask.get("mask_id") in chosen:
                        homes.setdefault(mask["mask_id"], set()).add(document["_id"])
    return homes


def _disown(of_file: FileMasks, sample: Any, homes: Mapping[str, set[Any]]) -> None:
    """Take masks that carry the id of another photo's mask for drawn ones; that is said."""
    for i, mask in enumerate(of_file.masks):
        if mask.mask_id is not None and sample not in homes.get(mask.mask_id, {sample}):
            of_file.masks[i] = replace(mask, mask_id=None)
            of_file.problems.append(
                f"{mask.name} has the mask id {mask.mask_id} of another photo: taken as drawn"
            )


def _named(hidden: list[Document], existing: list[Document], of_file: FileMasks) -> list[Document]:
    """The less likely masks that the file has by their id."""
    named = {mask.mask_id for mask in of_file.masks} | set(of_file.refused)
    named -= {mask.get("mask_id") for mask in existing} | {None}
    return [mask for mask in hidden if mask.get("mask_id") in named]
