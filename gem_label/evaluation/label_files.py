"""COCO files of annotations and of predictions: instances files, results lists, polygons, run lengths, crowds."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gem_label.errors import UsageError
from gem_label.geometry import is_whole, read_segmentations
from gem_label.text_files import read_text


@dataclass(frozen=True)
class FileImage:
    """An image of a COCO file: id, path as the file gives it, size in pixels."""

    id: Hashable
    file_name: str
    height: int
    width: int


@dataclass(frozen=True)
class CocoFile:
    """A COCO instances file.

    Attributes:
        path: the file.
        images: its images by id.
        categories: category names by id.
        annotations: annotations by image id, as they stand in the file; images without any are missing here.
        folder: `info.photo_folder` of files that gem-label wrote, "" elsewhere.
    """

    path: Path
    images: dict[Hashable, FileImage]
    categories: dict[Hashable, str]
    annotations: dict[Hashable, list[dict[str, Any]]]
    folder: str = ""


def read_json(path: Path) -> Any:
    """A JSON file, in the encodings and archives of `read_text`.

    Raises:
        UsageError: the file cannot be read or is no JSON.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON file: {error}") from error


def read_coco(path: Path) -> CocoFile:
    """A COCO instances file: an object with images, annotations and categories.

    Raises:
        UsageError: it cannot be read or has another form.
    """
    return parse_coco(path, read_json(path))


def parse_coco(path: Path, data: Any) -> CocoFile:
    """`read_coco` of JSON that is read already."""
    if not isinstance(data, dict):
        raise UsageError(f"{path} is no COCO instances file: it holds a {type(data).__name__}, not an object")
    for key in ("images", "annotations", "categories"):
        if not isinstance(data.get(key), list) or not all(isinstance(row, dict) for row in data[key]):
            raise UsageError(f"{path} is no COCO instances file: it has no list of objects {key!r}")
    images: dict[Hashable, FileImage] = {}
    for row in data["images"]:
        size = [row.get("height"), row.get("width")]
        if not isinstance(row.get("file_name"), str) or not all(is_whole(n) and n > 0 for n in size):
            raise UsageError(f"{path}: image {row.get('id')!r} lacks file_name, height or width")
        if _key(path, row, "id", "image") in images:
            raise UsageError(f"{path}: two images have the id {row['id']!r}")
        images[row["id"]] = FileImage(row["id"], row["file_name"], int(size[0]), int(size[1]))
    categories: dict[Hashable, str] = {}
    for row in data["categories"]:
        if not isinstance(row.get("name"), str):
            raise UsageError(f"{path}: category {row.get('id')!r} has no name")
        categories[_key(path, row, "id", "category")] = row["name"]
    info = data.get("info")
    folder = info.get("photo_folder", "") if isinstance(info, dict) else ""
    annotations = group_annotations(path, data["annotations"], images, categories)
    return CocoFile(path, images, categories, annotations, folder if isinstance(folder, str) else "")


def group_annotations(
    path: Path,
    rows: Sequence[dict[str, Any]],
    images: dict[Hashable, FileImage],
    categories: dict[Hashable, str],
) -> dict[Hashable, list[dict[str, Any]]]:
    """Annotations, or the results of a results list, by image id.

    Raises:
        UsageError: one names an image or a category that does not exist.
    """
    by_image: dict[Hashable, list[dict[str, Any]]] = {}
    for place, row in enumerate(rows, start=1):
        name = f"{path}: annotation {row.get('id', f'number {place}')!r}"
        if _key(path, row, "image_id", "annotation") not in images:
            raise UsageError(f"{name} is of image {row['image_id']!r}, which is not listed")
        if _key(path, row, "category_id", "annotation") not in categories:
            raise UsageError(f"{name} is of category {row['category_id']!r}, which is not listed")
        by_image.setdefault(row["image_id"], []).append(row)
    return by_image


def score_of(path: Path, row: dict[str, Any]) -> float:
    """The score of a predicted annotation, in [0, 1].

    Raises:
        UsageError: it has none, or another number.
    """
    score = row.get("score")
    if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
        what = "no score" if score is None else f"the score {score!r}"
        raise UsageError(
            f"{path}: an annotation of image {row['image_id']!r} has {what}: labels need one between 0 and 1"
        )
    return float(score)


def masks_of(path: Path, rows: Sequence[dict[str, Any]], image: FileImage) -> list[dict[str, Any]]:
    """The masks of one image's annotations as compressed run lengths, {"size": [height, width], "counts": bytes}.

    Raises:
        UsageError: a segmentation that is missing, malformed or of another size than the image.
    """
    masks = []
    shapes = read_segmentations([row.get("segmentation") for row in rows], image.height, image.width)
    for row, shape in zip(rows, shapes, strict=True):
        if shape.rle is None or shape.problems:
            boxes = "" if row.get("segmentation") else ": boxes alone cannot be compared with masks"
            raise UsageError(f"{path}: an annotation of {image.file_name} has {shape.problems[0]}{boxes}")
        masks.append(shape.rle)
    return masks


def _key(path: Path, row: dict[str, Any], key: str, what: str) -> Hashable:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        article = "an" if what[0] in "aio" else "a"
        raise UsageError(f"{path}: {article} {what} without {key}")
    return value
