"""Annotation files that are measured: annotations and predictions in any format, drawn with nothing left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gem_label.errors import UsageError
from gem_label.formats.annotations import AnnotatedMask, AnnotatedPhoto, Annotations, Size
from gem_label.formats.coco import read_coco, read_coco_results
from gem_label.formats.label_studio.reading import is_label_studio
from gem_label.formats.reading import read_annotations
from gem_label.geometry import draw_shapes
from gem_label.text_files import read_text

OTHER_SUFFIXES = (".xml", ".csv", ".parquet", ".yaml", ".yml")
"""Of files that hold no JSON."""


def read_truth(path: Path) -> Annotations:
    """Annotations in any format of `read_annotations`; COCO's files compressed, too.

    Raises:
        UsageError: the file cannot be read, has another form or lists no photos.
    """
    return _annotations(path, _read_json(path))


def read_predictions(path: Path, truth_path: Path, truth: Annotations) -> tuple[Annotations, bool]:
    """Predictions in any format of `read_annotations`, or in a COCO results list.

    Args:
        path: the file.
        truth_path: of the annotations, for messages.
        truth: the annotations, whose ids a results list has.

    Returns:
        The predictions, and whether they are a results list: its photos are those of the annotations, in their order.

    Raises:
        UsageError: as for `read_truth`; or a results list does not belong to the annotations.
    """
    data = _read_json(path)
    if not _is_results(data):
        return _annotations(path, data), False
    if len(truth.category_ids) != len(truth.classes):
        raise UsageError(f"{path} is a COCO results list, but {truth_path} has no ids of categories")
    return read_coco_results(path, data, truth), True


def draw_all(path: Path, photo: AnnotatedPhoto, masks: Sequence[AnnotatedMask], size: Size) -> list[dict]:
    """Masks of a photo as compressed run lengths, {"size": [height, width], "counts": bytes}.

    Args:
        path: of the file, for messages.
        photo: the photo.
        masks: N of its masks.
        size: height and width in pixels.

    Returns:
        N masks.

    Raises:
        UsageError: one has no label, is a box, or cannot be drawn as a whole; the message names it.
    """
    rles = []
    shapes = draw_shapes([mask.draw for mask in masks], *size)
    for mask, shape in zip(masks, shapes, strict=True):
        problem = next(iter(shape.problems), "")
        if mask.box_only:
            problem = "a box and no mask: boxes alone cannot be compared with masks"
        elif not mask.label:
            problem = "no label"
        if problem or shape.rle is None:
            name = mask.name or mask.mask_id or repr(mask.label)
            raise UsageError(f"{path}: {name} of {photo.name} has {problem or 'no mask'}")
        rles.append(shape.rle)
    return rles


def score_of(path: Path, photo: AnnotatedPhoto, mask: AnnotatedMask) -> float:
    """The score of a predicted mask, in [0, 1].

    Raises:
        UsageError: it has none, or another number.
    """
    if mask.score is None or not 0 <= mask.score <= 1:
        what = "no score" if mask.score is None else f"the score {mask.score:g}"
        name = mask.name or mask.mask_id or repr(mask.label)
        raise UsageError(f"{path}: {name} of {photo.name} has {what}: labels need one between 0 and 1")
    return mask.score


def _annotations(path: Path, data: Any) -> Annotations:
    """The annotations of a file whose JSON is read already, where it holds JSON of COCO's."""
    if data is None or is_label_studio(data):
        return read_annotations(path)
    annotations = read_coco(path, data)
    if not annotations.photos:
        raise UsageError(f"{path} lists no photos")
    return annotations


def _is_results(data: Any) -> bool:
    """Whether JSON is a results list, which may be empty."""
    return isinstance(data, list) and not is_label_studio(data)


def _read_json(path: Path) -> Any:
    """The JSON of a file, in the encodings and archives of `read_text`; None where it is of another kind.

    Raises:
        UsageError: it cannot be read, or is no JSON.
    """
    if path.is_dir() or path.suffix.lower() in OTHER_SUFFIXES:
        return None
    try:
        text = read_text(path)
    except UsageError:
        if path.suffix.lower() == ".zip" and path.is_file():
            return None  # of several files; its reader knows which one counts
        raise
    if text.lstrip()[:1] == "<":
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON file: {error}") from error
