"""gem_label.surround and gem_label.quantization: rings around masks, and vectors in 8 bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gem_label.masks import MaskSet, encode_mask, pool_patches
from gem_label.quantization import (
    dequantize,
    quantize,
    quantize_differences,
    round_differences,
    round_to_codes,
)
from gem_label.surround import CELLS_PER_PATCH, RING_WIDTH, surround_weights


def disc(size: tuple[int, int], center: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return (y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2


def masks_of(*masks: np.ndarray) -> MaskSet:
    ones = np.ones(len(masks), np.float32)
    height, width = masks[0].shape
    return MaskSet(
        height, width, tuple(map(encode_mask, masks)), ones, ones, np.zeros((len(masks), 2), np.float32)
    )


@pytest.mark.parametrize("size", [(320, 320), (320, 480), (80, 160)])
def test_the_ring_is_the_dilated_mask_without_the_mask(size: tuple[int, int]) -> None:
    """Against distances in pixels: the ring's area, and that it lies where it should."""
    grid = (20, 20 * size[1] // size[0])
    center, radius = (size[0] * 0.5, size[1] * 0.45), size[0] / 5
    weights = surround_weights(masks_of(disc(size, center, radius)), grid)[0]
    reach = radius + RING_WIDTH * np.sqrt(np.pi) * radius
    ring = disc(size, center, reach) & ~disc(size, center, radius)
    patch = (size[0] // grid[0], size[1] // grid[1])
    expected = ring[: grid[0] * patch[0], : grid[1] * patch[1]].reshape(grid[0], patch[0], grid[1], patch[1])
    # a cell is a quarter of a patch: that is how far off the ring's edges may be
    assert weights.sum() == pytest.approx(expected.mean(axis=(1, 3)).sum(), rel=0.25)
    assert np.abs(weights - expected.mean(axis=(1, 3))).max() < 2 / CELLS_PER_PATCH
    assert not weights[0].any()


def test_masks_without_a_ring_and_small_ones() -> None:
    size = (64, 96)
    full, empty, pixel = np.ones(size, bool), np.zeros(size, bool), np.zeros(size, bool)
    pixel[30, 40] = True
    corner = np.zeros(size, bool)
    corner[:20, :20] = True
    weights = surround_weights(masks_of(full, empty, pixel, corner), (8, 12))
    assert weights.shape == (4, 8, 12)
    assert not weights[:2].any()
    assert 0 < weights[2].sum() < 1  # at least a cell wide
    assert weights[3, :2, :2].sum() < weights[3].sum()  # what lies outside the photo does not count
    features = np.random.default_rng(0).normal(size=(8, 12, 5)).astype(np.float32)
    assert not pool_patches(weights, features)[:2].any()


@given(st.integers(0, 20), st.integers(1, 40), st.integers(-30, 10), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_quantized_vectors_stay_as_they_are(n: int, d: int, exponent: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, d)).astype(np.float32) * np.float32(2.0**exponent)
    vectors[rng.random(n) < 0.2] = 0
    codes, scales = quantize(vectors)
    assert (codes.dtype, scales.dtype) == (np.int8, np.float16)
    rounded = dequantize(codes, scales)
    assert np.array_equal(round_to_codes(rounded), rounded)
    largest = np.abs(vectors).max(axis=1, initial=0)
    usual = largest > 6.2e-5  # where half precision has all its digits
    error = np.abs(rounded - vectors).max(axis=1, initial=0)
    assert (error[usual] <= largest[usual] * 0.0045).all()
    assert not rounded[largest == 0].any()


@given(
    st.integers(0, 20),
    st.integers(1, 40),
    st.integers(-30, 6),
    st.integers(-20, 2),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=100, deadline=None)
def test_differences_stay_as_they_are(n: int, d: int, exponent: int, nearness: int, seed: int) -> None:
    """Of vectors that are near their bases, far away, or zeros."""
    rng = np.random.default_rng(seed)
    bases = rng.normal(size=(n, d)).astype(np.float32) * np.float32(2.0**exponent)
    bases[rng.random(n) < 0.2] = 0
    bases = round_to_codes(bases)
    vectors = bases + rng.normal(size=(n, d)).astype(np.float32) * np.float32(2.0 ** (exponent + nearness))
    vectors[rng.random(n) < 0.2] = 0
    codes, scales = quantize_differences(vectors, bases)
    assert (codes.dtype, scales.dtype) == (np.int8, np.float16)
    assert np.array_equal(scales > 0, vectors.any(axis=1))
    rounded = round_differences(vectors, bases)
    again = quantize_differences(rounded, bases)
    assert np.array_equal(again[0], codes)
    stored = rounded.any(axis=1)  # others are too small for a scale, and are zeros
    assert np.array_equal(again[1][stored], scales[stored])
    assert np.array_equal(round_differences(rounded, bases), rounded)
    assert not rounded[~vectors.any(axis=1)].any()
    largest = np.abs(vectors - bases).max(axis=1, initial=0)
    least = np.maximum(np.abs(bases).max(axis=1, initial=0) / 64, 6.1e-5)  # scales are not finer
    error = np.abs(rounded - vectors).max(axis=1, initial=0)
    assert (error <= np.maximum(largest * 0.0115, least * 0.0041)).all()
