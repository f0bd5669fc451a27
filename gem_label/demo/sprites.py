"""The demo's drawings: some two hundred nouns, each in five open-license emoji styles."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Training sees these styles alone, so that naming drawings of an unknown hand can be reported apart.
TRAINED_STYLES = ("noto", "twemoji")


@dataclass(frozen=True)
class SpriteBook:
    """All drawings, at several sizes.

    Attributes:
        nouns: N words.
        styles: S names of drawing styles.
        levels: tile size t in pixels -> (S, N, t, t, 4) uint8 RGBA with premultiplied alpha. Scenes shrink from
            the next larger level, as shrinking a drawing by more than half in one step would alias.
    """

    nouns: tuple[str, ...]
    styles: tuple[str, ...]
    levels: dict[int, NDArray[np.uint8]]

    def held_out(self, style: int) -> bool:
        """Whether training never sees this style."""
        return self.styles[style] not in TRAINED_STYLES

    def drawings(self, held_out: bool) -> NDArray[np.int64]:
        """(K, 2) pairs of style and noun: those of styles that training never sees, or of the others."""
        styles = [s for s in range(len(self.styles)) if self.held_out(s) == held_out]
        return np.array([(s, n) for s in styles for n in range(len(self.nouns))])

    def tile(self, style: int, noun: int, size: float) -> NDArray[np.uint8]:
        """(t, t, 4) drawing at the smallest stored size that is not below `size` pixels."""
        level = min((t for t in self.levels if t >= size), default=max(self.levels))
        return self.levels[level][style, noun]


def load_sprites() -> SpriteBook:
    """Read the packaged atlases (made by pipelines/build_demo_sprites.py)."""
    folder = resources.files("gem_label.demo") / "sprites"
    about = json.loads((folder / "sprites.json").read_text())
    tile, columns, nouns = about["tile"], about["columns"], tuple(about["nouns"])
    full = np.zeros((len(about["styles"]), len(nouns), tile, tile, 4), np.uint8)
    for s, style in enumerate(about["styles"]):
        with resources.as_file(folder / f"{style}.webp") as path:
            atlas = np.asarray(Image.open(path).convert("RGBA")).astype(np.uint16)
        atlas[..., :3] = atlas[..., :3] * atlas[..., 3:] // 255
        for n in range(len(nouns)):
            y, x = n // columns * tile, n % columns * tile
            full[s, n] = atlas[y : y + tile, x : x + tile]
    levels = {tile: full}
    for size in (tile // 2, tile // 4):
        flat = full.reshape(-1, tile, tile, 4)
        small = np.stack([cv2.resize(t, (size, size), interpolation=cv2.INTER_AREA) for t in flat])
        levels[size] = small.reshape(*full.shape[:2], size, size, 4)
    return SpriteBook(nouns=nouns, styles=tuple(about["styles"]), levels=levels)
