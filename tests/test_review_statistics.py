"""Counts, the queue and confused words: the database's answers against plain loops over FiftyOne's labels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db

from gem_label.errors import UsageError
from gem_label.review.editing.decisions import decide
from gem_label.review.statistics.review import (
    confused_pairs,
    least_certain,
    review_statistics,
)
from gem_label.review.storage.selection import STATES, Selection
from gem_label.review.storage.views import masks_view, patches_in_order

__all__ = ["fiftyone_db"]

FIELD = "masks"
STATE_TAGS = {"undecided": [], "accepted": ["accepted"], "rejected": ["x", "rejected"], "renamed": []}


@pytest.fixture(scope="module")
def dataset(fiftyone_db: str) -> Any:
    """Forty photos with up to seven random masks."""
    import fiftyone as fo

    rng = np.random.default_rng(7)
    words = ["cat", "dog", "cup", "bird"]
    dataset = fo.Dataset("statistics", overwrite=True)
    samples = []
    for i in range(40):
        detections = []
        for _ in range(rng.integers(0, 8)):
            label, runner_up = (str(word) for word in rng.choice(words, 2, replace=False))
            state = str(rng.choice(STATES, p=[0.7, 0.1, 0.1, 0.1]))
            score = float(rng.choice([0.0, 0.29, 0.58, 1.0, float(rng.random())]))
            detections.append(
                fo.Detection(
                    label=label, confidence=score, margin=float(rng.random()), runner_up=runner_up,
                    proposed_label="horse" if state == "renamed" else label, tags=STATE_TAGS[state],
                    bounding_box=[0, 0, 0.5, 0.5],
                )
            )  # fmt: skip
        samples.append(fo.Sample(filepath=f"/photos/{i}.jpg", masks=fo.Detections(detections=detections)))
    dataset.add_samples(samples, dynamic=True)
    yield dataset
    fo.delete_dataset(dataset.name)


def state(detection: Any) -> str:
    for each in ("rejected", "accepted"):
        if each in detection.tags:
            return each
    return "renamed" if detection["proposed_label"] != detection.label else "undecided"


def all_masks(dataset: Any) -> list[Any]:
    return [d for sample in dataset for d in sample[FIELD].detections]


def test_counts_histograms_and_thresholds(dataset: Any) -> None:
    statistics = review_statistics(dataset, FIELD)
    masks = all_masks(dataset)
    assert statistics.total == len(masks)
    assert statistics.by_state == {each: sum(state(m) == each for m in masks) for each in STATES}
    sizes = Counter(m.label for m in masks)
    assert {
        name: int(row.sum()) for name, row in zip(statistics.classes, statistics.by_class, strict=True)
    } == sizes
    assert [sizes[name] for name in statistics.classes] == sorted(sizes.values(), reverse=True)
    for label in (None, "cat"):
        chosen = [m.confidence for m in masks if label in (None, m.label)]
        expected = np.histogram(np.round(chosen, 12), np.linspace(0, 1, 21).round(12))[0]
        np.testing.assert_array_equal(statistics.histogram(label, 20), expected)
    for threshold in np.arange(0, 101) / 100:
        effect = statistics.effect("dog", float(threshold))
        undecided = [m for m in masks if m.label == "dog" and state(m) == "undecided"]
        assert effect.go == sum(m.confidence < threshold for m in undecided)
        assert (effect.stay, effect.decided) == (len(undecided) - effect.go, sizes["dog"] - len(undecided))
    assert statistics.effect("zebra", 0.5).stay == 0
    assert statistics.histogram("zebra").sum() == 0


def test_the_queue_begins_with_the_smallest_margin(dataset: Any) -> None:
    found = least_certain(dataset, FIELD, 10)
    expected = sorted((m for m in all_masks(dataset) if state(m) == "undecided"), key=lambda m: m["margin"])[
        :10
    ]
    assert [mask.label_id for mask in found] == [m.id for m in expected]
    assert [(mask.label, mask.runner_up) for mask in found] == [(m.label, m["runner_up"]) for m in expected]
    assert {mask.label for mask in least_certain(dataset, FIELD, 10, ["cup"])} == {"cup"}
    view = patches_in_order(dataset, FIELD, [(mask.sample_id, mask.label_id) for mask in found])
    assert view.values("id") == [mask.label_id for mask in found]
    assert view.values(f"{FIELD}.label") == [mask.label for mask in found]


def test_confused_pairs(dataset: Any) -> None:
    close = [m for m in all_masks(dataset) if state(m) == "undecided" and m["margin"] <= 0.3]
    pairs = confused_pairs(dataset, FIELD, 0.3)
    assert {(pair.label, pair.runner_up): pair.masks for pair in pairs} == Counter(
        (m.label, m["runner_up"]) for m in close
    )
    assert [pair.masks for pair in pairs] == sorted((pair.masks for pair in pairs), reverse=True)
    first = pairs[0]
    margins = [m["margin"] for m in close if (m.label, m["runner_up"]) == (first.label, first.runner_up)]
    assert first.mean_margin == pytest.approx(np.mean(margins))


def test_counts_follow_every_change(dataset: Any) -> None:
    dataset = dataset.clone()
    before = review_statistics(dataset, FIELD)
    decide(dataset, FIELD, "accept", Selection(labels=["bird"], states=["undecided"]))
    assert review_statistics(dataset, FIELD).by_state["accepted"] > before.by_state["accepted"]
    sample = dataset.match({f"{FIELD}.detections.label": "cat"}).first()
    sample[FIELD].detections[0].label = "unicorn"  # as an edit in the App does
    sample.save()
    assert "unicorn" in review_statistics(dataset, FIELD).classes
    dataset.delete_samples(sample)
    assert "unicorn" not in review_statistics(dataset, FIELD).classes
    assert review_statistics(dataset, FIELD).total == len(all_masks(dataset))
    dataset.clear_sample_field(FIELD)
    assert review_statistics(dataset, FIELD).total == 0
    dataset.delete()


def test_a_view_shows_what_a_selection_means(dataset: Any) -> None:
    masks = all_masks(dataset)
    for selection, meant in (
        (Selection(labels=["cat"], min_score=0.5), lambda m: m.label == "cat" and m.confidence >= 0.5),
        (Selection(states=["undecided", "renamed"]), lambda m: state(m) in ("undecided", "renamed")),
        (
            Selection(falling={"cat": 0.58, "dog": 0.2}, states=["undecided"]),
            lambda m: m.confidence < {"cat": 0.58, "dog": 0.2}.get(m.label, 0) and state(m) == "undecided",
        ),
        (Selection(reaching={"cup": 0.58}), lambda m: m.label == "cup" and m.confidence >= 0.58),
    ):
        expected = {m.id for m in masks if meant(m)}
        assert expected
        assert (
            set(masks_view(dataset, FIELD, selection).values(f"{FIELD}.detections.id", unwind=True))
            == expected
        )


def test_an_empty_field_and_none(fiftyone_db: str) -> None:
    import fiftyone as fo

    dataset = fo.Dataset("statistics of nothing", overwrite=True)
    dataset.add_sample_field(FIELD, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    statistics = review_statistics(dataset, FIELD)
    assert (statistics.total, statistics.classes, least_certain(dataset, FIELD)) == (0, (), [])
    assert statistics.histogram().sum() == 0
    with pytest.raises(UsageError, match="no field 'other'"):
        review_statistics(dataset, "other")
    fo.delete_dataset(dataset.name)
