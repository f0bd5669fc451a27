"""The XML of "CVAT for images 1.1": masks with their mask ids, written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError
from gem_label.review.storage.documents import Box


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo of an annotation file: number from 1, file name, size in pixels (0 where it is not known)."""

    id: int
    name: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask of an annotation file.

    Attributes:
        label: its class.
        mask_id: as the run has it; None where a person drew it.
        box: x, y, width, height in pixels.
        crop: (box height, box width) booleans.
        score: in [0, 1], or None.
    """

    label: str
    mask_id: str | None
    box: Box
    crop: NDArray[np.bool_]
    score: float | None = None


def run_lengths(crop: NDArray[np.bool_]) -> list[int]:
    """Alternating lengths of zeros and ones, row by row, zeros first: CVAT's `rle`.

    Example:
        >>> run_lengths(np.array([[True, True, False], [False, True, True]]))
        [0, 2, 2, 2]
    """
    flat = np.r_[False, crop.ravel()]
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.r_[0, edges, crop.size]).tolist()


def from_run_lengths(lengths: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The inverse of `run_lengths`, (height, width) booleans.

    Raises:
        UsageError: the lengths do not fill the box.
    """
    if sum(lengths) != height * width or min(lengths, default=0) < 0:
        raise UsageError(f"a mask of {width} x {height} pixels has run lengths for {sum(lengths)}")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)


def write(
    file: IO[str], photos: Iterable[tuple[Photo, list[Mask]]], labels: Sequence[str], name: str
) -> Iterator[tuple[Photo, list[Mask]]]:
    """Write the file; yields each photo when it is written.

    Args:
        file: a text file.
        photos: photos with their masks.
        labels: all labels; the file's header declares them with the attribute `mask_id`, as CVAT's task needs it.
        name: of the task.
    """
    meta = Element("meta")
    task = SubElement(meta, "task")
    SubElement(task, "name").text = name
    declared = SubElement(task, "labels")
    for label in labels:
        entry = SubElement(declared, "label")
        SubElement(entry, "name").text = label
        attribute = SubElement(SubElement(entry, "attributes"), "attribute")
        parts = {
            "name": "mask_id",
            "mutable": "False",
            "input_type": "text",
            "default_value": "",
            "values": "",
        }
        for tag, text in parts.items():
            SubElement(attribute, tag).text = text
    file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
    file.write(tostring(meta, encoding="unicode") + "\n")
    for photo, masks in photos:
        size = {"width": str(photo.width), "height": str(photo.height)}
        image = Element("image", {"id": str(photo.id - 1), "name": photo.name, **size})
        for mask in masks:
            if not mask.crop.any():
                continue
            about = {"label": mask.label, "source": "auto", "occluded": "0", "z_order": "0"}
            place = dict(zip(("left", "top", "width", "height"), map(str, mask.box), strict=True))
            lengths = ", ".join(map(str, run_lengths(mask.crop)))
            shape = SubElement(image, "mask", about | place | {"rle": lengths})
            SubElement(shape, "attribute", {"name": "mask_id"}).text = mask.mask_id or ""
        file.write(tostring(image, encoding="unicode") + "\n")
        yield photo, masks
    file.write("</annotations>\n")
