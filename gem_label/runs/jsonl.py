"""JSON-lines files that grow while a run is made, and what kills, full disks and power cuts leave of them."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gem_label.atomic import write_atomic
from gem_label.errors import GemLabelError

Row = dict[str, Any]
_EMPTY = (
    b"\0 \t\r\n"  # a file that grew before its content reached the disk has zeros there after a power cut
)


def json_line(row: Mapping[str, Any]) -> bytes:
    """One line of a JSON-lines file, in UTF-8; file names that are not UTF-8 are escaped and come back."""
    try:
        return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:
        return (json.dumps(row) + "\n").encode("ascii")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON-lines file atomically, a row at a time."""
    write_atomic(path, lambda file: file.writelines(json_line(row) for row in rows))


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Append one line, whole or not at all unless the process is killed in between.

    Raises:
        OSError: the disk is full, or the file cannot be written; it is as it was.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        before, line = os.fstat(descriptor).st_size, json_line(row)
        try:
            while line:  # a disk that is nearly full takes a part, and refuses the next
                line = line[os.write(descriptor, line) :]
        except OSError:
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def read_jsonl(
    path: Path, fields: Mapping[str, type] | None = None, remedy: str = "delete that line"
) -> Iterator[Row]:
    """Yield the rows of a JSON-lines file, none when it does not exist; a last line that was cut is left out.

    Args:
        path: the file.
        fields: fields that every row has, and their types.
        remedy: what to do about a damaged line, for the error.

    Raises:
        GemLabelError: a line before the last is damaged; the message has its number.
    """
    damaged = 0
    for number, row in _rows(path, fields):
        if damaged:
            raise GemLabelError(f"{path}, line {damaged} is damaged: {remedy}")
        if row is None:
            damaged = number
        else:
            yield row


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
    rows = list(_rows(path, fields))
    whole = b"".join(json_line(row) for _, row in rows if row is not None)
    if whole != path.read_bytes():
        write_atomic(path, lambda file: file.write(whole))
    return [number for number, row in rows if row is None]


def _rows(path: Path, fields: Mapping[str, type] | None) -> Iterator[tuple[int, Row | None]]:
    """Yield the number of each line that is not empty with its row, None where the line is damaged."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(codecs.BOM_UTF8).strip(_EMPTY)
            if text:
                yield number, _parse(text, fields or {})


def _parse(line: bytes, fields: Mapping[str, type]) -> Row | None:
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    whole = isinstance(row, dict) and all(isinstance(row.get(name), kind) for name, kind in fields.items())
    return row if whole else None
