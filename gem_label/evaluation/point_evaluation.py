"""p-mIoU over many images: from a run, or from photos; an interrupted evaluation resumes where it stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gem_label.engines.decoding import iter_decoded
from gem_label.errors import ImageError, UsageError
from gem_label.evaluation.openimages import PointTable, image_name
from gem_label.evaluation.predictors import EncoderModel, pooled_scores, similarity_of
from gem_label.masks import MaskSet
from gem_label.metrics.points import (
    ImagePoints,
    PointTotals,
    assign_masks,
    covered_points,
    point_counts,
    similarity_prediction,
    union_prediction,
)
from gem_label.photos.photo import Photo
from gem_label.photos.reading import read_image
from gem_label.predictors import DenseModel, MaskModel
from gem_label.runs import Run
from gem_label.runs.jsonl import append_jsonl, read_jsonl, write_jsonl

Rule = Literal["threshold", "argmax"]
RULES: tuple[Rule, ...] = ("threshold", "argmax")
# per image: its id and each predictor's answer at its points (P,) bool, or why there is none
Predictions = Iterator[tuple[str, dict[str, NDArray[np.bool_]] | ImageError]]


class PointEvaluation:
    """Compares predictions with answered points and adds them up.

    Args:
        table: the points.
        settings: what was asked, as JSON; an evaluation that resumes has the same settings.
        partial: file that keeps every finished image (JSON lines); None: nothing is kept.

    Raises:
        UsageError: `partial` belongs to another evaluation.
    """

    def __init__(self, table: PointTable, settings: dict[str, Any], partial: Path | None = None) -> None:
        self.table = table
        self.settings = json.loads(json.dumps(settings))  # as it comes back from a file: lists, no tuples
        self.totals: dict[str, PointTotals] = {}
        self.done: set[str] = set()
        self.failures: dict[str, str] = {}
        self.seconds = 0.0
        self._partial = partial
        if partial is not None:
            self._resume(partial)

    def _resume(self, partial: Path) -> None:
        header, *rows = [*read_jsonl(partial)] or [{"settings": self.settings}]
        if header.get("settings") != self.settings:
            raise UsageError(
                f"{partial} holds an evaluation with other settings: delete it or give another --json"
            )
        partial.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(partial, [header, *rows])  # from the start, as a kill may have cut the last line
        for row in rows:
            counts = {name: np.array(rows, np.int64) for name, rows in row["counts"].items()}
            self._count(row["image_id"], row["classes"], counts, row["seconds"])

    def run(self, predictions: Predictions, progress: bool = True) -> None:
        """Take in all predictions, one image after the other; see `run_predictions`, `photo_predictions`."""
        total = len(self.table) - len(self.done)
        with tqdm(total=total, unit="photo", disable=not progress) as bar:
            started = time.monotonic()
            for image_id, predicted in predictions:
                if isinstance(predicted, ImageError):
                    self.failures[image_id] = str(predicted)
                else:
                    self.add(image_id, predicted, time.monotonic() - started)
                bar.update()
                started = time.monotonic()

    def add(self, image_id: str, predicted: Mapping[str, NDArray[np.bool_]], seconds: float = 0.0) -> None:
        """Count one image.

        Args:
            image_id: which.
            predicted: (P,) of each predictor, whether its prediction covers the image's points.
            seconds: that predicting took.
        """
        classes, points = self.table.image(self.table.index[image_id])
        counts = {name: point_counts(hit, points, len(classes)) for name, hit in predicted.items()}
        self._count(image_id, classes, counts, seconds)
        if self._partial is not None:
            rows = {name: table.tolist() for name, table in counts.items()}
            row = {"image_id": image_id, "classes": classes, "counts": rows, "seconds": round(seconds, 4)}
            append_jsonl(self._partial, row)

    def _count(
        self, image_id: str, classes: Sequence[str], counts: Mapping[str, NDArray[np.int64]], seconds: float
    ) -> None:
        self.done.add(image_id)
        self.seconds += seconds
        for name, table in counts.items():
            self.totals.setdefault(name, PointTotals()).add(classes, table)

    def report(self, names: Mapping[str, str]) -> dict[str, Any]:
        """The result as JSON: p-mIoU in three averages, counts and IoU per class.

        Args:
            names: label to class name.
        """
        ious = {name: totals.class_ious() for name, totals in self.totals.items()}
        labels = sorted({label for totals in self.totals.values() for label in totals.counts})
        return {
            "evaluation": "points",
            "settings": self.settings,
            "images": len(self.done),
            "images_missing": len(self.table) - len(self.done) - len(self.failures),
            "failures": self.failures,
            "image_class_pairs": {name: totals.pairs for name, totals in self.totals.items()},
            "p_miou": {name: asdict(totals.averages()) for name, totals in self.totals.items()},
            "seconds_per_image": self.seconds / max(1, len(self.done)),
            "per_class": [
                {"label": label, "name": names[label]}
                | {
                    name: dict(zip(("tp", "fp", "fn"), totals.counts[label].tolist(), strict=True))
                    | {"iou": ious[name].get(label)}
                    for name, totals in self.totals.items()
                    if label in totals.counts
                }
                for label in labels
            ],
        }


def predict(
    similarity: NDArray[np.float32],
    masks: MaskSet,
    points: ImagePoints,
    name: str,
    rules: Sequence[Rule],
) -> dict[str, NDArray[np.bool_]]:
    """Answers at one image's points: of the similarity alone, and of its masks by each rule.

    Args:
        similarity: (C, h, w) of the image's present classes.
        masks: N masks of the image.
        points: the P points.
        name: of the dense method; GEM-SAM's answers are called "<name>_sam_<rule>".
        rules: GEM-SAM's rules.
    """
    predicted = {name: similarity_prediction(similarity, points, (masks.height, masks.width))}
    if rules:
        covered, scores = covered_points(masks, points), pooled_scores(masks, similarity)
        for rule in rules:
            predicted[f"{name}_sam_{rule}"] = union_prediction(covered, assign_masks(scores, rule), points)
    return predicted


def run_predictions(
    run: Run,
    table: PointTable,
    names: Mapping[str, str],
    model: EncoderModel,
    rules: Sequence[Rule] = RULES,
    done: Iterable[str] = (),
) -> Predictions:
    """GEM's and GEM-SAM's answers for the photos of a run.

    Args:
        run: its masks, and its patch features where it kept them; other photos are opened and encoded again.
        table: the points; photos without any are left out.
        names: label to class name, which is the phrase.
        model: the run's dense model; its text encoder alone is used where patches were kept.
        rules: GEM-SAM's rules.
        done: image ids to leave out.
    """
    table.check_photos(photo.path for photo in run.listing())
    seen = set(done)
    method = str(run.manifest["settings"]["dense"]["method"])
    for photo, masks, _ in run.photo_masks(embeddings=False):
        image_id = image_name(photo.image)
        if image_id in seen or image_id not in table.index:
            continue
        seen.add(image_id)
        labels, points = table.image(table.index[image_id])
        kept = run.patches(photo.number)
        try:
            patches = model.patches(read_image(photo.image)) if kept is None else kept.astype(np.float32)
        except ImageError as error:
            yield image_id, error
            continue
        text = model.dense.text.encode([names[label] for label in labels])
        similarity = np.einsum("hwd,cd->chw", patches, text)
        yield image_id, predict(similarity, masks, points, method, rules)


def photo_predictions(
    photos: Sequence[Photo],
    table: PointTable,
    names: Mapping[str, str],
    model: DenseModel | MaskModel,
    done: Iterable[str] = (),
) -> Predictions:
    """A model's answers for photos.

    Args:
        photos: those that the table does not know are left out.
        table: the points.
        names: label to class name, which is the phrase.
        model: dense: its scaled similarity is asked; of masks: those that belong to the class.
        done: image ids to leave out.
    """
    table.check_photos(photo.path for photo in photos)
    seen = set(done)
    wanted: list[Photo] = []
    for photo in photos:
        image_id = image_name(photo.path)
        if image_id in table.index and image_id not in seen:
            seen.add(image_id)
            wanted.append(Photo(photo.path, image_id, len(wanted) + 1))
    with closing(iter_decoded(wanted)) as decoded:
        for listed, pixels in decoded:
            if isinstance(pixels, ImageError):
                yield listed.image_id, pixels
                continue
            labels, points = table.image(table.index[listed.image_id])
            texts = [names[label] for label in labels]
            if isinstance(model, MaskModel):
                found = model.label(pixels, texts)
                hit = union_prediction(covered_points(found.masks, points), found.belongs, points)
            else:
                hit = similarity_prediction(similarity_of(model, pixels, texts), points, pixels.shape[:2])
            yield listed.image_id, {model.name: hit}
