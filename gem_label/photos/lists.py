"""Lists of photos: text files with a path on each line, and tables with a column of paths."""

from __future__ import annotations

import codecs
import csv
import io
import os
import posixpath
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import unquote, urlsplit

from gem_label.errors import UsageError
from gem_label.stores import is_address
from gem_label.tables import first_names, reason
from gem_label.text_files import decode_text

LIST_SUFFIX = ".txt"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_PARQUET = ".parquet"
LIST_SUFFIXES = frozenset({LIST_SUFFIX, *_DELIMITERS, _PARQUET})
PATH_COLUMNS = (
    "uri", "url", "path", "filepath", "file_path", "image_path", "image", "filename", "file_name", "file", "photo",
)  # fmt: skip
"""Names of the column of paths; of several that a table has, the first counts."""
_SHOWN = 8


def read_photo_list(path: str, place: str | None = None) -> list[str]:
    """The absolute paths and addresses that a file lists, each once.

    A `.txt` has one on each line; blank lines and lines that begin with "#" are skipped. A `.csv`, `.tsv` or
    `.parquet` has them in a column named as one of `PATH_COLUMNS`, in any case, or has one column; empty cells are
    skipped. Relative paths are relative to the file's folder, or to the address's where it comes from a store;
    addresses such as s3://bucket/a.jpg stay as they are, and file:///a.jpg is a path. Text is UTF-8, UTF-16 or
    UTF-32, with or without a byte order mark; names that are not UTF-8 stay as they are on disk. Paths that do not
    exist are kept, so that `label` records them as photos that failed.

    Args:
        path: of the file on this machine.
        place: the address that it was fetched from; None: it is where it belongs.

    Raises:
        UsageError: the file cannot be read, lists nothing, or nothing that it lists exists; the message has the first
            line that is wrong.
    """
    name = place or path
    suffix = os.path.splitext(name)[1].lower()
    try:
        if suffix == _PARQUET:
            entries = list(_parquet_rows(path, name))
        elif suffix in _DELIMITERS:
            entries = list(_table_rows(path, name, _DELIMITERS[suffix]))
        else:
            entries = list(_lines(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read the list of photos {name}: {reason(error)}") from error
    if not entries:
        takes = "one path on each line" if suffix == LIST_SUFFIX else "a path in each row"
        raise UsageError(f"{name} lists no photos: it takes {takes}")
    number, first = entries[0]
    if (bad := next((number for number, entry in entries if "\0" in entry), None)) is not None:
        raise UsageError(
            f"{name}, line {bad}: not a path; a list of photos is a text file with a path on each line"
        )
    folder = os.path.dirname(os.path.abspath(path)) if place is None else place.rpartition("/")[0]
    paths = [_absolute(entry, folder) for _, entry in entries]
    if not any(is_address(each) or os.path.exists(each) for each in paths):
        raise UsageError(
            f"{name}: none of its {len(paths)} paths exists, the first is in line {number}: {first[:200]}"
        )
    return list(dict.fromkeys(paths))


def _absolute(entry: str, folder: str) -> str:
    if entry.startswith("file://"):
        return os.path.abspath(unquote(urlsplit(entry).path))
    if is_address(entry):
        return entry
    if is_address(folder) and not os.path.isabs(entry):
        scheme, _, rest = folder.partition("://")
        return f"{scheme}://{posixpath.normpath(f'{rest}/{entry}')}"
    return os.path.abspath(os.path.join(folder, os.path.expanduser(entry)))


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Yield the entries of a text file with the numbers of their lines."""
    for number, line in enumerate(_text(path).split("\n"), start=1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield number, entry


def _text(path: str) -> str:
    """Text of a list; bytes that are not UTF-8 become what Python's file functions take them for."""
    with open(path, "rb") as file:
        data = file.read()
    if b"\0" in data:  # of UTF-16 and UTF-32
        with suppress(UsageError):
            return decode_text(data, "")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def _table_rows(path: str, name: str, delimiter: str) -> Iterator[tuple[int, str]]:
    """Yield the cells of the column of paths with the numbers of their lines."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter)
    header = next(reader, [])
    column = _column(name, header)
    for row in reader:
        if len(row) > column and row[column].strip():
            yield reader.line_num, row[column].strip()


def _parquet_rows(path: str, name: str) -> Iterator[tuple[int, str]]:
    """Yield the cells of the column of paths with the numbers of their rows; other columns are not read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        header = file.schema_arrow.names
        column = header[_column(name, header)]
        kind = file.schema_arrow.field(column).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            raise UsageError(f"{name}: its column {column} is of {kind}, and paths are text")
        number = 0
        for batch in file.iter_batches(columns=[column]):
            for value in batch.column(0).to_pylist():
                number += 1
                if value and value.strip():
                    yield number, value.strip()
    except (pa.ArrowException, ValueError) as error:
        raise UsageError(f"cannot read the list of photos {name}: {reason(error)}") from error


def _column(name: str, header: list[str]) -> int:
    """The place of the column of paths.

    Raises:
        UsageError: there is none, or it is not clear which.
    """
    folded = [each.strip().casefold() for each in header]
    for known in PATH_COLUMNS:
        if folded.count(known) == 1:
            return folded.index(known)
    if len(header) == 1:
        return 0
    there = first_names(header, _SHOWN) or "none"
    raise UsageError(
        f"{name} has no column of paths: name it uri, path or image (its columns: {there}); for annotations, "
        "give the folder of photos"
    )
