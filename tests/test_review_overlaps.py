"""Pairs of masks of one photo: duplicates, parts, and masks that only touch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gem_label.masks import encode_mask
from gem_label.review.queues.overlaps import overlapping_pairs


def rectangle(top: int, left: int, height: int, width: int) -> dict[str, Any]:
    """A filled rectangle on a photo of 100 x 120 pixels as COCO run lengths."""
    mask = np.zeros((100, 120), bool)
    mask[top : top + height, left : left + width] = True
    return {"size": [100, 120], "counts": encode_mask(mask)}


def test_duplicates_come_before_parts_and_the_smaller_mask_is_named() -> None:
    whole, part = rectangle(10, 10, 60, 60), rectangle(20, 20, 20, 20)
    again, apart = rectangle(10, 10, 60, 58), rectangle(75, 80, 20, 30)
    pairs = overlapping_pairs([whole, part, again, apart])
    assert [(pair.smaller, pair.larger, pair.kind) for pair in pairs] == [
        (2, 0, "duplicate"),
        (1, 2, "part"),
        (1, 0, "part"),
    ]
    assert pairs[0].iou == pytest.approx(58 / 60, abs=1 / 255)
    assert pairs[0].inside == pytest.approx(1, abs=1 / 255)
    assert pairs[2].iou == pytest.approx(400 / 3600, abs=1 / 255)


def test_half_an_overlap_is_no_pair_unless_it_is_asked_for() -> None:
    one, other = rectangle(0, 0, 50, 50), rectangle(25, 0, 50, 50)
    assert overlapping_pairs([one, other]) == []
    (pair,) = overlapping_pairs([one, other], min_iou=0.3)
    assert (pair.smaller, pair.larger) == (0, 1)
    assert pair.iou == pytest.approx(1 / 3, abs=1 / 100)
    assert pair.inside == pytest.approx(1 / 2, abs=1 / 255)


def test_a_photo_without_masks_and_empty_masks_have_no_pairs() -> None:
    assert overlapping_pairs([]) == []
    assert overlapping_pairs([rectangle(0, 0, 0, 0), rectangle(0, 0, 100, 120)]) == []
