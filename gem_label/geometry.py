"""Shapes that files give, as masks: the one way from a file to pycocotools, which itself checks nothing.

pycocotools reads a polygon of two points as a box, ends the process over coordinates of 1e8, and takes run lengths
that do not cover the photo. Here every shape is checked first; what is wrong with one is text, not an exception.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from gem_label.rle import crop_mask, run_lengths

MAX_OUTLINE = 5_000_000
"""Pixels along the polygons of a shape together; pycocotools holds about 100 bytes for each."""

MAX_PIXELS = 2**31
"""Of a photo; pycocotools counts in 32 bits."""

_AT_ONCE = 8
_DIGITS = 7  # of five bits, in a run length: more than a photo can have
_SHORT = "a polygon that is no list of at least three points"


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape of a file over a photo.

    Attributes:
        rle: {"size": [height, width], "counts": bytes}, compressed COCO run lengths without runs of no length; None
            where nothing of it can be used.
        problems: what was left out of it, each "a polygon ...", "run lengths ..."; empty where it is whole.
    """

    rle: dict[str, Any] | None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Segmentation:
    """`segmentation` of a COCO annotation as it stands in a file; called, it is drawn (see `read_segmentation`)."""

    value: Any

    def __call__(self, height: int, width: int) -> Shape:
        """The shape over a photo of this many pixels."""
        return read_segmentation(self.value, height, width)


def draw_shapes(draws: Sequence[Callable[[int, int], Shape]], height: int, width: int) -> list[Shape]:
    """The shapes of N masks of one photo; all `Segmentation`s are read together (see `read_segmentations`).

    Args:
        draws: what makes each shape, of the height and the width.
        height: of the photo in pixels.
        width: of the photo in pixels.

    Returns:
        N shapes.
    """
    values = [draw.value for draw in draws if isinstance(draw, Segmentation)]
    read = iter(read_segmentations(values, height, width))
    return [next(read) if isinstance(draw, Segmentation) else draw(height, width) for draw in draws]


def read_segmentations(segmentations: Sequence[Any], height: int, width: int) -> list[Shape]:
    """`read_segmentation` of N annotations of one photo; sound compressed run lengths are checked all at once."""
    size = [height, width]
    texts = [
        each["counts"].encode("ascii")
        if isinstance(each, dict)
        and each.get("size") == size
        and isinstance(each.get("counts"), str)
        and each["counts"].isascii()
        else b""
        for each in segmentations
    ]
    sound = height * width <= MAX_PIXELS and covers([text for text in texts if text], height * width)
    return [
        Shape({"size": size, "counts": text}) if sound and text else read_segmentation(each, height, width)
        for each, text in zip(segmentations, texts, strict=True)
    ]


def read_segmentation(segmentation: Any, height: int, width: int) -> Shape:
    """`segmentation` of a COCO annotation: polygons, a single polygon, or run lengths.

    A polygon is a list of numbers [x, y, x, y, ...] or of points [[x, y], ...].

    Args:
        segmentation: as it stands in the file.
        height: of the photo in pixels.
        width: of the photo in pixels.
    """
    if height * width > MAX_PIXELS:
        return Shape(None, (f"a photo of {_pixels(height, width)} pixels",))
    if isinstance(segmentation, list) and segmentation:
        single = _is_points(segmentation) or not any(isinstance(part, (list, dict)) for part in segmentation)
        parts = [segmentation] if single else segmentation
        return polygons([list(chain(*part)) if _is_points(part) else part for part in parts], height, width)
    if not isinstance(segmentation, dict) or "counts" not in segmentation:
        return Shape(None, ("no mask",))
    size, counts = whole_numbers(segmentation.get("size")), segmentation["counts"]
    if size is None or len(size) != 2:
        return Shape(None, ("a mask without a size",))
    if size != [height, width]:
        return Shape(
            None, (f"a mask of {_pixels(*size)} pixels, the image has {_pixels(height, width)} pixels",)
        )
    if isinstance(counts, str) and counts.isascii():
        lengths = _decoded(counts.encode("ascii"))
    elif (whole := whole_numbers(counts)) is not None:
        lengths = np.array(whole if all(0 <= n <= MAX_PIXELS for n in whole) else [], np.int64)
    else:
        return Shape(None, ("run lengths that are neither text nor a list",))
    if not len(lengths) or lengths.min() < 0 or lengths.sum() != height * width:
        return Shape(None, (f"run lengths that do not cover {_pixels(height, width)} pixels",))
    if isinstance(counts, str) and lengths[1:].all():
        return Shape({"size": [height, width], "counts": counts.encode("ascii")})
    rle = {"size": [height, width], "counts": _joined(lengths.tolist())}
    return Shape(dict(coco_mask.frPyObjects(rle, height, width)))


