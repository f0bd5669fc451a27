"""Point labels (Open Images V7) against the masks of a field, with the results on the samples for filtering."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError
from gem_label.evaluation.openimages import class_names, image_name, read_points
from gem_label.metrics.points import ImagePoints, PointAverages, PointTotals, point_counts
from gem_label.progress import Progress
from gem_label.review.database import load_fiftyone
from gem_label.review.storage.detections import Document, detections_of
from gem_label.review.storage.documents import photo_sizes, pixel_box, read_crop, size_among
from gem_label.review.storage.fields import check_field_name, check_mask_field
from gem_label.review.storage.internals import samples_of

ANSWER = "estimated_yes_no"
"""Attribute of a keypoint that says what people answered; FiftyOne's Open Images V7 has it by this name."""

_SAMPLES_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class PointReport:
    """What an evaluation found.

    Attributes:
        averages: p-mIoU over pairs of image and class, over images and over classes.
        class_ious: IoU per class, from counts pooled over all images.
        class_counts: TP, FP, FN per class.
        images: how many images had points on present classes.
        points: how many points counted.
        unused_classes: classes of the points that no mask of the field has for a label.
    """

    averages: PointAverages
    class_ious: dict[str, float]
    class_counts: dict[str, tuple[int, int, int]]
    images: int
    points: int
    unused_classes: tuple[str, ...]


def result_names(field: str) -> tuple[str, str]:
    """Where the results of a field are: the sample field (mean IoU) and the attribute of points (TP, FP, FN, TN)."""
    return f"{field}_points_iou", f"{field}_result"


def import_points(dataset: Any, path: str | Path, field: str = "points") -> int:
    """Put the points of a CSV into a `Keypoints` field, one keypoint a point.

    Samples are matched by their file name without suffix.

    Args:
        dataset: the FiftyOne dataset.
        path: a file with the columns ImageId, X, Y, Label, EstimatedYesNo; class names beside it are found as by
            `gem_label.evaluation.openimages.class_names`.
        field: the field, made or replaced.

    Returns:
        How many samples got points.

    Raises:
        UsageError: the file cannot be read or names none of the photos, or several by one name.
    """
    fo = load_fiftyone()
    table = read_points(path)
    names = class_names(table, path)
    if not dataset.has_field(field):
        check_field_name(dataset, field)
    table.check_photos(dataset.values("filepath"))
    values = {}
    for identifier, filepath in zip(*dataset.values(["id", "filepath"]), strict=True):
        place = table.index.get(image_name(filepath))
        if place is None:
            continue
        labels, points = table.image(place)
        values[identifier] = fo.Keypoints(
            keypoints=[
                fo.Keypoint(label=names[labels[c]], points=[(float(x), float(y))], **{ANSWER: "yes" if yes else "no"})
                for x, y, c, yes in zip(points.x, points.y, points.class_index, points.positive, strict=True)
            ]
        )  # fmt: skip
    if not values:
        raise UsageError(
            f"{path} names none of the {len(dataset)} photos: ImageId is the file name without suffix"
        )
    dataset.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Keypoints)
    dataset.set_values(field, values, key_field="id", dynamic=True)
    return len(values)


