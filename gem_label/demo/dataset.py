"""Scenes on disk: photos, COCO instances, captions, and points in the layout of Open Images V7."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gem_label.atomic import replacing
from gem_label.demo.captions import caption
from gem_label.demo.scenes import Scene
from gem_label.demo.truth import scene_points, true_masks

POINT_COLUMNS = (
    "ImageId", "X", "Y", "Label", "EstimatedYesNo", "Source", "YesVotes", "NoVotes", "UnsureVotes", "TextLabel",
)  # fmt: skip


def write_dataset(scenes: Sequence[Scene], words: Sequence[str], folder: Path) -> None:
    """Write scenes as a small dataset.

    Args:
        scenes: rendered scenes; scene i becomes data/scene_00i.jpg.
        words: the vocabulary; word i gets the label /m/demo00i and category id i + 1.
        folder: gets data/*.jpg, instances.json (COCO, RLE masks), captions.json (image id -> caption),
            words.csv (each photo's words, as `--words-per-image` takes them),
            labels/points.csv, metadata/classes.csv, metadata/point_classes.csv and metadata/image_ids.csv.
    """
    for part in ("data", "labels", "metadata"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    labels = {word: f"/m/demo{i + 1:03}" for i, word in enumerate(words)}
    images: list[dict[str, Any]] = []
    tags: list[tuple[str, str]] = []
    annotations: list[dict[str, Any]] = []
    captions: dict[str, str] = {}
    points: list[tuple[Any, ...]] = []
    for number, scene in enumerate(scenes, start=1):
        name = f"scene_{number:03}"
        Image.fromarray(scene.image).save(folder / "data" / f"{name}.jpg", quality=92)
        height, width = scene.owners.shape
        images.append({"id": number, "file_name": f"{name}.jpg", "height": height, "width": width})
        tags.append((name, ";".join(scene.nouns)))
        rng = np.random.default_rng(number)
        captions[name] = caption(rng, [str(n) for n in rng.permutation(scene.nouns)][:4])
        masks = true_masks(scene)
        for thing, rle, box, area in zip(scene.things, masks.rles, masks.boxes, masks.areas, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": words.index(thing.noun) + 1,
                    "segmentation": rle | {"counts": rle["counts"].decode()},
                    "bbox": [float(v) for v in box],
                    "area": int(area),
                    "iscrowd": 0,
                }
            )
        asked = scene_points(scene, rng)
        for x, y, c, positive in zip(asked.x, asked.y, asked.class_index, asked.positive, strict=True):
            noun = scene.nouns[c]
            votes = ("yes", 3, 0) if positive else ("no", 0, 3)
            where = (f"{x:.6f}", f"{y:.6f}")
            points.append((name, *where, labels[noun], votes[0], "rendered", votes[1], votes[2], 0, noun))
    categories = [{"id": i + 1, "name": word} for i, word in enumerate(words)]
    instances = {"images": images, "annotations": annotations, "categories": categories}
    for name, content in {"instances.json": instances, "captions.json": captions}.items():
        with replacing(folder / name, "w") as file:
            file.write(json.dumps(content, indent=None if content is instances else 1) + "\n")
    tables: dict[str, list[tuple[Any, ...]]] = {
        "labels/points.csv": [POINT_COLUMNS, *points],
        "metadata/classes.csv": [(label, word) for word, label in labels.items()],
        "metadata/point_classes.csv": [("LabelName", "DisplayName"), *((v, k) for k, v in labels.items())],
        "words.csv": [("image", "words"), *tags],
        "metadata/image_ids.csv": [("ImageID",), *((Path(i["file_name"]).stem,) for i in images)],
    }
    for path, rows in tables.items():
        with replacing(folder / path, "w", newline="") as file:
            csv.writer(file).writerows(rows)
