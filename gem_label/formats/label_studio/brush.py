"""The run lengths of Label Studio's brush: a packed stream of bits over the RGBA values of a photo, row by row.

A header has the number of values (32 bits), the bits of a value minus one (5) and the bits of four kinds of lengths
minus one (4 each). Packets follow: whether one value repeats (1 bit), the kind of its length (2), the length minus
one, and the value, or so many values. Label Studio packs with `@thi.ng/rle-pack`, its Python library does the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError
from gem_label.rle import Box

_HEADER = 32 + 5 + 4 * 4
_KINDS = np.array([3, 4, 8, 16])
_LONGEST = 1 << 16
_RUNS_AT_ONCE = 1 << 16


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """A mask as Label Studio's brush writes it: all four channels are 255 inside, 0 outside.

    Args:
        mask: (height, width) booleans with at least one pixel and less than 2^30.

    Returns:
        Bytes as numbers in [0, 255].

    Raises:
        UsageError: the mask has no pixels, or too many for the format.

    Example:
        >>> encode_brush(np.array([[True, True]]))
        [0, 0, 0, 8, 57, 27, 252, 255, 224]
    """
    height, width = mask.shape
    return encode_brush_crop(mask, (0, 0, width, height), height, width)


def encode_brush_crop(crop: NDArray[np.bool_], box: Box, height: int, width: int) -> list[int]:
    """`encode_brush` of a mask that is known inside a box, without making the whole photo.

    Args:
        crop: (box height, box width) booleans.
        box: x, y, width, height in pixels.
        height: of the photo.
        width: of the photo.

    Raises:
        UsageError: the photo has no pixels, or too many for the format.
    """
    count = 4 * height * width
    if not 0 < count < 1 << 32:
        raise UsageError(f"a brush mask of {height} x {width} pixels")
    x, y, box_width, box_height = box
    rows = np.zeros((box_height, box_width + 2), bool)
    rows[:, 1:-1] = crop
    row, column = np.nonzero(rows[:, 1:] != rows[:, :-1])
    edges = (row + y) * width + column + x
    if box_width == width and len(edges):  # a run may continue in the next row
        same = edges[1:] == edges[:-1]
        edges = edges[~(np.r_[False, same] | np.r_[same, False])]
    ends = np.r_[edges, height * width]
    lengths = 4 * np.diff(ends, prepend=0)
    values = np.arange(len(ends)) % 2 == 1
    lengths, values = lengths[lengths > 0], values[lengths > 0]
    header = (count << 21) | (7 << 16) | sum((int(size) - 1) << (12 - 4 * i) for i, size in enumerate(_KINDS))
    parts = [_bits(np.array([header]), np.array([_HEADER]))]
    for start in range(0, len(lengths), _RUNS_AT_ONCE):
        some = slice(start, start + _RUNS_AT_ONCE)
        parts.append(_packets(lengths[some], values[some]))
    return np.packbits(np.concatenate(parts)).tolist()


def decode_brush(rle: Any, pixels_max: int) -> NDArray[np.bool_]:
    """The pixels of a brush mask that are not transparent.

    Memory is bounded by the packed bytes and by `pixels_max`, whatever the bytes say.

    Args:
        rle: bytes as numbers in [0, 255], as they stand in a file.
        pixels_max: of the photo.

    Returns:
        (pixels,) booleans, row by row.

    Raises:
        UsageError: it is no such list, ends too early, or is of more pixels.
    """
    try:
        data = bytes(rle) if isinstance(rle, list) else b""
    except (TypeError, ValueError, OverflowError):
        data = b""
    if not data:
        raise UsageError("brush run lengths that are no list of bytes")
    stream = _Stream(data)
    count, word = stream.read(32), stream.read(5) + 1
    kinds = [stream.read(4) + 1 for _ in range(4)]
    if not count or count % 4 or count // 4 > pixels_max:
        raise UsageError(f"brush run lengths of {count} values, the image has 4 x {pixels_max}")
    lengths: list[int] = []
    shown: list[bool] = []
    done = 0
    while done < count:
        repeats, kind = stream.read(1), stream.read(2)
        number = stream.read(kinds[kind]) + 1
        end = min(done + number, count)
        if repeats:
            value = stream.read(word)
            lengths.append(end // 4 - done // 4)  # the fourth value of a pixel is its opacity
            shown.append(value > 0)
        else:
            opacities = stream.read_words(number, word)[3 - done % 4 : end - done : 4]
            lengths += [1] * len(opacities)
            shown += opacities.tolist()
        done = end
    return np.repeat(np.array(shown, bool), lengths)


class _Stream:
    """Bits of bytes, the most significant first."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def read(self, bits: int) -> int:
        """The next whole number of so many bits, at most 32."""
        end = self._end(bits)
        last = (end + 7) // 8
        number = int.from_bytes(self.data[self.place // 8 : last], "big") >> (8 * last - end)
        self.place = end
        return number & ((1 << bits) - 1)

    def read_words(self, count: int, bits: int) -> NDArray[np.bool_]:
        """Which of the next numbers are not 0, (count,) booleans."""
        end = self._end(count * bits)
        first = self.place // 8
        flat = np.unpackbits(np.frombuffer(self.data, np.uint8, (end + 7) // 8 - first, first))
        words = flat[self.place - 8 * first : end - 8 * first].reshape(count, bits)
        self.place = end
        return np.asarray(words.any(axis=1))

    def _end(self, bits: int) -> int:
        end = self.place + bits
        if end > 8 * len(self.data):
            raise UsageError("brush run lengths that end too early")
        return end


def _packets(lengths: NDArray[np.int64], values: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The bits of runs of values that repeat; long ones take several packets."""
    packets = -(-lengths // _LONGEST)
    kind = np.repeat(np.searchsorted([8, 16, 256], lengths), packets)
    rest = np.full(len(kind), _LONGEST)
    rest[np.cumsum(packets) - 1] = lengths - _LONGEST * (packets - 1)
    size = _KINDS[kind]
    repeated = np.repeat(values, packets) * 255
    codes = (((4 | kind) << size | (rest - 1)) << 8) | repeated
    return _bits(codes, 3 + size + 8)


def _bits(codes: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The last so many bits of each number, one after the other."""
    ends = np.cumsum(sizes)
    places = np.repeat(ends, sizes) - 1 - np.arange(ends[-1])
    return ((np.repeat(codes, sizes) >> places) & 1).astype(np.uint8)
