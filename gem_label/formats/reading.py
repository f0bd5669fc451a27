"""Reading an annotation file of any format: what it is follows from its content."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from gem_label.errors import UsageError
from gem_label.formats.annotations import Annotations, brief
from gem_label.formats.coco import read_coco
from gem_label.formats.cvat.reading import read_cvat
from gem_label.formats.label_studio.writing import CONFIG_SUFFIX, is_label_studio, read_label_studio
from gem_label.formats.table.reading import read_csv, read_parquet
from gem_label.formats.yolo.reading import is_yolo_folder, read_yolo
from gem_label.tables import reason
from gem_label.text_files import PACKING_ERRORS, decode_text, member_files

KINDS = "COCO (.json), CVAT (.xml), Label Studio (.json), YOLO (data.yaml or its folder) or a table (.csv, .parquet)"
MAX_BYTES = 1 << 33
"""Of an annotation file, unpacked."""

_ALWAYS_FINE = 1 << 28
_MOST_GROWTH = 200
"""Bytes unpacked for each byte of an archive above `_ALWAYS_FINE`: annotations have some ten, bombs a thousand."""

_SUFFIXES = (".xml", ".json", ".csv", ".parquet")


def read_annotations(path: str | Path) -> Annotations:
    """The photos of an annotation file with their masks; shapes are not looked at yet.

    Args:
        path: a file of one of `KINDS`, plain or .gz, a folder with one, or a .zip with one.

    Raises:
        UsageError: it cannot be read, is of another kind, lists no photos, or its lists do not fit together.
    """
    path = Path(path).expanduser()
    try:
        annotations = _read(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RuntimeError) as error:  # a NUL in the path, or nothing of that home
        raise UsageError(f"cannot read {brief(str(path))}: {error}") from error
    if not annotations.photos:
        raise UsageError(f"{path} lists no photos")
    return annotations


def _read(path: Path) -> Annotations:
    if path.is_dir():
        return _read_folder(path, path)
    if path.suffix.lower() in (".yaml", ".yml"):
        return read_yolo(path)
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{path} has more than {MAX_BYTES:,} bytes")
    data, name = path.read_bytes(), path.name
    if data.startswith(b"\x1f\x8b"):
        data, name = _unzip(path, data), name.removesuffix(".gz")
    return _read_archive(path, data) if data.startswith(b"PK") else _read_content(path, name, data)


def _unzip(path: Path, data: bytes) -> bytes:
    """The content of a .gz."""
    most = min(MAX_BYTES, max(_ALWAYS_FINE, _MOST_GROWTH * len(data)))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = file.read(most + 1)
    except (OSError, *PACKING_ERRORS) as error:
        raise UsageError(f"cannot unpack {path}: {reason(error)}") from error
    if len(content) > most:
        raise UsageError(f"{path} has more than {most:,} bytes unpacked")
    return content


def _read_folder(path: Path, named: Path) -> Annotations:
    """A folder of YOLO's, or one with a single annotation file.

    Args:
        path: the folder.
        named: what messages call it.
    """
    if is_yolo_folder(path):
        return read_yolo(path)
    found = sorted(file for file in path.iterdir() if _has_annotations(file.name))
    if len(found) != 1:
        raise UsageError(f"{named} holds {len(found)} annotation files and no data.yaml: give one file")
    return _read_content(named, found[0].name, found[0].read_bytes())


def _has_annotations(name: str) -> bool:
    """Whether a file's name is one of annotations, not of the configuration beside those of Label Studio."""
    return PurePosixPath(name).suffix.lower() in _SUFFIXES and not name.endswith(CONFIG_SUFFIX)


def _read_archive(path: Path, data: bytes) -> Annotations:
    """The annotation file in a .zip, or YOLO's folder in one."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = member_files(archive)
            unpacked = sum(each.file_size for each in members)
            if unpacked > min(MAX_BYTES, max(_ALWAYS_FINE, _MOST_GROWTH * len(data))):
                raise UsageError(
                    f"{path} has {unpacked:,} bytes unpacked, {len(data):,} packed: is it a zip bomb?"
                )
            names = [each.filename for each in members if "__MACOSX" not in each.filename]
            if any(PurePosixPath(name).name in ("data.yaml", "data.yml") for name in names):
                return _read_yolo_archive(archive, names)
            found = [name for name in names if _has_annotations(name)]
            found = [name for name in found if PurePosixPath(name).name == "annotations.xml"] or found
            if len(found) != 1:
                raise UsageError(f"{path} holds {len(found)} annotation files: unpack it and give one")
            return _read_content(path, found[0], archive.read(found[0]))
    except (*PACKING_ERRORS, KeyError) as error:
        raise UsageError(f"cannot unpack {path}: {reason(error)}") from error


def _read_yolo_archive(archive: zipfile.ZipFile, names: list[str]) -> Annotations:
    with tempfile.TemporaryDirectory(prefix="gem-label-") as folder:
        suffixes = (".yaml", ".yml", ".txt", ".jsonl")
        texts = [name for name in names if PurePosixPath(name).suffix.lower() in suffixes]
        for name in texts:  # `extract` keeps members inside the folder
            archive.extract(name, folder)
        listed = [name for name in names if name not in texts]
        (root,) = sorted(Path(folder).rglob("data.y*ml"))[:1]
        return read_yolo(root, photos=[str(Path(folder) / name) for name in listed])


def _read_content(path: Path, name: str, data: bytes) -> Annotations:
    """Read the content of a file.

    Args:
        path: what messages call it.
        name: of the file itself.
        data: its content.
    """
    if data.startswith(b"PAR1"):
        return read_parquet(path, data)
    if name.lower().endswith(".xml"):
        return read_cvat(path, data)
    text = decode_text(data, str(path))
    first = text.lstrip("\ufeff \t\r\n")[:1]
    if first == "<":
        return read_cvat(path, data)
    if name.lower().endswith(".csv") and first not in ("{", "["):
        return read_csv(path, text)
    content = parse_json(path, text)
    return read_label_studio(path, content) if is_label_studio(content) else read_coco(path, content)


def parse_json(path: Path, text: str) -> Any:
    """The JSON of a file.

    Raises:
        UsageError: it is none.
    """
    try:
        return json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no annotation file ({error}): expected {KINDS}") from error
