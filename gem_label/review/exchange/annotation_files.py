"""Annotation files that other tools wrote: COCO instances, CVAT for images 1.1, and both as a .zip."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gem_label.errors import UsageError
from gem_label.geometry import is_number, is_whole, read_segmentation, rectangle
from gem_label.review.exchange import cvat_reading
from gem_label.review.exchange.file_photos import FileMask, FilePhoto, brief, is_text


def read_annotation_file(path: Path) -> list[FilePhoto]:
    """The photos of a file with their masks.

    A photo that is listed twice comes twice. Shapes are not looked at yet.

    Raises:
        UsageError: the file cannot be read, is of another kind, or its lists do not fit together.
    """
    try:
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"cannot read {brief(str(path))}: {error}") from error
    is_xml = path.suffix.lower() == ".xml"
    if not is_xml and data.startswith(b"PK"):
        data, is_xml = _unpack(path, data)
    photos = cvat_reading.read(path, data) if is_xml else _read_coco(path, data)
    if not photos:
        raise UsageError(f"{path} lists no photos")
    return photos


def _unpack(path: Path, data: bytes) -> tuple[bytes, bool]:
    """The annotation file in a .zip, and whether it is XML."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if Path(name).suffix.lower() in (".xml", ".json")]
            found = [name for name in names if Path(name).name == "annotations.xml"] or names
            if len(found) != 1:
                raise UsageError(
                    f"{path} holds {len(found)} annotation files (.xml, .json): unpack it and give one"
                )
            return archive.read(found[0]), found[0].lower().endswith(".xml")
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise UsageError(f"cannot unpack {path}: {error}") from error


def _read_coco(path: Path, data: bytes) -> list[FilePhoto]:
    wrong = f"{path} is neither COCO instances (.json) nor CVAT's .xml"
    try:
        coco = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{wrong} ({error})") from error
    if not isinstance(coco, dict):
        raise UsageError(f"{wrong} (it holds a {type(coco).__name__}, not an object)")
    for key in ("images", "annotations", "categories"):
        if not isinstance(coco.get(key), list) or not all(isinstance(row, dict) for row in coco[key]):
            raise UsageError(f"{wrong} (it has no list of objects {key!r})")
    photos: dict[str, FilePhoto] = {}
    for row in coco["images"]:
        id, name = _id(row.get("id")), row.get("file_name")
        if id is None or not is_text(name):
            raise UsageError(f"{path}: image {brief(row.get('id'))} lacks an id or a file_name")
        if photos.setdefault(id, FilePhoto(name, _size(row))).name != name:
            raise UsageError(f"{path}: two images have the id {brief(row['id'])}")
    categories: dict[str | None, str] = {}
    for row in coco["categories"]:
        if _id(row.get("id")) is None or not is_text(row.get("name")):
            raise UsageError(f"{path}: category {brief(row.get('id'))} lacks an id or a name")
        categories[_id(row["id"])] = row["name"]
    for place, row in enumerate(coco["annotations"], 1):
        name = f"annotation {brief(row.get('id', f'number {place}'))}"
        photo = photos.get(_id(row.get("image_id")) or "")
        if photo is None:
            raise UsageError(f"{path}: {name} is of image {brief(row.get('image_id'))}, which is not listed")
        label = categories.get(_id(row.get("category_id")))
        if label is None:
            raise UsageError(
                f"{path}: {name} is of category {brief(row.get('category_id'))}, which is not listed"
            )
        photo.masks.append(_mask(name, label, row))
    return list(photos.values())


def _mask(name: str, label: str, row: Mapping[str, Any]) -> FileMask:
    attributes = row.get("attributes")
    ids = row.get("mask_id"), attributes.get("mask_id") if isinstance(attributes, dict) else None
    mask_id = next((id for id in ids if is_text(id)), None)
    shape, box = row.get("segmentation"), row.get("bbox")
    if shape or not box:
        return FileMask(
            name, label, mask_id, partial(read_segmentation, shape), sized=isinstance(shape, dict)
        )
    upright = isinstance(box, list) and len(box) == 4 and all(map(is_number, box))
    return FileMask(name, label, mask_id, partial(rectangle, box), box=tuple(box) if upright else None)


def _id(value: Any) -> str | None:
    """An id as text, for 7 and "7" mean the same image; None where it is none."""
    if isinstance(value, str) or is_whole(value):
        return str(value)
    return f"{value:.0f}" if is_number(value) and value == int(value) else None


def _size(row: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = (int(row[side]) if is_number(row.get(side)) else 0 for side in ("height", "width"))
    return (height, width) if height > 0 and width > 0 else None
