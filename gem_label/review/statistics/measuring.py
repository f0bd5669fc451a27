"""Labels of a field against ground truth in another field of the dataset: what `gem-label eval labels` computes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from pycocotools import mask as coco_mask

from gem_label.errors import UsageError
from gem_label.evaluation.label_classes import normal
from gem_label.geometry import polygons
from gem_label.metrics.labels import LabelReport, PhotoLabels, evaluate_labels
from gem_label.progress import Progress
from gem_label.review.database import load_fiftyone
from gem_label.review.storage.detections import Document, detections_of, is_accepted
from gem_label.review.storage.documents import detection_rle, photo_sizes, size_among
from gem_label.review.storage.fields import (
    check_mask_field,
    label_fields,
    less_likely_field,
    main_field,
    pushed_fields,
)
from gem_label.review.storage.internals import is_patches, samples_of
from gem_label.tables import first_names

_SAMPLES_AT_ONCE = 200
_SHOWN_NAMES = 5


@dataclass(frozen=True, slots=True)
class Measurement:
    """What labels are worth: all figures, and a line about everything that was left out."""

    report: LabelReport
    notes: tuple[str, ...]


def truth_fields(dataset: Any, field: str) -> list[str]:
    """Fields that can be the ground truth of a field: detections and polylines, those of runs last."""
    fo = load_fiftyone()
    polylines = dataset.get_field_schema(ftype=fo.EmbeddedDocumentField, embedded_doc_type=fo.Polylines)
    pushed = pushed_fields(dataset)
    found = [*label_fields(dataset), *polylines]
    return sorted((name for name in found if name != field), key=lambda name: name in pushed)


def measure_labels(
    dataset: Any, field: str, truth_field: str, view: Any = None
) -> Generator[Progress, None, Measurement]:
    """Compare the labels of a field with annotated instances, photo by photo.

    Labels are kept that are in `field` and not rejected; less likely ones count for curves and thresholds alone. No
    threshold takes out accepted and renamed labels: their score is 1. Words are compared without case. Photos without
    ground truth (None, not an empty list), and annotations of other words, are left out. A detection with a true
    `iscrowd` is a crowd region.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        truth_field: its field of detections with masks, or of polylines, which are filled.
        view: only these samples; None: all.

    Yields:
        Progress; the generator returns the measurement.

    Raises:
        UsageError: a field is missing, or no photo has ground truth.
    """
    field = main_field(dataset, field)
    check_mask_field(dataset, field)
    if truth_field not in truth_fields(dataset, field):
        there = ", ".join(map(repr, truth_fields(dataset, field))) or "none yet: import annotations first"
        raise UsageError(
            f"dataset {dataset.name!r} has no ground truth in {truth_field!r}: it must be a field of detections or "
            f"polylines (there is {there})"
        )
    samples = dataset if view is None else view
    if is_patches(samples):
        samples = dataset.select(samples.distinct("sample_id"))
    ids = samples.values("_id")
    collector = _Collector(dataset, field, truth_field)
    wanted = ["filepath", "metadata", *collector.paths]
    for start in range(0, len(ids), _SAMPLES_AT_ONCE):
        chosen = {"_id": {"$in": ids[start : start + _SAMPLES_AT_ONCE]}}
        documents = list(samples_of(dataset).find(chosen, wanted))
        sizes = photo_sizes(dataset, documents)
        for document in documents:
            collector.add(document, sizes)
        done = min(start + _SAMPLES_AT_ONCE, len(ids))
        yield Progress(done, len(ids) + 1, f"{done} of {len(ids)} photos read")
    if not collector.photos:
        raise UsageError(f"no photo has ground truth in {truth_field!r}")
    yield Progress(len(ids), len(ids) + 1, "comparing the labels with the ground truth")
    return Measurement(evaluate_labels(collector.photos, collector.classes), collector.notes)


class _Collector:
    """Gathers the photos that are compared, and counts what is left out."""

    def __init__(self, dataset: Any, field: str, truth_field: str) -> None:
        fo = load_fiftyone()
        self.field, self.hidden, self.truth_field = field, less_likely_field(field), truth_field
        is_polyline = dataset.get_field(truth_field).document_type is fo.Polylines
        self.truth_list = "polylines" if is_polyline else "detections"
        self.paths = [f"{field}.detections", f"{truth_field}.{self.truth_list}"]
        occurring = dataset.distinct(f"{field}.detections.label")
        if dataset.has_field(self.hidden):
            self.paths.append(f"{self.hidden}.detections")
            occurring += dataset.distinct(f"{self.hidden}.detections.label")
        self.classes: list[str] = []
        self.index: dict[str, int] = {}
        for name in [*dataset.classes.get(field, []), *occurring]:
            if normal(name) not in self.index:
                self.index[normal(name)] = len(self.classes)
                self.classes.append(name)
        self.photos: list[PhotoLabels] = []
        self.without_truth = self.boxes = self.unusable = 0
        self.other_words: Counter[str] = Counter()

    def add(self, document: Document, sizes: Mapping[Any, tuple[int, int]]) -> None:
        """Take a photo in; `sizes` are those of `photo_sizes`."""
        annotations = (document.get(self.truth_field) or {}).get(self.truth_list)
        if annotations is None:
            self.without_truth += 1
            return
        width, height = size_among(sizes, document)
        labels = [
            (mask, kept)
            for name, kept in ((self.field, True), (self.hidden, False))
            for mask in detections_of(document, name)
            if mask.get("label") and "rejected" not in (mask.get("tags") or ())
        ]
        truth: list[tuple[Document, dict[str, Any]]] = []
        for each in annotations:
            if normal(str(each.get("label"))) not in self.index:
                self.other_words[str(each.get("label"))] += 1
            elif (rle := _truth_rle(each, width, height)) is not None:
                truth.append((each, rle))
            else:
                self.unusable += 1
        self.boxes += sum("bounding_box" in each and not _has_mask(each) for each, _ in truth)
        self.photos.append(
            PhotoLabels(
                name=document["filepath"],
                masks=[detection_rle(mask, width, height) for mask, _ in labels],
                classes=[self.index[normal(mask["label"])] for mask, _ in labels],
                scores=[_score(mask) for mask, _ in labels],
                kept=[kept or is_accepted(mask) for mask, kept in labels],
                true_masks=[rle for _, rle in truth],
                true_classes=[self.index[normal(each["label"])] for each, _ in truth],
                crowd=[bool(each.get("iscrowd")) for each, _ in truth],
            )
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, and what makes figures worse than the labels are."""
        notes = []
        if self.without_truth:
            notes.append(f"{self.without_truth} photos have no ground truth and are left out")
        if self.other_words:
            names = first_names([name for name, _ in self.other_words.most_common()], _SHOWN_NAMES)
            notes.append(f"{self.other_words.total()} annotations of other words are left out: {names}")
        if self.unusable:
            notes.append(f"{self.unusable} annotations enclose no pixel of their photo and are left out")
        if self.boxes:
            notes.append(f"{self.boxes} annotations have no mask: they count as filled boxes")
        return tuple(notes)


def _has_mask(detection: Document) -> bool:
    return bool(detection.get("mask") or detection.get("mask_path"))


def _score(mask: Document) -> float:
    """A label's score; a reviewer's word is certain, and so is what somebody drew."""
    score = mask.get("confidence")
    return 1.0 if score is None or is_accepted(mask) else float(score)


def _truth_rle(annotation: Document, width: int, height: int) -> dict[str, Any] | None:
    """An annotation as compressed COCO run lengths; None for a polyline that encloses nothing."""
    if "bounding_box" in annotation:
        return detection_rle(annotation, width, height)
    parts = [
        [side for x, y in shape for side in (x * width, y * height)]
        for shape in annotation.get("points") or []
    ]
    rle = polygons(parts, height, width).rle
    return rle if rle is not None and coco_mask.area(rle) else None
