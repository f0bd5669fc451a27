"""Decoded images to upright 8-bit RGB, some rows at a time: memory holds the image and the result, no third copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from gem_label.errors import ImageError
from gem_label.photos.bit_depth import scale_to_bytes, stated_maximum

_PIXELS_AT_ONCE = 1 << 18
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
_BYTES_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes that PIL takes for a pixel of a mode; 4 for all others."""


def stored_bytes(mode: str) -> int:
    """Bytes that PIL takes for a pixel of a mode."""
    return _BYTES_STORED.get(mode, 4)


def is_deep_gray(mode: str) -> bool:
    """Whether a mode has gray values of more than 8 bits."""
    return mode in ("I", "F") or mode.startswith("I;16")


def to_rgb(image: Image.Image, maximum: int | None = None) -> NDArray[np.uint8]:
    """An open image as people see it: (H, W, 3) uint8 RGB (see `gem_label.photos.reading.read_image`).

    Args:
        image: of any mode.
        maximum: of 16-bit pixels, the value that is white; None: what a TIFF says, else 65535.

    Raises:
        ImageError: the image has no pixels.
    """
    image.load()
    if not image.width * image.height:
        raise ImageError("empty: the image has no pixels")
    turned = orientation(image)
    if is_deep_gray(image.mode):
        return _gray_to_rgb(image, maximum or stated_maximum(image), turned)
    return colors_to_rgb(image, turned)


def _gray_to_rgb(image: Image.Image, maximum: int | None, turned: int) -> NDArray[np.uint8]:
    """Gray values of more than 8 bits, upright: (H, W, 3) uint8."""
    values = np.asarray(image)
    gray = scale_to_bytes(values, maximum)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray[values == transparent] = 255
    pixels, stored = _empty(image.size, turned)
    stored[:] = gray[..., None]
    return pixels


def colors_to_rgb(image: Image.Image, turned: int = 1) -> NDArray[np.uint8]:
    """Every other mode over white, upright: (H, W, 3) uint8.

    Args:
        image: loaded.
        turned: the EXIF orientation, 1 to 8.
    """
    convert = _converter(image)
    pixels, stored = _empty(image.size, turned)
    for top, bottom in _strips(*image.size):
        stored[top:bottom] = np.asarray(convert(image.crop((0, top, image.width, bottom))))
    return pixels


def _converter(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """What makes RGB of a part of an image."""
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(*profiles, "LAB", "RGB")
        return lambda part: ImageCms.applyTransform(part, transform) or part.convert("RGB")
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        return _over_white
    return lambda part: part.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _strips(width: int, height: int) -> Iterator[tuple[int, int]]:
    """Yield the first row of each strip and the one after its last."""
    rows = max(1, _PIXELS_AT_ONCE // width)
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; PIL turns TIFFs itself when it loads them, which then are upright.

    A photo with unreadable EXIF stays as it is.
    """
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF must not cost the photo
        return 1


def _empty(size: tuple[int, int], turned: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Room for an upright image, and the same room as the file has its rows.

    Args:
        size: width and height in the file.
        turned: the EXIF orientation, 1 to 8.
    """
    width, height = size
    sideways = turned in (5, 6, 7, 8)
    pixels = np.empty((width, height, 3) if sideways else (height, width, 3), np.uint8)
    stored = pixels
    if turned in (2, 3, 6, 7):
        stored = stored[:, ::-1]
    if turned in (3, 4, 7, 8):
        stored = stored[::-1]
    if sideways:
        stored = stored.swapaxes(0, 1)
    return pixels, stored
