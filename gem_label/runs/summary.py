"""What a run found, class by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gem_label.runs.reader import Run

_BINS = 1000  # of scores, for medians in memory that does not grow with the run


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """The kept masks of one class.

    Attributes:
        name: the class.
        masks: how many.
        images: in how many images.
        lowest: the lowest score, 0 where there is no mask.
        median: to 1/1000.
        highest: the highest score.
    """

    name: str
    masks: int
    images: int
    lowest: float
    median: float
    highest: float


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Counts of a run.

    Attributes:
        images: how many images are labeled.
        failed: how many could not be labeled.
        masks: proposed masks.
        kept: masks with a label.
        classes: all classes of the vocabulary, those with the most masks first.
    """

    images: int
    failed: int
    masks: int
    kept: int
    classes: tuple[ClassSummary, ...]


def summarize_run(run: Run) -> RunSummary:
    """Count what a run found. Reads three columns; memory grows with the classes alone.

    Args:
        run: finished or not.
    """
    names = run.vocabulary.classes
    histogram = np.zeros((len(names), _BINS), np.int64)
    images = np.zeros(len(names), np.int64)
    lowest, highest = np.ones(len(names)), np.zeros(len(names))
    photo_count = masks = 0
    for photos, table in run.groups(["label", "score", "kept"]):
        photo_count += len(photos)
        masks += len(table)
        owners = np.repeat(np.arange(len(photos)), [photo.masks for photo in photos])
        classes, scores = kept_classes(table, names)
        kept = classes >= 0
        classes, scores, owners = classes[kept], scores[kept], owners[kept]
        bins = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
        np.add.at(histogram, (classes, bins), 1)
        np.minimum.at(lowest, classes, scores)
        np.maximum.at(highest, classes, scores)
        pairs = np.unique(owners * np.int64(len(names)) + classes)
        images += np.bincount(pairs % len(names), minlength=len(names))
    counts = histogram.sum(axis=1)
    medians = (np.cumsum(histogram, axis=1) * 2 < counts[:, None]).sum(axis=1) / _BINS
    summaries = [
        ClassSummary(
            name,
            int(counts[i]),
            int(images[i]),
            float(lowest[i]) if counts[i] else 0.0,
            float(np.clip(medians[i], lowest[i], highest[i])) if counts[i] else 0.0,
            float(highest[i]),
        )
        for i, name in enumerate(names)
    ]
    summaries.sort(key=lambda each: (-each.masks, each.name))
    failed = len(run.failures())
    return RunSummary(photo_count, failed, masks, int(counts.sum()), tuple(summaries))


def kept_classes(table: pa.Table, names: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(N,) class index of each row, -1 where it is not kept, and (N,) scores.

    Args:
        table: with the columns label, score and kept.
        names: the C classes.
    """
    index = pc.index_in(table["label"].combine_chunks(), value_set=pa.array(names, pa.string())).fill_null(-1)
    classes = index.to_numpy(zero_copy_only=False).astype(np.int64)
    return np.where(table["kept"].to_numpy(), classes, -1), table["score"].to_numpy()
