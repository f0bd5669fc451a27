"""Runs with known masks, made without any model: what the exports and the dataset push are tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gem_label.labeling import LabelSettings, MaskLabels, Vocabulary
from gem_label.masks import MaskSet, encode_mask
from gem_label.photos.photo import Photo
from gem_label.runs import Run, RunWriter, open_run

CLASSES = ("cat", "dog", "cup")
DIMENSION = 8


def mask_set(masks: Sequence[NDArray[np.bool_]], size: tuple[int, int] = (48, 64), seed: int = 0) -> MaskSet:
    """A `MaskSet` of (height, width) boolean masks with random embeddings (N, 8)."""
    rng = np.random.default_rng(seed)
    height, width = masks[0].shape if masks else size
    n = len(masks)
    return MaskSet(
        height=height,
        width=width,
        counts=tuple(encode_mask(mask) for mask in masks),
        predicted_iou=rng.random(n, np.float32),
        stability=rng.random(n, np.float32),
        points=np.zeros((n, 2), np.float32),
        embeddings=rng.standard_normal((n, DIMENSION)).astype(np.float32),
    )


def mask_labels(
    names: Sequence[str | None],
    scores: Sequence[float],
    kept: Sequence[bool] | None = None,
    classes: tuple[str, ...] = CLASSES,
) -> MaskLabels:
    """Labels of N masks: the given name is the best class (None: background), at the given score."""
    best = np.array([0 if name is None else classes.index(name) for name in names], np.int32)
    background = np.array([name is None for name in names], bool)
    return MaskLabels(
        classes=classes,
        top_classes=best.reshape(-1, 1),
        top_scores=np.array(scores, np.float32).reshape(-1, 1),
        background=background,
        margin=np.array(scores, np.float32) / 2,
        kept=~background if kept is None else np.array(kept, bool) & ~background,
        selected=~background,
    )


def rectangles(count: int, height: int = 48, width: int = 64, seed: int = 0) -> list[NDArray[np.bool_]]:
    """Boolean masks (height, width), each with one rectangle."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(count):
        mask = np.zeros((height, width), bool)
        y, x = rng.integers(0, height - 8), rng.integers(0, width - 8)
        mask[y : y + rng.integers(2, 8), x : x + rng.integers(2, 8)] = True
        masks.append(mask)
    return masks


def rectangle_masks(*boxes: tuple[int, int, int, int], size: int = 60) -> MaskSet:
    """A `MaskSet` without embeddings of rectangles x, y, width, height in a square photo."""
    counts = []
    for x, y, w, h in boxes:
        mask = np.zeros((size, size), bool)
        mask[y : y + h, x : x + w] = True
        counts.append(encode_mask(mask))
    ones = np.ones(len(counts), np.float32)
    return MaskSet(size, size, tuple(counts), ones, ones, np.zeros((len(counts), 2), np.float32))


def make_run(
    path: Path,
    photos: Mapping[str, tuple[MaskSet, MaskLabels]],
    photo_folder: Path | None = None,
    classes: tuple[str, ...] = CLASSES,
) -> Run:
    """Write a finished run.

    Args:
        path: the run directory.
        photos: file name in `photo_folder` (such as "a/b.jpg"; need not exist) to its masks and labels.
        photo_folder: where the photos are said to be; None: beside the run.
        classes: the vocabulary.
    """
    folder = photo_folder or path.parent / "photos"
    writer = RunWriter.create_or_resume(
        path,
        settings={"made_by": "run_factory"},
        vocabulary=Vocabulary.from_words(classes),
        embedding_dim=DIMENSION,
        logit_scale=100.0,
        label_settings=LabelSettings(),
    )
    with writer:
        listing = [Photo(str(folder / name), Path(name).with_suffix("").as_posix()) for name in photos]
        for photo in writer.register(listing):
            masks, labels = photos[Path(photo.path).relative_to(folder).as_posix()]
            writer.write(photo, masks, labels, image_embedding=np.zeros(DIMENSION, np.float16))
    return open_run(path)
