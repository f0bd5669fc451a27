"""A guide for dense methods without another model: places are alike by their color, and masks are quarters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gem_label.clip.guides import Guide
from gem_label.masks import MaskSet, encode_mask


class ColorProxy:
    """The mean color of each place, as its difference from that of the image."""

    def __call__(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        return F.adaptive_avg_pool2d(images, grid) - images.mean(dim=(2, 3), keepdim=True)

    def describe(self) -> dict[str, Any]:
        return {"name": "color"}


def quarters(pixels: NDArray[np.uint8]) -> MaskSet:
    """Two of an image's quarters, and its lower half."""
    height, width = pixels.shape[:2]
    masks = np.zeros((3, height, width), bool)
    masks[0, : height // 2, : width // 2] = True
    masks[1, : height // 2, width // 2 :] = True
    masks[2, height // 2 :] = True
    one = np.ones(3, np.float32)
    return MaskSet(
        height, width, tuple(encode_mask(mask) for mask in masks), one, one, np.zeros((3, 2), np.float32)
    )


COLOR_GUIDE = Guide(ColorProxy(), quarters)
