"""Installing the FiftyOne plugin: a small folder where FiftyOne looks for plugins."""

from __future__ import annotations

import shutil
from pathlib import Path

from gem_label.errors import GemLabelError, UsageError
from gem_label.review.database import load_fiftyone

FOLDER = "gem_label"
LOADER = Path(__file__).parent / "loader"
"""What the folder holds."""


def install_plugin(folder: str | Path | None = None, overwrite: bool = False) -> Path:
    """Write the plugin's folder into a folder of plugins; one that is up to date stays as it is.

    Args:
        folder: of all plugins; None: FiftyOne's own (`plugins_dir`).
        overwrite: replace a plugin that is there.

    Returns:
        Where the plugin is now.

    Raises:
        UsageError: another version is there.
        GemLabelError: the files cannot be written.
    """
    target = Path(folder or load_fiftyone().config.plugins_dir).expanduser().resolve() / FOLDER
    new = _contents(LOADER)
    try:
        if target.exists():
            if _contents(target) == new:
                return target
            if not overwrite:
                raise UsageError(f"{target} holds another version of the plugin: --overwrite replaces it")
            shutil.rmtree(target)
        target.mkdir(parents=True)
        for name, content in new.items():
            (target / name).parent.mkdir(exist_ok=True)
            (target / name).write_bytes(content)
    except OSError as error:
        raise GemLabelError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _contents(folder: Path) -> dict[str, bytes]:
    """The files of a plugin's folder by name, without what Python compiled."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
