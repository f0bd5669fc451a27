"""Held-out scenes, their masks, and points about them as Open Images V7 has."""

from __future__ import annotations

import numpy as np

from gem_label.demo.scenes import Scene, render_scene
from gem_label.demo.sprites import SpriteBook
from gem_label.masks import MaskSet, encode_mask
from gem_label.metrics.points import ImagePoints

TEST_SEED = 2**40  # training counts its seeds from 0, so no test scene was ever trained on


def held_out_scenes(
    book: SpriteBook,
    count: int,
    size: int = 448,
    things: tuple[int, int] = (3, 7),
    thing_size: tuple[float, float] = (90, 220),
    unseen: bool = False,
    first: int = 0,
) -> list[Scene]:
    """Scenes that training never rendered; with `unseen`, of drawings that it never saw.

    Scene i has the seed `TEST_SEED + first + i`.
    """
    drawings = book.drawings(held_out=unseen)
    scenes = []
    for i in range(first, first + count):
        rng = np.random.default_rng(TEST_SEED + i)
        scenes.append(render_scene(rng, book, drawings, (size, size), things, thing_size))
    return scenes


def true_masks(scene: Scene) -> MaskSet:
    """The scene's things as masks, in painting order."""
    n = len(scene.things)
    height, width = scene.owners.shape
    return MaskSet(
        height,
        width,
        counts=tuple(encode_mask(scene.mask(i)) for i in range(n)),
        predicted_iou=np.ones(n, np.float32),
        stability=np.ones(n, np.float32),
        points=np.zeros((n, 2), np.float32),
    )


def scene_points(scene: Scene, rng: np.random.Generator, per_answer: int = 8) -> ImagePoints:
    """Points in the form of Open Images V7: for each word of the scene, pixels on it and pixels off it.

    Half of the no-points lie on other things, as far as there are any.
    """
    noun_of = np.array([scene.nouns.index(t.noun) for t in scene.things] + [-1])  # owner -1 is the last entry
    labels = noun_of[scene.owners]
    chosen: list[tuple[int, int, int, bool]] = []
    for c in range(len(scene.nouns)):
        asked = (
            (labels == c, per_answer, True),
            ((labels >= 0) & (labels != c), per_answer // 2, False),
            (labels < 0, per_answer // 2, False),
        )
        for region, count, answer in asked:
            ys, xs = np.nonzero(region)
            picks = rng.choice(len(ys), min(count, len(ys)), replace=False)
            chosen.extend((int(xs[i]), int(ys[i]), c, answer) for i in picks)
    table = np.array(chosen, np.int64).reshape(-1, 4)
    height, width = labels.shape
    return ImagePoints(
        x=((table[:, 0] + 0.5) / width).astype(np.float32),
        y=((table[:, 1] + 0.5) / height).astype(np.float32),
        class_index=table[:, 2],
        positive=table[:, 3].astype(bool),
    )
