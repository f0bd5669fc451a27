"""What a corrected file changes in one photo: which mask is which, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask

from gem_label.formats.annotations import is_text
from gem_label.formats.cvat.writing import xml_text
from gem_label.formats.table.writing import cell_text
from gem_label.geometry import are_near
from gem_label.review.editing.changes import MaskChanges
from gem_label.review.exchange.file_masks import FileMask, FileMasks
from gem_label.review.exchange.report import CorrectionReport
from gem_label.review.storage.detections import DECIDED_TAGS, Document
from gem_label.review.storage.documents import new_detection, with_mask

Missing = Literal["keep", "reject", "delete"]
MISSING: tuple[Missing, ...] = ("keep", "reject", "delete")
SAME_MASK_IOU = 0.5
"""A mask without an id is the mask of the photo that it overlaps most, when by at least this IoU."""
SAME_BOX = 1.0
"""A box whose sides are within this many pixels of a mask's box does not change that mask."""


def compare_masks(
    existing: Sequence[Document],
    rles: Sequence[dict[str, Any]],
    of_file: FileMasks,
    missing: Missing,
    accept_unchanged: bool,
    report: CorrectionReport,
    tolerance: float = 0.0,
) -> MaskChanges:
    """What changes in one photo; it is counted.

    Args:
        existing: the photo's detections.
        rles: their masks as compressed COCO run lengths; not needed where the file has no masks.
        of_file: what the file has of the photo.
        missing: what becomes of detections that the file does not have; those without a label or a pixel, which no
            export has, stay.
        accept_unchanged: accept the detections that are as they were, too.
        report: what is counted.
        tolerance: pixels; a mask whose border stays within this many pixels of a detection's does not change it.
    """
    changes, masks = MaskChanges(), of_file.masks
    refused = set(of_file.refused)
    held = {j for j, mask in enumerate(existing) if mask.get("mask_id") in refused - {None}}
    pairs = pair_masks(existing, rles, masks, held)
    taken = {mask.get("mask_id") for mask in existing}
    for i, mask in enumerate(masks):
        if i not in pairs:
            mask_id = _own_id(mask.mask_id, taken)
            new = _tag(new_detection(mask.label, mask.rle), "accepted")
            changes.added.append({**new, "mask_id": mask_id})
            report.added += 1
            continue
        old = existing[pairs[i]]
        redrawn = not _is_same(mask, rles[pairs[i]], tolerance)
        relabeled = not _is_same_label(mask.label, old.get("label"))
        report.redrawn += redrawn
        report.relabeled += relabeled
        report.unchanged += not (redrawn or relabeled)
        new = _tag({**old, "label": mask.label} if relabeled else old, "accepted")
        if redrawn:
            new = with_mask(new, mask.rle)
        if redrawn or relabeled or (accept_unchanged and "accepted" not in (old.get("tags") or [])):
            changes.replaced.append((old, new))
    if None in refused:  # any of the rest may be meant by an annotation that cannot be used
        return changes
    in_no_file = {
        j
        for j, mask in enumerate(existing)
        if not is_text(mask.get("label")) or (rles and not coco_mask.area(rles[j]))
    }
    for j in sorted(set(range(len(existing))) - set(pairs.values()) - held - in_no_file):
        report.missing += 1
        if missing == "delete":
            changes.removed.append(existing[j])
        elif missing == "reject" and "rejected" not in (existing[j].get("tags") or []):
            changes.replaced.append((existing[j], _tag(existing[j], "rejected")))
    return changes


def pair_masks(
    existing: Sequence[Document],
    rles: Sequence[dict[str, Any]],
    of_file: Sequence[FileMask],
    held: Iterable[int] = (),
) -> dict[int, int]:
    """Which mask of a file is which detection: by mask id, then the rest greedily by overlap.

    Several masks, detections or both may have one id (copied, or split in another tool): those with the greatest
    overlap belong together. Further masks of the file with that id are new ones.

    Args:
        existing: the photo's detections.
        rles: their masks as compressed COCO run lengths.
        of_file: the file's masks of the photo.
        held: detections that are found by their id alone.

    Returns:
        Place among the file's masks -> place among the detections.
    """
    pairs: dict[int, int] = {}
    by_id: dict[str, tuple[list[int], list[int]]] = {}
    for j, detection in enumerate(existing):
        if detection.get("mask_id") is not None:
            by_id.setdefault(detection["mask_id"], ([], []))[1].append(j)
    for i, mask in enumerate(of_file):
        if mask.mask_id in by_id:
            by_id[mask.mask_id][0].append(i)
    for rows, columns in by_id.values():
        pairs |= _pair_by_overlap(of_file, rles, rows, columns, 0.0)
    # a copy of a mask that is there is no other mask, whatever it lies over
    rows = [i for i, mask in enumerate(of_file) if i not in pairs and mask.mask_id not in by_id]
    columns = [j for j in range(len(existing)) if j not in {*pairs.values(), *held}]
    return pairs | _pair_by_overlap(of_file, rles, rows, columns, SAME_MASK_IOU)


def _pair_by_overlap(
    of_file: Sequence[FileMask],
    rles: Sequence[dict[str, Any]],
    rows: list[int],
    columns: list[int],
    least: float,
) -> dict[int, int]:
    """Pair some masks of a file with some detections greedily by their IoU, when it is at least `least`."""
    if not (rows and columns):
        return {}
    if len(rows) == len(columns) == 1 and least <= 0:
        return {rows[0]: columns[0]}
    found = coco_mask.iou([of_file[i].rle for i in rows], [rles[j] for j in columns], [0] * len(columns))
    overlap = np.asarray(found)
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for place in np.argsort(-overlap, axis=None, kind="stable"):
        row, column = np.unravel_index(place, overlap.shape)
        if overlap[row, column] < least:
            break
        if rows[row] not in pairs and columns[column] not in taken:
            pairs[rows[row]] = columns[column]
            taken.add(columns[column])
    return pairs


def _is_same(mask: FileMask, rle: dict[str, Any], tolerance: float) -> bool:
    """Whether a mask of a file is a mask of the photo, up to the tolerance, or its box."""
    if mask.box is not None:
        x, y, w, h = np.array([coco_mask.toBbox(rle), mask.box]).T
        sides = np.array([x, y, x + w, y + h])
        if np.abs(sides[:, 0] - sides[:, 1]).max() <= SAME_BOX:
            return True
    iou = float(coco_mask.iou([mask.rle], [rle], [0])[0, 0])
    return iou >= 1.0 or (tolerance > 0 and iou > 0 and are_near(mask.rle, rle, tolerance))


def _is_same_label(of_file: str, label: Any) -> bool:
    """Whether a label of a file is a mask's label, or what formats write for one that they cannot hold."""
    return of_file == label or (isinstance(label, str) and of_file in (xml_text(label), cell_text(label)))


def _own_id(mask_id: str | None, taken: set[Any]) -> str | None:
    """The id of a new mask: its own where another mask of the photo has the one that the file gives."""
    own, number = mask_id, 1
    while mask_id is not None and own in taken:
        number += 1
        own = f"{mask_id}.{number}"
    taken.add(own)
    return own


def _tag(detection: Document, tag: str) -> Document:
    """The same detection, decided."""
    others = [each for each in detection.get("tags") or [] if each not in DECIDED_TAGS]
    return {**detection, "tags": [*others, tag]}
