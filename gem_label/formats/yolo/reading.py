"""YOLO folders, read: polygons and boxes of label files, with mask ids where gem-label wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gem_label.errors import UsageError
from gem_label.formats.annotations import (
    AnnotatedMask,
    AnnotatedPhoto,
    Annotations,
    Size,
    brief,
    is_text,
    unusable,
)
from gem_label.formats.yolo.files import Located, YoloFolder
from gem_label.formats.yolo.side_file import (
    Noted,
    Polygon,
    exact_mask,
    known_fields,
    match_lines,
    read_side_file,
)
from gem_label.geometry import Shape, polygons, rectangle
from gem_label.photos.reading import open_image, upright_size
from gem_label.text_files import read_text

OVERSHOOT = 0.1
"""So far outside of the photo coordinates may be, as a part of its side."""

_NAMES = ("data.yaml", "data.yml")


def is_yolo_folder(path: Path) -> bool:
    """Whether a folder has a data.yaml."""
    return any((path / name).is_file() for name in _NAMES)


def read_yolo(path: Path, photos: Sequence[str] | None = None) -> Annotations:
    """The photos of a YOLO folder with their masks.

    Photos and label files are found as ultralytics finds them, also where data.yaml has paths of another machine. A
    label file without a photo gives a photo whose name has no suffix. Lines are a class and a polygon or a box, with
    or without a confidence behind it. A box has its `box` in pixels where the size of the photo is known.

    Args:
        path: a data.yaml, or a folder with one.
        photos: paths of photos of the folder that were not unpacked; nothing outside of the folder is looked at then.

    Raises:
        UsageError: data.yaml cannot be read or names no classes, or there are no photos where it says.
    """
    file = (
        path
        if not path.is_dir()
        else next((path / n for n in _NAMES if (path / n).is_file()), path / _NAMES[0])
    )
    data = _load(file)
    names = _class_names(file, data)
    side = read_side_file(file.parent)
    folder = YoloFolder.open(file.parent, data, photos, {key: noted.photo for key, noted in side.items()})
    lines = _Lines(names, "kpt_shape" in data)
    found = [_photo(each, folder.root, lines, side) for each in folder.locate(data)]
    ids: dict[str, int] = {}
    for number in sorted(names):
        ids.setdefault(names[number], number)
    return Annotations(found, tuple(ids), tuple(ids.values()), len(found))


def _load(file: Path) -> Mapping[str, Any]:
    """The content of a data.yaml; every value is text, so that a class "no" or "1e3" keeps its name."""
    try:
        data = yaml.load(read_text(file), yaml.BaseLoader)  # noqa: S506 - makes text, lists and dicts alone
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # not the error's text, which holds lines of the file
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f", line {mark.line + 1}"
        raise UsageError(f"{file} is no data.yaml of YOLO: no YAML{place}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{file} is no data.yaml of YOLO: it has no keys")
    return data


def _class_names(file: Path, data: Mapping[str, Any]) -> dict[int, str]:
    """Class names by their numbers."""
    names = data.get("names")
    if isinstance(names, list):
        names = {str(i): name for i, name in enumerate(names)}
    if not isinstance(names, dict) or not names:
        raise UsageError(f"{file} names no classes: 'names' is a list, or numbers with names")
    classes: dict[int, str] = {}
    for place, (key, name) in enumerate(names.items(), 1):
        if not (isinstance(key, str) and key.isdecimal() and len(key) < 10 and is_text(name)):
            raise UsageError(f"{file}: class number {place} in the list has no number or no name")
        classes[int(key)] = name
    return classes


@dataclass(frozen=True, slots=True)
class _Lines:
    """Reads lines of label files.

    Attributes:
        names: of the classes by number.
        poses: key points follow the box.
    """

    names: Mapping[int, str]
    poses: bool

    def read(self, line: str, name: str, size: Size | None) -> tuple[AnnotatedMask, Polygon | None]:
        """A line as a mask, with its polygon; one that cannot be read comes as one that cannot be drawn."""
        fields = line.split()
        try:
            numbers = np.array(fields[:5] if self.poses else fields, float)
        except ValueError:
            return AnnotatedMask("", unusable("a line with text that is no number"), name), None
        label = self.names.get(int(numbers[0]), "") if np.isfinite(numbers[0]) and numbers[0] % 1 == 0 else ""
        if not label:
            return AnnotatedMask(
                "", unusable(f"class {brief(fields[0])}, which data.yaml does not have"), name
            ), None
        values, score, problem = numbers[1:], None, ""
        if not np.isfinite(values).all():
            problem = "numbers that are not finite"
        elif len(values) in (5, *range(7, len(values) + 1, 2)):  # a prediction
            values, score = values[:-1], float(values[-1])
            if not 0 <= score <= 1:
                problem = "an odd number of coordinates"
        if len(values) < 4:
            problem = f"a line of {len(values)} coordinates"
        elif not problem and (values.min() < -OVERSHOOT or values.max() > 1 + OVERSHOOT):
            problem = "coordinates that are no parts of the photo's sides"
        if problem:
            return AnnotatedMask(label, unusable(problem), name), None
        if len(values) > 4:
            points = values.reshape(-1, 2)
            return AnnotatedMask(label, YoloPolygon(points), name, score=score), points
        x, y, w, h = values.tolist()
        corners = np.array(
            [[x - w / 2, y - h / 2], [x + w / 2, y - h / 2], [x + w / 2, y + h / 2], [x - w / 2, y + h / 2]]
        )
        mask = AnnotatedMask(label, partial(_draw_box, (x, y, w, h)), name, score=score, box_only=True)
        return mask if size is None else replace(mask, box=_pixel_box((x, y, w, h), *size)), corners


@dataclass(frozen=True, slots=True)
class YoloPolygon:
    """A polygon of a label file; called, it is drawn.

    Attributes:
        points: (N, 2) x, y as parts of the photo's width and height.
    """

    points: Polygon

    def __call__(self, height: int, width: int) -> Shape:
        """The shape over a photo of this many pixels."""
        return polygons([(self.points * (width, height)).ravel().tolist()], height, width)


def _draw_box(box: tuple[float, float, float, float], height: int, width: int) -> Shape:
    return rectangle(list(_pixel_box(box, height, width)), height, width)


def _pixel_box(
    box: tuple[float, float, float, float], height: int, width: int
) -> tuple[float, float, float, float]:
    """x, y, width, height in pixels of a box that is given by its middle and sides as parts of the photo's."""
    x, y, w, h = box
    return (x - w / 2) * width, (y - h / 2) * height, w * width, h * height


