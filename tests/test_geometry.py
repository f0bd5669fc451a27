"""Shapes of files, checked before pycocotools sees them."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from gem_label.geometry import (
    Segmentation,
    draw_shapes,
    ellipse,
    polygons,
    read_segmentation,
    read_segmentations,
    rectangle,
)
from gem_label.masks import encode_mask


def decoded(rle: dict[str, Any] | None) -> NDArray[np.bool_]:
    assert rle is not None
    return coco_mask.decode(rle).astype(bool)


@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.randoms())
@settings(max_examples=100, deadline=None)
def test_run_lengths_stay_the_same_mask(mask: NDArray[np.bool_], rng: random.Random) -> None:
    height, width = mask.shape
    flat = np.r_[False, mask.ravel(order="F")]
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    lengths = np.diff(np.r_[0, edges, mask.size]).tolist()
    padded = []
    for length in lengths:  # runs of no length anywhere
        split = rng.randint(0, length)
        padded += [split, 0, length - split]
    text = {"size": [height, width], "counts": encode_mask(mask).decode()}
    for each in (
        text,
        {"size": [height, width], "counts": lengths},
        {"size": [height, width], "counts": padded},
    ):
        shape = read_segmentation(each, height, width)
        assert shape.problems == ()
        np.testing.assert_array_equal(decoded(shape.rle), mask)
        assert shape.rle == {"size": [height, width], "counts": encode_mask(mask)}


@given(st.lists(st.text(st.characters(min_codepoint=46, max_codepoint=113), max_size=12), max_size=4))
@settings(max_examples=300, deadline=None)
def test_many_at_once_are_as_one_by_one(texts: list[str]) -> None:
    segmentations = [{"size": [3, 4], "counts": text} for text in [*texts, "<"]]
    together = read_segmentations(segmentations, 3, 4)
    assert together == [read_segmentation(each, 3, 4) for each in segmentations]
    for shape in together:
        if shape.rle is not None:
            assert decoded(shape.rle).shape == (3, 4)


def test_masks_of_one_photo_are_drawn_together_in_their_order() -> None:
    whole = {"size": [3, 4], "counts": [0, 12]}
    text = {"size": [3, 4], "counts": "<"}
    draws = [Segmentation(text), partial(rectangle, [0, 0, 2, 2]), Segmentation(whole), Segmentation(None)]
    assert draw_shapes(draws, 3, 4) == [draw(3, 4) for draw in draws]
    assert draw_shapes([], 3, 4) == []


@given(
    st.lists(
        st.lists(st.one_of(st.floats(), st.integers(), st.none(), st.floats(-60, 120)), max_size=9),
        max_size=3,
    )
)
@settings(max_examples=300, deadline=None)
def test_polygons_never_crash(parts: list[list[Any]]) -> None:
    shape = polygons(parts, 48, 64)
    assert (shape.rle is None) <= bool(shape.problems)
    if shape.rle is not None:
        assert decoded(shape.rle).shape == (48, 64)


@pytest.mark.parametrize("degrees", [0.0, 90.0, -90.0, 180.0, 450.0])
def test_turned_shapes(degrees: float) -> None:
    upright = degrees % 180 == 0
    mask = decoded(rectangle([20, 20, 24, 6], 48, 64, degrees).rle)
    ys, xs = np.nonzero(mask)
    assert (np.ptp(xs) + 1, np.ptp(ys) + 1, mask.sum()) == ((24, 6, 144) if upright else (6, 24, 144))
    ys, xs = np.nonzero(decoded(ellipse((32, 24), (20, 5), 48, 64, degrees).rle))
    assert (np.ptp(xs) > np.ptp(ys)) == upright
    assert abs(len(xs) - np.pi * 20 * 5) < 20


def test_photos_beyond_any_camera_are_refused() -> None:
    assert read_segmentation([[0, 0, 9, 0, 9, 9]], 10**9, 10**9).rle is None
    assert rectangle([0, 0, 9, 9], 10**9, 10**9).rle is None
    long = [float(v) for k in range(100_000) for v in (0 if k % 2 else 60, k % 40)]
    assert "longer than" in polygons([long], 48, 64).problems[0]
