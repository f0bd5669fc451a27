"""The XML of "CVAT for images 1.1", read: masks, polygons, boxes and ellipses."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, iterparse
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError
from gem_label.formats.annotations import (
    AnnotatedMask,
    AnnotatedPhoto,
    Annotations,
    Draw,
    Size,
    brief,
    is_text,
    unusable,
)
from gem_label.geometry import MAX_PIXELS, Shape, ellipse, is_number, polygons, rectangle
from gem_label.rle import encode_crop
from gem_label.tables import reason

_NO_AREA = ("polyline", "points", "cuboid", "skeleton")
"""Shapes of CVAT that are no masks."""

_PHOTO_TAG = "tag"
"""The element for a label of a whole photo."""

_BLOCK = 1 << 16


def read_cvat(path: Path, data: bytes) -> Annotations:
    """The photos of a file with their masks; classes are those that masks have, in the order of the alphabet.

    Args:
        path: of the file, for messages.
        data: its content.

    Raises:
        UsageError: it is no such file.
    """
    photos, tags = [], 0
    try:
        data = _as_utf8(data)
        _refuse_document_type(path, data)
        # no document type, so no entities
        for _, element in iterparse(io.BytesIO(data), events=("end",)):  # noqa: S314
            if element.tag == "track":
                raise UsageError(f"{path} holds tracks of a video: export it as CVAT for images 1.1")
            if element.tag != "image":
                continue
            name = element.get("name")
            if name is None or not is_text(name):
                raise UsageError(f"{path}: image {brief(element.get('id'))} has no name")
            masks = [
                _mask(shape, f"{brief(name)}, shape {i} ({shape.tag})")
                for i, shape in enumerate(element, 1)
                if shape.tag != _PHOTO_TAG
            ]
            tags += len(element) - len(masks)
            photos.append(AnnotatedPhoto(name, _size(element), masks, element.get("id")))
            element.clear()
    except (ParseError, expat.ExpatError, LookupError, ValueError) as error:
        raise UsageError(f"cannot read {path} as CVAT for images 1.1: {reason(error)}") from error
    classes = sorted({mask.label for photo in photos for mask in photo.masks if is_text(mask.label)})
    left_out = (f"{tags} tags, which are of whole photos",) if tags else ()
    return Annotations(photos, tuple(classes), count=len(photos), left_out=left_out)


def _as_utf8(data: bytes) -> bytes:
    """A file of UTF-16 may still declare another encoding: it was converted by an editor."""
    if data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        return data
    return re.sub(r"^<\?xml[^>]*\?>", "", data.decode("utf-16")).encode("utf-8")


class _RootReached(Exception):
    """The prolog is over."""


def _refuse_document_type(path: Path, data: bytes) -> None:
    """Entities can make gigabytes of a small file; only a document type declares any, and CVAT writes none.

    Raises:
        UsageError: there is one.
        ExpatError: what is before the first element is no XML.
    """

    def refuse(*about: Any) -> None:
        raise UsageError(f"{path} declares a document type, as no file of CVAT does: it is not read")

    def stop(*about: Any) -> None:
        raise _RootReached

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler, parser.StartElementHandler = refuse, stop
    try:
        for start in range(0, len(data), _BLOCK):
            parser.Parse(data[start : start + _BLOCK])
    except _RootReached:
        pass


def _size(image: Element) -> Size | None:
    try:
        height, width = int(image.attrib["height"]), int(image.attrib["width"])
    except (KeyError, ValueError):
        return None
    return (height, width) if height > 0 and width > 0 else None


def _mask(shape: Element, name: str) -> AnnotatedMask:
    """A shape; one that cannot be read comes as one that cannot be drawn."""
    label, mask_id = shape.get("label") or "", None
    for attribute in shape.iter("attribute"):
        if attribute.get("name") == "mask_id":
            mask_id = (attribute.text or "").strip() or None
    box = None
    try:
        draw: Draw = partial(_draw, shape.tag, dict(shape.attrib))
        if not is_text(label):
            draw = unusable("no label")
        elif shape.tag == "box" and not _number(shape.attrib, "rotation", 0.0) % 360:
            box = _box(shape.attrib)
    except (KeyError, ValueError):
        pass  # drawing says so
    return AnnotatedMask(label, draw, name, mask_id, box_only=shape.tag == "box", box=box)


def _draw(tag: str, about: Mapping[str, str], height: int, width: int) -> Shape:
    try:
        turned = _number(about, "rotation", 0.0)
        if tag == "mask":
            return _drawn_mask(about, height, width)
        if tag == "polygon":
            points = [float(v) for point in about["points"].split(";") for v in point.split(",")]
            return polygons([points], height, width)
        if tag == "box":
            return rectangle(list(_box(about)), height, width, turned)
        if tag == "ellipse":
            cx, cy, rx, ry = (_number(about, key) for key in ("cx", "cy", "rx", "ry"))
            return ellipse((cx, cy), (rx, ry), height, width, turned)
    except KeyError as error:
        return Shape(None, (f"no {error.args[0]}",))
    except (ValueError, UsageError) as error:
        return Shape(None, (brief(str(error))[1:-1],))
    return Shape(None, ("no mask: it has no area" if tag in _NO_AREA else "a shape of an unknown kind",))


def _drawn_mask(about: Mapping[str, str], height: int, width: int) -> Shape:
    """A mask, cut at the photo's edge."""
    left, top, w, h = (int(_number(about, side)) for side in ("left", "top", "width", "height"))
    if height * width > MAX_PIXELS:
        return Shape(None, (f"a photo of {height} x {width} pixels",))
    if not (0 < w <= 3 * width and 0 < h <= 3 * height):
        return Shape(None, (f"a mask of {h} x {w} pixels, the image has {height} x {width} pixels",))
    crop = from_run_lengths([int(length) for length in about["rle"].split(",")], h, w)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, width), min(top + h, height)
    if x0 >= x1 or y0 >= y1:
        return Shape(None, ("no pixels inside of the photo",))
    crop = crop[y0 - top : y1 - top, x0 - left : x1 - left]
    return Shape(encode_crop(crop, (x0, y0, x1 - x0, y1 - y0), height, width))


def from_run_lengths(lengths: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The inverse of `cvat.run_lengths`, (height, width) booleans.

    Raises:
        UsageError: the lengths do not fill the box.
    """
    if sum(lengths) != height * width or min(lengths, default=0) < 0:
        raise UsageError(f"a mask of {width} x {height} pixels has run lengths for {sum(lengths)}")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)


def _box(about: Mapping[str, str]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (_number(about, corner) for corner in ("xtl", "ytl", "xbr", "ybr"))
    return x0, y0, x1 - x0, y1 - y0


def _number(about: Mapping[str, str], key: str, default: float | None = None) -> float:
    """An attribute as a finite number.

    Raises:
        KeyError: it is not there.
        ValueError: it is no such number.
    """
    if default is not None and key not in about:
        return default
    value = float(about[key])
    if not is_number(value):
        raise ValueError(f"{key} {about[key]}")
    return value