def polygons(parts: Sequence[Any], height: int, width: int) -> Shape:
    """The union of polygons [x, y, x, y, ...] in pixels, which may reach over the photo's edge by its own size.

    Args:
        parts: N polygons, each as it stands in a file; those that cannot be used are left out.
        height: of the photo in pixels.
        width: of the photo in pixels.
    """
    if height * width > MAX_PIXELS:
        return Shape(None, (f"a photo of {_pixels(height, width)} pixels",))
    good, problems, left = [], [], float(MAX_OUTLINE)
    for part in parts:
        problem, outline = _check_polygon(part, height, width)
        if not problem and outline > left:
            problem = f"a polygon whose outline is longer than {MAX_OUTLINE} pixels, with those before it"
        if problem:
            problems.append(problem)
        else:
            left -= outline
            good.append([float(value) for value in part])
    if not good:
        return Shape(None, _counted(problems) or ("no polygon",))
    return Shape(_union(coco_mask.frPyObjects(good, height, width)), _counted(problems))


def rectangle(box: Any, height: int, width: int, degrees: float = 0.0) -> Shape:
    """A box [x, y, width, height] in pixels, turned clockwise around its middle.

    Args:
        box: as it stands in the file.
        height: of the photo in pixels.
        width: of the photo in pixels.
        degrees: how far it is turned.
    """
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, (*box, degrees))):
        return Shape(None, ("a box that is no list of four numbers",))
    x, y, w, h = box
    if not (w > 0 and h > 0):
        return Shape(None, (f"a box of {w:g} x {h:g} pixels",))
    corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
    return polygons([_turned(corners, (x + w / 2, y + h / 2), degrees)], height, width)


def ellipse(
    center: tuple[float, float], radii: tuple[float, float], height: int, width: int, degrees: float = 0.0
) -> Shape:
    """An ellipse, turned clockwise around its middle.

    Args:
        center: x, y in pixels.
        radii: across and down, in pixels.
        height: of the photo in pixels.
        width: of the photo in pixels.
        degrees: how far it is turned.
    """
    if not all(map(is_number, (*center, *radii, degrees))) or min(radii) <= 0:
        return Shape(None, ("an ellipse without a middle or without radii",))
    around = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    outline = np.stack([np.cos(around), np.sin(around)], 1) * radii
    return polygons([_turned(outline, center, degrees)], height, width)


