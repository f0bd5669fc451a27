"""Coverage of annotated instances: recall is COCO's, by size too."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from gem_label.masks import encode_mask
from gem_label.metrics.coverage import SIZES, PhotoOverlap, coverage, coverage_by_size, overlap, recalled


def rectangle(x: int, y: int, width: int, height: int, size: int = 160) -> dict:
    mask = np.zeros((size, size), bool)
    mask[y : y + height, x : x + width] = True
    return {"size": [size, size], "counts": encode_mask(mask)}


def random_rectangles(random: np.random.Generator, count: int, near: list[tuple]) -> list[tuple]:
    """Rectangles x, y, width, height; those after `near` lie close to its members, so that IoUs are high."""
    rows = []
    for i in range(count):
        if near and random.random() < 0.8:
            base = np.array(near[i % len(near)]) + random.integers(-4, 5, 4)
            rows.append(tuple(int(v) for v in np.clip(base, [0, 0, 4, 4], [100, 100, 150, 150])))
        else:
            rows.append(tuple(int(v) for v in [*random.integers(0, 100, 2), *random.integers(6, 140, 2)]))
    return rows


def coco_recall(photos: list[tuple[list[dict], list[float], list[dict], list[float]]]) -> dict[str, NDArray]:
    """Recall per size and threshold by pycocotools: the implementation that everybody compares with."""
    annotations, results = [], []
    for number, (masks, scores, instances, areas) in enumerate(photos, start=1):
        for instance, area in zip(instances, areas, strict=True):
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1,
                                "segmentation": instance, "area": area, "iscrowd": 0})  # fmt: skip
        results += [
            {"image_id": number, "category_id": 1, "segmentation": mask, "score": score}
            for mask, score in zip(masks, scores, strict=True)
        ]
    truth = COCO()
    images = [{"id": number, "width": 160, "height": 160} for number in range(1, len(photos) + 1)]
    truth.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1}], "info": {}}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.params.useCats = 0
        evaluation.params.maxDets = [1000]
        evaluation.params.areaRng = [list(bounds) for bounds in SIZES.values()]
        evaluation.params.areaRngLbl = list(SIZES)
        evaluation.evaluate()
        evaluation.accumulate()
    return {size: evaluation.eval["recall"][:, 0, i, 0] for i, size in enumerate(SIZES)}


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_recall_is_that_of_coco_for_every_size(seed: int) -> None:
    random = np.random.default_rng(seed)
    photos = []
    for _ in range(2):
        truth = random_rectangles(random, int(random.integers(1, 6)), [])
        found = random_rectangles(random, int(random.integers(1, 12)), truth)
        areas = [float(width * height) for _, _, width, height in truth]
        scores = random.permutation(len(found)).astype(float)  # no ties: COCO breaks them by its own order
        photos.append(
            ([rectangle(*r) for r in found], scores.tolist(), [rectangle(*r) for r in truth], areas)
        )
    expected = coco_recall(photos)
    ours = coverage_by_size([overlap(*photo) for photo in photos])
    assert list(ours) == ["all", "small", "medium", "large"]
    for size, recall in expected.items():
        if ours[size].instances == 0:
            assert (recall == -1).all()  # COCO's way to say that there is nothing to find
            continue
        assert ours[size].average_recall == pytest.approx(recall.mean(), abs=1e-12)
        assert ours[size].recall_50 == pytest.approx(recall[0], abs=1e-12)


def test_the_best_iou_needs_no_mask_of_its_own() -> None:
    """Two instances share one mask: both have its IoU as their best, one alone is recalled."""
    half, whole = rectangle(10, 10, 40, 40), rectangle(10, 10, 40, 60)
    numbers = coverage([overlap([whole], [0.9], [half, whole], [1600, 2400])])
    assert numbers.mean_best_iou == pytest.approx((1600 / 2400 + 1) / 2)
    assert numbers.recall_50 == 0.5
    assert numbers.average_recall == 0.5
    assert numbers.instances == 2


def test_better_scores_choose_first() -> None:
    """The first mask takes the instance it overlaps most, although the second has nothing else to take."""
    iou = np.array([[0.9, 0.6], [0.7, 0.1]])
    assert recalled(iou, 0.5).tolist() == [True, False]
    assert recalled(iou[::-1], 0.5).tolist() == [True, True]
    assert recalled(iou, 0.95).tolist() == [False, False]


def test_masks_are_ranked_by_score() -> None:
    truth, poor = rectangle(0, 0, 50, 50), rectangle(0, 0, 50, 30)
    ranked = overlap([poor, truth], [0.1, 0.8], [truth], [2500])
    np.testing.assert_allclose(ranked.iou, [[1.0], [0.6]])


def test_nothing_found_and_nothing_to_find() -> None:
    nothing_found = coverage([overlap([], [], [rectangle(0, 0, 9, 9)], [81])])
    assert (nothing_found.mean_best_iou, nothing_found.average_recall, nothing_found.recall_50) == (0, 0, 0)
    nothing_to_find = coverage([PhotoOverlap(np.zeros((3, 0)), np.zeros(0))])
    assert nothing_to_find.instances == 0
    assert nothing_to_find.average_recall is None
    assert coverage([]).instances == 0
