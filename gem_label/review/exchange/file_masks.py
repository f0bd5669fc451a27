"""Masks of an annotation file drawn over the photos of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from gem_label.errors import ImageError
from gem_label.formats.annotations import AnnotatedMask, AnnotatedPhoto, Size
from gem_label.geometry import Shape, resize_rle
from gem_label.photos.reading import read_image

Boxes = Literal["rectangle", "sam", "leave"]
BOXES: tuple[Boxes, ...] = ("rectangle", "sam", "leave")

_LARGEST_PHOTO = 2**28
"""Pixels of a photo whose size nobody but the file knows."""

_SAME_SHAPE = 0.02
"""Photos whose ratios of width to height differ by more than this share are no two resolutions of one photo."""


@dataclass(frozen=True, slots=True)
class FileMask:
    """A drawn mask of an annotation file.

    Attributes:
        label: its class.
        mask_id: as the run has it; None where a person drew it.
        rle: compressed COCO run lengths over the photo.
        box: x, y, width, height in pixels where the file has nothing but a box.
        name: what messages call it.
    """

    label: str
    mask_id: str | None
    rle: dict[str, Any]
    box: tuple[float, float, float, float] | None = None
    name: str = ""


@dataclass(slots=True)
class FileMasks:
    """What a file has of one photo.

    Attributes:
        masks: those that can be used.
        refused: mask ids of those that cannot; None for one without.
        problems: what was left out, a line each.
    """

    masks: list[FileMask] = field(default_factory=list)
    refused: list[str | None] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class BoxDrawer(Protocol):
    """What draws a mask in each of some boxes of a photo."""

    def __call__(self, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> Sequence[dict[str, Any]]:
        """Compressed COCO run lengths for (N, 4) boxes x0, y0, x1, y1 in pixels of an (H, W, 3) RGB image."""
        ...


def draw_file_masks(
    of_file: Sequence[AnnotatedPhoto],
    size: Size | None,
    path: str,
    boxes: Boxes = "rectangle",
    resize: bool = False,
    draw_boxes: BoxDrawer | None = None,
) -> FileMasks:
    """Draw what a file has of one photo; what cannot be drawn is said.

    Args:
        of_file: the photo's entries in the file, which add up.
        size: height and width of the photo in pixels, None where they are not known.
        path: of the photo, opened for "sam" alone.
        boxes: what becomes of boxes without a mask: rectangles, what SAM sees in them, or nothing ("leave").
        resize: take masks of another resolution of the photo, too.
        draw_boxes: for "sam".
    """
    drawn = FileMasks()
    waiting: list[int] = []
    for photo in of_file:
        for mask in photo.masks:
            shape = _draw(mask, photo.size, size, boxes, resize)
            drawn.problems += [f"{mask.name} has {problem}" for problem in shape.problems]
            if shape.rle is None:
                drawn.refused.append(mask.mask_id)
                continue
            if mask.box_only and boxes == "sam":
                waiting.append(len(drawn.masks))
            box = mask.box if photo.size in (None, size) else None
            drawn.masks.append(FileMask(mask.label, mask.mask_id, shape.rle, box, mask.name))
    if waiting and draw_boxes is not None:
        _fill_boxes(drawn, waiting, path, draw_boxes)
    return drawn


def _draw(mask: AnnotatedMask, listed: Size | None, size: Size | None, boxes: Boxes, resize: bool) -> Shape:
    """A mask of a file over a photo of this size, which the file may list with another size."""
    if size is None or size[0] * size[1] > _LARGEST_PHOTO:
        return Shape(None, ("a photo whose size is not known: bring the photo back",))
    if mask.box_only and boxes == "leave":
        return Shape(None, ("a box and no mask",))
    own = mask.size or listed or size
    if own != size and not (resize and _is_same_photo(own, size)):
        what = "a mask" if mask.size else "a photo"
        where = "" if mask.size else " in the file"
        return Shape(
            None,
            (f"{what} of {own[0]} x {own[1]} pixels{where}, the image has {size[0]} x {size[1]} pixels",),
        )
    shape = mask.draw(*own)
    if shape.rle is not None and own != size:
        shape = replace(shape, rle=resize_rle(shape.rle, *size))
    if shape.rle is None or coco_mask.area(shape.rle):
        return shape
    return Shape(None, (*shape.problems, "no pixels inside of the photo"))


def _is_same_photo(size: Size, other: Size) -> bool:
    """Whether two sizes may be resolutions of one photo."""
    ratio = (size[0] * other[1]) / (size[1] * other[0])
    return abs(ratio - 1) <= _SAME_SHAPE and size[0] * size[1] <= _LARGEST_PHOTO


def _fill_boxes(drawn: FileMasks, places: list[int], path: str, draw_boxes: BoxDrawer) -> None:
    """Replace rectangles by what SAM sees in them; where it sees nothing they stay."""
    try:
        image = read_image(path)
    except ImageError as error:
        drawn.problems.append(f"{len(places)} boxes stay rectangles: {path}: {error}")
        return
    corners = np.array([coco_mask.toBbox(drawn.masks[i].rle) for i in places], np.float32)
    corners[:, 2:] += corners[:, :2]
    for i, rle in zip(places, draw_boxes(image, corners), strict=True):
        mask = drawn.masks[i]
        if rle["size"] == mask.rle["size"] and coco_mask.area(rle):
            drawn.masks[i] = replace(mask, rle=rle)
        else:
            drawn.problems.append(f"{mask.name} has a box in which SAM sees nothing: it stays a rectangle")
