"""Which paths of this machine somebody else may name: those below folders that the user allowed.

The FiftyOne App has no password, so whoever reaches its port can fill in the forms of the plugin, paths included.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gem_label.errors import UsageError

VARIABLE = "GEM_LABEL_FOLDERS"
"""The environment variable with the allowed folders, `os.pathsep` between them; read at every call."""


def folders_from_environment() -> list[Path] | None:
    """The folders of `GEM_LABEL_FOLDERS`; None where it is not set or empty."""
    given = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part.strip()]
    return [Path(part).expanduser() for part in given] or None


def resolve_below(path: str | Path, folders: Sequence[Path]) -> Path:
    """The real path of a file or folder that is below one of the allowed folders.

    Symbolic links and ".." are followed first, also those in the allowed folders. Use the path that is returned: a
    link that changes later does not change it. Someone who may write in the allowed folder on this machine itself can
    still put a link in place of a folder on the way; whoever only reaches the App cannot make links to folders.

    Args:
        path: what somebody gave; a relative path is one below the first folder.
        folders: the allowed folders; they need not exist.

    Raises:
        UsageError: the path is elsewhere, is an allowed folder itself, or is hidden (a name in it, below the allowed
            folder, begins with "."), or it is no path. The message names the folders and how to add one.

    Example:
        >>> resolve_below("/srv/out/../../etc/passwd", [Path("/srv/out")])
        Traceback (most recent call last):
        gem_label.errors.UsageError: this path is not in an allowed folder: give one below /srv/out; ...
    """
    try:
        given = Path(path).expanduser()
        real = Path(os.path.realpath(folders[0] / given if folders else given))
    except (ValueError, RuntimeError, OSError) as error:  # a NUL, an unknown user's home, a name too long
        raise UsageError(f"this is no path of a file: {error}") from error
    hidden = False
    for folder in folders:
        root = Path(os.path.realpath(folder))
        if root in real.parents:
            if not any(name.startswith(".") for name in real.relative_to(root).parts):
                return real
            hidden = True
    reason = "hidden files and folders are not allowed" if hidden else "this path is not in an allowed folder"
    raise UsageError(f"{reason}: give one below {_listed(folders)}; {HOW_TO_ADD}")


HOW_TO_ADD = f"`gem-label review --folder PATH` or {VARIABLE} allows another folder"


def _listed(folders: Sequence[Path]) -> str:
    return " or ".join(str(folder) for folder in folders)
