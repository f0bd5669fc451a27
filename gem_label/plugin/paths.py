"""Paths of this machine that forms name: where operators may write and read.

The App has no password, so what is in a form comes from anybody who reaches its port. Every path of a form goes
through `allowed_path`. Calls from Python, `foo.get_operator(uri)(dataset, path=...)`, go through it too, but may name
any path: who runs Python here can open any file without us. What is delegated counts as asked by the App.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from gem_label.allowed_folders import folders_from_environment, resolve_below
from gem_label.errors import UsageError
from gem_label.formats.label_studio.writing import CONFIG_SUFFIX
from gem_label.formats.reading import read_annotations
from gem_label.formats.writing import FORMATS, check_target
from gem_label.plugin.base import is_own_process
from gem_label.progress import Progress
from gem_label.review.ports import listens_on_network
from gem_label.review.storage.fields import pushed_fields
from gem_label.review.tasks.labeling import runs_folder


def allowed_folders(ctx: Any) -> list[Path]:
    """The folders below which the App's forms may name paths.

    These are the folders of `GEM_LABEL_FOLDERS` and the one where runs of datasets are by default. Where the variable
    is not set, the user's home folder is allowed too, but only while nobody else can be the one who asks: the App
    listens on this machine alone, and the work is not delegated.
    """
    folders = folders_from_environment()
    if folders is None:
        is_local = not ctx.delegated and not listens_on_network()
        folders = [Path.home()] if is_local else []
    return [*folders, runs_folder()]


def allowed_path(ctx: Any, path: str | Path) -> Path:
    """The real path of a file or folder that a form names.

    Raises:
        UsageError: it is not below an allowed folder.
    """
    if not is_own_process(ctx):
        return resolve_below(path, allowed_folders(ctx))
    try:
        return Path(os.path.realpath(Path(path).expanduser()))
    except (ValueError, RuntimeError, OSError) as error:  # a NUL, an unknown user's home
        raise UsageError(f"this is no path of a file: {error}") from error


def allowed_run_folder(ctx: Any, path: str | Path, field: str) -> Path:
    """The real path of the run directory that a form names: below an allowed folder, or the field's own run.

    Raises:
        UsageError: it is neither.
    """
    push = pushed_fields(ctx.dataset).get(field)
    if push is not None and (Path(push["run"]) / "manifest.json").is_file():
        own = Path(os.path.realpath(push["run"]))
        if os.path.realpath(Path(path).expanduser()) == str(own):
            return own
    return allowed_path(ctx, path)


def allowed_file(ctx: Any, path: str | Path, or_folder: bool = False) -> Path:
    """The real path of a file, or folder, that a form names to be read.

    Raises:
        UsageError: it is not below an allowed folder, or is not there.
    """
    place = allowed_path(ctx, path)
    if not (place.is_file() or (or_folder and place.is_dir())):
        raise UsageError(f"there is no file {path}")
    return place


def existing_exports(path: Path, format: str) -> list[Path]:
    """What an export in a format would replace."""
    targets = [path, *([path.with_suffix(CONFIG_SUFFIX)] if format == "label-studio" else [])]
    return [
        each for each in targets if os.path.lexists(each) and not (each.is_dir() and not any(each.iterdir()))
    ]


def check_replaceable(path: Path, format: str, replace: bool) -> Generator[Progress, None, None]:
    """Make sure that an export replaces nothing but annotations, and those only where somebody said so.

    Args:
        path: where the export goes, as `allowed_path` gives it.
        format: one of `FORMATS`.
        replace: what is there may be replaced.

    Yields:
        Progress: what is there is read.

    Raises:
        UsageError: something is there that is not to be replaced.
    """
    check_target(path, format)
    existing = existing_exports(path, format)
    if existing and not replace:
        raise UsageError(f"{existing[0]} exists: give another name, or choose to replace it (replace=True)")
    if not existing or FORMATS[format].is_folder:  # the writer of a folder looks into what is there itself
        return
    yield Progress(0, 1, f"reading {path.name}, which is replaced")
    for each in existing:
        if each != path:
            is_ours = each.is_file() and b"<View" in each.read_bytes()[:1000]
        else:
            is_ours = each.is_file() and _is_readable(each)
        if not is_ours:
            raise UsageError(f"{each} is no annotation file and is not replaced: give another name")


def _is_readable(path: Path) -> bool:
    """Whether a file holds annotations."""
    try:
        read_annotations(path)
    except UsageError:
        return False
    return True
