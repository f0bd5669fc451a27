"""How good labels are by decisions about a random sample, in a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from numpy.typing import NDArray
from panel_dataset import FIELD, panel_dataset

from gem_label.learning.estimates import estimate_precision
from gem_label.review.editing.decisions import decide
from gem_label.review.pushing.push_run import push_run
from gem_label.review.queues.order import queue_masks
from gem_label.review.statistics.quality import LEAST_SAMPLE, label_quality
from gem_label.review.storage.fields import pushed_fields, run_of
from gem_label.review.storage.internals import database, dataset_id
from gem_label.review.storage.selection import Selection

__all__ = ["fiftyone_db"]

PHOTOS, MASKS = 20, 5


@pytest.fixture
def dataset(fiftyone_db: str, photos: dict[str, NDArray[np.uint8]], tmp_path: Path) -> Iterator[Any]:
    import fiftyone as fo

    made = panel_dataset(tmp_path, photos, PHOTOS, MASKS, f"quality-{uuid4().hex[:6]}")
    yield made
    fo.delete_dataset(made.name)


def chosen(masks: Any) -> Selection:
    return Selection(ids=[mask.label_id for mask in masks])


def test_the_precision_of_the_labels_is_told_from_the_random_part(dataset: Any) -> None:
    every = PHOTOS * MASKS
    quality = label_quality(dataset, FIELD)
    assert (quality.labels, quality.sample, quality.missing) == (every, 0, LEAST_SAMPLE)
    assert quality.precision is None
    # decisions about chosen masks tell nothing, those of the random order do
    sample = queue_masks(dataset, FIELD, "random", limit=30)
    decide(dataset, FIELD, "reject", chosen(sample[25:]))
    decide(dataset, FIELD, "accept", chosen(sample[:15]))
    assert label_quality(dataset, FIELD).missing == 5
    decide(dataset, FIELD, "rename", chosen(sample[15:19]), "lynx")
    decide(dataset, FIELD, "reject", chosen(sample[19:20]))
    quality = label_quality(dataset, FIELD)
    assert (quality.labels, quality.sample, quality.missing) == (every - 6, 20, 0)
    estimate = estimate_precision(15, 20, every)
    assert estimate.precision == 0.75
    assert quality.precision is not None
    # 60 more of the 75 are right by the estimate, and 19 are known to be
    assert quality.precision.share == pytest.approx((19 + 60) / 94)
    assert quality.precision.low == pytest.approx((19 + estimate.low * every - 15) / 94)
    assert quality.precision.high == 1.0  # fewer are undecided than could be right
    assert quality.more[0.8] <= quality.more[0.9] <= quality.more[0.95] <= 75
    assert quality.more[0.95] > 0
    assert label_quality(dataset, FIELD, seed=1).precision is None


def test_decisions_about_earlier_labels_tell_nothing_about_those_of_a_later_push(dataset: Any) -> None:
    sample = queue_masks(dataset, FIELD, "random", limit=30)
    decide(dataset, FIELD, "accept", chosen(sample))
    assert label_quality(dataset, FIELD).sample == 30
    push_run(run_of(dataset, FIELD), dataset.name)
    # a push and a decision of a test are in the same second: a year passes before the push
    pushed = pushed_fields(dataset)[FIELD]["pushed"]
    later = pushed.replace(pushed[:4], str(int(pushed[:4]) + 1))
    change = {"$set": {f"info.gem_label.{FIELD}.pushed": later}}
    database().datasets.update_one({"_id": dataset_id(dataset)}, change)
    dataset.reload()
    quality = label_quality(dataset, FIELD)
    assert (quality.labels, quality.sample, quality.missing) == (PHOTOS * MASKS, 0, LEAST_SAMPLE)


def test_when_all_is_decided_nothing_is_left_to_estimate(dataset: Any) -> None:
    decide(dataset, FIELD, "reject", Selection(labels=["cat"]))
    decide(dataset, FIELD, "accept", Selection(states=["undecided"]))
    quality = label_quality(dataset, FIELD)
    assert quality.precision is not None
    assert (quality.precision.low, quality.precision.high) == (1.0, 1.0)
    assert set(quality.more.values()) == {0}
