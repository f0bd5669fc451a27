"""CRC-32 of what a run holds, so that a bit that flips on the disk is found when the file is read.

JSON files and JSON lines end with a field `crc32`, arrays with a trailer; `gem_label.runs.sealing` has the checksums
of shards. Files without a checksum are of earlier versions and are read without this check.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

CRC = "crc32"
_LINE_END = re.compile(rb', "crc32": "([0-9a-f]{8})"\}$')
_TRAILER = b"crc32"
_DIGITS = 8


class ChecksumError(ValueError):
    """What was read is not what was written."""


def crc32(data: bytes | memoryview) -> str:
    """CRC-32 as eight hexadecimal digits."""
    return f"{zlib.crc32(data):08x}"


def sealed_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the checksum of its content as its last field."""
    rest = {key: value for key, value in content.items() if key != CRC}
    return rest | {CRC: _content_crc32(rest)}


def unsealed_json(content: dict[str, Any]) -> dict[str, Any]:
    """A JSON object without its checksum.

    Raises:
        ChecksumError: the checksum is not that of the content.
    """
    if CRC not in content:
        return content
    rest = {key: value for key, value in content.items() if key != CRC}
    if content[CRC] != _content_crc32(rest):
        raise ChecksumError(f"its {CRC} does not match its content")
    return rest


def _content_crc32(content: Mapping[str, Any]) -> str:
    return crc32(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def sealed_line(text: bytes) -> bytes:
    """The text of a JSON object that is not empty, with its checksum as the last field."""
    return text[:-1] + f', "{CRC}": "{crc32(text)}"}}'.encode()


def unsealed_line(line: bytes) -> bytes:
    """The text of a JSON object without its checksum.

    Raises:
        ChecksumError: the checksum is not that of the text.
    """
    end = _LINE_END.search(line)
    if end is None:
        return line
    text = line[: end.start()] + b"}"
    if crc32(text).encode() != end[1]:
        raise ChecksumError(f"its {CRC} does not match its content")
    return text


def array_bytes(array: NDArray[Any]) -> bytes:
    """The content of a .npy file, followed by its checksum; `np.load` reads it too."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    content = file.getvalue()
    return content + _TRAILER + crc32(content).encode()


def read_array(content: bytes) -> NDArray[Any]:
    """The array that `array_bytes` or `np.save` wrote.

    Raises:
        ValueError: the content is damaged.
        EOFError: it is empty.
    """
    size = len(content) - len(_TRAILER) - _DIGITS
    if content[size:].startswith(_TRAILER) and crc32(content[:size]).encode() != content[-_DIGITS:]:
        raise ChecksumError(f"its {CRC} does not match its content")
    return np.load(io.BytesIO(content), allow_pickle=False)
