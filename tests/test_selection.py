"""gem_label.labeling.selection and gem_label.overlaps: each thing once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from run_factory import rectangle_masks

from gem_label.labeling import SelectionRule, select_masks
from gem_label.masks import MaskSet, Overlaps
from gem_label.overlaps import STEPS, find_overlaps, join_overlaps

Box = tuple[int, int, int, int]
CAR, PERSON, BOTTLE = 0, 1, 2


def stays(*things: tuple[Box, int, float]) -> list[bool]:
    masks = rectangle_masks(*(box for box, _, _ in things))
    scores = np.array([score for _, _, score in things], np.float32)
    classes = np.array([c for _, c, _ in things])
    return select_masks(scores, classes, masks.areas, find_overlaps(masks)).tolist()


WHOLE, LEFT_HALF, RIGHT_HALF, WHEEL = (0, 0, 40, 20), (0, 0, 20, 20), (20, 0, 20, 20), (4, 12, 6, 6)


@pytest.mark.parametrize(
    ("things", "expected"),
    [
        ([(WHOLE, CAR, 0.9), (WHEEL, CAR, 0.8)], [True, False]),  # a part of its whole
        ([(WHOLE, CAR, 0.7), (WHEEL, CAR, 0.8)], [False, True]),  # a loose outline around a better mask
        ([(LEFT_HALF, CAR, 0.9), (RIGHT_HALF, CAR, 0.8)], [True, True]),  # two that touch stay two
        (
            [(LEFT_HALF, CAR, 0.9), (RIGHT_HALF, CAR, 0.8), (WHOLE, CAR, 0.7)],
            [True, True, False],
        ),  # their group goes
        ([(WHOLE, PERSON, 0.9), (WHEEL, BOTTLE, 0.8)], [True, True]),  # a bottle on a person
        (
            [(WHOLE, PERSON, 0.9), (WHEEL, BOTTLE, 0.4)],
            [True, False],
        ),  # a hand that looks a little like a bottle
        ([(WHEEL, BOTTLE, 0.9), (WHOLE, PERSON, 0.4)], [True, True]),  # a person around a bottle
        ([(WHOLE, CAR, 0.9), ((1, 1, 39, 19), PERSON, 0.8)], [True, False]),  # one thing under two names
        ([(WHOLE, CAR, 0.9), (WHOLE, CAR, 0.9)], [True, False]),  # equal in all: the first
        ([(WHEEL, CAR, 0.9), (WHOLE, CAR, 0.9)], [False, True]),  # equal scores: the larger
        ([(WHOLE, -1, 0.9), (WHEEL, CAR, 0.8)], [False, True]),  # background makes nothing go
        ([(WHOLE, CAR, 0.5), (LEFT_HALF, CAR, 0.6), (WHEEL, CAR, 0.4)], [False, True, False]),  # a chain
        ([], []),
    ],
)
def test_each_thing_once(things: list[tuple[Box, int, float]], expected: list[bool]) -> None:
    assert stays(*things) == expected


def select_by_loops(scores: NDArray, classes: NDArray, masks: MaskSet) -> list[bool]:
    """Greedy selection mask by mask, on decoded masks."""
    rule, pixels = SelectionRule(), list(masks)
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], -pixels[i].sum(), i))
    taken: list[int] = []
    for m in order:
        repeats = classes[m] < 0
        for k in taken:
            common = (pixels[m] & pixels[k]).sum()
            inside, around = common / pixels[m].sum(), common / pixels[k].sum()
            if common / (pixels[m] | pixels[k]).sum() >= rule.duplicate:
                repeats = True
            if classes[m] == classes[k] and (inside >= rule.part or around >= rule.whole):
                repeats = True
            if classes[m] != classes[k] and inside >= rule.inside and scores[m] < rule.own * scores[k]:
                repeats = True
        if not repeats:
            taken.append(m)
    return [i in taken for i in range(len(scores))]


@given(st.integers(1, 25), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_selection_is_greedy(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners, sides = rng.integers(0, 40, (n, 2)), rng.integers(4, 21, (n, 2))
    masks = rectangle_masks(*(tuple(box) for box in np.hstack([corners, sides]).tolist()))
    # few scores, so that some are equal
    scores, classes = (rng.integers(1, 9, n) / 8).astype(np.float32), rng.integers(-1, 3, n)
    overlaps = find_overlaps(masks)
    found = select_masks(scores, classes, masks.areas, overlaps)
    pixels = [mask.sum() for mask in masks]
    close = [  # a share that rounding to a byte may carry over a threshold
        np.abs(share - t).min() < 2 / STEPS
        for i, j, byte in zip(overlaps.first, overlaps.second, overlaps.share, strict=True)
        for common in [byte / STEPS * min(pixels[i], pixels[j])]
        for share in [
            np.array([common / pixels[i], common / pixels[j], common / (pixels[i] + pixels[j] - common)])
        ]
        for t in (0.5, 0.6)
    ]
    if not any(close):
        assert found.tolist() == select_by_loops(scores, classes, masks)
    for threshold in (0.3, 0.6):  # what is selected above a threshold does not depend on what lies below it
        high = scores >= threshold
        again = select_masks(
            scores[high], classes[high], masks.areas[high], overlaps.among(np.flatnonzero(high), n)
        )
        assert again.tolist() == found[high].tolist()


def test_overlaps_are_shares_of_the_smaller_mask() -> None:
    masks = rectangle_masks(WHOLE, WHEEL, (38, 0, 4, 20), (50, 50, 5, 5))
    found = find_overlaps(masks)
    assert found.first.tolist() == [0, 0]
    assert found.second.tolist() == [1, 2]
    assert found.share.tolist() == [STEPS, round(STEPS / 2)]
    assert len(find_overlaps(rectangle_masks())) == 0
    empty = rectangle_masks((0, 0, 0, 0), WHOLE)
    assert len(find_overlaps(empty)) == 0


def test_overlaps_follow_the_masks() -> None:
    masks = rectangle_masks(WHOLE, WHEEL, (38, 0, 4, 20))
    pairs = find_overlaps(masks).among(np.array([2, 0]), 3)
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.share.tolist()) == ([0], [1], [128])
    joined = join_overlaps([find_overlaps(masks), Overlaps(), pairs], [3, 4, 2])
    assert (joined.first.tolist(), joined.second.tolist()) == ([0, 0, 7], [1, 2, 8])
    assert len(join_overlaps([], [])) == 0
