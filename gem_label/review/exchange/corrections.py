"""Annotation files that were corrected elsewhere, back into a dataset; masks keep their ids."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask

from gem_label.errors import GemLabelError, UsageError
from gem_label.geometry import Shape
from gem_label.review.editing.changes import MaskChanges, replace_masks
from gem_label.review.exchange.annotation_files import read_annotation_file
from gem_label.review.exchange.file_photos import FileMask, FilePhoto
from gem_label.review.exchange.photo_names import match_photos
from gem_label.review.progress import Progress
from gem_label.review.storage.decision_log import Decision
from gem_label.review.storage.detections import DECIDED_TAGS, Document
from gem_label.review.storage.documents import detection_rle, new_detection, with_mask
from gem_label.review.storage.fields import check_mask_field, has_less_likely, less_likely_field
from gem_label.review.storage.internals import samples_of
from gem_label.review.storage.less_likely import move_masks

Missing = Literal["keep", "reject", "delete"]
MISSING: tuple[Missing, ...] = ("keep", "reject", "delete")
Boxes = Literal["rectangle", "leave"]
BOXES: tuple[Boxes, ...] = ("rectangle", "leave")
SAME_MASK_IOU = 0.5
"""A mask without an id is the mask of the photo that it overlaps most, when by at least this IoU."""
SAME_BOX = 1.0
"""A box whose sides are within so many pixels of a mask's box does not change that mask."""

_SAMPLES_AT_ONCE = 200
_LARGEST_PHOTO = 2**28
"""Pixels of a photo whose size nobody but the file knows."""

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class CorrectedMask:
    """A drawn mask of an annotation file: label, mask id or None, compressed COCO run lengths over the photo.

    `box` is x, y, width, height in pixels where the file has nothing but a box.
    """

    label: str
    mask_id: str | None
    rle: dict[str, Any]
    box: tuple[float, float, float, float] | None = None


@dataclass(slots=True)
class PhotoCorrections:
    """What a file has of one photo.

    Attributes:
        masks: those that can be used.
        refused: mask ids of those that cannot; None for one without.
    """

    masks: list[CorrectedMask] = field(default_factory=list)
    refused: set[str | None] = field(default_factory=set)


@dataclass(slots=True)
class CorrectionReport:
    """What an import did.

    Attributes:
        photos: photos of the file that the dataset has.
        unknown: photos of the file that it does not have.
        unchanged: masks that are as they were.
        relabeled: masks with another label.
        redrawn: masks with another shape.
        added: masks that are new.
        missing: masks of the photos that are not in the file.
        refused: annotations that cannot be used; the masks that they name stay as they are.
        problems: what was left out, a line each: annotations that cannot be used, and parts of others.
        decision: the decision in the log; None when nothing changed.
    """

    photos: int = 0
    unknown: int = 0
    unchanged: int = 0
    relabeled: int = 0
    redrawn: int = 0
    added: int = 0
    missing: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)
    decision: Decision | None = field(default=None)


