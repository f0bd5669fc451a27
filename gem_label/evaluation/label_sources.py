"""Labels of a run or of a file joined with annotations: what `gem-label eval labels` compares."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gem_label.errors import GemLabelError, UsageError
from gem_label.evaluation.label_classes import class_index, class_notes, normal
from gem_label.evaluation.label_files import draw_all, read_predictions, read_truth, score_of
from gem_label.formats.annotations import AnnotatedPhoto, Annotations, Size
from gem_label.formats.photo_names import pair_photos
from gem_label.metrics.labels.matching import PhotoLabels
from gem_label.runs import Run, open_run

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class LabelSource:
    """Labels and annotations of the photos that both have.

    Attributes:
        classes: the words of the labels: a run's classes, or a file's.
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

    Photos are joined by the longest common end of their paths, at least the file name (see `match_photos`); classes
    by name, whatever their case. Photos that only one side has, and annotations of classes that the labels do not
    know, are left out.

    Args:
        predictions: a run directory, an annotation file whose masks have scores, or a COCO results list (of the
            annotations' image and category ids; it speaks for all images of the annotations).
        annotations: an annotation file of any format that `read_annotations` reads.

    Raises:
        UsageError: a file that cannot be read or has another form, photos that cannot be told apart, or no photo
            in common.
        GemLabelError: no readable run, or (while photos are read) a photo of different size on both sides.
    """
    if not predictions.exists():
        raise UsageError(f"no such run or file: {predictions}")
    truth = _Truth(annotations)
    if predictions.is_dir() and not any((predictions / f"data.{end}").is_file() for end in ("yaml", "yml")):
        return _run_source(open_run(predictions), truth)
    found, is_results = read_predictions(predictions, annotations, truth.annotations)
    return _file_source(predictions, found, truth, is_results)


class _Truth:
    """The annotations.

    Args:
        path: their file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.annotations = read_truth(path)
        self.photos: list[AnnotatedPhoto] = list(self.annotations.photos)

    def pair(self, paths: Mapping[Key, str], source: str) -> tuple[dict[Key, int], list[str]]:
        """Photos of the predictions with places of photos here, and notes on the others."""
        names = {place: photo.name for place, photo in enumerate(self.photos)}
        pairs = pair_photos(paths, names)
        if not pairs:
            example = next(iter(paths.values()), None)
            raise UsageError(
                f"{self.path} lists no photo of {source}: "
                + (f"{os.path.basename(example)!r} there" if example else "there are none there")
                + f", {names[0]!r} in the annotations"
            )
        notes = []
        if len(pairs) < len(paths):
            notes.append(
                f"{len(paths) - len(pairs)} of {len(paths)} labeled photos are not in {self.path}: left out"
            )
        if len(pairs) < len(names):
            notes.append(
                f"{len(names) - len(pairs)} of {len(names)} annotated photos are not labeled: left out"
            )
        return pairs, notes

    def class_notes(
        self, classes: tuple[str, ...], index: Mapping[str, int], pairs: Mapping[Any, int]
    ) -> list[str]:
        """Notes on classes, of the photos that are compared."""
        labels = (mask.label for place in pairs.values() for mask in self.photos[place].masks)
        return class_notes(classes, index, self.annotations.classes, labels, str(self.path))

    def draw(
        self, photo: AnnotatedPhoto, index: Mapping[str, int], size: Size
    ) -> tuple[list[dict], list[int], list[bool]]:
        """Masks, class indices and crowd flags of one photo's annotations of known classes."""
        masks = [mask for mask in photo.masks if not mask.label or normal(mask.label) in index]
        rles = draw_all(self.path, photo, masks, size)
        return rles, [index[normal(mask.label)] for mask in masks], [mask.crowd for mask in masks]


def _run_source(run: Run, truth: _Truth) -> LabelSource:
    classes = run.vocabulary.classes
    index = class_index(classes, f"the run {run.place}")
    pairs, notes = truth.pair({photo.number: photo.image for photo in run.photos()}, f"the run {run.place}")

    def photos() -> Iterator[PhotoLabels]:
        for photo, masks, labels in run.photo_masks(embeddings=False):
            if photo.number not in pairs:
                continue
            other = truth.photos[pairs[photo.number]]
            size = _common_size(photo.image, (photo.height, photo.width), other, truth.path)
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
                *truth.draw(other, index, size),
            )

    # one number, or thresholds with a default and numbers for some classes
    thresholds: Any = run.label_settings.min_score
    single = (
        None if getattr(thresholds, "classes", None) else float(getattr(thresholds, "default", thresholds))
    )
    if single is None:
        notes.append(f"the run has thresholds of their own for some classes: {thresholds}")
    notes += truth.class_notes(classes, index, pairs)
    settings = {key: run.manifest.get(key) for key in ("settings", "weights", "labeling")}
    return LabelSource(classes, single, len(pairs), tuple(notes), settings, photos())


def _file_source(path: Path, found: Annotations, truth: _Truth, is_results: bool) -> LabelSource:
    if not found.classes:
        raise UsageError(f"{path} has no classes")
    labeled = list(found.photos)
    index = class_index(found.classes, str(truth.path if is_results else path))
    notes: list[str] = []
    if is_results:
        pairs = {place: place for place in range(len(labeled))}
    else:
        paths = {place: os.path.join(found.folder, photo.name) for place, photo in enumerate(labeled)}
        pairs, notes = truth.pair(paths, str(path))
    notes += truth.class_notes(found.classes, index, pairs)

    def photos() -> Iterator[PhotoLabels]:
        for place, true_place in pairs.items():
            photo, other = labeled[place], truth.photos[true_place]
            size = _common_size(photo.name, photo.size, other, truth.path)
            yield PhotoLabels(
                photo.name,
                draw_all(path, photo, photo.masks, size),
                [index[normal(mask.label)] for mask in photo.masks],
                [score_of(path, photo, mask) for mask in photo.masks],
                [True] * len(photo.masks),
                *truth.draw(other, index, size),
            )

    return LabelSource(found.classes, None, len(pairs), tuple(notes), {}, photos())


def _common_size(name: str, labeled: Size | None, annotated: AnnotatedPhoto, path: Path) -> Size:
    """Height and width of a photo in pixels, which one side may leave open.

    Raises:
        GemLabelError: both sides leave it open, or they do not agree.
    """
    size = labeled or annotated.size
    if size is None:
        raise GemLabelError(f"the size of {name} is not known: neither its labels nor {path} say it")
    if annotated.size not in (None, size):
        raise GemLabelError(
            f"{name} was labeled at {size[0]} x {size[1]} pixels, but {path} lists it with {annotated.size[0]} x "
            f"{annotated.size[1]}: masks of different sizes cannot be compared"
        )
    return size
