"""`gem-label eval labels`: every figure by hand, by COCOeval, and by slow second implementations."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from run_factory import make_run, mask_labels, mask_set
from scipy.optimize import linear_sum_assignment

from gem_label.cli import run as cli
from gem_label.errors import GemLabelError, UsageError
from gem_label.evaluation.label_files import parse_coco, read_coco
from gem_label.evaluation.label_sources import join_photos, open_labels
from gem_label.evaluation.labels import LabelReport, PhotoLabels, evaluate_labels
from gem_label.evaluation.labels.curves import curve, short_threshold
from gem_label.evaluation.labels.matching import compare
from gem_label.evaluation.labels.presence import best_assignment
from gem_label.masks import encode_mask
from gem_label.runs import Run

# of pycocotools under numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CLASSES = ("cat", "dog", "cup")
SIZE = 20
Rectangle = Sequence[int]  # x, y, width, height


def pixels(rectangle: Rectangle, size: int = SIZE) -> NDArray[np.bool_]:
    x, y, width, height = rectangle
    mask = np.zeros((size, size), bool)
    mask[y : y + height, x : x + width] = True
    return mask


def rle(rectangle: Rectangle, size: int = SIZE) -> dict[str, Any]:
    return {"size": [size, size], "counts": encode_mask(pixels(rectangle, size))}


def decoded(mask: dict) -> NDArray[np.bool_]:
    return coco_mask.decode([mask])[:, :, 0].astype(bool)


def photo(
    labels: Sequence[tuple[str, float, Rectangle]],
    truths: Sequence[tuple[str, Rectangle, bool]],
    threshold: float = 0.4,
) -> PhotoLabels:
    """A photo of (word, score, rectangle) and (word, rectangle, crowd)."""
    scores = np.array([score for _, score, _ in labels], float)
    return PhotoLabels(
        "photo",
        [rle(rectangle) for *_, rectangle in labels],
        np.array([CLASSES.index(word) for word, *_ in labels], int),
        scores,
        scores >= threshold,
        [rle(rectangle) for _, rectangle, _ in truths],
        np.array([CLASSES.index(word) for word, *_ in truths], int),
        np.array([crowd for *_, crowd in truths], bool),
    )


# Photo 1: a cat (area 100) and a dog (area 100).
#   A cat 0.9, 9 x 9 of the cat: IoU 81/100, right
#   B cat 0.6, all of the cat: IoU 1, a duplicate
#   C cat 0.5, 5 x 4 inside the cat: IoU 20/100, badly outlined
#   D cat 0.7, 90 of the dog's 100 pixels: IoU 0.9, the wrong word
#   E dog 0.3, all of the dog: right, but below the threshold 0.4
# Photo 2: a dog without a label, and a crowd of cats (area 200).
#   F cat 0.8, inside the crowd: ignored
#   G cup 0.45, on nothing: background
# Photo 3: empty, no label.
WORKED = (
    photo(
        [("cat", 0.9, (0, 0, 9, 9)), ("cat", 0.6, (0, 0, 10, 10)), ("cat", 0.5, (0, 0, 5, 4)),
         ("cat", 0.7, (10, 10, 10, 9)), ("dog", 0.3, (10, 10, 10, 10))],
        [("cat", (0, 0, 10, 10), False), ("dog", (10, 10, 10, 10), False)],
    ),
    photo(
        [("cat", 0.8, (12, 0, 4, 10)), ("cup", 0.45, (0, 12, 5, 5))],
        [("dog", (0, 0, 10, 10), False), ("cat", (10, 0, 10, 20), True)],
    ),
    photo([], []),
)  # fmt: skip


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


def random_photos(seed: int, count: int = 6, crowds: bool = True) -> list[PhotoLabels]:
    """Photos whose labels lie near their instances; some scores are equal."""
    random = np.random.default_rng(seed)
    photos = []
    for _ in range(count):
        truths = random.integers(1, 10, (random.integers(0, 5), 4))
        words = random.integers(0, 3, len(truths))
        labels, names = random.integers(1, 10, (random.integers(0, 8), 4)), random.integers(0, 3, 8)
        for i in range(len(labels)):
            if len(truths) and random.random() < 0.8:
                j = random.integers(len(truths))
                labels[i] = np.clip(truths[j] + random.integers(-1, 2, 4) * (random.random() < 0.7), 1, None)
                names[i] = words[j] if random.random() < 0.7 else names[i]
        photos.append(
            photo(
                [
                    (CLASSES[names[i]], float(random.integers(0, 21) / 20), labels[i])
                    for i in range(len(labels))
                ],
                [
                    (CLASSES[w], t, bool(crowds and random.random() < 0.2))
                    for w, t in zip(words, truths, strict=True)
                ],
            )
        )
    return photos


def slow_iou(a: dict, b: dict, crowd: bool) -> float:
    one, other = (decoded(mask) for mask in (a, b))
    common = int((one & other).sum())
    return common / (int(one.sum()) if crowd else int((one | other).sum()))


def slow_matching(each: PhotoLabels, threshold: float) -> tuple[dict[int, int], set[int]]:
    """Label to instance, and the ignored labels, of labels with at least this score."""
    classes, scores = np.asarray(each.classes), np.asarray(each.scores)
    true_classes, crowd = np.asarray(each.true_classes), np.asarray(each.crowd)
    pairs: dict[int, int] = {}
    ignored = set()
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if scores[i] < threshold:
            continue
        best, best_iou = None, 0.5
        for j in range(len(crowd)):
            if true_classes[j] == classes[i] and not crowd[j] and j not in pairs.values():
                iou = slow_iou(each.masks[i], each.true_masks[j], False)
                if iou >= best_iou:
                    best, best_iou = j, iou
        if best is not None:
            pairs[i] = best
        elif any(
            crowd[j]
            and true_classes[j] == classes[i]
            and slow_iou(each.masks[i], each.true_masks[j], True) >= 0.5
            for j in range(len(crowd))
        ):
            ignored.add(i)
    return pairs, ignored


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_counts_equal_a_slow_second_implementation(seed: int) -> None:
    photos = random_photos(seed)
    report = evaluate_labels(photos, CLASSES, 0.4)
    tp = fp = on_found = 0
    instances = sum(int((~np.asarray(each.crowd, bool)).sum()) for each in photos)
    there, labeled = set(), set()
    for number, each in enumerate(photos):
        classes, scores, true_classes = map(list, (each.classes, each.scores, each.true_classes))
        pairs, ignored = slow_matching(each, 0.4)
        tp += len(pairs)
        there |= {(number, c) for c in true_classes}
        for i in range(len(scores)):
            if scores[i] < 0.4:
                continue
            labeled.add((number, classes[i]))
            if i in ignored:
                continue
            fp += i not in pairs
            mask = decoded(each.masks[i])
            for j in set(pairs.values()):
                thing = decoded(each.true_masks[j])
                if classes[i] == true_classes[j] and (mask & thing).sum() >= 0.5 * min(
                    mask.sum(), thing.sum()
                ):
                    on_found += 1
                    break
    assert (report.micro.tp, report.micro.fp, report.micro.fn) == (tp, fp, instances - tp)
    assert report.labels_per_thing == (on_found / tp if tp else None)
    presence = report.presence
    every = {(number, c) for number in range(len(photos)) for c in range(3)}
    assert presence.tp == len(there & labeled)
    assert presence.fp == len(labeled - there)
    assert presence.fn == len(there - labeled)
    assert presence.tn == len(every - there - labeled)
    if report.best_f1:  # the best of all thresholds, each matched from scratch
        best = 0.0
        for threshold in {float(s) for each in photos for s in np.asarray(each.scores)}:
            matched = [slow_matching(each, threshold) for each in photos]
            hits = sum(len(pairs) for pairs, _ in matched)
            used = sum(int((np.asarray(p.scores) >= threshold).sum()) - len(ig)
                       for p, (_, ig) in zip(photos, matched, strict=True))  # fmt: skip
            best = max(best, 2 * hits / (used + instances) if used + instances else 0.0)
        assert report.best_f1.f1 == pytest.approx(best)


def coco_files(photos: Sequence[PhotoLabels]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same photos as a COCO instances file and a results list."""
    annotations, results = [], []
    for number, each in enumerate(photos, start=1):
        rows = zip(each.true_masks, np.asarray(each.true_classes), np.asarray(each.crowd), strict=True)
        for mask, label_class, crowd in rows:
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": int(label_class) + 1,
                "segmentation": plain(mask), "area": float(coco_mask.area(mask)), "iscrowd": int(crowd),
                "bbox": coco_mask.toBbox(mask).tolist(),
            })  # fmt: skip
        results += [
            {
                "image_id": number,
                "category_id": int(c) + 1,
                "segmentation": plain(mask),
                "score": float(score),
            }
            for mask, c, score in zip(
                each.masks, np.asarray(each.classes), np.asarray(each.scores), strict=True
            )
        ]
    images = [
        {"id": number, "file_name": f"{number}.jpg", "width": SIZE, "height": SIZE}
        for number in range(1, len(photos) + 1)
    ]
    categories = [{"id": k, "name": name} for k, name in enumerate(CLASSES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def plain(mask: dict) -> dict[str, Any]:
    return {"size": mask["size"], "counts": mask["counts"].decode("ascii")}


@pytest.mark.parametrize("seed", range(8))
def test_ap_and_ar_equal_cocoeval(seed: int) -> None:
    photos = random_photos(seed, 12)
    truth, results = coco_files(photos)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth | {"info": {}}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    report = evaluate_labels(photos, CLASSES)
    assert report.coco.ap == pytest.approx(evaluation.stats[0], abs=1e-12)
    assert report.coco.ap50 == pytest.approx(evaluation.stats[1], abs=1e-12)
    assert report.coco.ar100 == pytest.approx(evaluation.stats[8], abs=1e-12)
    # TIDE's costs start from an AP50 of our own, which is the same: fixing all kinds but none changes nothing
    from gem_label.evaluation.labels.errors import _mean_ap50, find_errors

    c = compare(photos, 3)
    assert _mean_ap50(c, c.matching, find_errors(c, c.matching), None) == pytest.approx(report.coco.ap50)


def slow_kinds(photos: Sequence[PhotoLabels], threshold: float) -> dict[str, int]:
    """TIDE's kinds label by label, as its paper words them."""
    kinds = dict.fromkeys(("wrong word", "badly outlined", "both", "duplicate", "background", "missed"), 0)
    for each in photos:
        pairs, ignored = slow_matching(each, threshold)
        usable = set(pairs.values())
        things = [j for j, crowd in enumerate(np.asarray(each.crowd)) if not crowd]
        for i, score in enumerate(np.asarray(each.scores)):
            if score < threshold or i in pairs or i in ignored:
                continue
            iou = {j: slow_iou(each.masks[i], each.true_masks[j], False) for j in things}
            own = {j: v for j, v in iou.items() if list(each.true_classes)[j] == list(each.classes)[i]}
            other = {j: v for j, v in iou.items() if j not in own}
            highest = [max(values.values(), default=0.0) for values in (own, other)]
            if 0.1 <= highest[0] < 0.5:
                kinds["badly outlined"] += 1
                usable.add(max(own, key=own.__getitem__))
            elif highest[1] >= 0.5:
                kinds["wrong word"] += 1
                usable.add(max(other, key=other.__getitem__))
            elif highest[0] >= 0.5:
                kinds["duplicate"] += 1
            elif max(highest) < 0.1:
                kinds["background"] += 1
            else:
                kinds["both"] += 1
        kinds["missed"] += len(set(things) - usable)
    return kinds


@pytest.mark.parametrize("seed", range(20))
def test_kinds_of_error_equal_a_slow_second_implementation(seed: int) -> None:
    photos = random_photos(seed)
    report = evaluate_labels(photos, CLASSES)
    assert {row.kind: row.count for row in report.errors} == slow_kinds(photos, 0.4)
    assert {row.kind: row.count_all for row in report.errors} == slow_kinds(photos, 0.0)


TIDE = {
    # tidecv 1.0.1 on the same photos: counts and dAP50 of Cls, Loc, Both, Dupe, Bkg, Miss
    3: ([17, 19, 5, 17, 25, 47], [6.986, 6.137, 1.27, 2.232, 3.733, 17.223]),
    9: ([10, 23, 12, 13, 58, 34], [1.684, 8.264, 1.66, 0.634, 6.435, 10.312]),
}


@pytest.mark.parametrize("seed", TIDE)
def test_costs_equal_those_of_tidecv(seed: int) -> None:
    # no crowds and no equal scores, which tidecv treats in its own way
    random = np.random.default_rng(seed)
    photos = [
        replace(each, scores=random.random(len(each.masks)), kept=np.ones(len(each.masks), bool))
        for each in random_photos(seed, 40, crowds=False)
    ]
    counts, costs = TIDE[seed]
    report = evaluate_labels(photos, CLASSES)
    assert [row.count_all for row in report.errors] == [row.count for row in report.errors] == counts
    assert [100 * (row.ap50_cost or 0) for row in report.errors] == pytest.approx(costs, abs=6e-4)


@given(st.integers(0, 2**31))
def test_assignment_equals_scipys(seed: int) -> None:
    random = np.random.default_rng(seed)
    iou = random.random(random.integers(0, 6, 2)) * (random.random() < 0.9)
    iou[random.random(iou.shape) < random.random()] = 0
    rows, columns = linear_sum_assignment(-iou)
    assert best_assignment(iou).sum() == pytest.approx(iou[rows, columns].sum())
    assert sorted(best_assignment(iou)) == pytest.approx(sorted(v for v in iou[rows, columns] if v))


def test_wrong_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scores has shape \(0,\) for 1 masks"):
        PhotoLabels("a.jpg", [rle((0, 0, 5, 5))], [0], [], [True], [], [], [])
    with pytest.raises(ValueError, match=r"a.jpg: class indices are between 0 and 2"):
        evaluate_labels([PhotoLabels("a.jpg", [rle((0, 0, 5, 5))], [3], [0.5], [True], [], [], [])], CLASSES)
    mixed = PhotoLabels(
        "a.jpg", [rle((0, 0, 5, 5))], [0], [0.5], [True], [rle((0, 0, 5, 5), 30)], [0], [False]
    )
    with pytest.raises(ValueError, match=r"a.jpg: masks of sizes \(20, 20\) and \(30, 30\)"):
        evaluate_labels([mixed], CLASSES)


# reading


def test_photos_are_joined_by_the_longest_common_end() -> None:
    labeled = {1: "/data/a/1.jpg", 2: "/data/b/1.jpg", 3: "/data/c/1.jpg", 4: "/data/b/2.jpg"}
    assert join_photos(labeled, {"x": "b/1.jpg", "y": "a/1.jpg", "z": "other\\2.jpg"}) == {
        1: "y",
        2: "x",
        4: "z",
    }
    assert join_photos({1: "/data/1.jpg"}, {"x": "2.jpg"}) == {}
    assert join_photos({1: "/data/x1.jpg"}, {"x": "1.jpg"}) == {}  # whole names
    with pytest.raises(UsageError, match=r"^1.jpg could be /data/a/1.jpg or /data/b/1.jpg"):
        join_photos(labeled, {"x": "1.jpg"})
    with pytest.raises(UsageError, match=r"^/data/1.jpg could be a/1.jpg or b/1.jpg"):
        join_photos({1: "/data/1.jpg"}, {"x": "a/1.jpg", "y": "b/1.jpg"})


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The worked example as a run and annotations; photo 3 has no annotation, another one is not listed."""
    photos = {}
    for number, each in enumerate(WORKED, start=1):
        masks = mask_set([decoded(m) for m in each.masks], (SIZE, SIZE))
        names = [CLASSES[c] for c in np.asarray(each.classes)]
        photos[f"val/{number}.jpg"] = (masks, mask_labels(names, list(each.scores), list(each.kept)))
    other = mask_set([pixels((0, 0, 5, 5))])
    photos["val/4.jpg"] = (other, mask_labels(["cat"], [0.9]))
    make_run(tmp_path / "run", photos)
    truth, _ = coco_files(WORKED)
    truth["categories"] = [{"id": 1, "name": " Cat"}, {"id": 2, "name": "DOG"}, {"id": 9, "name": "tree"}]
    tree = dict(truth["annotations"][0], id=99, category_id=9)
    tree["segmentation"] = [[0, 0, 5, 0, 5, 5, 0, 5]]
    truth["annotations"].append(tree)
    truth["images"].append({"id": 7, "file_name": "7.jpg", "width": 5, "height": 5})
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    return tmp_path / "run", tmp_path / "truth.json"


def test_a_run_is_read_and_joined(files: tuple[Path, Path]) -> None:
    found = open_labels(*files)
    assert (found.classes, found.matched) == (CLASSES, 3)
    assert isinstance(found.threshold, float)
    assert [note.replace(str(files[1]), "FILE") for note in found.notes] == [
        "1 of 4 labeled photos are not in FILE: left out",
        "1 of 4 annotated photos are not labeled: left out",
        "1 annotations of 1 classes that were not asked for are left out: tree",
        "1 of 3 classes are no category of FILE, so that each of their labels counts as wrong: cup",
    ]
    report = evaluate_labels(found.photos, found.classes)
    worked = evaluate_labels(WORKED, CLASSES)
    assert report.micro == worked.micro
    assert report.presence == worked.presence
    assert report.confusions == worked.confusions
    assert report.labels_per_thing == worked.labels_per_thing


def test_labels_below_the_threshold_count_where_a_run_selects_them(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def photo_masks(self: Run, embeddings: bool = True) -> Iterator[tuple[Any, Any, Any]]:
        for record, masks, labels in original(self, embeddings):
            selected = np.ones(len(labels), bool)
            object.__setattr__(labels, "selected", selected)
            yield record, masks, labels

    original = Run.photo_masks
    monkeypatch.setattr(Run, "photo_masks", photo_masks)
    found = open_labels(*files)
    report = evaluate_labels(found.photos, found.classes)
    worked = evaluate_labels(WORKED, CLASSES)
    assert (report.labels, report.labels_all) == (6, 7)
    assert report.micro == worked.micro
    assert report.coco == worked.coco
    assert report.errors == worked.errors


def test_a_run_with_thresholds_by_class_has_no_single_one(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Thresholds:
        default, classes = 0.4, {"cat": 0.6}

        def __str__(self) -> str:
            return "0.4, cat=0.6"

    monkeypatch.setattr(Run, "label_settings", SimpleNamespace(min_score=Thresholds(), top_k=1))
    found = open_labels(*files)
    assert found.threshold is None
    assert "the run has thresholds of their own for some classes: 0.4, cat=0.6" in found.notes
    Thresholds.classes = {}
    assert open_labels(*files).threshold == 0.4


def test_files_are_read_in_every_form(tmp_path: Path) -> None:
    truth, results = coco_files(WORKED)
    for k, row in enumerate(truth["annotations"]):  # polygons, uncompressed and compressed run lengths
        x, y, width, height = map(int, row["bbox"])
        if k % 3 == 0:
            right, down = x + width, y + height
            row["segmentation"] = [[x, y, right, y, right, down, x, down]]
        elif k % 3 == 1:
            flat = pixels((x, y, width, height)).ravel(order="F")
            edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]).astype(int)))
            row["segmentation"] = {"size": [SIZE, SIZE], "counts": np.diff([0, *edges, SIZE * SIZE]).tolist()}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    whole = truth | {"annotations": results, "info": {"photo_folder": "/photos"}}
    (tmp_path / "whole.json").write_text(json.dumps(whole))
    every = evaluate_labels(
        [photo(*args, threshold=0.0) for args in (
            ([(CLASSES[c], s, coco_mask.toBbox(m).astype(int)) for m, c, s in
              zip(p.masks, np.asarray(p.classes), np.asarray(p.scores), strict=True)],
             [(CLASSES[c], coco_mask.toBbox(m).astype(int), crowd) for m, c, crowd in
              zip(p.true_masks, np.asarray(p.true_classes), np.asarray(p.crowd), strict=True)])
            for p in WORKED)],
        CLASSES,
    )  # fmt: skip
    for name in ("results.json", "whole.json"):
        found = open_labels(tmp_path / name, tmp_path / "truth.json")
        assert (found.classes, found.threshold, found.matched, found.notes) == (CLASSES, None, 3, ())
        assert evaluate_labels(found.photos, found.classes).to_dict() == every.to_dict()


BOX = {"size": [SIZE, SIZE], "counts": plain(rle((0, 0, 5, 5)))["counts"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": [{"image_id": 1, "category_id": 1, "segmentation": BOX}]}, "no score"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "segmentation": BOX, "score": 1.5}]}, "the score 1.5"),
        ({"annotations": [{"image_id": 8, "category_id": 1, "segmentation": BOX}]}, "image 8, which is not listed"),
        ({"annotations": [{"image_id": 1, "category_id": 8, "segmentation": BOX}]}, "category 8, which is not"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "score": 1}]}, "boxes alone cannot be compared"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "score": 1, "segmentation": BOX | {"size": [9, 9]}}]},
         "mask of 9 x 9 pixels, the image has 20 x 20 pixels"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "score": 1, "segmentation": [[0, 1, 2, 3]]}]},
         "polygon that is no list of at least three points"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "score": 1,
                           "segmentation": {"size": [SIZE, SIZE], "counts": "zz"}}]}, "do not cover 20 x 20"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "score": 1,
                           "segmentation": {"size": [SIZE, SIZE], "counts": [3, 4]}}]}, "do not cover 20 x 20"),
        ({"annotations": {}}, "no list of objects 'annotations'"),
        ({"images": [{"id": 1, "file_name": "1.jpg"}]}, "image 1 lacks file_name, height or width"),
        ({"images": [{"id": 1, "file_name": "9.jpg", "width": 20, "height": 20}], "annotations": []},
         "lists no photo of"),
        ({"images": [{"id": 1, "file_name": "1.jpg", "width": 20, "height": 10}], "annotations": []},
         "was labeled at 10 x 20 pixels, but"),
        ({"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "Cat "}], "annotations": []}, "the same word"),
        ({"categories": [], "annotations": []}, "has no categories"),
    ],
)  # fmt: skip
def test_bad_files_are_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    truth, _ = coco_files(WORKED)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "labels.json").write_text(json.dumps(truth | {"annotations": []} | change))
    assert cli(["eval", "labels", f"{tmp_path}/labels.json", "--annotations", f"{tmp_path}/truth.json"]) in (
        1,
        2,
    )
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("gem-label: ")
    assert message in line
    assert "Traceback" not in line


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
def test_coco_files_in_any_encoding_and_packed(tmp_path: Path, encoding: str) -> None:
    truth, _ = coco_files(WORKED)
    (tmp_path / "truth.json").write_bytes(gzip.compress(json.dumps(truth).encode(encoding)))
    assert read_coco(tmp_path / "truth.json") == parse_coco(tmp_path / "truth.json", truth)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is no JSON file"), ("[3]", "its entries are objects"), ("3", "is no COCO instances file")],
)
def test_what_is_no_coco_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(coco_files(WORKED)[0]))
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        open_labels(tmp_path / "labels.json", tmp_path / "truth.json")
    with pytest.raises(UsageError, match=r"is no JSON file|is no COCO instances file"):
        open_labels(tmp_path / "truth.json", tmp_path / "labels.json")
    with pytest.raises(UsageError, match="no such run or file"):
        open_labels(tmp_path / "nothing", tmp_path / "truth.json")
    with pytest.raises(UsageError, match="cannot read"):
        open_labels(tmp_path / "labels.json", tmp_path / "nothing.json")
    with pytest.raises(GemLabelError):
        open_labels(tmp_path, tmp_path / "truth.json")  # a folder that is no run


def test_a_run_seen_at_another_size_is_refused(files: tuple[Path, Path]) -> None:
    truth = json.loads(files[1].read_text())
    truth["images"][0]["height"] = SIZE + 1
    truth["annotations"] = []
    files[1].write_text(json.dumps(truth))
    with pytest.raises(GemLabelError, match="was labeled at 20 x 20 pixels"):
        list(open_labels(*files).photos)


# the command


def test_the_command_prints_and_writes_everything(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "labels.json"
    arguments = ["eval", "labels", str(files[0]), "--annotations", str(files[1]), "--json", str(out)]
    assert cli([*arguments, "--plots", str(tmp_path / "plots"), "--precision", "0.9"]) == 0
    printed = capsys.readouterr()
    assert "note: 1 of 4 labeled photos are not in" in printed.err
    lines = [line.split() for line in printed.out.splitlines()]
    assert "3 photos with labels and annotations, 3 classes, 3 instances, 1 crowds\n" in printed.out
    assert ["all", "classes", "together", "20.0", "33.3", "25.0", "1", "4", "2"] in lines
    assert ["labels", "for", "a", "thing", "found", "3.00"] in lines
    assert ["absent", "words", "labeled", "(1", "of", "5)", "20.0"] in lines
    assert ["cat", "dog", "1"] in lines
    # float32(0.9) is a little less than 0.9
    assert '  --min-score "0.89"\n(3 classes with fewer than 10 labels take the first number)' in printed.out
    result = json.loads(out.read_text())
    assert result["evaluation"] == "labels"
    assert result["micro"]["tp"] == 1
    assert result["wanted_precision"] == 0.9
    assert result["settings"]["settings"] == {"made_by": "run_factory"}
    assert "numpy" in result["versions"]
    for name in ("precision-recall", "f1", "reliability", "errors"):
        assert (tmp_path / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_plots_of_nothing_are_drawn(tmp_path: Path) -> None:
    from gem_label.evaluation.label_plots import write_plots

    assert len(write_plots(evaluate_labels([], CLASSES), tmp_path)) == 4


def test_missing_matplotlib_is_one_line_before_any_work(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    arguments = ["eval", "labels", str(files[0]), "--annotations", str(files[1]), "--plots", "plots"]
    assert cli(arguments) == 1
    printed = capsys.readouterr()
    assert printed.err == 'gem-label: plots need matplotlib: pip install "gem-label[eval]"\n'
    assert not printed.out
