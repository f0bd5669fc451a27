"""Annotation files that were corrected elsewhere, back into a dataset; masks keep their ids."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask

from gem_label.errors import UsageError
from gem_label.review import cvat
from gem_label.review.changes import MaskChanges, replace_masks
from gem_label.review.decision_log import Decision
from gem_label.review.documents import detection_rle, new_detection, with_mask
from gem_label.review.fields import check_mask_field, has_less_likely, less_likely_field
from gem_label.review.less_likely import move_masks
from gem_label.review.merge import DECIDED_TAGS, Document
from gem_label.review.progress import Progress

Missing = Literal["keep", "reject", "delete"]
MISSING: tuple[Missing, ...] = ("keep", "reject", "delete")
SAME_MASK_IOU = 0.5
"""A mask without an id is the mask of the photo that it overlaps most, when by at least this IoU."""

_SAMPLES_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class CorrectedMask:
    """A mask of an annotation file: label, mask id or None, compressed COCO run lengths over the photo."""

    label: str
    mask_id: str | None
    rle: dict[str, Any]


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
        decision: the decision in the log; None when nothing changed.
    """

    photos: int = 0
    unknown: int = 0
    unchanged: int = 0
    relabeled: int = 0
    redrawn: int = 0
    added: int = 0
    missing: int = 0
    decision: Decision | None = field(default=None)


