"""What may stand where photos are expected besides photos: lists of paths, archives; and what may not."""

from __future__ import annotations

import codecs
import mimetypes
import os
import shlex
from collections import Counter
from collections.abc import Collection
from contextlib import suppress

from gem_label.errors import UsageError
from gem_label.stores import is_address
from gem_label.text_files import decode_text

LIST_SUFFIX, ARCHIVE_SUFFIX = ".txt", ".zip"
EXPECTED = (
    "photos, folders, a .txt list of paths, a .zip, s3://BUCKET/FOLDER, or the name of a FiftyOne dataset"
)
# Folders that file servers, cameras' cards and operating systems make for themselves.
_PASSED_OVER = frozenset(
    {
        "__macosx", "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "~snapshot",
        "$recycle.bin", "system volume information", "lost+found",
    }
)  # fmt: skip
_MOST_SUFFIXES = 8
"""Suffixes that a line names; the rest is summed up."""
_DATA_SUFFIXES = frozenset(
    {
        ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".parquet", ".md", ".html", ".py", ".log",
        ".npy", ".npz", ".pt", ".pth", ".safetensors", ".ckpt", ".onnx",
    }
)  # fmt: skip
_ARCHIVE_SUFFIXES = frozenset({".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"})


def read_photo_list(path: str) -> list[str]:
    """The absolute paths that a text file lists, one a line.

    Blank lines and lines that begin with "#" are skipped; relative paths are relative to the file's folder, addresses
    of object stores stay as they are. UTF-8, UTF-16 and UTF-32 are read, with or without a byte order mark; names
    that are not UTF-8 stay as they are on disk. Paths that do not exist are kept, so that `label` records them as
    photos that failed.

    Raises:
        UsageError: the file cannot be read, lists nothing, or nothing that it lists exists; the message has the first
            line that is wrong.
    """
    try:
        with open(path, "rb") as file:
            text = _decode(file.read())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the list of photos {path}: {error}") from error
    numbered = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1)]
    entries = [(number, line) for number, line in numbered if line and not line.startswith("#")]
    if not entries:
        raise UsageError(f"{path} lists no photos: it takes one path on each line")
    number, first = entries[0]
    if (bad := next((number for number, line in entries if "\0" in line), None)) is not None:
        raise UsageError(
            f"{path}, line {bad}: not a path; a list of photos is a text file with a path on each line"
        )
    folder = os.path.dirname(os.path.abspath(path))
    paths = [
        line if is_address(line) else os.path.abspath(os.path.join(folder, os.path.expanduser(line)))
        for _, line in entries
    ]
    if not any(is_address(each) or os.path.exists(each) for each in paths):
        raise UsageError(
            f"{path}: none of its {len(paths)} paths exists, the first is in line {number}: {first[:200]}"
        )
    return list(dict.fromkeys(paths))


def _decode(data: bytes) -> str:
    """Text of a list; bytes that are not UTF-8 become what Python's file functions take them for."""
    if b"\0" in data:  # of UTF-16 and UTF-32
        with suppress(UsageError):
            return decode_text(data, "")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def is_passed_over(folder: str) -> bool:
    """Whether a folder of this name is not looked into: hidden, or made by software for itself."""
    return folder.startswith(".") or folder.lower() in _PASSED_OVER


def refusal(path: str, suffix: str, image_suffixes: Collection[str]) -> str | None:
    """Why an existing file cannot stand where photos are expected, judged by its name.

    Args:
        path: as the user gave it.
        suffix: its lower-case suffix, with dot.
        image_suffixes: those of photos.

    Returns:
        One line that says what to do; None for what may be a photo.
    """
    if suffix in image_suffixes:
        return None
    name = f"name{suffix}"
    kind = (mimetypes.guess_type(name)[0] or "").partition("/")[0]
    if kind == "video" or suffix in (".mkv", ".webm"):
        return (
            f"{path} is a video, and videos are not supported: get frames out, for instance with "
            f"`mkdir frames && ffmpeg -i {shlex.quote(path)} -vf fps=1 frames/%06d.jpg`, and label the folder"
        )
    if suffix == ".pdf":
        return (
            f"{path} is a PDF, and PDFs are not supported: get pages out, for instance with "
            f"`mkdir pages && pdftoppm -jpeg -r 150 {shlex.quote(path)} pages/page`, and label the folder"
        )
    if suffix in _ARCHIVE_SUFFIXES:
        return f"{path} is an archive that is not read (only .zip is): unpack it and give the folder"
    if kind in ("text", "audio") or suffix in _DATA_SUFFIXES:
        return f"{path} is no photo: expected {EXPECTED}"
    return None


def describe_left_out(by_suffix: Counter[str], runs: int) -> str:
    """What a search left out, the most frequent first: "12 .txt, 3 .mp4 (videos are not supported), 1 run".

    Args:
        by_suffix: number of files by lower-case suffix.
        runs: number of runs.
    """
    ranked = sorted(by_suffix.items(), key=lambda item: (-item[1], item[0]))
    parts = [
        f"{count} {suffix or 'without suffix'}{_remark(suffix)}" for suffix, count in ranked[:_MOST_SUFFIXES]
    ]
    if rest := ranked[_MOST_SUFFIXES:]:
        parts.append(f"{sum(count for _, count in rest)} with {len(rest)} other suffixes")
    if runs:
        parts.append(f"{runs} run{'s' if runs > 1 else ''} of gem-label")
    return ", ".join(parts)


def _remark(suffix: str) -> str:
    if suffix == ARCHIVE_SUFFIX:
        return " (give a zip by its name)"
    kind = (mimetypes.guess_type(f"name{suffix}")[0] or "").partition("/")[0]
    if kind == "video" or suffix in (".mkv", ".webm"):
        return " (videos are not supported)"
    return " (PDFs are not supported)" if suffix == ".pdf" else ""
