"""Dense features of large images: sliding windows and several scales, over any function that encodes images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gem_label.checks import COUNT, Numbers, check_number
from gem_label.errors import UsageError

Encode = Callable[[Tensor], Tensor]

WINDOWS_PER_BATCH = 8


@dataclass(frozen=True)
class Window:
    """A square window that slides over the image.

    Attributes:
        crop: its side in pixels.
        stride: pixels from one window to the next, `crop` at most.

    Raises:
        UsageError: for a stride that would leave pixels out.
    """

    crop: int
    stride: int

    def __post_init__(self) -> None:
        """Refuse gaps between windows."""
        check_number("a window's crop", self.crop, COUNT)
        if not Numbers(1, self.crop, whole=True).allow(self.stride):
            raise UsageError(f"a window's stride must be 1 to its crop of {self.crop} px, not {self.stride}")

    def starts(self, length: int) -> list[int]:
        """Where windows begin along a side of `length` pixels; the last one ends at the border.

        >>> Window(crop=224, stride=112).starts(400)
        [0, 112, 176]
        """
        return [*range(0, max(0, length - self.crop), self.stride), max(0, length - self.crop)]


def encode_windows(encode: Encode, images: Tensor, window: Window, patch_size: int) -> Tensor:
    """Features of every window, averaged where windows overlap.

    Args:
        encode: (B, 3, H, W) images to (B, H / patch, W / patch, d) features of unit length.
        images: (B, 3, H, W), sides multiples of the patch size.
        window: crop and stride, multiples of the patch size; an image's shorter side may be less than the crop.
        patch_size: in pixels.

    Returns:
        (B, H / patch, W / patch, d) of unit length.
    """
    height, width = images.shape[-2:]
    corners = [(top, left) for top in window.starts(height) for left in window.starts(width)]
    crops = [images[..., top : top + window.crop, left : left + window.crop] for top, left in corners]
    batch = len(images)
    step = max(1, WINDOWS_PER_BATCH // batch)
    total: Tensor | None = None
    for first in range(0, len(crops), step):
        features = encode(torch.cat(crops[first : first + step])).unflatten(0, (-1, batch))
        if total is None:
            total = features.new_zeros(batch, height // patch_size, width // patch_size, features.shape[-1])
        for (top, left), part in zip(corners[first:], features, strict=False):
            row, column = top // patch_size, left // patch_size
            total[:, row : row + part.shape[1], column : column + part.shape[2]] += part
    assert total is not None  # every image has a window
    # the mean's direction is the sum's: no need to count the windows over a patch
    return F.normalize(total, dim=-1)


def encode_scales(encode: Encode, images: Tensor, scales: Sequence[float], patch_size: int) -> Tensor:
    """Features of the image at several sizes, averaged on the grid of the image as it came.

    Args:
        encode: as in `encode_windows`.
        images: (B, 3, H, W), sides multiples of the patch size.
        scales: factors on the sides, which are then rounded to the patch size.
        patch_size: in pixels.

    Returns:
        (B, H / patch, W / patch, d) of unit length.
    """
    height, width = images.shape[-2:]
    grid = (height // patch_size, width // patch_size)
    total: Tensor | None = None
    for scale in scales:
        sides = [max(1, round(side * scale)) for side in grid]
        size = [side * patch_size for side in sides]
        resized = images
        if sides != list(grid):
            resized = F.interpolate(images, size=size, mode="bicubic", antialias=True)
        features = encode(resized)
        if sides != list(grid):
            image = features.permute(0, 3, 1, 2)
            image = F.interpolate(image, size=grid, mode="bilinear", antialias=True)
            features = F.normalize(image.permute(0, 2, 3, 1), dim=-1)
        total = features if total is None else total + features
    assert total is not None  # DenseEncoder refuses an empty list
    return F.normalize(total, dim=-1)
