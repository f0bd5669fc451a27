"""The FiftyOne plugin's files, and installing them where FiftyOne looks for plugins."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

from gem_label.errors import GemLabelError, UsageError
from gem_label.review.database import load_fiftyone

PLUGIN_FILE = "fiftyone.yml"
FOLDER = "gem_label"


def plugin_source() -> Path:
    """The folder of the plugin: in a checkout, or beside the installed package.

    Raises:
        GemLabelError: this installation came without it.
    """
    checkout = Path(__file__).parents[2] / "plugins" / FOLDER
    installed = Path(sysconfig.get_path("data")) / "share" / "gem-label" / "plugins" / FOLDER
    for folder in (checkout, installed):
        if (folder / PLUGIN_FILE).is_file():
            return folder
    raise GemLabelError(
        "this installation has no plugin files: fiftyone plugins download <address of gem-label's repository>"
    )


def install_plugin(folder: str | Path | None = None, overwrite: bool = False) -> Path:
    """Copy the plugin into a folder of plugins.

    Args:
        folder: of all plugins; None: FiftyOne's own (`plugins_dir`).
        overwrite: replace a plugin that is there.

    Returns:
        Where the plugin is now.

    Raises:
        UsageError: another version is there.
        GemLabelError: the files cannot be written.
    """
    source = plugin_source()
    target = Path(folder or load_fiftyone().config.plugins_dir).expanduser().resolve() / FOLDER
    if target == source.resolve():
        return target
    try:
        if target.exists():
            if not overwrite:
                raise UsageError(f"{target} is there already: --overwrite replaces it")
            shutil.rmtree(target)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    except OSError as error:
        raise GemLabelError(f"cannot write {target}: {error.strerror or error}") from error
    return target
