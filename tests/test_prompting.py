"""What SAM is asked about one thing, and the classes that its mask may have."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from run_factory import rectangle_masks

from gem_label.errors import UsageError
from gem_label.labeling.proposing import propose_labels
from gem_label.masks import MaskSet
from gem_label.sam.prompting import Prompt, agreeing_order, distinct, preferred_order
from gem_label.vocabulary import Vocabulary


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({}, "a point inside the thing, or a box"),
        ({"negative_points": ((1.0, 2.0),)}, "a point inside the thing, or a box"),
        ({"points": ((math.nan, 2.0),)}, "finite"),
        ({"box": (0.0, 0.0, math.inf, 1.0)}, "finite"),
        ({"box": (4.0, 0.0, 4.0, 1.0)}, "is no box"),
    ],
)
def test_a_prompt_that_says_nothing_is_refused(prompt: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Prompt(**prompt)


def test_only_a_single_point_is_ambiguous() -> None:
    assert Prompt(points=((1, 2),)).is_ambiguous
    assert not Prompt(points=((1, 2), (3, 4))).is_ambiguous
    assert not Prompt(points=((1, 2),), negative_points=((3, 4),)).is_ambiguous
    assert not Prompt(points=((1, 2),), box=(0, 0, 9, 9)).is_ambiguous


def test_a_prompt_for_another_size_of_the_photo() -> None:
    prompt = Prompt(points=((1, 2),), negative_points=((3, 4),), box=(0, 1, 2, 3))
    assert prompt.scaled(2, 10) == Prompt(((2, 20),), ((6, 40),), (0, 10, 4, 30))


def test_the_best_classes_are_proposed_however_unlikely() -> None:
    vocabulary = Vocabulary.from_words(["cat", "dog"], ["sky"])
    text = np.eye(3, dtype=np.float32)
    masks = rectangle_masks((0, 0, 30, 30))
    embedded = MaskSet(
        masks.height,
        masks.width,
        masks.counts,
        masks.predicted_iou,
        masks.stability,
        masks.points,
        embeddings=np.array([[0.1, 0.3, 0.9]], np.float32),
    )
    (proposal,) = propose_labels(embedded, text, vocabulary, 10.0)
    assert [name for name, _ in proposal.classes] == ["dog", "cat"]
    assert proposal.classes[0][1] > proposal.classes[1][1]
    assert proposal.score("dog") == proposal.classes[0][1]
    assert proposal.score("bird") is None


def test_of_the_masks_of_a_point_the_thing_is_preferred_to_its_part() -> None:
    boxes = ((10, 10, 10, 10), (10, 10, 20, 20), (0, 0, 50, 50), (10, 10, 20, 20), (0, 0, 0, 0))
    masks = rectangle_masks(*boxes)
    quality = np.array([0.90, 0.87, 0.60, 0.88, 0.99], np.float32)
    order = preferred_order(replace(masks, predicted_iou=quality))
    assert order == [1, 0, 3, 2]
    assert distinct(masks, order) == [1, 0, 2]
    assert preferred_order(rectangle_masks((0, 0, 0, 0))) == []


def test_masks_that_agree_with_all_points_come_first() -> None:
    masks = rectangle_masks((0, 0, 50, 50), (0, 0, 20, 20), (0, 0, 10, 10), (0, 0, 0, 0), (0, 0, 20, 40))
    prompt = Prompt(points=((5, 5), (15, 15)), negative_points=((40, 100),))  # outside of the photo: its edge
    assert agreeing_order(masks, prompt) == [0, 1, 4, 2]
    prompt = Prompt(points=((5, 5),), negative_points=((45, 45),))
    assert agreeing_order(masks, prompt) == [1, 2, 4, 0]
