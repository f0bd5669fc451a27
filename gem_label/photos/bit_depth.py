"""Pixels of more than 8 bits a channel to 8 bits."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from gem_label.photos import png

_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE, _SMAX_SAMPLE_VALUE = 258, 281, 341
"""TIFF tags."""
_ROWS_AT_ONCE = 64


def stated_maximum(image: Image.Image, path: str | os.PathLike[str] | None = None) -> int | None:
    """The largest value of a channel of 16 bits, where the file says that not all bits are used.

    Args:
        image: an open image.
        path: its file; without it, a PNG says nothing.

    Returns:
        For instance 4095 for 12 bits in 16: from MaxSampleValue, SMaxSampleValue or 12 BitsPerSample of a TIFF,
        or from the chunk sBIT of a PNG. None: nothing is said, or channels do not have 16 bits.
    """
    maximum: float = 0
    if isinstance(image, TiffImageFile):
        bits = _largest(image.tag_v2.get(_BITS_PER_SAMPLE))
        if bits == 16:
            tags = (_MAX_SAMPLE_VALUE, _SMAX_SAMPLE_VALUE)
            maximum = next((top for tag in tags if (top := _largest(image.tag_v2.get(tag)))), 0)
        elif 8 < bits < 16:
            maximum = 2 ** int(bits) - 1
    elif image.format == "PNG" and path is not None:
        with open(path, "rb") as file:
            maximum = 2 ** (png.significant_bits(file) or 0) - 1
    return int(maximum) if 0 < maximum < 65535 else None


def _largest(value: Any) -> float:
    """The largest of a TIFF tag's values; 0 for one that is missing or holds no numbers."""
    values = value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]
    return max((float(v) for v in values if isinstance(v, int | float)), default=0.0)


def has_deep_colors(image: ImageFile) -> bool:
    """Whether an image that is not loaded yet has color channels of 16 bits, of which PIL keeps the upper 8."""
    if image.mode not in ("RGB", "RGBA") or not image.tile:
        return False
    raw = image.tile[
        0
    ].args  # the layout of the stored pixels, alone or before other arguments of the decoder
    return ";16" in str(raw[0] if isinstance(raw, tuple) else raw)


def read_deep_colors(path: str | os.PathLike[str], maximum: int | None) -> Image.Image | None:
    """A photo with color channels of 16 bits as 8-bit RGB or RGBA.

    PIL has no such images, OpenCV has.

    Args:
        path: a PNG or TIFF file.
        maximum: from `stated_maximum`.

    Returns:
        The image as it is stored in a PNG, upright from a TIFF; None where OpenCV cannot read it.
    """
    import cv2

    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        return None
    if maximum is not None and pixels[..., :3].max(initial=0) > maximum:
        maximum = None  # for all channels alike, or colors would shift
    channels = (2, 1, 0, 3)[: pixels.shape[2]]
    colors = np.empty(pixels.shape, np.uint8)
    for place, channel in enumerate(channels):
        colors[..., place] = scale_to_bytes(pixels[..., channel], maximum)
    del pixels
    return Image.fromarray(colors)


def scale_to_bytes(values: NDArray[Any], maximum: float | None = None) -> NDArray[np.uint8]:
    """Values of more than 8 bits to uint8 of the same shape by their range, never clipped.

    16-bit: 0..65535 becomes 0..255, or 0..`maximum` where no value is larger. 32-bit integers within 0..65535 count
    as 16-bit; other integers, and floats outside [0, 1], are stretched from their smallest to their largest value.

    Args:
        values: (H, W) numbers.
        maximum: what the file says is white, see `stated_maximum`.
    """
    scaled = np.zeros(values.shape, np.uint8)
    if values.size == 0:
        return scaled
    strips = [slice(top, top + _ROWS_AT_ONCE) for top in range(0, len(values), _ROWS_AT_ONCE)]
    low = min(float(_finite(values[strip]).min()) for strip in strips)
    high = max(float(_finite(values[strip]).max()) for strip in strips)
    if np.issubdtype(values.dtype, np.floating):
        span = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    elif low >= 0 and high <= 65535:
        span = (0.0, 65535.0 if maximum is None or high > maximum else float(maximum))
    else:
        span = (low, high)
    factor = 255.0 / max(span[1] - span[0], 1e-12)
    for strip in strips:
        scaled[strip] = np.rint((_finite(values[strip]) - span[0]) * factor)
    return scaled


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
