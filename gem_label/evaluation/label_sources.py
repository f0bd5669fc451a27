"""Labels of a run or of a COCO file joined with COCO annotations: what `gem-label eval labels` compares."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gem_label.errors import GemLabelError, UsageError
from gem_label.evaluation.label_files import (
    CocoFile,
    FileImage,
    group_annotations,
    masks_of,
    parse_coco,
    read_coco,
    read_json,
    score_of,
)
from gem_label.evaluation.labels.matching import PhotoLabels
from gem_label.runs import Run, open_run
from gem_label.tables import first_names

SHOWN_NAMES = 5
"""Names in a note before it says "..."."""


@dataclass(frozen=True)
class LabelSource:
    """Labels and annotations of the photos that both have.

    Attributes:
        classes: the words of the labels: a run's classes, or a file's categories.
        threshold: the score that made `kept`; None: all labels are kept, or the threshold is not one number.
        matched: how many photos there are.
        notes: what was left out, a line each.
        settings: what made the labels, as JSON: of a run its settings, weights and label settings.
        photos: the photos; can be read once.
    """

    classes: tuple[str, ...]
    threshold: float | None
    matched: int
    notes: tuple[str, ...]
    settings: dict[str, Any]
    photos: Iterator[PhotoLabels]


def open_labels(predictions: Path, annotations: Path) -> LabelSource:
    """Join predictions with annotations.

    Photos are joined by the longest common end of their paths, at least the file name; classes by name, whatever
    their case. Photos that only one side has, and annotations of classes that the labels do not know, are left out.

    Args:
        predictions: a run directory, a COCO instances file whose annotations have scores, or a COCO results list
            (of the annotations' image and category ids; it speaks for all images of the annotations).
        annotations: a COCO instances file.

    Raises:
        UsageError: a file that cannot be read or has another form, photos that cannot be told apart, or no photo
            in common.
        GemLabelError: no readable run, or (while photos are read) a photo of different size on both sides.
    """
    if not predictions.exists():
        raise UsageError(f"no such run or file: {predictions}")
    truth = read_coco(annotations)
    if predictions.is_dir():
        return _run_source(open_run(predictions), truth)
    data = read_json(predictions)
    if isinstance(data, list):
        return _results_source(predictions, data, truth)
    return _file_source(parse_coco(predictions, data), truth)


def _run_source(run: Run, truth: CocoFile) -> LabelSource:
    classes = run.vocabulary.classes
    index = class_index(classes, f"the run {run.path}")
    records = {photo.number: photo.image for photo in run.photos()}
    pairs, notes = _joined(records, truth, f"the run {run.path}")

    def photos() -> Iterator[PhotoLabels]:
        for photo, masks, labels in run.photo_masks(embeddings=False):
            if photo.number not in pairs:
                continue
            image = truth.images[pairs[photo.number]]
            _check_size(photo.image, photo.height, photo.width, image, truth.path)
            # labels that a lower threshold would let through, where the run knows them
            selected = np.asarray(getattr(labels, "selected", labels.kept)) | labels.kept
            rows = np.flatnonzero(selected & (labels.label_index >= 0) & (masks.areas > 0))
            rles = masks.rles
            yield PhotoLabels(
                photo.image,
                [rles[i] for i in rows.tolist()],
                labels.label_index[rows],
                labels.score[rows],
                labels.kept[rows],
                *_truths(truth, image, index),
            )

    # one number, or thresholds with a default and numbers for some classes
    thresholds: Any = run.label_settings.min_score
    single = (
        None if getattr(thresholds, "classes", None) else float(getattr(thresholds, "default", thresholds))
    )
    if single is None:
        notes.append(f"the run has thresholds of their own for some classes: {thresholds}")
    notes += _class_notes(classes, index, truth, pairs.values())
    settings = {key: run.manifest.get(key) for key in ("settings", "weights", "labeling")}
    return LabelSource(classes, single, len(pairs), tuple(notes), settings, photos())


def _file_source(file: CocoFile, truth: CocoFile) -> LabelSource:
    classes = tuple(dict.fromkeys(file.categories.values()))
    if not classes:
        raise UsageError(f"{file.path} has no categories")
    index = class_index(classes, str(file.path))
    paths = {id: os.path.join(file.folder, image.file_name) for id, image in file.images.items()}
    pairs, notes = _joined(paths, truth, str(file.path))
    notes += _class_notes(classes, index, truth, pairs.values())
    category = {id: index[normal(name)] for id, name in file.categories.items()}

    def photos() -> Iterator[PhotoLabels]:
        for id, true_id in pairs.items():
            image, other = file.images[id], truth.images[true_id]
            _check_size(image.file_name, image.height, image.width, other, truth.path)
            yield _predicted(
                file.path, file.annotations.get(id, []), image, category, _truths(truth, other, index)
            )

    return LabelSource(classes, None, len(pairs), tuple(notes), {}, photos())


def _results_source(path: Path, rows: list[Any], truth: CocoFile) -> LabelSource:
    if not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path} is no COCO results list: its entries are objects there")
    if not truth.images:
        raise UsageError(f"{truth.path} lists no images")
    results = group_annotations(path, rows, truth.images, truth.categories)
    classes = tuple(dict.fromkeys(truth.categories.values()))
    index = class_index(classes, str(truth.path))
    category = {id: index[normal(name)] for id, name in truth.categories.items()}

    def photos() -> Iterator[PhotoLabels]:
        for id, image in truth.images.items():
            yield _predicted(path, results.get(id, []), image, category, _truths(truth, image, index))

    return LabelSource(classes, None, len(truth.images), (), {}, photos())


def _predicted(
    path: Path,
    rows: list[dict[str, Any]],
    image: FileImage,
    category: Mapping[Hashable, int],
    truths: tuple[list[dict], list[int], list[bool]],
) -> PhotoLabels:
    """The labels of one image of a file."""
    return PhotoLabels(
        image.file_name,
        masks_of(path, rows, image),
        [category[row["category_id"]] for row in rows],
        [score_of(path, row) for row in rows],
        [True] * len(rows),
        *truths,
    )


def _truths(
    truth: CocoFile, image: FileImage, index: Mapping[str, int]
) -> tuple[list[dict], list[int], list[bool]]:
    """Masks, class indices and crowd flags of one image's annotations of known classes."""
    rows, classes = [], []
    for row in truth.annotations.get(image.id, []):
        found = index.get(normal(truth.categories[row["category_id"]]))
        if found is not None:
            rows.append(row)
            classes.append(found)
    return masks_of(truth.path, rows, image), classes, [bool(row.get("iscrowd", 0)) for row in rows]


def _check_size(photo: str, height: int, width: int, image: FileImage, path: Path) -> None:
    if (height, width) != (image.height, image.width):
        raise GemLabelError(
            f"{photo} was labeled at {height} x {width} pixels, but {path} lists it with {image.height} x "
            f"{image.width}: masks of different sizes cannot be compared"
        )


def normal(name: str) -> str:
    """A class name without case and outer spaces: what classes are joined by."""
    return name.strip().casefold()


def class_index(classes: Iterable[str], source: str) -> dict[str, int]:
    """Index of each class by its `normal` name.

    Raises:
        UsageError: two classes differ only by case or spaces.
    """
    index: dict[str, int] = {}
    for name in classes:
        if normal(name) in index:
            raise UsageError(f"{source} has two classes that are the same word: {name!r}")
        index[normal(name)] = len(index)
    return index


def _class_notes(
    classes: Sequence[str], index: Mapping[str, int], truth: CocoFile, images: Iterable[Hashable]
) -> list[str]:
    """What is not compared, and words that the annotations do not know."""
    unasked = Counter(
        truth.categories[row["category_id"]]
        for image in images
        for row in truth.annotations.get(image, [])
        if normal(truth.categories[row["category_id"]]) not in index
    )
    notes = []
    if unasked:
        names = first_names([name for name, _ in unasked.most_common()], SHOWN_NAMES)
        notes.append(
            f"{unasked.total()} annotations of {len(unasked)} classes that were not asked for are left out: {names}"
        )
    annotated = {normal(name) for name in truth.categories.values()}
    unknown = [name for name in classes if normal(name) not in annotated]
    if unknown:
        notes.append(
            f"{len(unknown)} of {len(classes)} classes are no category of {truth.path}, so that each of their labels "
            f"counts as wrong: {first_names(unknown, SHOWN_NAMES)}"
        )
    return notes


def _joined(paths: Mapping[Any, str], truth: CocoFile, source: str) -> tuple[dict[Any, Hashable], list[str]]:
    """Photos of the predictions with image ids of the annotations, and notes on the others."""
    names = {id: image.file_name for id, image in truth.images.items()}
    pairs = join_photos(paths, names)
    if not pairs:
        example = next(iter(paths.values()), None)
        listed = next(iter(names.values()), None)
        raise UsageError(
            f"{truth.path} lists no photo of {source}: "
            + (f"{os.path.basename(example)!r} there" if example else "there are none there")
            + (f", {listed!r} in the annotations" if listed else ", and no image in the annotations")
        )
    notes = []
    if len(pairs) < len(paths):
        notes.append(
            f"{len(paths) - len(pairs)} of {len(paths)} labeled photos are not in {truth.path}: left out"
        )
    if len(pairs) < len(names):
        notes.append(f"{len(names) - len(pairs)} of {len(names)} annotated photos are not labeled: left out")
    return pairs, notes


def join_photos(labeled: Mapping[Any, str], annotated: Mapping[Hashable, str]) -> dict[Any, Hashable]:
    """Pair photos by the longest common end of their paths, whole names of folders and files.

    Pairs with more names in common come first and are settled then.

    Args:
        labeled: paths by key.
        annotated: paths by image id.

    Returns:
        Image ids by key, in the order of `labeled`; photos without a partner are missing.

    Raises:
        UsageError: a photo could be paired with several.
    """
    parts = [{key: _parts(path) for key, path in side.items()} for side in (labeled, annotated)]
    longest = min((max((len(p) for p in side.values()), default=0) for side in parts), default=0)
    pairs: dict[Any, Hashable] = {}
    for length in range(longest, 0, -1):
        ends: list[dict[tuple[str, ...], list[Any]]] = []
        for side in parts:
            found = defaultdict(list)
            for key, names in side.items():
                if len(names) >= length:
                    found[names[-length:]].append(key)
            ends.append(found)
        for end in [end for end in ends[0] if end in ends[1]]:
            left, right = ends[0][end], ends[1][end]
            if len(left) > 1 or len(right) > 1:
                several = (
                    [labeled[key] for key in left] if len(left) > 1 else [annotated[key] for key in right]
                )
                other = annotated[right[0]] if len(left) > 1 else labeled[left[0]]
                raise UsageError(
                    f"{other} could be {several[0]} or {several[1]}: photos are joined by the end of their "
                    "paths, give the annotations' file names more folders"
                )
            pairs[left[0]] = right[0]
            del parts[0][left[0]], parts[1][right[0]]
    return {key: pairs[key] for key in labeled if key in pairs}


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))
