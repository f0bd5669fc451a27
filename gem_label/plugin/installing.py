"""Installing the FiftyOne plugin: a small folder where FiftyOne looks for plugins."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path

import yaml

from gem_label.errors import GemLabelError, UsageError
from gem_label.review.database import load_fiftyone

FOLDER = "gem_label"
NAME = "@gem-label/gem-label"
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


def plugin_problem(folder: str | Path | None = None) -> str | None:
    """What is wrong with the plugin in a folder of plugins, in one line that says what to do; None: nothing.

    Args:
        folder: of all plugins; None: FiftyOne's own (`plugins_dir`).

    Raises:
        GemLabelError: FiftyOne does not work.
    """
    folder = Path(folder or load_fiftyone().config.plugins_dir).expanduser()
    installed = version("gem-label")
    found = [(path.parent, _version_in(path)) for path in sorted(folder.rglob("fiftyone.y*ml"))]
    ours = [(place, written) for place, written in found if written is not None]
    if not ours:
        return f"not in {folder}, the App has no GEM-Label: gem-label plugin install"
    for place, written in ours:
        if written != installed:
            update = "gem-label plugin install --overwrite"
            if place.resolve() != (folder / FOLDER).resolve():
                update = f"delete it and run {update}"
            return f"{place} is of gem-label {written}, this is {installed}: {update}"
    if len(ours) > 1:
        return f"it is there twice, {ours[0][0]} and {ours[1][0]}: delete one"
    return None


def _version_in(manifest: Path) -> str | None:
    """The version of our plugin that a manifest is of; None where it is another plugin's."""
    try:
        about = yaml.safe_load(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    ours = isinstance(about, dict) and about.get("name") == NAME
    return str(about.get("version")) if ours else None


def _contents(folder: Path) -> dict[str, bytes]:
    """The files of a plugin's folder by name, without what Python compiled."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
