"""A dataset to review one mask at a time: crops of real photos, round masks, three scored classes a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from run_factory import make_run, mask_set

from gem_label.labeling import MaskLabels

FIELD = "gem_label"
CLASSES = (
    "cat",
    "cup",
    "eye",
    "flag",
    "helmet",
    "nose",
    "rocket",
    "saucer",
    "spoon",
    "suit",
    "table",
    "wood",
)
HEIGHT, WIDTH = 240, 320


def discs(count: int, seed: int) -> list[NDArray[np.bool_]]:
    """Boolean masks (240, 320), each with one ellipse of 20 to 90 pixels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    masks = []
    for _ in range(count):
        y, x = rng.integers(50, HEIGHT - 50), rng.integers(50, WIDTH - 50)
        tall, wide = rng.integers(10, 45, 2)
        masks.append(((rows - y) / tall) ** 2 + ((columns - x) / wide) ** 2 <= 1)
    return masks


def _top_classes(rng: np.random.Generator, best: int | None) -> NDArray[np.int64]:
    """Four classes in random order, or this one and three others."""
    order = rng.permutation(len(CLASSES))
    return order[:4] if best is None else np.concatenate([[best], order[order != best]])[:4]


def panel_dataset(
    folder: Path,
    photos: dict[str, NDArray[np.uint8]],
    count: int,
    masks: int,
    name: str,
    labels: int | None = None,
) -> Any:
    """Push a run over crops of real photos into a dataset of this name.

    Args:
        folder: gets the run and the photos.
        photos: (H, W, 3) pictures of at least 240 x 320 pixels to crop.
        count: how many photos the dataset has.
        masks: how many masks each of them has.
        name: of the dataset.
        labels: the best class of the masks is one of so many, in turn; None: any class.
    """
    from gem_label.review.pushing.push_run import push_run

    (folder / "photos").mkdir(parents=True)
    made = {}
    for number in range(count):
        rng = np.random.default_rng(number)
        source = photos[sorted(photos)[number % len(photos)]]
        top, left = (
            int(rng.integers(0, source.shape[i] - side + 1)) for i, side in enumerate((HEIGHT, WIDTH))
        )
        file = f"{number:04d}.jpg"
        crop = source[top : top + HEIGHT, left : left + WIDTH]
        Image.fromarray(crop).save(folder / "photos" / file, quality=90)
        best = [i % labels if labels else None for i in range(masks)]
        top_classes = np.stack([_top_classes(rng, each) for each in best]).astype(np.int32)
        top_scores = -np.sort(-rng.uniform(0.1, 0.95, (masks, 4)), axis=1).astype(np.float32)
        mask_labels = MaskLabels(
            classes=CLASSES,
            top_classes=top_classes,
            top_scores=top_scores,
            background=np.zeros(masks, bool),
            margin=top_scores[:, 0] - top_scores[:, 1],
            kept=np.ones(masks, bool),
            selected=np.ones(masks, bool),
        )
        made[file] = (mask_set(discs(masks, number), seed=number), mask_labels)
    run = make_run(folder / "run", made, classes=CLASSES)
    push_run(run, name)
    import fiftyone as fo

    return fo.load_dataset(name)