def evaluate_points(
    dataset: Any, field: str, points_field: str, view: Any = None
) -> Generator[Progress, None, PointReport]:
    """Compare point labels with the masks of a field, image by image, over the classes present in each image.

    The union of a class's masks is its prediction; rejected masks do not count. `result_names` says where the
    results are stored.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        points_field: its field of keypoints with the attribute `estimated_yes_no`.
        view: only these samples; None: all.

    Yields:
        Progress; the generator returns the report.

    Raises:
        UsageError: a field is missing, or there is no answered point.
    """
    fo = load_fiftyone()
    check_mask_field(dataset, field)
    present = dataset.get_field(points_field)
    if getattr(present, "document_type", None) is not fo.Keypoints:
        raise UsageError(f"{points_field!r} is no field of keypoints: give a CSV of points or another field")
    samples = dataset if view is None else view
    ids = samples.values("_id")
    totals, points, seen = PointTotals(), 0, set()
    mean_field, attribute = result_names(field)
    for start in range(0, len(ids), _SAMPLES_AT_ONCE):
        means: dict[str, float | None] = {}
        results: list[dict[str, Any]] = []  # by keypoint, as somebody may change the list meanwhile
        documents = _documents(dataset, ids[start : start + _SAMPLES_AT_ONCE], field, points_field)
        sizes = photo_sizes(dataset, documents)
        for document in documents:
            image = _evaluate_image(document, sizes, field, points_field)
            seen.update(image.labels)
            if not image.classes:
                continue
            totals.add(image.classes, image.counts)
            points += sum(each is not None for each in image.results)
            valid = image.counts.sum(axis=1) > 0
            ious = image.counts[valid, 0] / image.counts[valid].sum(axis=1)
            means[str(document["_id"])] = float(ious.mean()) if len(ious) else None
            keypoints = document[points_field]["keypoints"]
            sample = str(document["_id"])
            results += [
                {"sample_id": sample, "label_id": str(point["_id"]), "value": result}
                for point, result in zip(keypoints, image.results, strict=True)
            ]
        if means:
            dataset.set_values(mean_field, means, key_field="id")
            dataset.set_label_values(f"{points_field}.keypoints.{attribute}", results, dynamic=True)
        done = min(start + _SAMPLES_AT_ONCE, len(ids))
        yield Progress(done, len(ids), f"{done} of {len(ids)} photos")
    if not points:
        raise UsageError(f"{points_field!r} has no point answered yes or no in these photos")
    counts = {name: (int(row[0]), int(row[1]), int(row[2])) for name, row in totals.counts.items()}
    unused = tuple(sorted(set(counts) - seen))
    return PointReport(totals.averages(), totals.class_ious(), counts, totals.images, points, unused)


@dataclass(frozen=True, slots=True)
class _Image:
    """One image's classes with their (C, 3) counts, a result per keypoint (None: not counted), its mask labels."""

    classes: list[str]
    counts: NDArray[np.int64]
    results: list[str | None]
    labels: set[str]


def _documents(dataset: Any, ids: list[Any], field: str, points_field: str) -> list[Document]:
    wanted = ["metadata", f"{field}.detections", f"{points_field}.keypoints", "filepath"]
    return list(samples_of(dataset).find({"_id": {"$in": ids}}, wanted))


def _evaluate_image(
    document: Document, sizes: Mapping[Any, tuple[int, int]], field: str, points_field: str
) -> _Image:
    keypoints = (document.get(points_field) or {}).get("keypoints") or []
    masks = [
        mask
        for mask in detections_of(document, field)
        if mask.get("label") and "rejected" not in (mask.get("tags") or [])
    ]
    labels = {mask["label"] for mask in masks}
    classes = sorted(
        {point["label"] for point in keypoints if point.get("label") and point.get(ANSWER) == "yes"}
    )
    used = [
        i
        for i, point in enumerate(keypoints)
        if point.get("label") in classes and point.get(ANSWER) in ("yes", "no") and point.get("points")
    ]
    results: list[str | None] = [None] * len(keypoints)
    if not used:
        return _Image([], np.zeros((0, 3), np.int64), results, labels)
    x, y = np.array([keypoints[i]["points"][0] for i in used], np.float32).T
    asked = ImagePoints(
        x,
        y,
        np.array([classes.index(keypoints[i]["label"]) for i in used], np.int64),
        np.array([keypoints[i][ANSWER] == "yes" for i in used]),
    )
    predicted = np.zeros(len(used), bool)
    width, height = size_among(sizes, document) if masks else (1, 1)
    rows, columns = asked.pixels(height, width)
    for mask in masks:
        if mask["label"] not in classes:
            continue
        of_class = np.flatnonzero(asked.class_index == classes.index(mask["label"]))
        left, top, w, h = box = pixel_box(mask, width, height)
        r, c = rows[of_class] - top, columns[of_class] - left
        inside = (r >= 0) & (r < h) & (c >= 0) & (c < w)
        if inside.any():
            crop = read_crop(mask, box)
            predicted[of_class[inside]] |= crop[r[inside], c[inside]]
    for i, covered, positive in zip(used, predicted, asked.positive, strict=True):
        results[i] = ("TP" if covered else "FN") if positive else ("FP" if covered else "TN")
    return _Image(classes, point_counts(predicted, asked, len(classes)), results, labels)
