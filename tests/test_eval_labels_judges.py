"""`gem-label eval labels`: figures equal those of COCOeval, tidecv, scipy and slow second implementations."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_photos import CLASSES, coco_files, decoded, random_photos, rle, slow_iou, slow_matching
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.optimize import linear_sum_assignment

from gem_label.metrics.labels import PhotoLabels, evaluate_labels
from gem_label.metrics.labels.matching import compare
from gem_label.metrics.labels.presence import best_assignment

# of pycocotools under numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


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
    from gem_label.metrics.labels.errors import _mean_ap50, find_errors

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
