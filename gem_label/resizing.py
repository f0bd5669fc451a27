"""Making photos smaller as PIL does, without a copy of the whole photo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_PIXELS_AT_ONCE = 1 << 20


def resize_rgb(
    pixels: NDArray[np.uint8], height: int, width: int, resampling: Image.Resampling
) -> NDArray[np.uint8]:
    """The same bytes as `Image.fromarray(pixels).resize((width, height), resampling)`.

    PIL resizes every row for itself first, and the columns of the result then. So rows can go through it some at a
    time; the whole photo as a PIL image has 4 bytes a pixel.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        height: of the result.
        width: of the result.
        resampling: PIL's filter, BILINEAR or one with more support.

    Returns:
        (height, width, 3) uint8.

    Example:
        >>> resize_rgb(np.zeros((8, 6, 3), np.uint8), 4, 3, Image.Resampling.BICUBIC).shape
        (4, 3, 3)
    """
    rows = max(1, _PIXELS_AT_ONCE // pixels.shape[1])
    narrow = np.empty((len(pixels), width, 3), np.uint8)
    for top in range(0, len(pixels), rows):
        strip = Image.fromarray(pixels[top : top + rows])
        narrow[top : top + rows] = np.asarray(strip.resize((width, strip.height), resampling))
    return np.array(Image.fromarray(narrow).resize((width, height), resampling))
