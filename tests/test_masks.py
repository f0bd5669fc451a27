"""gem_label.masks: run lengths, patch weights, pooling."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gem_label.masks import MaskSet, area_weights, encode_mask, patch_weights, pool_patches


def maskset(*masks: NDArray[np.bool_]) -> MaskSet:
    n = len(masks)
    ones = np.ones(n, np.float32)
    height, width = masks[0].shape
    counts = tuple(encode_mask(mask) for mask in masks)
    return MaskSet(height, width, counts, ones, ones, np.zeros((n, 2), np.float32))


def box_mask(height: int, width: int, x: int, y: int, w: int, h: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    mask[y : y + h, x : x + w] = True
    return mask


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_masks_come_back_from_their_run_lengths(height: int, width: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    masks = maskset(mask)
    assert np.array_equal(masks.decode(0), mask)
    assert masks.areas[0] == mask.sum()
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        tight = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        assert masks.boxes[0].tolist() == tight


def test_selecting_masks_by_mask_and_by_index_keeps_rows_together() -> None:
    masks = maskset(box_mask(4, 5, 0, 0, 1, 1), box_mask(4, 5, 0, 0, 2, 1), box_mask(4, 5, 0, 0, 3, 1))
    masks = masks.with_embeddings(np.arange(6, dtype=np.float32).reshape(3, 2))
    by_mask, by_index = masks[np.array([True, False, True])], masks[[2, 0]]
    assert by_mask.areas.tolist() == [1, 3]
    assert by_index.areas.tolist() == [3, 1]
    assert by_index.embeddings is not None
    assert by_index.embeddings.tolist() == [[4, 5], [0, 1]]
    assert [int(mask.sum()) for mask in masks] == [1, 2, 3]


def test_a_photo_without_masks_has_empty_arrays() -> None:
    masks = MaskSet(10, 20)
    assert len(masks) == 0
    assert masks.areas.shape == (0,)
    assert masks.boxes.shape == (0, 4)
    assert pool_patches(patch_weights(masks, (2, 3)), np.zeros((2, 3, 7), np.float32)).shape == (0, 7)


def test_arrays_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="stability"):
        MaskSet(2, 2, (encode_mask(np.ones((2, 2), bool)),), np.ones(1), np.ones(2), np.zeros((1, 2)))


@given(st.integers(1, 50), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_area_weights_share_out_every_pixel_evenly(length: int, patches: int) -> None:
    weights = area_weights(length, patches)
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(weights.sum(axis=0), patches / length, atol=1e-5)


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    share=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_patch_weights_are_the_share_of_each_patch_under_the_mask(
    seed: int, size: tuple[int, int], share: float
) -> None:
    """By the definition, for masks in one order, on grids that do not divide the photo and on finer ones."""
    rng = np.random.default_rng(seed)
    grid = tuple(rng.integers(1, 9, 2).tolist())
    drawn = rng.random((3, *size)) < np.array([share, 0, 1])[:, None, None]
    fine = np.kron(drawn, np.ones((1, *grid)))  # each patch is as many of these as the photo has pixels
    expected = fine.reshape(3, grid[0], size[0], grid[1], size[1]).mean(axis=(2, 4))
    weights = patch_weights(maskset(*drawn), grid)
    assert weights.dtype == np.float32
    assert np.allclose(weights, expected, atol=1e-7)
    assert not weights[1].any()
    assert (weights[2] == 1).all()


def test_patch_weights_of_a_large_photo_cost_less_than_decoding_its_masks() -> None:
    masks = maskset(*[box_mask(3000, 4000, 7 * i, 11 * i, 2000, 1000) for i in range(12)])
    fastest = {"weights": np.inf, "decoding": np.inf}
    for _ in range(3):
        start = time.process_time()
        weights = patch_weights(masks, (28, 37))
        middle = time.process_time()
        decoded = [masks.decode(i) for i in range(len(masks))]
        fastest["weights"] = min(fastest["weights"], middle - start)
        fastest["decoding"] = min(fastest["decoding"], time.process_time() - middle)
    assert np.allclose(weights.mean(axis=(1, 2)), [mask.mean() for mask in decoded], atol=1e-6)
    assert fastest["weights"] < fastest["decoding"] / 3, fastest


def test_pooling_is_linear_in_the_patches() -> None:
    """Mean over the mask of (f . t) = (mean over the mask of f) . t: what lets runs be relabeled."""
    rng = np.random.default_rng(1)
    patches, text = rng.normal(size=(3, 4, 8)).astype(np.float32), rng.normal(size=8).astype(np.float32)
    weights = patch_weights(maskset(box_mask(30, 40, 3, 5, 11, 17), box_mask(30, 40, 0, 0, 40, 30)), (3, 4))
    pooled = pool_patches(weights, patches)
    mean = (weights * (patches @ text)).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))
    assert np.allclose(pooled @ text, mean, atol=1e-5)
    assert np.allclose(pooled[1], patches.mean(axis=(0, 1)), atol=1e-6)
    empty = pool_patches(patch_weights(maskset(np.zeros((30, 40), bool)), (3, 4)), patches)
    assert not empty.any()
