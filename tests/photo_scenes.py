"""A run over demo scenes that missed a thing, with the embeddings of the demo CLIP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy.ndimage import binary_erosion

from gem_label.demo import demo_folder, scene_paths
from gem_label.labeler import Labeler, as_vocabulary
from gem_label.labeling import LabelSettings, label_maskset
from gem_label.masks import MaskSet
from gem_label.photos.photo import Photo
from gem_label.photos.reading import read_image
from gem_label.runs import Run, open_run

FIELD = "gem_label"
WORDS = ("bicycle", "dartboard", "rose", "tent", "chair", "monkey", "onion", "peach")


def true_things(scene: int) -> dict[str, dict[str, Any]]:
    """Word -> run lengths of the thing in one of the demo scenes, numbered from 1."""
    truth = json.loads((demo_folder() / "instances.json").read_text())
    names = {category["id"]: category["name"] for category in truth["categories"]}
    return {
        names[each["category_id"]]: each["segmentation"] | {"counts": each["segmentation"]["counts"].encode()}
        for each in truth["annotations"]
        if each["image_id"] == scene
    }


def scene_run(folder: Path, labeler: Labeler, missed: Sequence[str], doubled: Sequence[str] = ()) -> Run:
    """A run over the first two demo scenes that has the true masks of all things but the missed ones.

    Args:
        folder: gets the photos and the run.
        labeler: its CLIP makes the embeddings, and its SAM is not asked.
        missed: words of things that the run does not have.
        doubled: words of things that it has twice, the second time without their edge.
    """
    settings = LabelSettings(min_score=0.0, overlaps=True)
    job = labeler.job(as_vocabulary(WORDS), settings, negatives="none")
    (folder / "photos").mkdir(parents=True)
    paths = [shutil.copy(path, folder / "photos") for path in scene_paths()[:2]]
    with labeler.start_run(folder / "run", job) as writer:
        for photo in writer.register([Photo(str(path), Path(path).stem) for path in paths]):
            things = true_things(int(photo.image_id[-3:]))
            rles = [rle for word, rle in things.items() if word not in missed]
            rles += [without_edge(rle) for word, rle in things.items() if word in doubled]
            pixels, ones = read_image(photo.path), np.ones(len(rles), np.float32)
            masks = MaskSet(
                *pixels.shape[:2],
                counts=tuple(rle["counts"] for rle in rles),
                predicted_iou=ones,
                stability=ones,
                points=np.zeros((len(rles), 2), np.float32),
            )
            embedded = labeler.embed(pixels, masks)
            labels = label_maskset(
                embedded.masks, job.text, job.vocabulary, job.logit_scale, job.settings,
                image_embedding=embedded.image_embedding,
            )  # fmt: skip
            writer.write(photo, embedded.masks, labels, embedded.image_embedding)
    return open_run(folder / "run")


def without_edge(rle: dict[str, Any]) -> dict[str, Any]:
    """A mask without the pixels at its edge."""
    smaller = binary_erosion(coco_mask.decode(rle), iterations=2)
    return coco_mask.encode(np.asfortranarray(smaller, np.uint8))


def middle_of(rle: dict[str, Any]) -> tuple[float, float]:
    """A point x, y inside a mask: the pixel that is nearest to the middle of its pixels."""
    rows, columns = np.nonzero(coco_mask.decode(rle))
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5
