"""What Python users give as an image: a path, a PIL image or an array."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gem_label.errors import UsageError
from gem_label.photos.reading import read_image
from gem_label.photos.rgb import to_rgb
from gem_label.stores import is_address

Picture = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]


def as_pixels(image: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a path, a PIL image or such an array.

    Raises:
        UsageError: no such file.
        ImageError: a file that cannot be read.
        ValueError: an array of another shape or type.
    """
    if isinstance(image, (str, os.PathLike)):
        if not is_address(os.fspath(image)) and not os.path.exists(image):
            raise UsageError(f"no such file: {os.fspath(image)}")
        return read_image(image)
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}")
    return image
