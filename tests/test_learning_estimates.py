"""gem_label.learning: estimates with intervals, what to review next, decisions that look like mistakes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from run_factory import rectangle_masks

from gem_label.errors import UsageError
from gem_label.labeling import MaskLabels
from gem_label.labeling.labels import join_labels
from gem_label.learning.estimates import (
    best_threshold,
    count_labels,
    decisions_for_precision,
    estimate_precision,
    shifted_to_mean,
)
from gem_label.learning.judging import PhotoReview
from gem_label.learning.mistakes import likely_mistakes
from gem_label.learning.order import review_order
from gem_label.learning.sampling import random_keys, random_sample
from gem_label.learning.training import ReviewedPhoto

CLASSES = ("cat", "dog")


def test_the_interval_is_exact() -> None:
    """Of all numbers of right labels, those are in it from which such a draw is not too unlikely."""
    from scipy.stats import hypergeom

    for right, decisions, labels in ((3, 5, 12), (0, 4, 9), (4, 4, 9), (6, 6, 6), (40, 50, 1000)):
        estimate = estimate_precision(right, decisions, labels)
        counts = np.arange(right, labels - (decisions - right) + 1)
        likely = counts[
            (hypergeom.sf(right - 1, labels, counts, decisions) >= 0.025)
            & (hypergeom.cdf(right, labels, counts, decisions) >= 0.025)
        ]
        assert (estimate.low, estimate.high) == (likely.min() / labels, likely.max() / labels)
        assert estimate.low <= right / decisions <= estimate.high


def test_the_interval_holds_the_truth_in_19_of_20_reviews() -> None:
    rng = np.random.default_rng(0)
    for share, labels, decisions in ((0.5, 300, 30), (0.9, 300, 30), (0.97, 5000, 60)):
        right = np.arange(labels) < share * labels
        hits = 0
        for _ in range(100):
            drawn = right[rng.permutation(labels)[:decisions]]
            estimate = estimate_precision(int(drawn.sum()), decisions, labels)
            hits += estimate.low <= right.mean() <= estimate.high
        assert hits >= 95


def test_without_decisions_nothing_is_known() -> None:
    estimate = estimate_precision(0, 0, 40)
    assert (estimate.precision, estimate.low, estimate.high) == (None, 0.0, 1.0)
    with pytest.raises(UsageError, match="make no sense"):
        estimate_precision(3, 2, 40)


def test_decisions_that_a_wanted_precision_takes() -> None:
    sure = np.array([0.5, 0.5, 1.0, 1.0])
    assert decisions_for_precision(sure, 0, 0.75) == 0
    assert decisions_for_precision(sure, 0, 0.8) == 1  # 3 of 3.5
    assert decisions_for_precision(sure, 0, 1.0) == 2
    assert decisions_for_precision(sure, 4, 0.85) == 0  # accepted labels count
    assert decisions_for_precision(np.full(10, 0.9), 0, 0.85, precision=0.5) == 9
    assert decisions_for_precision(np.zeros(0), 0, 0.9) is None
    shifted = shifted_to_mean(np.array([0.2, 0.6, 0.9]), 0.4)
    assert np.isclose(shifted.mean(), 0.4)
    assert (np.diff(shifted) > 0).all()


def test_the_queue_asks_about_unsure_masks_of_many_photos_and_classes() -> None:
    probability = np.array([0.5, 0.5, 0.5, 0.45, 0.99, 0.7])
    classes, photos, keys = np.array([0, 0, 0, 1, 1, 0]), np.array([0, 0, 0, 1, 1, 2]), np.arange(6)
    order = review_order(probability, classes, photos, 6, keys, random_part=0.0)
    assert order.tolist()[:2] == [0, 3]  # then another photo
    assert order.tolist()[2] == 5
    assert order.tolist()[-1] == 4
    # masks of photos and classes with decisions come later
    decided = np.array([True, True, False, False, False, False])
    after = review_order(probability, classes, photos, 6, keys, decided, random_part=0.0)
    assert after.tolist() == [3, 5, 2, 4]


def test_the_queue_continues_as_it_would_have_and_has_a_random_part() -> None:
    rng = np.random.default_rng(0)
    probability, classes, photos = rng.random(200), rng.integers(0, 5, 200), rng.integers(0, 20, 200)
    keys = rng.random(200)
    first = review_order(probability, classes, photos, 50, keys)
    assert len(set(first.tolist())) == 50
    for count in (1, 4, 20):
        decided = np.isin(np.arange(200), first[:count])
        again = review_order(probability, classes, photos, 50 - count, keys, decided)
        assert again.tolist() == first[count:].tolist()
    drawn = np.argsort(keys)[:9]
    assert np.isin(drawn, first).all()  # ten places, and an unsure mask may have been there before
    assert np.isin(first[[2, 7, 12]], drawn).all()
    assert review_order(probability, classes, photos, 9, keys, random_part=1.0).tolist() == drawn.tolist()
    assert review_order(probability[:0], classes[:0], photos[:0], 50, keys[:0]).tolist() == []
    with pytest.raises(UsageError, match="random_part"):
        review_order(probability, classes, photos, 50, keys, random_part=1.5)


def test_decisions_of_the_queue_leave_an_honest_sample() -> None:
    """Sure labels are right more often, and the queue asks about the unsure ones first."""
    rng = np.random.default_rng(0)
    hits, errors, sizes = 0, [], []
    for _ in range(200):
        probability = rng.beta(2, 1, 300)
        right = rng.random(300) < probability
        keys, zeros = rng.random(300), np.zeros(300, np.int64)
        decided = np.zeros(300, bool)
        decided[review_order(probability, zeros, np.arange(300), 150, keys)] = True
        sample = random_sample(keys, decided)
        estimate = estimate_precision(int(right[sample].sum()), len(sample), 300)
        hits += estimate.low <= right.mean() <= estimate.high
        sizes.append(len(sample))
        errors.append((estimate.precision or 0.0) - right.mean())
    assert hits >= 190
    assert np.mean(sizes) > 25
    assert abs(np.mean(errors)) < 0.03  # of all decisions it is -0.1
    assert random_sample(keys, np.ones(300, bool)).tolist() == np.argsort(keys).tolist()
    assert random_sample(keys, np.zeros(300, bool)).tolist() == []


def test_the_random_order_of_a_part_is_that_of_all() -> None:
    ids = np.array([bytes([i % 251, 0, 0, 0, 7, 7, 7, 7, 0, i // 251, 0, 0]) for i in range(2000)], "S12")
    keys = random_keys(ids, 3)
    assert len(np.unique(keys)) == 2000
    assert np.array_equal(keys[100:200], random_keys(ids[100:200], 3))
    assert not np.array_equal(np.argsort(keys), np.argsort(random_keys(ids, 4)))
    halves = np.argsort(np.argsort(keys))[:1000]  # where the first half of the ids stands in the order
    assert abs(halves.mean() - 1000) < 4 * 2000 / np.sqrt(12 * 1000)


def photo_with_labels() -> tuple[ReviewedPhoto, MaskLabels]:
    """A cat, one called dog that a reviewer calls cat, a dog where nothing is annotated, and an unsure dog."""
    masks = rectangle_masks((0, 0, 10, 10), (20, 0, 10, 10), (0, 20, 10, 10), (20, 20, 10, 10))
    review = PhotoReview(masks.rles[:2], ["cat", "cat"], complete=frozenset(CLASSES))
    labels = MaskLabels(
        CLASSES,
        np.array([[0, 1], [1, 0], [1, 0], [1, 0]], np.int32),
        np.array([[0.9, 0.1], [0.8, 0.04], [0.95, 0.1], [0.5, 0.1]], np.float32),
        np.zeros(4, bool),
        np.ones(4, np.float32),
        np.array([True, True, True, False]),
        np.ones(4, bool),
    )
    return ReviewedPhoto(masks, None, review), labels


def test_decisions_that_the_rest_contradicts_are_listed() -> None:
    photo, labels = photo_with_labels()
    first, second = likely_mistakes([photo], labels)
    assert (first.mask, first.kind, first.label, first.likelier) == (1, "accepted", "cat", "dog")
    assert np.isclose(first.probability, 0.04)
    assert (second.mask, second.kind, second.label) == (2, "wrong", "dog")
    agreed = replace(photo, review=PhotoReview(photo.masks.rles[:1], ["cat"]))
    assert likely_mistakes([agreed], labels) == ()


def test_the_best_threshold_counts_a_thing_once() -> None:
    photo, labels = photo_with_labels()
    assert best_threshold([photo], labels) is None  # too few things
    best = best_threshold([photo] * 25, join_labels([labels] * 25))
    assert best is not None
    # the right cat is behind the wrong dog: both are kept, and one thing is missed
    assert (best.labels, best.precision, best.recall) == (50, 0.5, 0.5)
    assert 0.8 < best.threshold <= 0.9


def test_labels_are_counted_once_for_each_thing() -> None:
    photo, labels = photo_with_labels()
    counts = count_labels([photo, photo], join_labels([labels, labels]))
    assert (counts.tp, counts.fp, counts.fn) == (2, 4, 2)
