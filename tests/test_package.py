"""The package as a whole: what it exports, what importing it costs, and that its papers agree."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

import gem_label

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("name", sorted(gem_label.__all__))
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(gem_label, name).__doc__
    assert name in dir(gem_label)


def test_only_public_names_are_shown() -> None:
    importlib.import_module("gem_label.label_folder")  # no module may hide a name
    assert {name for name in dir(gem_label) if not name.startswith("_")} == set(gem_label.__all__)
    assert gem_label.__version__ == PROJECT["version"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = gem_label.nothing_like_it


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        ("gem_label", {"numpy", "torch", "fiftyone"}),
        (
            "gem_label.labeling, gem_label.runs.export, gem_label.formats.reading, gem_label.masks",
            {"torch", "fiftyone"},
        ),
        ("gem_label.labeler, gem_label.engines.local", {"fiftyone"}),
    ],
)
def test_importing_brings_in_no_more_than_it_needs(modules: str, without: set[str]) -> None:
    script = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert without & set(done.stdout.split()) == set()


def test_the_version_is_the_same_everywhere() -> None:
    assert version("gem-label") == PROJECT["version"]
    assert f"version: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="gem-label")
    assert callable(command.load())