def import_corrections(
    dataset: Any,
    field: str,
    path: str | Path,
    missing: Missing = "keep",
    accept_unchanged: bool = False,
    boxes: Boxes = "rectangle",
) -> Generator[Progress, None, CorrectionReport]:
    """Take in an annotation file that was exported from a dataset and corrected elsewhere.

    Masks are found again by their mask id, and without one by overlap (`SAME_MASK_IOU`). Changed and new masks count
    as accepted. All of it is one decision that can be undone. Annotations that cannot be used are left out and
    reported; nothing changes before all photos are compared.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        path: COCO instances (.json), CVAT for images 1.1 (.xml), or a .zip with one of them.
        missing: what becomes of masks that the file does not have any more, in the photos that it has.
        accept_unchanged: accept the masks that are as they were, too.
        boxes: "rectangle": a box without a mask becomes a rectangle, unless it is the box of the mask that it names;
            "leave": it is left out and reported.

    Yields:
        Progress; the generator returns the report.

    Raises:
        UsageError: the file cannot be read, or has none of the photos.
    """
    if missing not in MISSING:
        raise UsageError(f"missing is one of {', '.join(MISSING)}, not {missing!r}")
    if boxes not in BOXES:
        raise UsageError(f"boxes is one of {', '.join(BOXES)}, not {boxes!r}")
    check_mask_field(dataset, field)
    report, changes, moving = CorrectionReport(), {}, []
    photos, report.unknown = _match(dataset, read_annotation_file(Path(path)))
    if not photos:
        raise UsageError(
            f"{path} has none of the {len(dataset)} photos of {dataset.name!r}: file names must agree"
        )
    hidden = less_likely_field(field) if has_less_likely(dataset, field) else None
    ids = list(photos)
    for start in range(0, len(ids), _SAMPLES_AT_ONCE):
        some = ids[start : start + _SAMPLES_AT_ONCE]
        wanted = ["metadata", *(f"{name}.detections" for name in (field, hidden) if name)]
        for document in samples_of(dataset).find({"_id": {"$in": some}}, wanted):
            of_file = photos[document["_id"]]
            size = _known_size(document) or next((each.size for each in of_file if each.size), None)
            corrected = _draw(of_file, size, boxes, report)
            existing = (document.get(field) or {}).get("detections") or []
            named = _named((document.get(hidden) or {}).get("detections") or [], existing, of_file)
            existing, less_likely = [*existing, *named], {mask["_id"] for mask in named}
            change = _compare(existing, corrected, size, missing, accept_unchanged, report)
            changes[document["_id"]] = change
            moving += [old["_id"] for old, _ in change.replaced if old["_id"] in less_likely]
        done = min(start + _SAMPLES_AT_ONCE, len(ids))
        yield Progress(done, len(ids), f"{done} of {len(ids)} photos compared")
    report.photos = len(ids)
    if any(len(change) for change in changes.values()):
        # less likely masks that the file corrects are corrected like the others
        among = {"$in": ["$$mask._id", {"$literal": moving}]}
        if moving:
            move_masks(dataset, less_likely_field(field), field, among, ids)
        try:
            report.decision = replace_masks(dataset, field, "import", changes)
        except GemLabelError:
            if moving:
                move_masks(dataset, field, less_likely_field(field), among, ids)
            raise
    return report


def _match(dataset: Any, of_file: list[FilePhoto]) -> tuple[dict[Any, list[FilePhoto]], int]:
    """Sample id -> what the file has of it; and how many photos of the file match nothing."""
    paths = dict(zip(*dataset.values(["_id", "filepath"]), strict=True))
    matched: dict[Any, list[FilePhoto]] = {}
    unknown = 0
    for photo, sample in zip(of_file, match_photos(paths, [each.name for each in of_file]), strict=True):
        if sample is None:
            unknown += 1
        else:
            matched.setdefault(sample, []).append(photo)
    return matched, unknown


def _known_size(document: Document) -> Size | None:
    """Height and width of a sample's photo, None where the dataset does not know them."""
    metadata = document.get("metadata") or {}
    height, width = metadata.get("height"), metadata.get("width")
    return (int(height), int(width)) if height and width else None


def _named(hidden: list[Document], existing: list[Document], of_file: list[FilePhoto]) -> list[Document]:
    """The less likely masks that the file has by their id."""
    named = {mask.mask_id for photo in of_file for mask in photo.masks} - {None}
    named -= {mask.get("mask_id") for mask in existing}
    return [mask for mask in hidden if mask.get("mask_id") in named]


def _draw(
    of_file: list[FilePhoto], size: Size | None, boxes: Boxes, report: CorrectionReport
) -> PhotoCorrections:
    """Draw what the file has of one photo, and report what cannot be drawn."""
    corrected = PhotoCorrections()
    for photo in of_file:
        for mask in photo.masks:
            shape = _shape(mask, photo.size, size, boxes)
            report.problems += [f"{mask.name} has {problem}" for problem in shape.problems]
            if shape.rle is None:
                report.refused += 1
                corrected.refused.add(mask.mask_id)
            else:
                corrected.masks.append(CorrectedMask(mask.label, mask.mask_id, shape.rle, mask.box))
    return corrected


def _shape(mask: FileMask, listed: Size | None, size: Size | None, boxes: Boxes) -> Shape:
    """A mask of a file over a photo of this size, which the file may list with another size."""
    if size is None or size[0] * size[1] > _LARGEST_PHOTO:
        return Shape(None, ("a photo whose size is not known: bring the photo back",))
    if listed not in (None, size) and not mask.sized:
        what = f"a photo of {listed[0]} x {listed[1]} pixels in the file, the image has"
        return Shape(None, (f"{what} {size[0]} x {size[1]} pixels",))
    if mask.box is not None and boxes == "leave":
        return Shape(None, ("a box and no mask",))
    shape = mask.draw(*size)
    if shape.rle is None or coco_mask.area(shape.rle):
        return shape
    return Shape(None, (*shape.problems, "no pixels inside of the photo"))


