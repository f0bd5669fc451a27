"""PNG files chunk by chunk: what PIL does not read of them, or refuses."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Text chunks that can hold the orientation; all others are only text.
_ORIENTATION_KEYWORDS = (b"XML:com.adobe.xmp", b"Raw profile type exif")
_MOST_TEXT = 1_000_000
"""Bytes of such a chunk that PIL takes, compressed or not."""
_NEEDED = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf"})


def without_text(file: BinaryIO) -> bytes | None:
    """A PNG file of the same pixels, transparency and orientation, without its text and color profiles.

    PIL refuses a PNG with more than a megabyte of text or color profile, and one whose text chunks are damaged,
    although its pixels are well.

    Args:
        file: at its beginning.

    Returns:
        The bytes of the smaller file; None for a file that is no PNG or whose chunks end too early.
    """
    if file.read(8) != SIGNATURE:
        return None
    parts = [SIGNATURE]
    for kind, length in _chunks(file):
        if kind in _NEEDED or (kind in (b"iTXt", b"tEXt", b"zTXt") and length <= _MOST_TEXT):
            data = file.read(length + 4)  # with the checksum
            if kind in _NEEDED or _may_hold_orientation(kind, data[:-4]):
                parts.append(struct.pack(">I", length) + kind + data)
        else:
            file.seek(length + 4, 1)
        if kind == b"IEND":
            return b"".join(parts)
    return None


def significant_bits(file: BinaryIO) -> int | None:
    """How many bits of the 16 of each channel hold the picture, from the chunk sBIT.

    Args:
        file: at its beginning.

    Returns:
        The most of any channel; None where the file does not say so or is no PNG of 16 bits.
    """
    if file.read(8) != SIGNATURE:
        return None
    for kind, length in _chunks(file):
        if kind == b"IHDR" and length == 13:
            if file.read(length)[8] != 16:
                return None
        elif kind == b"sBIT" and length <= 4:
            return max(file.read(length), default=None)
        elif kind in (b"IDAT", b"IEND"):
            return None
        else:
            file.seek(length, 1)
        file.seek(4, 1)
    return None


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield kind and length of each chunk; the caller moves the file behind data and checksum."""
    while len(header := file.read(8)) == 8:
        yield header[4:], int.from_bytes(header[:4], "big")


def _may_hold_orientation(kind: bytes, data: bytes) -> bool:
    """Whether a text chunk is one of those that say how a photo is turned, and PIL takes it."""
    keyword, _, rest = data.partition(b"\0")
    if keyword not in _ORIENTATION_KEYWORDS:
        return False
    if kind == b"zTXt":
        return _size_unpacked(rest[1:]) <= _MOST_TEXT
    if kind == b"iTXt" and rest[:1] == b"\x01":  # flag, method, then language and translated keyword
        return _size_unpacked(rest[2:].split(b"\0", 2)[-1]) <= _MOST_TEXT
    return True


def _size_unpacked(data: bytes) -> int:
    """The size of zlib data, unpacked no further than `_MOST_TEXT` needs; larger than that when damaged."""
    try:
        return len(zlib.decompressobj().decompress(data, _MOST_TEXT + 1))
    except zlib.error:
        return _MOST_TEXT + 1
