"""Point evaluation: hand-worked examples, and a slow and obvious second implementation on random cases."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from gem_label.masks import MaskSet, encode_mask
from gem_label.metrics.points import (
    ImagePoints,
    assign_masks,
    average_iou,
    mask_prediction,
    min_max,
    point_counts,
    similarity_prediction,
    values_at,
)


def points_of(rows: list[tuple[float, float, int, bool]]) -> ImagePoints:
    x, y, c, positive = zip(*rows, strict=True)
    return ImagePoints(
        np.array(x, np.float32), np.array(y, np.float32), np.array(c, np.int64), np.array(positive, bool)
    )


def masks_of(*masks: np.ndarray) -> MaskSet:
    n = len(masks)
    zeros = np.zeros(n, np.float32)
    return MaskSet(
        *masks[0].shape, tuple(encode_mask(m) for m in masks), zeros, zeros, np.zeros((n, 2), np.float32)
    )


def test_min_max_scales_each_map_by_itself() -> None:
    maps = np.array([[[1.0, 3.0]], [[5.0, 5.0]]], np.float32)
    assert min_max(maps, (1, 8)).tolist() == [[[0.0, 1.0]], [[0.0, 0.0]]]


def test_maps_are_scaled_as_if_they_were_resized_first() -> None:
    maps = np.random.default_rng(0).standard_normal((3, 5, 7)).astype(np.float32)
    for size in ((48, 64), (4, 6), (5, 7)):
        resized = F.interpolate(torch.from_numpy(maps)[None], size, mode="bilinear")[0].numpy()
        low, high = resized.min(axis=(1, 2), keepdims=True), resized.max(axis=(1, 2), keepdims=True)
        expected = (resized - low) / (high - low)
        scaled = torch.from_numpy(min_max(maps, size))[None]
        np.testing.assert_allclose(F.interpolate(scaled, size, mode="bilinear")[0], expected, atol=1e-5)
        rows, columns = np.indices(size).reshape(2, -1)
        everywhere = [
            ((column + 0.5) / size[1], (row + 0.5) / size[0], 1, True)
            for row, column in zip(rows, columns, strict=True)
        ]
        predicted = similarity_prediction(maps, points_of(everywhere), size)
        clear = np.abs(expected[1].ravel() - 0.5) > 1e-4
        assert (predicted == (expected[1].ravel() >= 0.5))[clear].all()


def test_values_between_patch_centres_are_interpolated() -> None:
    maps = np.array([[[0.0, 1.0]]], np.float32)  # two patches side by side: centers at x = 1/4 and 3/4
    at = points_of([(0.25, 0.5, 0, True), (0.5, 0.5, 0, True), (0.75, 0.1, 0, True), (1.0, 0.9, 0, True)])
    np.testing.assert_allclose(values_at(maps, at), [0.0, 0.5, 1.0, 1.0], atol=1e-6)


def test_gem_by_hand() -> None:
    """Left half like class 0, right half like class 1; one yes-point of class 0 lies wrongly on the right."""
    maps = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)
    points = points_of(
        [
            (0.1, 0.5, 0, True),
            (0.9, 0.5, 0, True),
            (0.2, 0.5, 0, False),
            (0.9, 0.5, 1, True),
            (0.1, 0.5, 1, False),
        ]
    )
    counts = point_counts(similarity_prediction(maps, points, (4, 20)), points, 2)
    assert counts.tolist() == [[1, 1, 1], [1, 0, 0]]
    averages = average_iou([(["cat", "dog"], counts)])
    assert averages.pairs == (1 / 3 + 1) / 2 == averages.images == averages.classes


def test_three_averages_differ_as_defined() -> None:
    images = [(["cat", "dog"], np.array([[1, 0, 1], [2, 0, 0]])), (["cat"], np.array([[3, 0, 0]]))]
    averages = average_iou(images)
    assert averages.pairs == (0.5 + 1 + 1) / 3
    assert averages.images == (0.75 + 1) / 2
    assert averages.classes == (4 / 5 + 1) / 2


def test_gem_sam_rules() -> None:
    """The threshold rule lets a mask serve two classes or none, argmax exactly one."""
    left, right = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    left[:, :2] = right[:, 2:] = True
    masks = masks_of(left, right)
    pooled = np.array([[0.9, 0.6], [0.1, 0.3]], np.float32)
    points = points_of([(0.2, 0.5, 0, True), (0.2, 0.5, 1, True), (0.9, 0.5, 1, True)])
    assert mask_prediction(masks, assign_masks(pooled, "threshold"), points).tolist() == [True, True, False]
    assert mask_prediction(masks, assign_masks(pooled, "argmax"), points).tolist() == [True, False, True]


def test_no_masks_predict_nothing() -> None:
    empty = MaskSet(4, 4)
    points = points_of([(0.5, 0.5, 0, True)])
    belongs = assign_masks(np.zeros((0, 1), np.float32), "argmax")
    assert mask_prediction(empty, belongs, points).tolist() == [False]


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), max_size=40))
def test_counts_equal_the_obvious_loop(rows: list[tuple[int, bool, bool]]) -> None:
    points = ImagePoints(
        np.zeros(len(rows), np.float32),
        np.zeros(len(rows), np.float32),
        np.array([r[0] for r in rows], np.int64),
        np.array([r[1] for r in rows], bool),
    )
    counts = point_counts(np.array([r[2] for r in rows], bool), points, 3)
    for c in range(3):
        mine = [(yes, hit) for k, yes, hit in rows if k == c]
        assert counts[c].tolist() == [
            mine.count((True, True)),
            mine.count((False, True)),
            mine.count((True, False)),
        ]
