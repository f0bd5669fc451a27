"""The demo: rendered scenes with known masks, and a small CLIP that knows their words. No model hub is needed."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path


def demo_folder() -> Path:
    """The packaged dataset of a dozen rendered scenes (its layout: `gem_label.demo.dataset`)."""
    return Path(str(resources.files("gem_label.demo") / "scenes"))


def scene_paths() -> list[Path]:
    """The photos of the dozen demo scenes, sorted by name."""
    return sorted((demo_folder() / "data").glob("*.jpg"))


def demo_words() -> list[str]:
    """All words of the demo vocabulary, sorted."""
    sprites = resources.files("gem_label.demo") / "sprites" / "sprites.json"
    return list(json.loads(sprites.read_text())["nouns"])
