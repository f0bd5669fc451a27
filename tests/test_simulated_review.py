"""The reviewer of `benchmarks/review_hour.py`: what it does with a mask, and how long that takes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from gem_label.review.queues.details import MaskDetails

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
from simulated_review import Reviewer, Seconds  # noqa: E402

sys.path.remove(BENCHMARKS)


def mask(label_id: str, label: str = "cat", classes: tuple[str, ...] = ("dog", "fox")) -> MaskDetails:
    """A mask as a panel shows it."""
    offered: Any = [(name, None) for name in classes]
    return MaskDetails(
        "s", label_id, "a.jpg", (9, 9), (0, 0, 1, 1), (1, 1), "01", label, 0.5, "undecided", None, offered
    )


def test_a_reviewer_knows_what_every_mask_shows() -> None:
    reviewer = Reviewer({"a": "cat", "b": "dog", "c": "cow", "d": None}, Seconds())
    acts = [reviewer.act_on(mask(each)) for each in "abcd"]
    assert acts == ["accept", "offered", "typed", "reject"]
    decided = [reviewer.decision(mask(each), act).label for each, act in zip("abcd", acts, strict=True)]
    assert decided == ["cat", "dog", "cow", None]
    overlooking = [reviewer.decision(mask(each), "accept").label for each in "abcd"]
    assert overlooking == ["cat"] * 4


def test_a_page_costs_a_glance_at_every_mask_and_a_click_on_the_wrong_ones() -> None:
    seconds = Seconds(key=1, button=10, point=100, think=1000, glance=10_000, answer=0)
    assert seconds.of_mask("accept") == seconds.of_mask("reject") == 1001
    assert seconds.of_mask("offered") == 2001
    assert seconds.of_mask("typed") == 2005
    assert seconds.of_page(["accept"] * 3) == 31_001
    assert seconds.of_page(["accept", "reject"]) == 20_000 + 1110 + 1001
    assert seconds.of_page(["offered", "typed"]) == 20_000 + 2 * 1110 + 1001 + 1005 + 1001


def test_sixty_masks_with_three_wrong_take_a_third_of_the_time_on_a_page() -> None:
    seconds = Seconds()
    acts: Any = ["accept"] * 57 + ["offered"] * 3
    one_by_one = sum(seconds.of_mask(act) for act in acts)
    assert seconds.of_page(acts) == pytest.approx(one_by_one / 2.8, rel=0.05)
