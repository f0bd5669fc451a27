"""Patch features of photographs, simulated from annotated masks: a CLIP that knows every word, and how noisily.

A patch's feature is a part common to all images plus the directions of the words that cover it, by their shares of
the patch, blurred over neighbors as attention does, plus noise. Its dot products with text embeddings are those of a
CLIP with the logit scale 100: the right word leads by `LEAD` logits before blur and noise. Only differences between
logits matter to a softmax, so that features need not have unit length.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gem_label.masks import MaskSet, patch_weights
from gem_label.metrics.points import ImagePoints

DIMENSION = 512
LOGIT_SCALE = 100.0
MEAN_COSINE = 0.75
"""Cosine of the text embeddings of two different words, on average; OpenAI's ViT-B/16 has about as much."""
LEAD = 10.0
"""Logits by which the right word leads in a patch that it covers, without noise."""
SHORT_SIDE, PATCH = 448, 16
"""Pixels of the shorter side as CLIP sees a photo, and of a patch's side."""
BLUR = 0.7
"""Standard deviation, in patches, of the blur over neighbors."""
SLOW = 2.5
"""Standard deviation, in patches, of the blur that makes noise spatially correlated."""
CELLS = (4, 9)
"""Least number of background regions in a photo, and one more than the most."""
TOKEN_NOISE = 0.3
"""Noise of the class token's logits, as a share of that of a patch's."""

_SPECIFIC = float(np.sqrt(1.0 - MEAN_COSINE))
_SIGNAL = LEAD / (LOGIT_SCALE * _SPECIFIC)
_PER_LOGIT = 1.0 / (LOGIT_SCALE * _SPECIFIC)


