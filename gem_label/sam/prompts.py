"""Point prompts: which points SAM is asked about, on the whole photo and on crops of it. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from segment_anything.utils.amg import build_point_grid, generate_crop_boxes


@dataclass(frozen=True)
class Crop:
    """A part of the photo that SAM sees as one image.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the photo; x1 and y1 are exclusive.
        points: (P, 2) float64, the prompts (x, y) in pixels of the crop.
    """

    box: tuple[int, int, int, int]
    points: NDArray[np.float64]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.box[3] - self.box[1]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.box[2] - self.box[0]


def crop_prompts(
    height: int,
    width: int,
    points_per_side: int,
    crop_n_layers: int = 0,
    crop_overlap_ratio: float = 512 / 1500,
    crop_n_points_downscale_factor: int = 1,
) -> list[Crop]:
    """The whole photo and, per crop layer i = 1..n, its 2**i x 2**i overlapping crops, with their points.

    Grids and boxes are those of segment-anything's `SamAutomaticMaskGenerator`: points lie in the middle of
    `points_per_side` x `points_per_side` equal cells, row by row; layer i has points_per_side / factor**i a
    side.

    Args:
        height: photo height in pixels.
        width: photo width in pixels.
        points_per_side: points along one side of the whole photo.
        crop_n_layers: number of crop layers; 0 for the whole photo alone.
        crop_overlap_ratio: overlap of the first layer's crops as a share of the photo's shorter side.
        crop_n_points_downscale_factor: how much sparser each layer's grid is than the one before.
    """
    boxes, layers = generate_crop_boxes((height, width), crop_n_layers, crop_overlap_ratio)
    crops = []
    for (x0, y0, x1, y1), layer in zip(boxes, layers, strict=True):
        grid = build_point_grid(int(points_per_side / crop_n_points_downscale_factor**layer))
        crops.append(Crop((x0, y0, x1, y1), grid * np.array([x1 - x0, y1 - y0])))
    return crops
