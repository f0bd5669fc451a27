"""JSON-lines files that grow while a run is made, and what kills, full disks and power cuts leave of them.

Every line ends with a checksum of its own, as lines are appended one by one.
"""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gem_label.atomic import name_full_disk, write_atomic
from gem_label.errors import GemLabelError
from gem_label.runs.checksums import sealed_line, unsealed_line

Row = dict[str, Any]
_LONGEST = 1 << 17  # bytes, more than a line with a path of the longest kind
_EMPTY = (
    b"\0 \t\r\n"  # a file that grew before its content reached the disk has zeros there after a power cut
)


def json_line(row: Mapping[str, Any]) -> bytes:
    """One line of a JSON-lines file, in UTF-8; file names that are not UTF-8 are escaped and come back.

    Args:
        row: an object that is not empty.
    """
    try:
        text = json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(row).encode("ascii")
    return sealed_line(text) + b"\n"


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON-lines file atomically, a row at a time."""
    write_atomic(path, lambda file: file.writelines(json_line(row) for row in rows))


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Append one line, whole or not at all unless the process is killed in between.

    A file that does not end in a line end gets one first.

    Raises:
        OSError: the disk is full, or the file cannot be written; it is as it was.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        before, line = os.fstat(descriptor).st_size, json_line(row)
        if before and os.pread(descriptor, 1, before - 1) != b"\n":
            line = b"\n" + line
        try:
            while line:  # a disk that is nearly full takes a part, and refuses the next
                line = line[os.write(descriptor, line) :]
        except OSError as error:
            os.ftruncate(descriptor, before)
            name_full_disk(error, path)
            raise
    finally:
        os.close(descriptor)


def read_jsonl(
    path: Path, fields: Mapping[str, type] | None = None, remedy: str = "delete that line"
) -> Iterator[Row]:
    """Yield the rows of a JSON-lines file, none when it does not exist.

    A last line without its end is what a kill leaves; it is left out with a note on stderr.

    Args:
        path: the file.
        fields: fields that every row has, and their types.
        remedy: what to do about a damaged line, for the error.

    Raises:
        GemLabelError: another line is damaged; the message has its number.
    """
    for number, row, ended in _rows(path, fields):
        if row is not None:
            yield row
        elif ended:
            raise GemLabelError(f"{path}, line {number} is damaged: {remedy}")
        else:
            print(f"note: {path}, line {number} was cut and is left out", file=sys.stderr)


def damaged_lines(path: Path, fields: Mapping[str, type]) -> tuple[list[Row], list[int]]:
    """The rows of a JSON-lines file, and the numbers of its cut and damaged lines, from 1.

    Args:
        path: the file; need not exist.
        fields: fields that every row has, and their types.
    """
    lines = list(_rows(path, fields))
    return [row for _, row, _ in lines if row is not None], [n for n, row, _ in lines if row is None]


def repair_jsonl(path: Path, fields: Mapping[str, type] | None = None) -> list[int]:
    """Drop the cut and damaged lines of a JSON-lines file, so that lines can be appended.

    Args:
        path: the file; need not exist.
        fields: fields that every row has, and their types.

    Returns:
        The numbers of the dropped lines, from 1.
    """
    if not path.exists():
        return []
    rows, damaged = damaged_lines(path, fields or {})
    whole = b"".join(map(json_line, rows))
    if whole != path.read_bytes():
        write_atomic(path, lambda file: file.write(whole))
    return damaged


def last_row(path: Path, fields: Mapping[str, type]) -> Row | None:
    """The last row of a JSON-lines file, without reading the others; None where it cannot be read.

    Args:
        path: the file; need not exist.
        fields: fields that the row has, and their types.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _LONGEST, 0))
            lines = file.read().strip(_EMPTY).splitlines()
    except FileNotFoundError:
        return None
    return parse_line(lines[-1], fields) if lines else None


def _rows(path: Path, fields: Mapping[str, type] | None) -> Iterator[tuple[int, Row | None, bool]]:
    """Yield (number, row, whether it has a line end) of each line that is not empty; None: a damaged row."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(codecs.BOM_UTF8).strip(_EMPTY)
            if text:
                yield number, parse_line(text, fields or {}), line.endswith(b"\n")


def parse_line(line: bytes, fields: Mapping[str, type]) -> Row | None:
    """The row of a line, without its checksum; None where the line is damaged.

    Args:
        line: without its end.
        fields: fields that the row has, and their types.
    """
    try:
        row = json.loads(unsealed_line(line).decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    whole = isinstance(row, dict) and all(isinstance(row.get(name), kind) for name, kind in fields.items())
    return row if whole else None