def _photo(located: Located, root: str, lines: _Lines, side: Mapping[str, Noted]) -> AnnotatedPhoto:
    labels = None if located.labels is None else _below(located.labels, root)
    noted = side.get(labels) if labels else None
    size = (_size(located.image) if located.image else None) or (noted.size if noted else None)
    name = noted.photo if noted else located.name
    if located.labels is None or labels is None:
        return AnnotatedPhoto(name, size, path=located.image)
    try:
        text = read_text(located.labels)
    except UsageError as error:
        problem = f"a label file that cannot be read ({error})"
        return AnnotatedPhoto(name, size, [AnnotatedMask("", unusable(problem), labels)], path=located.image)
    read = [
        lines.read(line, f"{labels}, line {number}", size)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]
    masks = [mask for mask, _ in read] if noted is None else _with_noted(read, noted)
    return AnnotatedPhoto(name, size, masks, path=located.image)


def _with_noted(read: Sequence[tuple[AnnotatedMask, Polygon | None]], noted: Noted) -> list[AnnotatedMask]:
    """Masks with what the side file knows of them."""
    masks = []
    entries = match_lines(noted.entries(), [(mask.label, polygon) for mask, polygon in read])
    for (mask, polygon), entry in zip(read, entries, strict=True):
        fields = known_fields(entry)
        if polygon is not None and noted.size is not None and not mask.box_only:
            fields["draw"] = exact_mask(entry, noted.size, polygon, mask.draw)
        masks.append(replace(mask, **fields))
    return masks


def _below(path: str, root: str) -> str:
    """A label file as messages and the side file name it."""
    return Path(path).relative_to(root).as_posix() if Path(path).is_relative_to(root) else path


def _size(path: str) -> Size | None:
    """Height and width of a photo as it is shown; None where it cannot be read."""
    try:
        with open_image(path) as image:
            width, height = upright_size(image)
            return height, width
    except (
        Exception
    ):  # decoders of broken files raise almost anything; the labels are sound without the photo
        return None
