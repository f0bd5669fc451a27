"""Queues by phrase, of likely duplicates, and of what a lower threshold would add: on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fiftyone_fixture import fiftyone_db
from review_dataset import TEMPLATES, demo_clip, demo_run
from run_factory import make_run, mask_labels, rectangle_masks

from gem_label.labeling import Thresholds
from gem_label.review.editing.decisions import decide
from gem_label.review.pushing.push_run import push_run
from gem_label.review.queues.duplicates import duplicate_pairs, duplicate_queue
from gem_label.review.queues.order import MaskReference, queue_masks
from gem_label.review.queues.search import search_queue
from gem_label.review.storage.fields import less_likely_field
from gem_label.review.storage.selection import Selection
from gem_label.runs import Run

__all__ = ["fiftyone_db"]

FIELD = "gem_label"


def push(run: Run, **options: Any) -> Any:
    """The dataset that a run was pushed into."""
    import fiftyone as fo

    push_run(run, "more-queues", **options)
    return fo.load_dataset("more-queues")


@pytest.fixture(autouse=True)
def _no_dataset_left(fiftyone_db: str) -> Iterator[None]:
    import fiftyone as fo

    yield
    if fo.dataset_exists("more-queues"):
        fo.delete_dataset("more-queues")


def by_mask_id(dataset: Any, field: str = FIELD) -> dict[str, MaskReference]:
    """The masks of a dataset by their ids in the run."""
    return {
        each.mask_id: MaskReference(sample.id, each.id)
        for sample in dataset
        for each in sample[field].detections
    }


def test_duplicates_are_found_whatever_their_labels_and_parts_within_a_label(tmp_path: Path) -> None:
    boxes = (10, 10, 40, 40), (10, 10, 40, 38), (15, 15, 10, 10), (30, 30, 10, 10), (52, 52, 6, 6)
    labels = ["cat", "dog", "cat", "cup", "cup"]  # a wheel in a car is no duplicate: the cup in the cat
    apart = rectangle_masks((0, 0, 10, 10), (30, 30, 10, 10))
    photos = {
        "a.jpg": (rectangle_masks(*boxes), mask_labels(labels, [0.9] * 5)),
        "b.jpg": (apart, mask_labels(["cat", "cat"], [0.9, 0.9])),
    }
    dataset = push(make_run(tmp_path / "run", photos))
    masks = by_mask_id(dataset)
    pairs = list(duplicate_pairs(dataset, FIELD))
    assert [(pair.smaller, pair.larger) for pair in pairs] == [
        (masks["a#1"], masks["a#0"]),
        (masks["a#2"], masks["a#0"]),
    ]
    assert pairs[0].iou == pytest.approx(0.95, abs=0.01)
    assert pairs[1].inside == 1
    assert duplicate_queue(dataset, FIELD) == [masks["a#1"], masks["a#0"], masks["a#2"]]
    assert duplicate_queue(dataset, FIELD, limit=2) == [masks["a#1"], masks["a#0"]]
    assert duplicate_queue(dataset, FIELD, Selection(labels=["cat"])) == [masks["a#2"], masks["a#0"]]

    # a pair is settled when one of the two is rejected, or when both are accepted
    decide(dataset, FIELD, "accept", Selection(ids=[masks["a#0"].label_id]))
    assert duplicate_queue(dataset, FIELD) == [masks["a#1"], masks["a#2"]]
    decide(dataset, FIELD, "reject", Selection(ids=[masks["a#1"].label_id]))
    decide(dataset, FIELD, "accept", Selection(ids=[masks["a#2"].label_id]))
    assert duplicate_queue(dataset, FIELD) == []


def test_less_likely_labels_come_in_the_order_in_which_a_lower_threshold_adds_them(tmp_path: Path) -> None:
    boxes = [(10 * i, 10 * i, 8, 8) for i in range(5)]
    labels = mask_labels(["cat", "dog", "cup", "cat", "dog"], [0.9, 0.2, 0.35, 0.3, 0.25])
    dataset = push(
        make_run(tmp_path / "run", {"a.jpg": (rectangle_masks(*boxes), labels)}), min_score=Thresholds(0.6)
    )
    hidden = less_likely_field(FIELD)
    masks = by_mask_id(dataset, hidden)
    expected = [masks[f"a#{index}"] for index in (2, 3, 4, 1)]
    assert queue_masks(dataset, hidden, "likely") == expected
    assert queue_masks(dataset, hidden, "likely", Selection(labels=["dog"])) == expected[2:]
    assert queue_masks(dataset, hidden, "likely", limit=1) == expected[:1]


@pytest.mark.slow
def test_a_phrase_gives_undecided_masks_best_first(tmp_path: Path) -> None:
    from gem_label.clip.text import TextEncoder

    dataset = push(demo_run(tmp_path / "run", photos=6, masks=4))
    horse = TextEncoder(demo_clip(), TEMPLATES).encode(["horse"])
    found = search_queue(dataset, FIELD, horse, limit=100)
    labels = {each.id: each.label for sample in dataset for each in sample[FIELD].detections}
    horses = sum(label == "horse" for label in labels.values())
    assert [labels[mask.label_id] for mask in found[:horses]] == ["horse"] * horses
    assert len(found) == len(labels) == 24
    assert search_queue(dataset, FIELD, horse, limit=3) == found[:3]

    decide(dataset, FIELD, "accept", Selection(ids=[mask.label_id for mask in found[:5]]))
    assert search_queue(dataset, FIELD, horse, limit=3) == found[5:8]
    view = dataset.select([found[10].sample_id])
    in_view = [mask for mask in found[5:] if mask.sample_id == found[10].sample_id]
    assert search_queue(dataset, FIELD, horse, Selection(view=view)) == in_view
    assert search_queue(dataset, FIELD, horse, Selection(labels=["dragon"])) == []