def _compare(
    existing: list[Document],
    of_file: PhotoCorrections,
    size: Size | None,
    missing: Missing,
    accept_unchanged: bool,
    report: CorrectionReport,
) -> MaskChanges:
    """What changes in one photo."""
    changes, corrected = MaskChanges(), of_file.masks
    held = {j for j, mask in enumerate(existing) if mask.get("mask_id") in of_file.refused - {None}}
    rles: list[dict[str, Any]] = []
    if corrected and size is not None:
        rles = [detection_rle(detection, size[1], size[0]) for detection in existing]
    pairs = _pair(existing, rles, corrected, held)
    taken = {mask.get("mask_id") for mask in existing}
    for i, mask in enumerate(corrected):
        if i not in pairs:
            mask_id = _own_id(mask.mask_id, taken)
            changes.added.append(
                {**_tag(new_detection(mask.label, mask.rle), "accepted"), "mask_id": mask_id}
            )
            report.added += 1
            continue
        old = existing[pairs[i]]
        redrawn = not _is_same(mask, rles[pairs[i]])
        relabeled = mask.label != old.get("label")
        report.redrawn += redrawn
        report.relabeled += relabeled
        report.unchanged += not (redrawn or relabeled)
        new = _tag({**old, "label": mask.label}, "accepted")
        if redrawn:
            new = with_mask(new, mask.rle)
        if redrawn or relabeled or (accept_unchanged and "accepted" not in (old.get("tags") or [])):
            changes.replaced.append((old, new))
    if None in of_file.refused:  # any of the rest may be meant by an annotation that cannot be used
        return changes
    for j in sorted(set(range(len(existing))) - set(pairs.values()) - held):
        report.missing += 1
        if missing == "delete":
            changes.removed.append(existing[j])
        elif missing == "reject" and "rejected" not in (existing[j].get("tags") or []):
            changes.replaced.append((existing[j], _tag(existing[j], "rejected")))
    return changes


def _is_same(mask: CorrectedMask, rle: dict[str, Any]) -> bool:
    """Whether a mask of a file is a mask of the photo, or its box."""
    if mask.box is not None:
        x, y, w, h = np.array([coco_mask.toBbox(rle), mask.box]).T
        sides = np.array([x, y, x + w, y + h])
        if np.abs(sides[:, 0] - sides[:, 1]).max() <= SAME_BOX:
            return True
    return bool(coco_mask.iou([mask.rle], [rle], [0])[0, 0] >= 1.0)


def _own_id(mask_id: str | None, taken: set[Any]) -> str | None:
    """The id of a new mask: its own where another mask of the photo has the one that the file gives."""
    own, number = mask_id, 1
    while mask_id is not None and own in taken:
        number += 1
        own = f"{mask_id}.{number}"
    taken.add(own)
    return own


def _pair(
    existing: list[Document], rles: list[dict[str, Any]], corrected: list[CorrectedMask], held: Iterable[int]
) -> dict[int, int]:
    """Which corrected mask is which detection: by mask id, then the rest greedily by overlap.

    Of several masks with one id, the one that overlaps it most is meant. Detections in `held` are found by id alone.
    """
    by_id = {mask["mask_id"]: j for j, mask in enumerate(existing) if mask.get("mask_id") is not None}
    claims: dict[int, list[int]] = {}
    for i, mask in enumerate(corrected):
        if mask.mask_id in by_id:
            claims.setdefault(by_id[mask.mask_id], []).append(i)
    pairs: dict[int, int] = {}
    for j, rivals in claims.items():
        best = 0
        if len(rivals) > 1:
            best = int(coco_mask.iou([corrected[i].rle for i in rivals], [rles[j]], [0]).argmax())
        pairs[rivals[best]] = j
    left = [i for i in range(len(corrected)) if i not in pairs]
    free = [j for j in range(len(existing)) if j not in {*pairs.values(), *held}]
    if not (left and free):
        return pairs
    overlap = np.asarray(
        coco_mask.iou([corrected[i].rle for i in left], [rles[j] for j in free], [0] * len(free))
    )
    for place in np.argsort(-overlap, axis=None, kind="stable"):
        row, column = np.unravel_index(place, overlap.shape)
        if overlap[row, column] < SAME_MASK_IOU:
            break
        if left[row] not in pairs and free[column] not in pairs.values():
            pairs[left[row]] = free[column]
    return pairs


def _tag(detection: Document, tag: str) -> Document:
    """The same detection, decided."""
    others = [each for each in detection.get("tags") or [] if each not in DECIDED_TAGS]
    return {**detection, "tags": [*others, tag]}
