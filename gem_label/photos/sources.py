"""What may stand where photos are expected besides photos, and what may not."""

from __future__ import annotations

import mimetypes
import shlex
from collections import Counter
from collections.abc import Collection

ARCHIVE_SUFFIX = ".zip"
EXPECTED = (
    "photos, folders, a .txt list of paths, a .csv or .parquet with a column of them, a .zip, s3://BUCKET/FOLDER, or "
    "the name of a FiftyOne dataset"
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
        ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".py", ".log",
        ".npy", ".npz", ".pt", ".pth", ".safetensors", ".ckpt", ".onnx",
    }
)  # fmt: skip
_ARCHIVE_SUFFIXES = frozenset({".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"})


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
