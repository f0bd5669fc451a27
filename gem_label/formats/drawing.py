"""Masks of annotated photos as what files hold: run lengths, polygons, boxes and areas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from gem_label.errors import GemLabelError, UsageError
from gem_label.formats.annotations import AnnotatedMask, AnnotatedPhoto, Size, WriteReport
from gem_label.rle import crop_mask

Segmentation = Literal["rle", "polygon"]
PhotoFiles = Literal["link", "copy", "list"]

MAX_TOLERANCE = 1000
"""Pixels that outlines may depart from masks."""


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """How masks and photos get into a file; formats read those that concern them.

    Attributes:
        segmentation: "rle", run lengths, exact; "polygon", outlines.
        tolerance: pixels that an outline may depart from the mask's border; None: exact outlines along pixel borders,
            or in formats that hold one polygon a mask, what that format's module says.
        photos: of formats that are folders with photos: "link" them there, "copy" them, or only "list" their paths.
        image_prefix: what stands before the photos' paths in formats that hold addresses of photos.

    Raises:
        UsageError: a setting is none of these.
    """

    segmentation: Segmentation = "rle"
    tolerance: float | None = None
    photos: PhotoFiles = "link"
    image_prefix: str | None = None

    def __post_init__(self) -> None:
        if self.segmentation not in ("rle", "polygon"):
            raise UsageError(f"segmentation is 'rle' or 'polygon', not {self.segmentation!r}")
        if self.photos not in ("link", "copy", "list"):
            raise UsageError(f"photos is 'link', 'copy' or 'list', not {self.photos!r}")
        if self.tolerance is not None and not 0 <= self.tolerance <= MAX_TOLERANCE:
            raise UsageError(
                f"the tolerance is a number of pixels from 0 to {MAX_TOLERANCE}, not {self.tolerance}"
            )


@dataclass(frozen=True, slots=True)
class DrawnMask:
    """A mask over its photo.

    Attributes:
        mask: what it is of.
        rle: {"size": [height, width], "counts": bytes}, compressed COCO run lengths.
        box: x, y, width, height in pixels, the smallest one.
        area: in pixels, at least 1.
    """

    mask: AnnotatedMask
    rle: dict[str, Any]
    box: tuple[int, int, int, int]
    area: int

    @property
    def crop(self) -> NDArray[np.bool_]:
        """The mask inside its box, (box height, box width)."""
        return crop_mask(self.rle["counts"], self.rle["size"][0], self.box)

    @property
    def text_rle(self) -> dict[str, Any]:
        """The run lengths as JSON holds them."""
        return {"size": self.rle["size"], "counts": self.rle["counts"].decode("ascii")}


def draw_masks(photo: AnnotatedPhoto, report: WriteReport) -> Iterator[DrawnMask]:
    """Yield the masks of a photo that can be written; those without a label or a pixel are counted as left out.

    Raises:
        GemLabelError: a mask cannot be drawn; the message names it and its photo.
    """
    for mask in photo.masks:
        if not mask.label:
            report.left_out["without a label"] += 1
            continue
        name = mask.name or mask.mask_id or repr(mask.label)
        height, width = known_size(photo, name)
        shape = mask.draw(height, width)
        if shape.rle is None:
            raise GemLabelError(
                f"cannot write mask {name} of {photo.name}: it has {'; '.join(shape.problems)}"
            )
        area = int(coco_mask.area(shape.rle))
        if not area:
            report.left_out["without a pixel"] += 1
            continue
        x, y, w, h = (int(side) for side in coco_mask.toBbox(shape.rle))
        yield DrawnMask(mask, shape.rle, (x, y, w, h), area)


def known_size(photo: AnnotatedPhoto, mask: str) -> Size:
    """Height and width of a photo in pixels.

    Raises:
        GemLabelError: they are not known, so that the mask cannot be written.
    """
    if photo.size is None:
        raise GemLabelError(
            f"cannot write mask {mask}: the size of {photo.name} is not known and the photo cannot be read"
        )
    return photo.size


def polygons_of(drawn: DrawnMask, tolerance: float | None, report: WriteReport) -> list[list[float]]:
    """A mask as polygons [x, y, x, y, ...] in pixels of the photo.

    Args:
        drawn: the mask.
        tolerance: None: polygons that cover exactly the mask; a number: `outline` with that tolerance.
        report: counts the outline and what it keeps.
    """
    # OpenCV only where polygons are asked for
    from gem_label.formats.outlines.polygons import mask_polygons, outline

    corner = np.array(drawn.box[:2])
    if tolerance is None:
        parts = mask_polygons(drawn.crop)
        return [(part + corner).ravel().tolist() for part in parts]
    found = outline(drawn.crop, tolerance)
    report.add_outline(found.iou)
    return [np.round(part + corner, 2).ravel().tolist() for part in found.polygons]
