"""What readers are given, and the masks that they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

Rle = dict[str, Any]
"""{"size": [height, width], "counts": text}"""

Found = tuple[str, str, str | None, Rle]
"""Photo, label, id and mask."""


@dataclass(frozen=True)
class Source:
    """What to read.

    Attributes:
        format: "coco", "lvis", "cvat", "label-studio", "yolo", "csv" or "parquet".
        file: the file, or the folder.
        photos: the folder with the photos.
        scratch: an empty folder.
        remarks: what a reader has to say beside the masks.
    """

    format: str
    file: Path
    photos: Path
    scratch: Path
    remarks: list[str] = field(default_factory=list)

    def photo(self, name: str) -> Path:
        """The file of a photo."""
        return self.photos / name


def encode(mask: Any) -> Rle:
    """A (height, width) mask of any type as run lengths."""
    rle = coco_mask.encode(np.asfortranarray(np.asarray(mask) > 0, np.uint8))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def draw(polygons: Sequence[Sequence[float]], height: int, width: int) -> Rle:
    """Polygons [x, y, x, y, ...] in pixels as run lengths, as pycocotools draws them."""
    rle = coco_mask.merge(coco_mask.frPyObjects([list(each) for each in polygons], height, width))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}
