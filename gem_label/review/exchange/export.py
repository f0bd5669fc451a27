"""Annotation files of the masks of a dataset as reviewers left them."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gem_label.errors import GemLabelError
from gem_label.formats.annotations import (
    AnnotatedMask,
    AnnotatedPhoto,
    Annotations,
    Size,
    State,
    WriteReport,
    annotation_ids,
    draw_rle,
    is_text,
)
from gem_label.formats.drawing import WriteSettings
from gem_label.formats.writing import check_target, write_annotations
from gem_label.geometry import number_or_none
from gem_label.photos.listing import photo_folder
from gem_label.progress import Progress
from gem_label.review.storage.detections import Document, state_of
from gem_label.review.storage.documents import find_sizes, pixel_box, read_crop
from gem_label.review.storage.fields import check_mask_field, run_of
from gem_label.review.storage.internals import is_patches
from gem_label.review.storage.selection import Selection, aggregate_masks
from gem_label.rle import encode_crop

WHICH: dict[str, list[str] | None] = {
    "not rejected": ["undecided", "accepted", "renamed"],
    "accepted": ["accepted", "renamed"],
    "all": None,
}
"""Choices of masks by what reviewers decided, for `Selection.states`; the first one unless another is asked for."""


def export_masks(
    dataset: Any,
    field: str,
    out: str | Path,
    format: str = "coco",
    selection: Selection | None = None,
    settings: WriteSettings | None = None,
) -> Generator[Progress, None, WriteReport]:
    """Write masks of a dataset; their mask ids, where the format keeps them, bring corrections back.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        out: the file, or in some formats the folder; appears when it is whole.
        format: one of `gem_label.formats.writing.FORMATS`.
        selection: which masks, and with a view, which photos; None: all but rejected masks, of all photos.
        settings: how masks are written; None: as the format does by itself.

    Yields:
        Progress; the generator returns the report.

    Raises:
        UsageError: unknown format or field.
        GemLabelError: the file cannot be written, or a mask cannot (its file or its photo's size cannot be read).
    """
    check_target(out, format)
    annotations = dataset_annotations(dataset, field, selection)
    return (yield from write_annotations(annotations, out, format, settings))


def dataset_annotations(dataset: Any, field: str, selection: Selection | None = None) -> Annotations:
    """Masks of a dataset as reviewers left them, read as a stream.

    Names of photos are relative to the innermost folder that holds all of them. Photos have the numbers that they
    have in the field's run, where it is still there, and otherwise their place in the dataset. Classes are those that
    the field declares, then other labels in the order of the alphabet. Sizes of photos that the dataset does not know
    are read from the files and stored.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        selection: which masks, and with a view, which photos; None: all but rejected masks, of all photos.

    Raises:
        UsageError: no such field.
        GemLabelError: while photos are read: a mask cannot be read, its photo's size is not known, or it got a new
            label meanwhile.
    """
    check_mask_field(dataset, field)
    selection = selection or Selection(states=WHICH["not rejected"])
    samples = dataset if selection.view is None else selection.view
    if is_patches(samples):
        samples = dataset.select(samples.distinct("sample_id"))
    folder, photos = _list_photos(dataset, field, samples)
    found = aggregate_masks(dataset, field, selection, [
        {"$unwind": "$masks"}, {"$group": {"_id": "$masks.label"}}])  # fmt: skip
    labels = {row["_id"] for row in found if is_text(row["_id"])}
    declared = [name for name in dataset.classes.get(field) or [] if is_text(name)]
    classes = tuple(dict.fromkeys([*declared, *sorted(labels)]))
    return Annotations(
        _read_photos(dataset, field, selection, photos, frozenset(classes)),
        classes,
        count=len(photos),
        folder=folder,
        info={"description": f"Masks of the FiftyOne dataset {dataset.name}, field {field}"},
    )


@dataclass(frozen=True, slots=True)
class _Photo:
    number: int
    name: str
    path: str
    size: Size | None


def _list_photos(dataset: Any, field: str, samples: Any) -> tuple[str, dict[Any, _Photo]]:
    """The innermost folder of all photos, and the photos by their sample's id."""
    names = ["_id", "filepath", "metadata.width", "metadata.height"]
    rows = list(zip(*samples.values(names), strict=True))
    sizes = find_sizes(dataset, [row[0] for row in rows if not (row[2] and row[3])])
    folder = photo_folder(path for _, path, _, _ in rows)
    numbers = _photo_numbers(dataset, field)
    photos = {}
    for identifier, path, width, height in rows:
        width, height = sizes.get(identifier, (width or 0, height or 0))
        size = (height, width) if width and height else None
        name = Path(os.path.relpath(path, folder)).as_posix()
        photos[identifier] = _Photo(numbers[identifier], name, path, size)
    return folder, photos


def _photo_numbers(dataset: Any, field: str) -> dict[Any, int]:
    """The number of each sample of a dataset: that of its photo in the run, and behind those in order."""
    try:
        listed = {photo.path: photo.number for photo in run_of(dataset, field).listing()}
    except (GemLabelError, OSError):
        listed = {}
    numbers: dict[Any, int] = {}
    taken: set[int] = set()
    rows = list(zip(*dataset.values(["_id", "filepath"]), strict=True))
    for identifier, path in rows:
        number = listed.get(path)
        if number is not None and number not in taken:
            numbers[identifier] = number
            taken.add(number)
    following = max(listed.values(), default=0)
    for identifier, _ in rows:
        if identifier not in numbers:
            following += 1
            numbers[identifier] = following
    return numbers


def _read_photos(
    dataset: Any, field: str, selection: Selection, photos: dict[Any, _Photo], classes: frozenset[str]
) -> Iterator[AnnotatedPhoto]:
    """Yield every photo once; those without masks come last."""
    without = dict(photos)
    for document in aggregate_masks(dataset, field, selection, []):
        photo = without.pop(document["_id"], None)
        if photo is not None:
            yield _annotated(photo, document["masks"], classes)
    for photo in without.values():
        yield _annotated(photo, [], classes)


def _annotated(photo: _Photo, detections: Sequence[Document], classes: frozenset[str]) -> AnnotatedPhoto:
    ids = annotation_ids(photo.number, [_index(each.get("mask_id")) for each in detections])
    masks = [_mask(each, photo, id, classes) for each, id in zip(detections, ids, strict=True)]
    return AnnotatedPhoto(photo.name, photo.size, masks, photo.number, photo.path)


def _index(mask_id: Any) -> int | None:
    """The place of a mask among those of its photo in the run, from "<image_id>#<index>"."""
    if not isinstance(mask_id, str):
        return None
    index = mask_id.rpartition("#")[2]
    return int(index) if index.isascii() and index.isdigit() and len(index) < 10 else None


def _mask(detection: Document, photo: _Photo, id: int, classes: frozenset[str]) -> AnnotatedMask:
    label, mask_id = detection.get("label"), detection.get("mask_id")
    mask_id = mask_id if isinstance(mask_id, str) else None
    name = mask_id or f"{label!r} ({detection.get('_id')})"
    if not is_text(label):
        return AnnotatedMask("", draw_rle({}), name)
    if label not in classes:
        raise GemLabelError(f"mask {name} was renamed during the export: export again")
    if photo.size is None:
        raise GemLabelError(
            f"cannot write mask {name}: the size of {photo.name} is not known and the photo cannot be read"
        )
    height, width = photo.size
    try:
        box = pixel_box(detection, width, height)
    except GemLabelError as error:
        raise GemLabelError(f"cannot write mask {name} of {photo.name}: its box is no box") from error
    state: State = state_of(detection)
    decided_at = detection.get("decided_at")
    return AnnotatedMask(
        label,
        draw_rle(encode_crop(read_crop(detection, box), box, height, width)),
        name,
        mask_id,
        id,
        number_or_none(detection.get("confidence")),
        number_or_none(detection.get("margin")),
        state,
        decided_by=detection.get("decided_by"),
        decided_at=None if decided_at is None else f"{decided_at:%Y-%m-%dT%H:%M:%S}Z",
    )
