"""Parquet files with a CRC-32 of every block and of the footer: what was written is read, or an error.

Parquet's own page checksums leave out the footer and the headers of pages, where a flipped bit can change what is
read without an error. They are written too, for other readers.
"""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from gem_label.runs.checksums import ChecksumError, crc32

BLOCK = 1 << 14
"""Bytes that share a checksum: few enough that a read of one small column verifies little else."""
_TAIL = 8  # bytes at the end of a parquet file: the length of its footer, then PAR1
_MAGIC = b"PAR1"
_BLOCKS_KEY, _FOOTER_KEY = "block_crc32", "footer_crc32"
_UNKNOWN = b"00000000"
# a key of the footer and the length of its value, as parquet writes them
_FOOTER_FIELD = b"\x18" + bytes([len(_FOOTER_KEY)]) + _FOOTER_KEY.encode() + b"\x18" + bytes([len(_UNKNOWN)])


class SealingFile(io.RawIOBase):
    """A file that a parquet file is written through; its footer gets the checksums of its blocks and of itself.

    Parquet's own page checksums leave out the headers of pages and the footer.

    Use: write the row groups, add `footer_metadata` to the footer's metadata, write the footer, call `finish`.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._crcs: list[int] = []
        self._crc = self._size = 0
        self._footer: bytearray | None = None

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: Any) -> int:
        """Write bytes; those of the footer wait for `finish`."""
        view = memoryview(data).cast("B")
        if self._footer is not None:
            self._footer += view
            return len(view)
        self._file.write(view)
        start = 0
        while start < len(view):
            part = view[start : start + BLOCK - self._size % BLOCK]
            self._crc = zlib.crc32(part, self._crc)
            self._size += len(part)
            start += len(part)
            if self._size % BLOCK == 0:
                self._end_block()
        return len(view)

    def _end_block(self) -> None:
        self._crcs.append(self._crc)
        self._crc = 0

    def footer_metadata(self) -> dict[str, str]:
        """Entries for the footer; all that is written from now on is the footer."""
        if self._size % BLOCK:
            self._end_block()
        self._footer = bytearray()
        blocks = np.array(self._crcs, "<u4").tobytes()
        return {_BLOCKS_KEY: base64.b64encode(blocks).decode("ascii"), _FOOTER_KEY: _UNKNOWN.decode("ascii")}

    def finish(self) -> None:
        """Write the footer with its checksum.

        Raises:
            ValueError: what was written after `footer_metadata` is not a footer with these entries.
        """
        footer = bytes(self._footer or b"")
        place = footer.rfind(_FOOTER_FIELD) + len(_FOOTER_FIELD)
        length = int.from_bytes(footer[-_TAIL:-4], "little")
        if place < len(_FOOTER_FIELD) or length + _TAIL != len(footer):
            raise ValueError("no parquet footer with a place for its checksum")
        self._file.write(footer[:place] + crc32(footer).encode() + footer[place + len(_UNKNOWN) :])


class SealedFile(io.RawIOBase):
    """A parquet file whose bytes are verified before they are returned; one without checksums is read as it is.

    Attributes:
        sealed: whether it has checksums.

    Raises:
        ChecksumError: the footer is damaged.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        self._position = 0
        self._crcs = np.zeros(0, np.uint32)
        self._verified = np.zeros(0, bool)
        tail = self._at(max(self._size - _TAIL, 0), _TAIL)
        length = int.from_bytes(tail[:4], "little")
        self._data = self._size - _TAIL - length  # bytes before the footer
        self._footer = self._at(self._data, length + _TAIL) if self._data >= 0 and tail[4:] == _MAGIC else b""
        place = self._footer.rfind(_FOOTER_FIELD) + len(_FOOTER_FIELD)
        self.sealed = place >= len(_FOOTER_FIELD)
        if self.sealed:
            end = place + len(_UNKNOWN)
            if (
                crc32(self._footer[:place] + _UNKNOWN + self._footer[end:]).encode()
                != self._footer[place:end]
            ):
                raise ChecksumError("the checksum of its footer does not match")

    def use_metadata(self, metadata: Mapping[bytes, bytes]) -> None:
        """Verify blocks from now on, by the checksums in the footer's metadata.

        Raises:
            ChecksumError: there are more or fewer checksums than blocks, or none in a sealed file.
        """
        if _BLOCKS_KEY.encode() not in metadata and not self.sealed:
            return
        crcs = np.frombuffer(base64.b64decode(metadata.get(_BLOCKS_KEY.encode(), b"")), "<u4")
        if not self.sealed or len(crcs) != -(-self._data // BLOCK):
            raise ChecksumError("its checksums do not match its size")
        self._crcs, self._verified = crcs, np.zeros(len(crcs), bool)

    def _at(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(size)

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position, as files do."""
        start = (0, self._position, self._size)[whence]
        self._position = max(start + offset, 0)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Read bytes that are what was written.

        Raises:
            ChecksumError: they are not.
        """
        start = min(self._position, self._size)
        end = self._size if size is None or size < 0 else min(start + size, self._size)
        self._position = end
        if start >= self._data and self._footer:
            return self._footer[start - self._data : end - self._data]
        first, last = start // BLOCK, min(-(-end // BLOCK), len(self._crcs))
        if self._verified[first:last].all():
            return self._at(start, end - start)
        content = self._at(first * BLOCK, max(min(last * BLOCK, self._data), end) - first * BLOCK)
        self._verify(memoryview(content), first, last)
        return content[start - first * BLOCK : end - first * BLOCK]

    def _verify(self, content: memoryview, first: int, last: int) -> None:
        """Verify the blocks from `first` to before `last`, of which the content begins with the first."""
        for block in range(first, last):
            start = (block - first) * BLOCK
            stop = min(start + BLOCK, self._data - first * BLOCK)
            if zlib.crc32(content[start:stop]) != self._crcs[block]:
                first_byte = block * BLOCK
                raise ChecksumError(
                    f"the checksum of bytes {first_byte} to {first_byte + stop - start} does not match"
                )
        self._verified[first:last] = True