class WordVectors:
    """A text encoder that gives every word a random direction of its own.

    The embedding of a word is sqrt(MEAN_COSINE) * common + sqrt(1 - MEAN_COSINE) * (the word's direction).

    Args:
        seed: other seeds give other directions.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self.common = _unit(np.random.default_rng(seed).standard_normal(DIMENSION))
        self._known: dict[str, NDArray[np.float32]] = {}

    def directions(self, words: Sequence[str]) -> NDArray[np.float32]:
        """(n, DIMENSION) unit length, at right angles to the common direction."""
        for word in words:
            if word not in self._known:
                rng = np.random.default_rng([self._seed, zlib.crc32(word.encode())])
                self._known[word] = self.without_common(rng.standard_normal((1, DIMENSION)), unit=True)[0]
        return (
            np.stack([self._known[word] for word in words]) if words else np.zeros((0, DIMENSION), np.float32)
        )

    def encode(self, phrases: Sequence[str]) -> NDArray[np.float32]:
        """(n, DIMENSION) unit-length text embeddings."""
        return (np.sqrt(MEAN_COSINE) * self.common + _SPECIFIC * self.directions(phrases)).astype(np.float32)

    def without_common(self, vectors: NDArray[np.floating], unit: bool = False) -> NDArray[np.float32]:
        """(..., DIMENSION) vectors without their part in the common direction; `unit`: of unit length."""
        rest = vectors - (vectors @ self.common)[..., None] * self.common
        return (_unit(rest) if unit else rest).astype(np.float32)


@dataclass(frozen=True)
class SimulatedPhoto:
    """A photo's features before noise, and its noise for a standard deviation of one logit.

    Attributes:
        clean: (h, w, d) patch features without noise.
        noise: (h, w, d).
        token_noise: (d,).
    """

    clean: NDArray[np.float32]
    noise: NDArray[np.float32]
    token_noise: NDArray[np.float32]

    def patches(self, level: float) -> NDArray[np.float32]:
        """(h, w, d) patch features with noise of `level` logits (standard deviation of a word's logit)."""
        return self.clean + np.float32(level) * self.noise

    def class_token(self, level: float) -> NDArray[np.float32]:
        """(d,) unit length: the normalized mean of the patch features, with noise of its own, normalized again."""
        mean = _unit(self.patches(level).mean(axis=(0, 1)))
        return _unit(mean + np.float32(TOKEN_NOISE * level) * self.token_noise).astype(np.float32)


def grid_of(height: int, width: int) -> tuple[int, int]:
    """(h, w) patches of a photo of this size in pixels, as CLIP sees it at `SHORT_SIDE`."""
    scale = SHORT_SIDE / min(height, width) / PATCH
    return round(height * scale), round(width * scale)


def thing_shares(truth: MaskSet, grid: tuple[int, int]) -> NDArray[np.float32]:
    """(T, h, w) share of each patch that each of T annotated masks covers; where masks overlap they divide it.

    The sum over masks is at most 1.
    """
    shares = patch_weights(truth, grid)
    return shares / np.maximum(shares.sum(axis=0), 1.0)


def voronoi(rng: np.random.Generator, grid: tuple[int, int], count: int) -> NDArray[np.int64]:
    """(h, w) index of the nearest of `count` random places."""
    places = rng.uniform(0.0, 1.0, (count, 2)) * grid
    y, x = np.mgrid[: grid[0], : grid[1]]
    distance = (y[..., None] - places[:, 0]) ** 2 + (x[..., None] - places[:, 1]) ** 2
    return distance.argmin(axis=-1)


def blur(values: NDArray[np.floating], sigma: float) -> NDArray[np.float32]:
    """(h, w, d) values as Gaussian-weighted means over patches; weights beyond the border count for nothing."""

    def weights(length: int) -> NDArray[np.float32]:
        distance = np.subtract.outer(np.arange(length), np.arange(length))
        kernel = np.exp(-0.5 * (distance / sigma) ** 2)
        return (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32)

    rows, columns = values.shape[:2]
    down = np.tensordot(weights(rows), values.astype(np.float32), axes=(1, 0))
    return np.ascontiguousarray(np.tensordot(weights(columns), down, axes=(1, 1)).transpose(1, 0, 2))


def unit_noise(rng: np.random.Generator, grid: tuple[int, int]) -> NDArray[np.float32]:
    """(h, w, DIMENSION) of variance 1, half of it white, half of it correlated over `SLOW` patches."""
    white = rng.standard_normal((*grid, DIMENSION), np.float32)
    slow = blur(rng.standard_normal((*grid, DIMENSION), np.float32), SLOW)
    return np.float32(np.sqrt(0.5)) * (white + slow / slow.std())


def simulate_photo(
    truth: MaskSet,
    words: Sequence[str],
    background: Sequence[str],
    encoder: WordVectors,
    rng: np.random.Generator,
    sigma: float = BLUR,
) -> SimulatedPhoto:
    """A photo's features from its annotated masks.

    Args:
        truth: T annotated masks.
        words: the word of each.
        background: words for the patches that no mask covers: a random one for each of some Voronoi cells.
        encoder: the words' directions.
        rng: of cells, their words, and noise.
        sigma: of the blur over neighbors, in patches; 0: none.
    """
    grid = grid_of(truth.height, truth.width)
    shares = thing_shares(truth, grid)
    cell = voronoi(rng, grid, int(rng.integers(*CELLS)))
    cell_words = [str(word) for word in rng.choice(np.array(background), cell.max() + 1)]
    free = np.clip(1.0 - shares.sum(axis=0), 0.0, 1.0)
    named = np.tensordot(shares, encoder.directions(words), axes=(0, 0))
    named = named + free[..., None] * encoder.directions(cell_words)[cell]
    if sigma:
        named = blur(named, sigma)
    common = np.float32(np.sqrt(1.0 - _SIGNAL**2)) * encoder.common.astype(np.float32)
    noise = encoder.without_common(_PER_LOGIT * unit_noise(rng, grid))
    token_noise = encoder.without_common(_PER_LOGIT * rng.standard_normal((1, DIMENSION)))[0]
    return SimulatedPhoto((common + _SIGNAL * named).astype(np.float32), noise, token_noise)


def nearest_words(
    patches: NDArray[np.float32],
    truth: MaskSet,
    true_words: Sequence[str],
    words: Sequence[str],
    encoder: WordVectors,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Nearest and right word of each patch of which one mask of a known word covers more than half.

    Args:
        patches: (h, w, d) features.
        truth: T annotated masks.
        true_words: the word of each.
        words: the known words.
        encoder: their embeddings.

    Returns:
        (K,) index of the nearest of `words` and (K,) of the right one, for the K such patches.
    """
    place = {word: index for index, word in enumerate(words)}
    shares = thing_shares(truth, (patches.shape[0], patches.shape[1]))
    right = np.array([place.get(word, -1) for word in true_words], np.int64)
    if not len(right):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    owner = right[shares.argmax(axis=0)]
    covered = (shares.max(axis=0) > 0.5) & (owner >= 0)
    return (patches[covered] @ encoder.encode(words).T).argmax(axis=1), owner[covered]


def mean_iou(found: NDArray[np.int64], right: NDArray[np.int64], classes: int) -> float:
    """Mean over the classes that are right somewhere of the IoU of places found to be one and places that are.

    Args:
        found: (K,) class found for each place.
        right: (K,) its own class.
        classes: C.
    """
    hits = np.bincount(right[found == right], minlength=classes)
    there = np.bincount(right, minlength=classes)
    either = there + np.bincount(found, minlength=classes) - hits
    return float(np.mean(hits[there > 0] / either[there > 0])) if len(right) else 0.0


def sample_points(
    truth: MaskSet, words: Sequence[str], rng: np.random.Generator, per_answer: int = 8
) -> tuple[list[str], ImagePoints]:
    """Points in the form of Open Images V7: for each word pixels on it and as many off it.

    Half of the no-points lie on other things, as far as there are any (as `demo_clip.scene_points` does).

    Args:
        truth: T annotated masks; where they overlap the last one counts.
        words: the word of each.
        rng: which pixels.
        per_answer: yes-points, and no-points, for each word.

    Returns:
        The C words that have a pixel, and the points, whose `class_index` counts these words.
    """
    owner = np.full((truth.height, truth.width), -1)
    names = list(dict.fromkeys(words))
    for mask, word in zip(truth, words, strict=True):
        owner[mask] = names.index(word)
    present = [names[i] for i in np.unique(owner[owner >= 0]).tolist()]
    rows: list[tuple[int, int, int, bool]] = []
    for c, word in enumerate(present):
        index = names.index(word)
        for region, count, answer in (
            (owner == index, per_answer, True),
            ((owner >= 0) & (owner != index), per_answer // 2, False),
            (owner < 0, per_answer // 2, False),
        ):
            ys, xs = np.nonzero(region)
            picks = rng.choice(len(ys), min(count, len(ys)), replace=False)
            rows.extend((int(xs[i]), int(ys[i]), c, answer) for i in picks)
    table = np.array(rows, np.int64).reshape(-1, 4)
    points = ImagePoints(
        x=((table[:, 0] + 0.5) / truth.width).astype(np.float32),
        y=((table[:, 1] + 0.5) / truth.height).astype(np.float32),
        class_index=table[:, 2],
        positive=table[:, 3].astype(bool),
    )
    return present, points


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
