"""The regions of a Label Studio annotation or prediction as masks.

Coordinates are percent of the photo as it is stored: `image_rotation` turns the view alone. A box is turned around
its top left corner, an ellipse around its middle. Results with the same id are one region: with `<Brush>` and
`<Labels>`, the shape stands in one and the label in the other.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from urllib.parse import quote, unquote

import numpy as np

from gem_label.errors import UsageError
from gem_label.formats.annotations import AnnotatedMask, Draw, Size, State, brief, is_text, unusable
from gem_label.formats.label_studio.brush import decode_brush
from gem_label.geometry import Shape, ellipse, is_number, number_or_none, polygons, rectangle
from gem_label.rle import encode_crop

MAX_BRUSH = 2**28
"""Pixels of a photo with brush masks: browsers draw no larger ones."""

Kind = Literal["brush", "polygon", "rectangle", "ellipse"]

_KEYS: dict[Kind, tuple[str, ...]] = {
    "brush": ("rle",),
    "polygon": ("points",),
    "ellipse": ("x", "y", "radiusX", "radiusY"),
    "rectangle": ("x", "y", "width", "height"),
}
"""What the values of shapes have; the first kind of which a value has all keys is its kind."""

_NO_REGIONS = (
    "choices", "datetime", "number", "pairwise", "ranker", "rating", "relation", "taxonomy", "textarea",
)  # fmt: skip
"""Types of results that say something about a photo or a region and have no shape of their own."""

_OUR_ID = re.compile(r"gem-([^#+]+)(?:\+\d+)?")


@dataclass(frozen=True, slots=True)
class Region:
    """A region of a task.

    Attributes:
        mask: what it is.
        size: height and width of its photo in pixels, None where they are not said.
        page: which of the photos of its task it is on, from 0.
    """

    mask: AnnotatedMask
    size: Size | None
    page: int


def region_id(mask_id: str) -> str:
    """The id of a mask's region in Label Studio, which cuts ids at "#".

    Example:
        >>> region_id("street/1#7")
        'gem-street%2F1%237'
    """
    return f"gem-{quote(mask_id, safe='', errors='surrogatepass')}"


def mask_id_of(region: Any) -> str | None:
    """The mask id that a region's id stands for; None where the region has an id of another kind.

    Of several regions with one mask id the second has "+2" behind it, and so on.

    Example:
        >>> mask_id_of("gem-street%2F1%237+2"), mask_id_of("Dx_aB91ISN")
        ('street/1#7', None)
    """
    found = _OUR_ID.fullmatch(region) if isinstance(region, str) else None
    mask_id = unquote(found[1], errors="surrogatepass") if found else None
    return mask_id if is_text(mask_id) else None


def read_regions(entry: Mapping[str, Any], task: str, state: State) -> Iterator[Region]:
    """Yield the regions of an annotation or prediction; shapes are not looked at yet.

    Args:
        entry: the annotation or prediction as it stands in the file.
        task: what messages call its task.
        state: of regions that say nothing themselves.
    """
    result = entry.get("result")
    if not isinstance(result, list):
        problem = unusable(f"no list of regions but {brief(result)}")
        yield Region(AnnotatedMask("", problem, f"annotation of {task}"), None, 0)
        return
    groups: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for place, each in enumerate(result, 1):
        if not isinstance(each, dict):
            problem = unusable(f"no region but {brief(each)}")
            yield Region(AnnotatedMask("", problem, f"{task}, region {place}"), None, 0)
        elif each.get("type") not in _NO_REGIONS:
            groups.setdefault(_key(each), []).append((place, each))
    for group in groups.values():
        yield from _read_group(group, task, state)


def _key(region: Mapping[str, Any]) -> str:
    """What the results of one region share: the id, or the shape where they have none, as in JSON-MIN."""
    if isinstance(region.get("id"), (str, int)):
        return f"id {region['id']}"
    return f"shape {json.dumps([region.get('item_index'), _shape(region)])}"


def _shape(region: Mapping[str, Any]) -> dict[str, Any]:
    """The value of a region without its labels and what JSON-MIN puts beside it."""
    beside = ("original_width", "original_height", "image_rotation")
    value = _value(region)
    return {key: value[key] for key in sorted(value) if not key.endswith("labels") and key not in beside}


def _value(region: Mapping[str, Any]) -> Mapping[str, Any]:
    value = region.get("value")
    return value if isinstance(value, dict) else {}


def _read_group(group: Sequence[tuple[int, Mapping[str, Any]]], task: str, state: State) -> Iterator[Region]:
    """Yield the regions of results with one id: one, unless results with one id have several labeled shapes."""
    shaped = [(place, each) for place, each in group if _kind(each)]
    labeled = [(place, each) for place, each in shaped if _labels(each)]
    if not labeled:
        labels = next((found for _, each in group if (found := _labels(each))), [])
        place, each = (shaped or group)[0]
        yield _read_region(place, each, labels, task, state)
        return
    seen: set[str] = set()
    for place, each in labeled:
        labels = _labels(each)
        mine = json.dumps([_shape(each), labels])
        if mine not in seen:
            seen.add(mine)
            yield _read_region(place, each, labels, task, state)


def _read_region(
    place: int, region: Mapping[str, Any], labels: Sequence[str], task: str, state: State
) -> Region:
    kind, value, size = _kind(region), _value(region), _size(region)
    own = region.get("type")
    stem = own.removesuffix("labels") if isinstance(own, str) else ""
    name = f"{task}, region {place}" + (f" ({kind or stem})" if kind or stem else "")
    box = None
    if not labels:
        draw: Draw = unusable("no label")
    elif kind is None:
        draw = unusable(f"no mask: a {brief(stem)[1:-1]} has no area" if stem else "no shape")
    else:
        draw = partial(_draw, kind, value, size, len(labels))
        box = _upright_box(value, size) if kind == "rectangle" else None
    said = region.get("meta")
    meta: Mapping[str, Any] = said if isinstance(said, dict) else {}
    if state == "accepted" and meta.get("state") == "renamed":
        state = "renamed"
    id = region.get("id") if isinstance(region.get("id"), (str, int)) else None
    page = region.get("item_index")
    mask = AnnotatedMask(
        labels[0] if labels else "",
        draw,
        name,
        mask_id_of(id),
        id,
        score=number_or_none(region.get("score")),
        margin=number_or_none(meta.get("margin")),
        state=state,
        crowd=meta.get("crowd") is True,
        box_only=kind == "rectangle",
        box=box,
        size=size if kind == "brush" else None,
    )
    return Region(mask, size, page if isinstance(page, int) and page > 0 else 0)


def _kind(region: Mapping[str, Any]) -> Kind | None:
    """What shape a region is; None where it is none that has an area."""
    value = _value(region)
    return next((kind for kind, keys in _KEYS.items() if value.keys() >= set(keys)), None)


def _labels(region: Mapping[str, Any]) -> list[str]:
    """The labels of a region; several where people may choose more than one."""
    for key, labels in _value(region).items():
        if key.endswith("labels") and isinstance(labels, list) and labels and all(map(is_text, labels)):
            return labels
    return []


def _size(region: Mapping[str, Any]) -> Size | None:
    """Height and width of the photo in pixels; JSON-MIN has them beside the shape."""
    sides = []
    for key in ("original_height", "original_width"):
        side: Any = region.get(key)
        sides.append(int(side) if is_number(side) else 0)
    return (sides[0], sides[1]) if min(sides) > 0 else None


def _draw(
    kind: Kind, value: Mapping[str, Any], listed: Size | None, labels: int, height: int, width: int
) -> Shape:
    if listed is not None and listed != (height, width):
        what = f"a region of a photo of {listed[0]} x {listed[1]} pixels, the image has"
        return Shape(None, (f"{what} {height} x {width} pixels",))
    try:
        shape = _DRAW[kind](value, height, width)
    except UsageError as error:
        return Shape(None, (str(error),))
    if labels == 1:
        return shape
    return Shape(shape.rle, (*shape.problems, f"{labels} labels, of which the first counts"))


def _draw_brush(value: Mapping[str, Any], height: int, width: int) -> Shape:
    if value.get("format", "rle") != "rle":
        raise UsageError(f"a brush mask in the format {brief(value['format'])}")
    if height * width > MAX_BRUSH:
        raise UsageError(f"a brush mask of {height} x {width} pixels")
    flat = decode_brush(value["rle"], height * width)
    if len(flat) != height * width:
        raise UsageError(f"a brush mask of {len(flat)} pixels, the image has {height} x {width} pixels")
    mask = flat.reshape(height, width)
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x0, y0, x1, y1 = (xs[0], ys[0], xs[-1] + 1, ys[-1] + 1) if len(ys) else (0, 0, 1, 1)
    box = (int(x0), int(y0), int(x1 - x0), int(y1 - y0))
    return Shape(encode_crop(mask[y0:y1, x0:x1], box, height, width))


def _draw_polygon(value: Mapping[str, Any], height: int, width: int) -> Shape:
    points = value["points"]
    if value.get("closed") is False:
        raise UsageError("a polygon that is not closed")
    pairs = isinstance(points, list) and all(isinstance(each, list) and len(each) == 2 for each in points)
    if not pairs or not all(is_number(number) for point in points for number in point):
        raise UsageError("a polygon that is no list of points of two numbers")
    return polygons([[c for x, y in points for c in (x * width / 100, y * height / 100)]], height, width)


def _draw_rectangle(value: Mapping[str, Any], height: int, width: int) -> Shape:
    x, y, w, h = _pixels(value, ("x", "y", "width", "height"), height, width)
    degrees = _turn(value)
    if degrees:
        # Label Studio turns around the corner, and has its place
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        x += (w * cosine - h * sine - w) / 2
        y += (w * sine + h * cosine - h) / 2
    return rectangle([x, y, w, h], height, width, degrees)


def _draw_ellipse(value: Mapping[str, Any], height: int, width: int) -> Shape:
    x, y, across, down = _pixels(value, ("x", "y", "radiusX", "radiusY"), height, width)
    return ellipse((x, y), (across, down), height, width, _turn(value))


_DRAW = {
    "brush": _draw_brush,
    "polygon": _draw_polygon,
    "rectangle": _draw_rectangle,
    "ellipse": _draw_ellipse,
}


def _upright_box(value: Mapping[str, Any], size: Size | None) -> tuple[float, float, float, float] | None:
    """x, y, width, height in pixels of a box that is not turned; None for others and where something is wrong."""
    try:
        if size is None or _turn(value):
            return None
        return _pixels(value, ("x", "y", "width", "height"), *size)
    except UsageError:
        return None  # drawing says so


def _pixels(
    value: Mapping[str, Any], keys: Sequence[str], height: int, width: int
) -> tuple[float, float, float, float]:
    """Percents of the width, height, width and height of a photo as pixels."""
    for key in keys:
        if not is_number(value[key]):
            raise UsageError(f"{key} {brief(value[key])}")
    a, b, c, d = (float(value[key]) for key in keys)
    return a * width / 100, b * height / 100, c * width / 100, d * height / 100


def _turn(value: Mapping[str, Any]) -> float:
    """How far a shape is turned, in degrees."""
    degrees = value.get("rotation") or 0
    if not is_number(degrees):
        raise UsageError(f"rotation {brief(degrees)}")
    return degrees % 360
