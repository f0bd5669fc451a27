"""Text that other programs wrote: any common encoding, plain or compressed."""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TextIO, cast

from gem_label.errors import UsageError
from gem_label.tables import reason

MAX_TEXT_BYTES = 1 << 31  # what `read_text` takes into memory; LVIS' annotations have 1.1 GB
MAX_STREAM_BYTES = 1 << 34  # what `open_text` streams; the points of Open Images' train split have 4 GB
BLOCK_BYTES = 1 << 20
HEAD_BYTES = 1 << 12
GZIP_MAGIC, ZIP_MAGIC = b"\x1f\x8b", b"PK"
PACKING_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, NotImplementedError,
)  # fmt: skip
"""What reading a damaged, encrypted or unusual .zip or .gz raises besides OSError."""
# UTF-32 first: its mark for little-endian begins with that of UTF-16
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# no text has these; cp1252 and UTF-16 give nearly every byte a meaning, so that they alone tell binary data
CONTROLS = re.compile("[\x00-\x06\x0e-\x19\x1c-\x1f]")


def read_text(path: str | Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a file, with "\\n" for every end of line.

    Args:
        path: UTF-8 with or without a byte order mark, UTF-16, UTF-32, or cp1252; plain, .gz, or a .zip that holds
            one file. What it is follows from its first bytes, not from its name.
        max_bytes: of the unpacked file.

    Raises:
        UsageError: the file cannot be read, is binary, or is larger than `max_bytes`.
    """
    with open_text(path, max_bytes=max_bytes) as file:
        return file.read()


@contextmanager
def open_text(
    path: str | Path, newline: str | None = None, max_bytes: int = MAX_STREAM_BYTES
) -> Iterator[TextIO]:
    """Open a file of text for streaming, as `read_text` reads it.

    The file is read once on entry to find its encoding, so that a wrong byte is an error before the first line.

    Args:
        path: see `read_text`.
        newline: as the built-in `open` takes it; "" for the csv module.
        max_bytes: of the unpacked file.

    Raises:
        UsageError: as for `read_text`.

    Example:
        with open_text("points.csv.gz", newline="") as file:
            rows = list(csv.reader(file))
    """
    with open_binary(path, max_bytes) as (data, encoding):
        text = io.TextIOWrapper(data, encoding=encoding, newline=newline)
        try:
            yield text
        finally:
            text.detach()


@contextmanager
def open_binary(path: str | Path, max_bytes: int = MAX_STREAM_BYTES) -> Iterator[tuple[BinaryIO, str]]:
    """Open a file of text for readers that decode it themselves: its unpacked bytes and their encoding.

    Raises:
        UsageError: as for `read_text`.
    """
    with ExitStack() as stack:
        try:
            data = _unpacked(stack, Path(path).expanduser(), max_bytes)
            encoding = _find_encoding(data, str(path), max_bytes)
            data.seek(0)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
        except PACKING_ERRORS as error:
            raise UsageError(f"cannot unpack {path}: {reason(error)}") from error
        except ValueError as error:  # a NUL in the path
            raise UsageError(f"cannot read {str(path)!r}: {error}") from error
        yield data, encoding


def decode_text(data: bytes, name: str) -> str:
    """Bytes as text, in the encodings of `read_text`; ends of lines stay as they are.

    Args:
        data: unpacked.
        name: of the file, for errors.

    Raises:
        UsageError: the data is binary.
    """
    return data.decode(_find_encoding(io.BytesIO(data), name, len(data)))


def member_files(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The members of a .zip that are files; `ZipInfo.is_dir` raises IndexError at members without a name."""
    return [info for info in archive.infolist() if info.filename and not info.filename.endswith("/")]


def _unpacked(stack: ExitStack, path: Path, max_bytes: int) -> BinaryIO:
    """The bytes of the file or of the one file in it, as a stream that can be read twice."""
    file: BinaryIO = stack.enter_context(path.open("rb"))
    if not file.seekable():  # a pipe
        pipe = file
        file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed by the stack
        left = max_bytes + 1
        while left > 0 and (block := pipe.read(min(BLOCK_BYTES, left))):
            file.write(block)
            left -= len(block)
        file.seek(0)
    magic = file.read(2)
    file.seek(0)
    if magic == GZIP_MAGIC:
        return cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=file)))
    if magic == ZIP_MAGIC and zipfile.is_zipfile(file):
        archive = stack.enter_context(zipfile.ZipFile(file))
        names = [info.filename for info in member_files(archive) if not _is_about(info)]
        if len(names) != 1:
            raise UsageError(
                f"{path} holds {len(names)} files, not one: unpack it and give the one that is meant"
            )
        return cast(BinaryIO, stack.enter_context(archive.open(names[0])))
    file.seek(0)
    return file


def _is_about(info: zipfile.ZipInfo) -> bool:
    """Whether a member describes another, as the Finder of macOS adds them."""
    return "__MACOSX" in PurePosixPath(info.filename).parts


def _find_encoding(data: BinaryIO, name: str, max_bytes: int) -> str:
    """The codec of all of a stream's bytes, which are read to the end.

    Raises:
        UsageError: no codec fits, or there are more than `max_bytes`.
    """
    head = data.read(HEAD_BYTES)
    encoding, is_marked = _guess(head)
    # cp1252 takes a slow look for controls: only what is no UTF-8 needs it
    others = ("cp1252",) if not is_marked and encoding == "utf-8" else ()
    for candidate in (encoding, *others):
        data.seek(0)
        check, size = _Check(candidate), 0
        while True:
            block = data.read(BLOCK_BYTES)
            size += len(block)
            if size > max_bytes:
                raise UsageError(f"{name} has more than {max_bytes:,} bytes of text")
            if not check.takes(block):
                break
            if not block:
                return candidate
    raise UsageError(f"{name} is no text file: it holds binary data or a mixture of encodings")


class _Check:
    """Whether a stream of bytes is text in an encoding."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def takes(self, block: bytes) -> bool:
        """Add a block; an empty one is the end."""
        try:
            text = self._decoder.decode(block, final=not block)
        except UnicodeDecodeError:
            return False
        return "\0" not in text if self.encoding.startswith("utf-8") else not CONTROLS.search(text)


def _guess(head: bytes) -> tuple[str, bool]:
    """The encoding that the first bytes speak for, and whether they say so by a byte order mark.

    Text in UTF-16 and UTF-32 without a mark has NULs, most of them in the same places. Where they are few, as
    in Chinese, what is left without them is no text; in a list that separates words by NULs it is.
    """
    for mark, encoding in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding, True
    units = len(head) // 4
    zeros = [head[place : 4 * units : 4].count(0) for place in range(4)]
    if units and zeros[2] == zeros[3] == units:
        return "utf-32-le", False
    if units and zeros[0] == zeros[1] == units:
        return "utf-32-be", False
    even, odd = head[::2].count(0), head[1::2].count(0)
    if 3 * max(even, odd) < len(head) and _is_plain(head.replace(b"\0", b"")):
        return "utf-8", False
    if odd > 2 * even:
        return "utf-16-le", False
    return ("utf-16-be" if even > 2 * odd else "utf-8"), False


def _is_plain(data: bytes) -> bool:
    """Whether the first bytes of a file are UTF-8, up to a character that is cut at the end."""
    return _Check("utf-8").takes(data)
