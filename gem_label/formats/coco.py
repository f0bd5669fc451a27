"""COCO instances, with run lengths or polygons, and with LVIS's fields; results lists.

Files are ground truth for pycocotools as they stand; annotations have scores and serve as results.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gem_label.atomic import replacing
from gem_label.errors import UsageError
from gem_label.formats.annotations import (
    STATES,
    AnnotatedMask,
    AnnotatedPhoto,
    Annotations,
    Draw,
    Size,
    WriteReport,
    brief,
    is_text,
)
from gem_label.formats.drawing import MAX_TOLERANCE, DrawnMask, WriteSettings, draw_masks, polygons_of
from gem_label.formats.numbering import with_numbers
from gem_label.geometry import Segmentation, is_number, number_or_none, rectangle, whole_or_none


def write_coco(
    annotations: Annotations, out: Path, settings: WriteSettings | None = None
) -> Generator[int, None, WriteReport]:
    """Write COCO instances.

    Categories have the ids 1..C in the order of the classes. Photos and masks keep their ids, as `with_numbers` says.
    Beside COCO's keys an annotation has `mask_id`, in `attributes` too (tools keep those), and `score`,
    `margin`, `state`, `decided_by` and `decided_at` where they are known. Memory does not grow with the file.

    Args:
        annotations: what to write.
        out: the JSON file; appears when it is whole.
        settings: run lengths or polygons; None: run lengths.

    Yields:
        How many masks are written, after each photo; the generator returns the report.

    Raises:
        GemLabelError: a mask cannot be drawn.
        OSError: the file cannot be written.
    """
    return (yield from _write(annotations, out, settings or WriteSettings(), lvis=False))


def write_lvis(
    annotations: Annotations, out: Path, settings: WriteSettings | None = None
) -> Generator[int, None, WriteReport]:
    """Write COCO instances with LVIS's fields; for the rest see `write_coco`.

    An image has `neg_category_ids` (classes that it does not show) and `not_exhaustive_category_ids` (classes of
    which it may show more); a category has `image_count`, `instance_count`, `frequency` (rare: up to 10 images,
    common: up to 100), `synonyms`, `synset` and `def`.
    """
    return (yield from _write(annotations, out, settings or WriteSettings(), lvis=True))


def _write(
    annotations: Annotations, out: Path, settings: WriteSettings, lvis: bool
) -> Generator[int, None, WriteReport]:
    report = WriteReport(classes=len(annotations.classes))
    category = {name: i for i, name in enumerate(annotations.classes, 1)}
    instances: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    info: dict[str, Any] = {"description": "Masks with labels", **annotations.info}
    info["photo_folder"] = annotations.folder
    if settings.segmentation == "polygon" and settings.tolerance:
        info["outline_tolerance"] = settings.tolerance
    # annotations wait in a second file: one pass over the photos gives a file that fits together
    with replacing(out) as file, tempfile.TemporaryFile(dir=out.parent) as waiting:
        file.write(b'{"info": ' + to_json(info) + b',\n"licenses": [],\n"images": [')
        for photo in with_numbers(annotations.photos):
            report.photos += 1
            image: dict[str, Any] = {"id": photo.id, "file_name": photo.name}
            if photo.size is not None:
                image |= {"width": photo.size[1], "height": photo.size[0]}
            if lvis:
                image["neg_category_ids"] = [category[name] for name in photo.absent]
                image["not_exhaustive_category_ids"] = [category[name] for name in photo.not_exhaustive]
            file.write((b",\n" if report.photos > 1 else b"\n") + to_json(image))
            labels = Counter[str]()
            for drawn in draw_masks(photo, report):
                report.masks += 1
                labels[drawn.mask.label] += 1
                label = category[drawn.mask.label]
                row: dict[str, Any] = {"id": drawn.mask.id, "image_id": photo.id, "category_id": label}
                row |= _annotation(drawn, settings, report)
                waiting.write((b",\n" if report.masks > 1 else b"\n") + to_json(row))
            instances += labels
            shown.update(list(labels))
            yield report.masks
        file.write(b'],\n"categories": ')
        categories = [{"id": i, "name": name, "supercategory": ""} for name, i in category.items()]
        if lvis:
            categories = [each | _lvis_category(each["name"], instances, shown) for each in categories]  # type: ignore[arg-type]
        file.write(to_json(categories) + b',\n"annotations": [')
        waiting.seek(0)
        shutil.copyfileobj(waiting, file, 1 << 20)
        file.write(b"]}\n")
    return report


def _annotation(drawn: DrawnMask, settings: WriteSettings, report: WriteReport) -> dict[str, Any]:
    mask = drawn.mask
    polygon = settings.segmentation == "polygon"
    row: dict[str, Any] = {
        "segmentation": polygons_of(drawn, settings.tolerance, report) if polygon else drawn.text_rle,
        "bbox": [float(side) for side in drawn.box],
        "area": drawn.area,
        "iscrowd": int(mask.crowd),
        "mask_id": mask.mask_id,
        "attributes": {"mask_id": mask.mask_id or ""},
    }
    for key in ("score", "margin"):
        value = getattr(mask, key)
        if value is not None:
            row[key] = round(float(value), 6)
    for key in ("state", "decided_by", "decided_at"):
        if getattr(mask, key) is not None:
            row[key] = getattr(mask, key)
    return row


def _lvis_category(name: str, instances: Mapping[str, int], images: Mapping[str, int]) -> dict[str, Any]:
    count = images[name]
    return {
        "image_count": count,
        "instance_count": instances[name],
        "frequency": "r" if count <= 10 else "c" if count <= 100 else "f",
        "synonyms": [name],
        "synset": "",
        "def": "",
    }


def to_json(value: Any) -> bytes:
    """A value as JSON; file names that are not UTF-8 come as lone surrogates, which only escapes can carry."""
    return json.dumps(value).encode("ascii")


def read_coco(path: Path, data: Any) -> Annotations:
    """COCO instances: an object with images, annotations and categories.

    Entries of one photo that is listed twice add up; ids that match as text match; shapes are not looked at yet. A
    photo without a file_name, as in LVIS's own files, has that of its address (`coco_url`).

    Args:
        path: of the file, for messages.
        data: its content, as JSON gives it.

    Raises:
        UsageError: it has another form, or its lists do not fit together.
    """
    if not isinstance(data, dict):
        raise UsageError(f"{path} holds no COCO instances: a {type(data).__name__}, not an object")
    for key in ("images", "annotations", "categories"):
        if not isinstance(data.get(key), list) or not all(isinstance(row, dict) for row in data[key]):
            raise UsageError(f"{path} holds no COCO instances: it has no list of objects {key!r}")
    photos: dict[str, AnnotatedPhoto] = {}
    masks: dict[str, list[AnnotatedMask]] = {}
    for row in data["images"]:
        of_photo, name = _key(row.get("id")), row.get("file_name", row.get("coco_url"))
        if of_photo is None or not is_text(name):
            raise UsageError(f"{path}: image {brief(row.get('id'))} lacks an id or a file_name")
        photo = AnnotatedPhoto(name, _size(row), masks.setdefault(of_photo, []), _id(row["id"]))
        if photos.setdefault(of_photo, photo).name != name:
            raise UsageError(f"{path}: two images have the id {brief(row['id'])}")
    categories = _categories(path, data["categories"])
    for place, row in enumerate(data["annotations"], 1):
        name, key, label = _belonging(path, place, row, masks, categories)
        masks[key].append(_mask(name, label, row, photos[key].size))
    info = data["info"] if isinstance(data.get("info"), dict) else {}
    folder = info.get("photo_folder")
    names = tuple(dict.fromkeys(name for _, name in categories.values()))
    ids = {name: id for id, name in reversed(categories.values())}
    return Annotations(
        list(photos.values()),
        names,
        tuple(ids[name] for name in names),
        len(photos),
        folder if isinstance(folder, str) else "",
        {key: info[key] for key in ("description", "version", "date_created") if is_text(info.get(key))},
        _tolerance(info.get("outline_tolerance")),
    )


def read_coco_results(path: Path, rows: Sequence[Any], truth: Annotations) -> Annotations:
    """A COCO results list: masks of the images and categories of another file.

    Args:
        path: of the list, for messages.
        rows: its content, as JSON gives it.
        truth: the other file as `read_coco` gives it; the list speaks for all of its photos.

    Raises:
        UsageError: an entry is no object, or of an image or a category that the other file does not list.
    """
    if not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path} is no COCO results list: its entries are objects there")
    sizes = {str(_key(photo.id)): photo.size for photo in truth.photos}
    masks: dict[str, list[AnnotatedMask]] = {key: [] for key in sizes}
    categories = {
        str(_key(id)): (id, name) for id, name in zip(truth.category_ids, truth.classes, strict=True)
    }
    for place, row in enumerate(rows, 1):
        name, key, label = _belonging(path, place, row, masks, categories)
        masks[key].append(_mask(name, label, row, sizes[key]))
    photos = [
        AnnotatedPhoto(each.name, each.size, masks[str(_key(each.id))], each.id) for each in truth.photos
    ]
    return Annotations(photos, truth.classes, truth.category_ids, len(photos), truth.folder)


def _tolerance(value: Any) -> float:
    """What `write_coco` notes of outlines with a tolerance."""
    return float(value) if is_number(value) and 0 <= value <= MAX_TOLERANCE else 0.0


def _categories(path: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int | str, str]]:
    """Id as it stands and name of each category, by the id as text."""
    categories: dict[str, tuple[int | str, str]] = {}
    for row in rows:
        key = _key(row.get("id"))
        if key is None or not is_text(row.get("name")):
            raise UsageError(f"{path}: category {brief(row.get('id'))} lacks an id or a name")
        if categories.setdefault(key, (_id(row["id"]), row["name"]))[1] != row["name"]:
            raise UsageError(f"{path}: two categories have the id {brief(row['id'])}")
    return categories


def _belonging(
    path: Path,
    place: int,
    row: Mapping[str, Any],
    photos: Mapping[str, Any],
    categories: Mapping[str, tuple[int | str, str]],
) -> tuple[str, str, str]:
    """What messages call an annotation, the key of its photo, and its label.

    Raises:
        UsageError: it belongs to no photo or category of the file.
    """
    name = f"annotation {brief(row.get('id', f'number {place}'))}"
    key, category = _key(row.get("image_id")), _key(row.get("category_id"))
    if key not in photos:
        raise UsageError(f"{path}: {name} is of image {brief(row.get('image_id'))}, which is not listed")
    if category not in categories:
        raise UsageError(
            f"{path}: {name} is of category {brief(row.get('category_id'))}, which is not listed"
        )
    return name, str(key), categories[str(category)][1]


def _mask(name: str, label: str, row: Mapping[str, Any], listed: Size | None) -> AnnotatedMask:
    mask_id = row.get("mask_id")
    if not is_text(mask_id):
        attributes = row.get("attributes")
        mask_id = attributes.get("mask_id") if isinstance(attributes, dict) else None
        mask_id = mask_id if is_text(mask_id) else None
    shape, corners = row.get("segmentation"), row.get("bbox")
    draw: Draw = Segmentation(shape)
    box, state = None, row.get("state")
    if corners and not shape:
        draw = partial(rectangle, corners)
        if isinstance(corners, list) and len(corners) == 4 and all(map(is_number, corners)):
            x, y, width, height = map(float, corners)
            box = x, y, width, height
    return AnnotatedMask(
        label,
        draw,
        name,
        mask_id,
        _id(own) if _key(own := row.get("id")) is not None else None,
        score=number_or_none(row.get("score")),
        margin=number_or_none(row.get("margin")),
        state=state if state in STATES else None,
        crowd=row.get("iscrowd") == 1,
        box_only=bool(corners and not shape),
        box=box,
        size=_rle_size(shape, listed),
        area=number_or_none(row.get("area")),
    )


def _key(value: Any) -> str | None:
    """An id as text, for 7 and "7" mean the same image; None where it is none."""
    if type(value) is int:  # as nearly always
        return str(value)
    if isinstance(value, str):
        return value
    number = whole_or_none(value)
    return None if number is None else str(number)


def _id(value: Any) -> int | str:
    """An id that has a key, a whole number wherever it is one."""
    number = whole_or_none(value)
    return str(value) if number is None else number


def _rle_size(shape: Any, listed: Size | None) -> Size | None:
    """The size of the photo that run lengths are of; the one that the file lists for the photo where they agree."""
    size = shape.get("size") if isinstance(shape, dict) else None
    if not isinstance(size, list) or len(size) != 2:
        return None
    height, width = size
    if listed == (height, width):
        return listed
    height, width = whole_or_none(height) or 0, whole_or_none(width) or 0
    return (height, width) if height > 0 and width > 0 else None


def _size(row: Mapping[str, Any]) -> Size | None:
    height, width = (int(row[side]) if is_number(row.get(side)) else 0 for side in ("height", "width"))
    return (height, width) if height > 0 and width > 0 else None
