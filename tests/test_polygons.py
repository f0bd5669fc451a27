"""Polygons of masks: judged by pycocotools and by distances."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from gem_label.errors import UsageError
from gem_label.formats.outlines.borders import Borders, signed_areas, trace_borders
from gem_label.formats.outlines.polygons import PARTS, drawn_iou, mask_polygons, outline, single_outline

small_masks = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def blob(height: int, width: int, seed: int, coarse: int = 8) -> NDArray[np.bool_]:
    """A mask with several parts and holes."""
    noise = np.random.default_rng(seed).random((height // coarse, width // coarse)).astype(np.float32)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) > 0.5


blobs = st.builds(
    blob, st.integers(40, 120), st.integers(40, 120), st.integers(0, 10_000), st.integers(4, 20)
)
small_blobs = st.builds(
    blob, st.integers(20, 40), st.integers(20, 40), st.integers(0, 10_000), st.integers(3, 8)
)


def area(polygon: NDArray) -> float:
    return float(signed_areas(Borders(polygon, np.array([0, len(polygon)])))[0])


def count_parts(mask: NDArray[np.bool_]) -> int:
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1


def rings(polygon: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Every lattice point that a polygon with axis-parallel edges passes."""
    points = []
    for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        step, length = np.sign(end - start), np.abs(end - start).sum()
        assert length == np.abs(end - start).max() > 0
        points += [tuple((start + step * i).tolist()) for i in range(length)]
    return points


def check_polygons(mask: NDArray[np.bool_]) -> None:
    """Simple, of positive area, together the mask: as areas, and as pycocotools draws them."""
    polygons = mask_polygons(mask)
    assert all(area(polygon) > 0 for polygon in polygons)
    assert sum(area(polygon) for polygon in polygons) == mask.sum()
    for polygon in polygons:
        points = rings(polygon)
        assert len(set(points)) == len(points)
    if polygons:
        rles = coco_mask.frPyObjects([polygon.ravel().tolist() for polygon in polygons], *mask.shape)
        np.testing.assert_array_equal(coco_mask.decode(coco_mask.merge(rles)), mask)


@given(small_masks)
@example(np.array([[1, 0], [0, 1]], bool))
@example(np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]], bool))
@example(np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]], bool))
@example(
    np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 1, 0, 1, 1], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]], bool)
)
@settings(max_examples=300, deadline=None)
def test_polygons_cover_any_small_mask_exactly(mask: NDArray[np.bool_]) -> None:
    check_polygons(mask)


@given(blobs)
@settings(max_examples=40, deadline=None)
def test_polygons_cover_blobs_with_holes_and_parts_exactly(mask: NDArray[np.bool_]) -> None:
    check_polygons(mask)


def test_borders_tell_parts_from_holes() -> None:
    ring = np.ones((5, 7), bool)
    ring[2, 2:4] = False
    assert sorted(signed_areas(trace_borders(ring))) == [-2.0, 35.0]
    assert len(trace_borders(np.zeros((3, 3), bool))) == 0


RAGGED = ("noise 0.5", "noise 0.6", "noise 0.9", "checkerboard", "comb", "holes", "spiral")


