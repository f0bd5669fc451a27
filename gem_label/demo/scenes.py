"""Rendered scenes: drawings at random sizes, turns and overlaps on varied backgrounds, with exact masks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gem_label.demo.sprites import SpriteBook

MIN_VISIBLE = 0.5  # share of a thing that later things may not cover


@dataclass(frozen=True)
class Thing:
    """One pasted drawing: its word, its drawing style, whether training never sees that style."""

    noun: str
    style: str
    held_out: bool


@dataclass(frozen=True)
class Scene:
    """A rendered scene.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        owners: (H, W) int16, the index of the thing seen at each pixel, -1 for background.
        things: what was pasted, in painting order.
    """

    image: NDArray[np.uint8]
    owners: NDArray[np.int16]
    things: tuple[Thing, ...]

    @property
    def nouns(self) -> list[str]:
        """The distinct words of the scene, sorted."""
        return sorted({t.noun for t in self.things})

    def mask(self, index: int) -> NDArray[np.bool_]:
        """(H, W) visible pixels of one thing."""
        return self.owners == index


def render_background(rng: Generator, height: int, width: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8: smooth color fields, stripes, or clutter of plain shapes, with grain."""
    cells = int(rng.integers(2, 7))
    field = rng.uniform(0, 255, (cells, cells, 3)).astype(np.float32)
    mean = field.mean(axis=(0, 1), keepdims=True)
    field = mean + (field - mean) * rng.uniform(0.1, 0.7)
    image = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    kind = rng.integers(4)
    if kind == 1:  # stripes
        angle, period = rng.uniform(0, np.pi), rng.uniform(6, 60)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period))[..., None]
        image += wave * rng.uniform(-50, 50, 3).astype(np.float32)
    elif kind == 2:  # plain shapes, so that an edge alone does not mean a thing
        for _ in range(int(rng.integers(2, 8))):
            center = (int(rng.integers(width)), int(rng.integers(height)))
            axes = (int(rng.integers(4, max(5, width // 4))), int(rng.integers(4, max(5, height // 4))))
            color = rng.uniform(0, 255, 3).tolist()
            if rng.random() < 0.5:
                cv2.ellipse(image, center, axes, float(rng.uniform(0, 180)), 0, 360, color, -1)
            else:
                corner = (center[0] + axes[0], center[1] + axes[1])
                cv2.rectangle(image, center, corner, color, -1)
    elif kind == 3:  # coarse grain
        cell = int(rng.integers(2, 9))
        grain = rng.normal(0, rng.uniform(5, 30), (height // cell + 1, width // cell + 1, 1)).astype(
            np.float32
        )
        image += cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def _turned(rng: Generator, tile: NDArray[np.uint8], size: float) -> NDArray[np.float32]:
    """The drawing scaled to `size`, turned, perhaps mirrored, with jittered colors.

    Returns:
        (r, r, 4) float32 RGBA in [0, 255], premultiplied, with room for any turn.
    """
    side = tile.shape[0]
    reach = int(np.ceil(size * 1.3))
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), float(rng.normal(0, 12)), size / side)
    if rng.random() < 0.5:
        matrix[:, 0], matrix[:, 2] = -matrix[:, 0], matrix[:, 2] + matrix[:, 0] * side
    matrix[:, 2] += reach / 2 - side / 2
    out = cv2.warpAffine(tile, matrix, (reach, reach), flags=cv2.INTER_LINEAR).astype(np.float32)
    alpha = out[..., 3:]
    gain = rng.uniform(0.8, 1.15) * rng.uniform(0.92, 1.08, 3)
    lift = rng.uniform(-15, 15)
    out[..., :3] = np.clip(out[..., :3] * gain + lift * (alpha / 255.0), 0, alpha)
    return out.astype(np.float32)


def _paste(
    image: NDArray[np.uint8], owners: NDArray[np.int16], index: int, drawing: NDArray, x: int, y: int
) -> tuple[NDArray[np.uint8], NDArray[np.int16], float]:
    """Image and owners with the drawing on top, and the share of the drawing that is inside the image."""
    height, width = owners.shape
    y0, x0, y1, x1 = max(y, 0), max(x, 0), min(y + len(drawing), height), min(x + len(drawing), width)
    solid = drawing[..., 3] > 127
    part = drawing[y0 - y : y1 - y, x0 - x : x1 - x]
    inside = part[..., 3] > 127
    image, owners = image.copy(), owners.copy()
    under = image[y0:y1, x0:x1]
    image[y0:y1, x0:x1] = (part[..., :3] + under * (1 - part[..., 3:] / 255.0)).astype(np.uint8)
    owners[y0:y1, x0:x1][inside] = index
    return image, owners, float(inside.sum() / max(solid.sum(), 1))


def render_scene(
    rng: Generator,
    book: SpriteBook,
    drawings: NDArray[np.int64],
    size: tuple[int, int],
    count: tuple[int, int],
    thing_size: tuple[float, float],
) -> Scene:
    """Paste drawings one over another, none more than half hidden.

    Args:
        rng: where all randomness comes from.
        book: the drawings.
        drawings: (K, 2) pairs of style and noun to draw from (`SpriteBook.drawings`).
        size: (height, width) in pixels.
        count: fewest and most things; fewer are pasted where no free place is found.
        thing_size: smallest and largest side of a drawing's tile in pixels (log-uniform).
    """
    height, width = size
    image = render_background(rng, height, width)
    owners = np.full(size, -1, np.int16)
    things: list[Thing] = []
    areas: list[int] = []
    low, high = np.log(thing_size[0]), np.log(thing_size[1])
    for _ in range(int(rng.integers(count[0], count[1] + 1))):
        style, noun = drawings[rng.integers(len(drawings))]
        side = float(np.exp(rng.uniform(low, high)))
        drawing = _turned(rng, book.tile(style, noun, side), side)
        for _attempt in range(6):
            x = int(rng.integers(-len(drawing) // 4, width - 3 * len(drawing) // 4 + 1))
            y = int(rng.integers(-len(drawing) // 4, height - 3 * len(drawing) // 4 + 1))
            new_image, new_owners, inside = _paste(image, owners, len(things), drawing, x, y)
            visible = np.bincount(new_owners[new_owners >= 0], minlength=len(things) + 1)
            hidden = any(v < MIN_VISIBLE * a for v, a in zip(visible, areas, strict=False))
            if not hidden and inside > 0.6 and visible[len(things)] > 12:
                image, owners = new_image, new_owners
                areas.append(int(visible[len(things)]))
                things.append(Thing(book.nouns[noun], book.styles[style], book.held_out(style)))
                break
    return Scene(image=_finish(rng, image), owners=owners, things=tuple(things))


def _finish(rng: Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A camera's touch: now and then blur, grain, another exposure."""
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (3, 3), float(rng.uniform(0.3, 1.0))).astype(np.uint8, copy=False)
    if rng.random() < 0.3:
        noise = rng.normal(0, rng.uniform(2, 8), image.shape).astype(np.float32)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        image = np.clip(image * np.float32(rng.uniform(0.8, 1.15)), 0, 255).astype(np.uint8)
    return image
