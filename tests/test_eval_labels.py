"""`gem-label eval labels`: every figure of a worked example by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_photos import CLASSES, WORKED, photo

from gem_label.metrics.labels import LabelReport, evaluate_labels
from gem_label.metrics.labels.curves import curve, short_threshold

# of pycocotools under numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def worked() -> LabelReport:
    return evaluate_labels(WORKED, CLASSES, 0.4)


def test_counts_by_hand(worked: LabelReport) -> None:
    assert (worked.photos, worked.instances, worked.crowds) == (3, 3, 1)
    assert (worked.labels, worked.labels_all) == (6, 7)  # all but E; all
    # right A; wrong B, C, D, G; missed both dogs (E is not kept)
    assert (worked.micro.tp, worked.micro.fp, worked.micro.fn) == (1, 4, 2)
    assert worked.micro.precision == pytest.approx(1 / 5)
    assert worked.micro.recall == pytest.approx(1 / 3)
    assert worked.micro.f1 == pytest.approx(2 / (2 + 4 + 2))
    # cat 1/4, 1/1, 2/5; dog -, 0/2, 0; cup 0/1, -, 0
    assert worked.macro.precision == pytest.approx((1 / 4 + 0) / 2)
    assert worked.macro.recall == pytest.approx((1 + 0) / 2)
    assert worked.macro.f1 == pytest.approx((2 / 5 + 0 + 0) / 3)
    # found: the cat; on it lie A, B (duplicate) and C (inside); D lies on the dog, which no kept label finds
    assert worked.labels_per_thing == pytest.approx(3 / 1)


def test_thresholds_by_hand(worked: LabelReport) -> None:
    # best first A right, D, B, C, G wrong, E right; 3 instances: F1 2/4, 2/5, 2/6, 2/7, 2/8, 4/9
    assert worked.best_f1 is not None
    assert (worked.best_f1.threshold, worked.best_f1.f1) == (0.9, pytest.approx(2 / 4))
    assert worked.at_precision == worked.best_f1
    assert worked.curve.f1.tolist() == pytest.approx([2 / 4, 2 / 5, 2 / 6, 2 / 7, 2 / 8, 4 / 9])
    cat, dog, cup = worked.per_class
    assert (cat.instances, cat.labels, cat.labels_all, cat.counts.tp) == (1, 4, 4, 1)
    assert cat.best_f1 is not None
    assert (cat.best_f1.threshold, cat.best_f1.f1) == (0.9, 1.0)
    assert dog.at_precision is not None
    assert (dog.at_precision.threshold, dog.at_precision.recall) == (0.3, 0.5)
    assert (cup.best_f1, cup.at_precision, cup.ap50) == (None, None, None)
    assert worked.min_score("best_f1", least=1) == "0.9, dog=0.3"
    assert (
        worked.min_score("at_precision", least=1) == "0.9, dog=0.3, cup=1"
    )  # no threshold makes a cup right
    assert worked.min_score("at_precision", least=2) == worked.min_score("at_precision") == "0.9"
    commas = evaluate_labels(WORKED, ("cat", "dog, big", "cup"))
    assert commas.min_score("at_precision", least=1) == "0.9, cup=1"
    with pytest.raises(ValueError, match="aim is"):
        worked.min_score("recall")


def test_coco_figures_by_hand(worked: LabelReport) -> None:
    # cat: IoU 0.5 to 0.8, A is right and first: AP 1; IoU 0.85 to 0.95, B is right and third: AP 1/3
    # dog: E alone, right, 1 of 2 instances: precision 1 at recalls 0, 0.01, ..., 0.5, which are 51 of 101
    dog = 51 / 101
    assert worked.coco.ap50 == pytest.approx((1 + dog) / 2)
    assert worked.coco.ap == pytest.approx(((7 * 1 + 3 / 3) / 10 + dog) / 2)
    assert worked.coco.ar100 == pytest.approx((1 + 1 / 2) / 2)
    assert [row.ap50 for row in worked.per_class] == [pytest.approx(1), pytest.approx(dog), None]


def test_presence_and_saco_by_hand(worked: LabelReport) -> None:
    # 9 pairs. Labeled: (1, cat), (2, cat), (2, cup). There: (1, cat), (1, dog), (2, dog), (2, cat), a crowd.
    presence = worked.presence
    assert (presence.tp, presence.fp, presence.fn, presence.tn) == (2, 1, 2, 4)
    assert (presence.precision, presence.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 4))
    assert worked.absent_rate == pytest.approx(1 / 5)
    mcc = (2 * 4 - 1 * 2) / (3 * 4 * 5 * 6) ** 0.5
    assert presence.mcc == pytest.approx(mcc)
    # pairs with an instance: (1, cat), (1, dog), (2, dog); labels in them: A, B, C, D; the best match is B, IoU 1
    assert worked.saco.pmf1 == pytest.approx(2 * 1 / (4 + 3))
    assert worked.saco.cgf1 == pytest.approx(100 * 2 / 7 * mcc)


def test_errors_by_hand(worked: LabelReport) -> None:
    kinds = {row.kind: row for row in worked.errors}
    assert {name: row.count for name, row in kinds.items()} == {
        "wrong word": 1, "badly outlined": 1, "both": 0, "duplicate": 1, "background": 1,
        "missed": 1,  # the second dog; the first is D's to find once its word is right
    }  # fmt: skip
    base = 2 / 8
    assert kinds["wrong word"].f1_cost == pytest.approx(4 / (4 + 3 + 1) - base)  # D finds the dog
    for name in ("badly outlined", "duplicate", "background"):  # C's cat is found already: C goes
        assert kinds[name].f1_cost == pytest.approx(2 / (2 + 3 + 2) - base)
    assert kinds["both"].f1_cost == 0
    assert kinds["missed"].f1_cost == pytest.approx(2 / (2 + 4 + 1) - base)  # one dog less to find
    # of all labels E finds the first dog; without the second dog both classes have AP 1
    assert kinds["missed"].ap50_cost == pytest.approx(1 - (1 + 51 / 101) / 2)
    assert (
        kinds["wrong word"].ap50_cost == kinds["duplicate"].ap50_cost == 0
    )  # they rank below the right label


def test_confusions_and_reliability_by_hand(worked: LabelReport) -> None:
    assert {(row.label, row.truth): row.count for row in worked.confusions} == {
        ("cat", "dog"): 1, ("cup", "invented"): 1, ("missed", "dog"): 1,
    }  # fmt: skip
    bins = worked.reliability.bins
    assert [row.labels for row in bins] == [0, 0, 0, 1, 1, 1, 1, 1, 0, 1]  # F is ignored
    assert (bins[9].mean_score, bins[9].precision, bins[0].precision) == (0.9, 1.0, None)
    error = ((1 - 0.9) + 0.7 + 0.6 + 0.5 + 0.45 + (1 - 0.3)) / 6
    assert worked.reliability.expected_calibration_error == pytest.approx(error)


def test_the_report_is_json(worked: LabelReport) -> None:
    data = json.loads(json.dumps(worked.to_dict()))
    assert data["micro"] == {"tp": 1, "fp": 4, "fn": 2, "precision": 0.2, "recall": 1 / 3, "f1": 0.25}
    assert data["presence"]["false_positive_rate"] == 0.2
    assert data["per_class"][1]["counts"]["fn"] == 2
    assert [row["threshold"] for row in data["curve"]] == [i / 100 for i in range(101)]
    assert data["curve"][30] == {"threshold": 0.3, "tp": 2, "fp": 4, "fn": 1,
                                 "precision": 2 / 6, "recall": 2 / 3, "f1": 4 / 9}  # fmt: skip
    assert data["curve"][95]["precision"] is None  # nothing has such a score


def test_nothing_to_compare_has_no_figures() -> None:
    for photos in ([], [photo([], [])]):
        report = evaluate_labels(photos, CLASSES)
        assert (report.micro.precision, report.micro.recall, report.labels_per_thing) == (None, None, None)
        assert (report.coco.ap, report.saco.cgf1, report.best_f1) == (None, None, None)
        json.dumps(report.to_dict())
        assert report.min_score("best_f1") == "0"
    perfect = photo([("cat", 0.9, (0, 0, 5, 5))], [("cat", (0, 0, 5, 5), False)])
    report = evaluate_labels([perfect], CLASSES)
    assert (report.micro.f1, report.coco.ap, report.saco.pmf1, report.presence.mcc) == (
        1,
        pytest.approx(1),
        1,
        1,
    )
    assert all(row.count == 0 and row.f1_cost == 0 for row in report.errors)


def test_a_label_finds_the_free_instance_and_each_instance_is_found_once() -> None:
    # both labels overlap the left cat most; the worse one gets the right cat, which it reaches as well
    truths = [("cat", (0, 0, 10, 10), False), ("cat", (2, 0, 10, 10), False)]
    report = evaluate_labels(
        [photo([("cat", 0.9, (0, 0, 10, 10)), ("cat", 0.8, (0, 0, 11, 10))], truths)], CLASSES
    )
    assert (report.micro.tp, report.micro.fp, report.micro.fn) == (2, 0, 0)


def test_short_thresholds_keep_the_same_labels() -> None:
    assert short_threshold(0.29, 0.1) == 0.29
    assert short_threshold(0.4567, 0.4391) == 0.45
    assert short_threshold(0.4567, 0.4561) == 0.4567
    assert short_threshold(float(np.float32(0.7)), 0.5) == 0.69  # which is below 0.7
    assert short_threshold(0.003, -1.0) == 0.0


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=30), st.integers(0, 10))
def test_the_lowest_threshold_keeps_what_it_says(labels: list[tuple[int, bool]], more: int) -> None:
    score, right = np.array([s / 20 for s, _ in labels]), np.array([r for _, r in labels])
    each = curve(score, right, int(right.sum()) + more)
    for wanted in (0.5, 0.8, 1.0):
        points = [s for s in sorted(set(score)) if right[score >= s].mean() >= wanted]
        found = each.lowest_threshold(wanted)
        assert (found is None) == (not points)
        if found:
            assert (score >= found.threshold).tolist() == (score >= points[0]).tolist()
            assert found.labels == (score >= found.threshold).sum()
            assert found.precision == right[score >= found.threshold].mean()