def ragged(kind: str, side: int = 1000) -> NDArray[np.bool_]:
    y, x = np.mgrid[:side, :side]
    if kind.startswith("noise"):
        return np.random.default_rng(0).random((side, side)) < float(kind.split()[1])
    if kind == "spiral":
        ring = np.minimum.reduce([x, y, side - 1 - x, side - 1 - y])
        walls = ring % 2 == 0
        walls[(x == y + 1) & (x < side // 2)] ^= True  # one ring leads into the next
        return walls
    return {
        "checkerboard": (x + y) % 2 == 0,
        "comb": (x % 2 == 0) | (y == 0),
        "holes": (x % 3 != 1) | (y % 3 != 1),
    }[kind]


@pytest.mark.slow
@pytest.mark.parametrize("kind", RAGGED)
def test_a_ragged_megapixel_takes_seconds(kind: str) -> None:
    mask = ragged(kind)
    started = time.process_time()
    polygons = mask_polygons(mask)
    assert time.process_time() - started < 10  # about one; cutting at the median hole took 55
    starts = np.cumsum([0, *map(len, polygons)])
    areas = signed_areas(Borders(np.concatenate(polygons), starts))
    assert areas.min() > 0
    assert areas.sum() == mask.sum()
    started = time.process_time()
    found = single_outline(mask, 1)
    assert time.process_time() - started < 30  # about four
    assert len(found.polygons) == 1


@pytest.mark.parametrize("kind", RAGGED)
def test_ragged_masks_are_drawn_exactly(kind: str) -> None:
    mask = ragged(kind, 60)
    check_polygons(mask)
    assert outline(mask, 0).iou == 1


@given(st.one_of(small_masks, blobs))
@settings(max_examples=200, deadline=None)
def test_without_tolerance_outlines_are_exact(mask: NDArray[np.bool_]) -> None:
    bridged = outline(mask, 0)
    assert len(bridged.polygons) == count_parts(mask)
    assert sum(area(polygon) for polygon in bridged.polygons) == mask.sum()
    cut = outline(mask, 0, holes="cut")
    single = single_outline(mask, 0)
    assert len(single.polygons) == mask.any()
    for found in (bridged, cut, single):
        assert found.iou == 1 == drawn_iou(found.polygons, mask)
        assert (found.dropped, found.block) == (0, 1)


def segments(polygons: list[NDArray]) -> NDArray[np.float64]:
    """(n, 2, 2) lines of all polygons."""
    lines = [np.stack((polygon, np.roll(polygon, -1, axis=0)), axis=1) for polygon in polygons]
    return np.concatenate(lines).astype(np.float64)


def distances(points: NDArray, lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) distance of each point from the nearest line."""
    start, along = lines[:, 0], lines[:, 1] - lines[:, 0]
    to = points[:, None] - start
    share = np.clip((to * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12), 0, 1)
    return np.linalg.norm(to - share[..., None] * along, axis=-1).min(axis=1)


def samples(lines: NDArray[np.float64]) -> NDArray[np.float64]:
    share = np.linspace(0, 1, 9)[:, None, None]
    return (lines[:, 0] + share * (lines[:, 1] - lines[:, 0])).reshape(-1, 2)


@given(
    st.one_of(small_masks, small_blobs),
    st.sampled_from([0.2, 0.5, 1.0, 2.0, 5.0]),
    st.sampled_from(["bridge", "cut"]),
)
@settings(max_examples=80, deadline=None)
def test_outlines_stay_within_the_tolerance(mask: NDArray[np.bool_], tolerance: float, holes: str) -> None:
    found, exact = outline(mask, tolerance, holes), outline(mask, 0, holes)
    assert len(found.polygons) == len(exact.polygons)
    if not found.polygons:
        return
    assert all(area(polygon) > 0 for polygon in found.polygons)
    assert found.iou == drawn_iou(found.polygons, mask) > 0
    lines, borders = segments(found.polygons), segments(exact.polygons)
    assert distances(samples(borders), lines).max() <= tolerance + 1e-6
    assert distances(samples(lines), borders).max() <= tolerance + 1e-6


@given(st.one_of(small_masks, blobs), st.sampled_from([0.5, 1.0, 2.0, 8.0]))
@settings(max_examples=150, deadline=None)
def test_outlines_do_not_cross(mask: NDArray[np.bool_], tolerance: float) -> None:
    polygons = outline(mask, tolerance).polygons
    if not polygons:
        return
    lines = segments(polygons)

    def side(line: NDArray, point: NDArray) -> NDArray:
        along, to = line[:, 1] - line[:, 0], point - line[:, 0]
        return np.sign(along[:, 0] * to[:, 1] - along[:, 1] * to[:, 0])

    one, other = (lines[index] for index in np.triu_indices(len(lines), 1))
    apart = side(one, other[:, 0]) * side(one, other[:, 1]) >= 0
    assert (apart | (side(other, one[:, 0]) * side(other, one[:, 1]) >= 0)).all()


@given(blobs)
@settings(max_examples=30, deadline=None)
def test_a_pixel_of_tolerance_saves_corners_and_keeps_the_mask(mask: NDArray[np.bool_]) -> None:
    exact, found = outline(mask, 0), outline(mask, 1)
    assert sum(map(len, found.polygons)) < sum(map(len, exact.polygons))
    assert found.iou > 0.8


def test_rectangles_and_single_pixels_keep_their_corners() -> None:
    mask = np.zeros((30, 40), bool)
    mask[3:20, 5:33] = mask[25, 2] = mask[27:30, 39] = True
    for tolerance in (0.5, 1, 3):
        found = outline(mask, tolerance)
        assert [len(polygon) for polygon in found.polygons] == [4, 4, 4]
        assert found.iou == 1


def test_a_small_hole_stays() -> None:
    mask = np.ones((30, 30), bool)
    mask[15, 15] = False
    assert outline(mask, 3).iou == 1
    assert len(outline(mask, 3).polygons) == 1


def test_single_outline_joins_the_largest_parts() -> None:
    mask = np.zeros((64, 64), bool)
    mask[::4, ::4] = True
    mask[:6, :6] = True
    parts = count_parts(mask)
    found = single_outline(mask, 1)
    assert (len(found.polygons), found.dropped) == (1, parts - PARTS)
    rle = coco_mask.merge(coco_mask.frPyObjects([found.polygons[0].ravel().tolist()], *mask.shape))
    assert coco_mask.area(rle) == mask.sum() - found.dropped
    assert found.iou == pytest.approx((mask.sum() - found.dropped) / mask.sum())


def test_bridges_are_short() -> None:
    mask = np.zeros((20, 100), bool)
    for left in (80, 0, 60, 20, 40):  # parts in no order
        mask[5:15, left : left + 15] = True
    (polygon,) = single_outline(mask, 1).polygons
    lengths = np.linalg.norm(np.roll(polygon, -1, axis=0) - polygon, axis=1)
    assert sorted(np.round(lengths[lengths < 10])) == [5] * 8  # four bridges, there and back


@pytest.mark.slow
def test_masks_with_too_many_corners_are_reduced() -> None:
    mask = ragged("noise 0.5", 1400)
    mask[:100, :100] = mask[:, -3:] = True
    found = outline(mask, 1)
    assert found.block == 2
    assert max(polygon[:, 0].max() for polygon in found.polygons) == 1400
    assert found.iou > 0.5


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_a_tolerance_is_a_number_from_0_up(tolerance: float) -> None:
    with pytest.raises(UsageError, match="tolerance"):
        outline(np.ones((3, 3), bool), tolerance)
    with pytest.raises(UsageError, match="tolerance"):
        single_outline(np.ones((3, 3), bool), tolerance)


def test_an_empty_mask_has_no_outline() -> None:
    empty = np.zeros((4, 5), bool)
    assert mask_polygons(empty) == outline(empty, 1).polygons == single_outline(empty, 1).polygons == []
    assert outline(empty, 1).iou == 1
