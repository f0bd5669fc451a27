"""Annotated photos of every kind that formats are tried on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from gem_label.formats.annotations import AnnotatedMask, AnnotatedPhoto, Annotations
from gem_label.geometry import Segmentation

NASTY = (
    'cat, "big"',
    "=1+1",
    "'=x",
    "@sum",
    "-5",
    "no",
    "1e3",
    "a;b\tc",
    "two\nlines\r\nmore",
    "Füße 猫 🐈",
    "  spaces  ",
    "null",
)
"""Class names that formats and spreadsheets stumble over."""


def encode(mask: NDArray[np.bool_]) -> Segmentation:
    """A (height, width) mask as a file has it."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return Segmentation({"size": list(mask.shape), "counts": rle["counts"].decode()})


def blobs(rng: np.random.Generator, height: int, width: int, parts: int = 1) -> NDArray[np.bool_]:
    """A mask of ellipses, the first with a hole."""
    mask = np.zeros((height, width), np.uint8)
    for part in range(parts):
        center = int(rng.integers(8, width - 8)), int(rng.integers(8, height - 8))
        axes = int(rng.integers(5, width // 4)), int(rng.integers(5, height // 4))
        cv2.ellipse(mask, center, axes, float(rng.integers(180)), 0, 360, 1, -1)
        if not part:
            cv2.ellipse(mask, center, (axes[0] // 2, axes[1] // 2), 0, 0, 360, 0, -1)
    return mask.astype(bool)


def photos(
    folder: Path | None, names: Sequence[str], classes: Sequence[str] = NASTY, masks: int = 4, seed: int = 0
) -> Annotations:
    """Photos with masks that have all that a mask can have; every third photo has no masks.

    Args:
        folder: where the photos are written; None: nowhere.
        names: of the photos.
        classes: labels come from these in turn.
        masks: of a photo.
        seed: of their shapes.
    """
    rng = np.random.default_rng(seed)
    found, number = [], 0
    for i, name in enumerate(names):
        height, width = 60 + 7 * i, 90 + 5 * i
        path = None
        if folder is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (width, height), (i, 0, 0)).save(path, "PNG")
        of_photo = []
        for j in range(0 if i % 3 == 2 else masks):
            mask = blobs(rng, height, width, 1 + j % 3)
            of_photo.append(
                AnnotatedMask(
                    classes[number % len(classes)],
                    encode(mask),
                    mask_id=f"{name}#{j}",
                    id=1000 * (i + 1) + j,
                    score=float(rng.random()) if j else None,
                    margin=float(rng.random()) if j else None,
                    state=("undecided", "accepted", "renamed", None)[j % 4],  # type: ignore[arg-type]
                )
            )
            number += 1
        found.append(AnnotatedPhoto(name, (height, width), of_photo, path=str(path) if path else None))
    return Annotations(found, tuple(classes), count=len(found), folder=str(folder or ""))


def by_name(annotations: Annotations) -> Mapping[str, AnnotatedPhoto]:
    """The photos by their names."""
    return {photo.name: photo for photo in annotations.photos}


def iou(a: AnnotatedMask, b: AnnotatedMask, size: tuple[int, int]) -> float:
    """Intersection over union of two drawn masks."""
    first, second = a.draw(*size), b.draw(*size)
    assert None not in (first.rle, second.rle), (first.problems, second.problems)
    return float(coco_mask.iou([first.rle], [second.rle], [False])[0, 0])