def read_annotations(path: str | Path) -> Iterator[tuple[str, list[CorrectedMask]]]:
    """File names with their masks, from COCO instances or the XML of CVAT for images 1.1.

    Raises:
        UsageError: the file cannot be read as either.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() == ".xml":
        for photo, masks in cvat.read(path):
            yield photo.name, [CorrectedMask(*mask) for mask in masks]
        return
    try:
        coco = json.loads(path.read_text(encoding="utf-8"))
        categories = {row["id"]: row["name"] for row in coco["categories"]}
        annotations: dict[Any, list[dict[str, Any]]] = {}
        for annotation in coco["annotations"]:
            annotations.setdefault(annotation["image_id"], []).append(annotation)
        for image in coco["images"]:
            size = image["height"], image["width"]
            yield (
                image["file_name"],
                [
                    CorrectedMask(categories[a["category_id"]], _mask_id(a), _rle(a["segmentation"], *size))
                    for a in annotations.get(image["id"], [])
                    if a.get("segmentation")
                ],
            )
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise UsageError(f"{path} is neither COCO instances (.json) nor CVAT's .xml ({problem})") from error


def _mask_id(annotation: dict[str, Any]) -> str | None:
    attributes = annotation.get("attributes") or {}
    return annotation.get("mask_id") or attributes.get("mask_id") or None


def _rle(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return {"size": segmentation["size"], "counts": segmentation["counts"].encode("ascii")}


def import_corrections(
    dataset: Any, field: str, path: str | Path, missing: Missing = "keep", accept_unchanged: bool = False
) -> Generator[Progress, None, CorrectionReport]:
    """Take in an annotation file that was exported from a dataset and corrected elsewhere.

    Masks are found again by their mask id, and without one by overlap (`SAME_MASK_IOU`). Changed and new masks count
    as accepted. All of it is one decision that can be undone.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        path: COCO instances (.json) or CVAT for images 1.1 (.xml).
        missing: what becomes of masks that the file does not have any more, in the photos that it has.
        accept_unchanged: accept the masks that are as they were, too.

    Yields:
        Progress; the generator returns the report.

    Raises:
        UsageError: the file cannot be read, or has none of the photos.
    """
    if missing not in MISSING:
        raise UsageError(f"missing is one of {', '.join(MISSING)}, not {missing!r}")
    check_mask_field(dataset, field)
    report, changes = CorrectionReport(), {}
    photos, report.unknown = _match_photos(dataset, dict(read_annotations(path)))
    if not photos:
        raise UsageError(
            f"{path} has none of the {len(dataset)} photos of {dataset.name!r}: file names must agree"
        )
    ids = list(photos)
    for start in range(0, len(ids), _SAMPLES_AT_ONCE):
        some = ids[start : start + _SAMPLES_AT_ONCE]
        _bring_forward(dataset, field, {each: photos[each] for each in some})
        chosen = {"_id": {"$in": some}}
        for document in dataset._sample_collection.find(chosen, [f"{field}.detections"]):
            existing = (document.get(field) or {}).get("detections") or []
            corrected = photos[document["_id"]]
            changes[document["_id"]] = _compare(existing, corrected, missing, accept_unchanged, report)
        done = min(start + _SAMPLES_AT_ONCE, len(ids))
        yield Progress(done, len(ids), f"{done} of {len(ids)} photos compared")
    report.photos = len(ids)
    if any(len(change) for change in changes.values()):
        report.decision = replace_masks(dataset, field, "import", changes)
    return report


def _bring_forward(dataset: Any, field: str, photos: dict[Any, list[CorrectedMask]]) -> None:
    """Less likely masks that the file has by their id are corrected like the others."""
    if has_less_likely(dataset, field):
        named = [mask.mask_id for masks in photos.values() for mask in masks if mask.mask_id is not None]
        is_named = {"$in": ["$$mask.mask_id", {"$literal": named}]}
        move_masks(dataset, less_likely_field(field), field, is_named, list(photos))


def _match_photos(
    dataset: Any, annotated: dict[str, list[CorrectedMask]]
) -> tuple[dict[Any, list[CorrectedMask]], int]:
    """Sample id -> masks, by the longest end of the path that a file name shares; and how many match nothing."""
    by_name: dict[str, list[tuple[Any, tuple[str, ...]]]] = {}
    for identifier, path in zip(*dataset.values(["_id", "filepath"]), strict=True):
        by_name.setdefault(Path(path).name, []).append((identifier, Path(path).parts))
    matched: dict[Any, list[CorrectedMask]] = {}
    unknown = 0
    for name, masks in annotated.items():
        parts = Path(name).parts
        fits = [found for found in by_name.get(Path(name).name, []) if found[1][-len(parts) :] == parts]
        if len(fits) > 1:
            raise UsageError(f"{name!r} could be any of {len(fits)} photos: give more of its path")
        if fits:
            matched[fits[0][0]] = masks
        else:
            unknown += 1
    return matched, unknown


def _compare(
    existing: list[Document],
    corrected: list[CorrectedMask],
    missing: Missing,
    accept_unchanged: bool,
    report: CorrectionReport,
) -> MaskChanges:
    """What changes in one photo."""
    changes = MaskChanges()
    if not corrected and (missing == "keep" or not existing):
        report.missing += len(existing)
        return changes
    rles = _detection_rles(existing, corrected)
    pairs = _pair(existing, rles, corrected)
    for i, mask in enumerate(corrected):
        if i not in pairs:
            changes.added.append(
                {**_tag(new_detection(mask.label, mask.rle), "accepted"), "mask_id": mask.mask_id}
            )
            report.added += 1
            continue
        old = existing[pairs[i]]
        redrawn = coco_mask.iou([mask.rle], [rles[pairs[i]]], [0])[0, 0] < 1.0
        relabeled = mask.label != old["label"]
        report.redrawn += redrawn
        report.relabeled += relabeled
        report.unchanged += not (redrawn or relabeled)
        new = _tag({**old, "label": mask.label}, "accepted")
        if redrawn:
            new = with_mask(new, mask.rle)
        if redrawn or relabeled or (accept_unchanged and "accepted" not in (old.get("tags") or [])):
            changes.replaced.append((old, new))
    for j in sorted(set(range(len(existing))) - set(pairs.values())):
        report.missing += 1
        if missing == "delete":
            changes.removed.append(existing[j])
        elif missing == "reject" and "rejected" not in (existing[j].get("tags") or []):
            changes.replaced.append((existing[j], _tag(existing[j], "rejected")))
    return changes


def _detection_rles(existing: list[Document], corrected: list[CorrectedMask]) -> list[dict[str, Any]]:
    if not corrected:
        return []
    height, width = corrected[0].rle["size"]
    return [detection_rle(detection, width, height) for detection in existing]


def _pair(
    existing: list[Document], rles: list[dict[str, Any]], corrected: list[CorrectedMask]
) -> dict[int, int]:
    """Which corrected mask is which detection: by mask id, then the rest greedily by overlap."""
    by_id = {mask["mask_id"]: j for j, mask in enumerate(existing) if mask.get("mask_id") is not None}
    pairs: dict[int, int] = {}
    for i, mask in enumerate(corrected):
        if mask.mask_id in by_id:
            pairs[i] = by_id.pop(mask.mask_id)
    left = [i for i in range(len(corrected)) if i not in pairs]
    free = [j for j in range(len(existing)) if j not in set(pairs.values())]
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