def resize_rle(rle: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """A mask over another resolution of its photo, each pixel the nearest one of the old mask.

    Args:
        rle: {"size": [height, width], "counts": bytes}, compressed COCO run lengths.
        height: of the new resolution in pixels.
        width: of the new resolution in pixels.
    """
    mask = coco_mask.decode(rle)
    rows = (2 * np.arange(height) + 1) * mask.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * mask.shape[1] // (2 * width)
    return dict(coco_mask.encode(np.asfortranarray(mask[np.ix_(rows, columns)])))


def are_near(rle: dict[str, Any], other: dict[str, Any], tolerance: float) -> bool:
    """Whether the borders of two masks of one photo stay within this many pixels of each other.

    Each mask must lie in the other one grown by the tolerance and half a pixel, and so must what is around them.
    Holes and parts that are thinner than that count for nothing.

    Args:
        rle: {"size": [height, width], "counts": bytes}, compressed COCO run lengths.
        other: the same of the other mask.
        tolerance: in pixels.
    """
    boxes = np.array([coco_mask.toBbox(each) for each in (rle, other)])
    reach = math.ceil(tolerance + 0.5) + 1
    x, y = (int(side) for side in boxes[:, :2].min(0))
    right, bottom = (int(side) for side in (boxes[:, :2] + boxes[:, 2:]).max(0))
    box = (x, y, right - x, bottom - y)
    masks = [np.pad(crop_mask(each["counts"], each["size"][0], box), reach) for each in (rle, other)]
    return all(
        (_distance_to(a) <= tolerance + 0.5)[b].all() and (_distance_to(~a) <= tolerance + 0.5)[~b].all()
        for a, b in (masks, masks[::-1])
    )


def _distance_to(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How far each pixel is from the nearest pixel of a mask, 0 inside of it."""
    import cv2  # only where masks are compared with a tolerance

    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)  # type: ignore[return-value]


def is_whole(value: Any) -> bool:
    """Whether a value of a JSON file is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e15 and math.isfinite(value)


def whole_or_none(value: Any) -> int | None:
    """A value of a JSON file as a whole number, None where it is none; some programs write 7 as 7.0."""
    if is_whole(value):
        return int(value)
    return int(value) if is_number(value) and value == int(value) else None


def whole_numbers(values: Any) -> list[int] | None:
    """A list of a JSON file as whole numbers, None where it is no list or one of them is none."""
    if not isinstance(values, list):
        return None
    numbers = [number for value in values if (number := whole_or_none(value)) is not None]
    return numbers if len(numbers) == len(values) else None


def number_or_none(value: Any) -> float | None:
    """A value of a JSON file as a finite number, None where it is none."""
    return float(value) if is_number(value) else None


def _is_points(part: Any) -> bool:
    """Whether a polygon is a list of points [x, y]."""
    return (
        isinstance(part, list)
        and len(part) > 0
        and all(isinstance(point, list) and len(point) == 2 and all(map(is_number, point)) for point in part)
    )


def _check_polygon(part: Any, height: int, width: int) -> tuple[str, float]:
    """What is wrong with a polygon, "" where nothing is; and the pixels along it."""
    if not isinstance(part, list) or len(part) < 6 or len(part) % 2 or not all(map(is_number, part)):
        return _SHORT, 0.0
    points = np.array(part, float).reshape(-1, 2)
    size = np.array([width, height])
    if (points < -size - 1).any() or (points > 2 * size + 1).any():
        return f"a polygon far outside of {_pixels(height, width)} pixels", 0.0
    outline = float(np.abs(points - np.roll(points, 1, 0)).max(1).sum())
    return (f"a polygon whose outline is longer than {MAX_OUTLINE} pixels" * (outline > MAX_OUTLINE)), outline


def _counted(problems: Sequence[str]) -> tuple[str, ...]:
    """Each problem once, with how often there is one: a shape may have a hundred thousand parts."""
    counts = Counter(problems)
    return tuple(text if n == 1 else f"{text} ({n} times)" for text, n in counts.items())


def _union(rles: list[dict[str, Any]]) -> dict[str, Any]:
    """The union of masks; merged a few at a time, as merging one by one takes the square of their number."""
    while len(rles) > 1:
        rles = [coco_mask.merge(rles[i : i + _AT_ONCE]) for i in range(0, len(rles), _AT_ONCE)]
    return dict(rles[0])


def _decoded(counts: bytes) -> NDArray[np.int64]:
    """Compressed run lengths, some of them negative where the text is no such thing; none where it is malformed."""
    return run_lengths([counts])[0] if _well_formed([counts]) else np.zeros(0, np.int64)


def _well_formed(counts: Sequence[bytes]) -> bool:
    """Whether N texts are compressed run lengths, of numbers that a photo can have."""
    if not counts or not all(counts):
        return False
    letters = np.frombuffer(b"".join(counts), np.uint8)
    ends = np.cumsum([len(each) for each in counts]) - 1
    if letters.min() < 48 or letters.max() > 111 or (letters[ends] >= 80).any():
        return False
    return bool(np.diff(np.flatnonzero(letters < 80), prepend=-1).max() <= _DIGITS)


def covers(counts: Sequence[bytes], pixels: int | NDArray[np.int64]) -> bool:
    """Whether N texts are compressed run lengths that pycocotools can take.

    Args:
        counts: N texts.
        pixels: how many pixels each must cover, one number for all or (N,).

    Returns:
        True when all of them cover their pixels, without runs of no length behind the first.
    """
    if not _well_formed(counts):
        return False
    lengths, terms = run_lengths(counts)
    firsts = np.cumsum(terms) - terms
    # a first run of no length is sound, any other is not
    shortest = lengths.copy()
    shortest[firsts] += 1
    return bool(shortest.min() > 0 and (np.add.reduceat(lengths, firsts) == pixels).all())


def _joined(lengths: list[int]) -> list[int]:
    """The same run lengths without runs of no length behind the first, over which pycocotools stumbles."""
    joined: list[int] = []
    for place, length in enumerate(lengths):
        if length and place % 2 == len(joined) % 2:
            joined.append(length)
        elif length and joined:
            joined[-1] += length
        elif length:
            joined += [0, length]
    return joined


def _turned(points: NDArray[np.float64], center: tuple[float, float], degrees: float) -> list[float]:
    """(N, 2) points around the origin, turned clockwise (y goes down) and moved, as [x, y, x, y, ...]."""
    angle = math.radians(degrees % 360)
    cosine, sine = round(math.cos(angle), 12), round(math.sin(angle), 12)
    x, y = points.T
    turned = np.stack([center[0] + cosine * x - sine * y, center[1] + sine * x + cosine * y], 1)
    return turned.ravel().tolist()


def _pixels(height: int, width: int) -> str:
    return f"{height} x {width}"
