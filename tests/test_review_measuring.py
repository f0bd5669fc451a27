"""Labels against ground truth in the dataset: FiftyOne's own evaluation is the referee."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from numpy.typing import NDArray
from PIL import Image
from run_factory import make_run, mask_labels, mask_set

from gem_label.errors import UsageError
from gem_label.progress import finish
from gem_label.review.editing.decisions import decide
from gem_label.review.statistics.measuring import Measurement, measure_labels, truth_fields
from gem_label.review.storage.selection import Selection

__all__ = ["fiftyone_db"]

FIELD, TRUTH, WORDS = "gem_label", "ground_truth", ("cat", "dog", "cup")
HEIGHT, WIDTH, PHOTOS = 60, 80, 12


def box_mask(x: int, y: int, w: int, h: int) -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + h, x : x + w] = True
    return mask


def things(rng: np.random.Generator) -> list[tuple[str, NDArray[np.bool_]]]:
    """Up to six things, each in its own part of the photo."""
    places = [(x, y) for x in (0, 27, 54) for y in (0, 30)]
    return [
        (str(rng.choice(WORDS)), box_mask(x + 2, y + 2, *rng.integers(12, 22, 2)))
        for x, y in places
        if rng.random() < 0.7
    ]


def seen(
    rng: np.random.Generator, real: list[tuple[str, NDArray[np.bool_]]]
) -> Iterator[tuple[str, Any, float]]:
    """What is labeled: some things, shifted or under another word, and some that are none."""
    for word, mask in real:
        if rng.random() < 0.2:
            continue
        shift = tuple(rng.integers(0, 4, 2))
        yield (
            (word if rng.random() < 0.8 else str(rng.choice(WORDS))),
            np.roll(mask, shift, (0, 1)),
            rng.random(),
        )
    if rng.random() < 0.5:
        yield str(rng.choice(WORDS)), box_mask(*rng.integers(0, 30, 2), 20, 20), rng.random()


def truth_detection(word: str, mask: NDArray[np.bool_]) -> Any:
    import fiftyone as fo

    return fo.Detection.from_mask(mask, label=word)


@pytest.fixture(scope="module")
def dataset(fiftyone_db: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Random scenes; labels from 0.3 on are kept, and less likely ones hidden."""
    import fiftyone as fo

    from gem_label.review import push_run

    folder = tmp_path_factory.mktemp("measure")
    (folder / "photos").mkdir()
    photos, truth = {}, {}
    for number in range(PHOTOS):
        rng = np.random.default_rng(number)
        real = things(rng)
        words, masks, scores = zip(*seen(rng, real), strict=True) if real else ((), (), ())
        labels = mask_labels(words, scores, kept=[score >= 0.3 for score in scores], classes=WORDS)
        photos[f"{number}.png"] = (mask_set(masks, (HEIGHT, WIDTH)), labels)
        truth[f"{number}.png"] = fo.Detections(detections=[truth_detection(*each) for each in real])
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "photos" / f"{number}.png")
    push_run(make_run(folder / "run", photos, classes=WORDS), "measured")
    dataset = fo.load_dataset("measured")
    paths = dataset.values("filepath")
    dataset.set_values(TRUTH, [truth[Path(path).name] for path in paths])
    yield dataset
    fo.delete_dataset(dataset.name)


def measured(dataset: Any, truth_field: str = TRUTH, view: Any = None) -> Measurement:
    return finish(measure_labels(dataset, FIELD, truth_field, view))


def counts(measurement: Measurement) -> tuple[int, int, int]:
    return measurement.report.micro.tp, measurement.report.micro.fp, measurement.report.micro.fn


def referee(dataset: Any, truth_field: str = TRUTH) -> tuple[int, int, int]:
    """True and false positives and false negatives by FiftyOne."""
    dataset.evaluate_detections(FIELD, gt_field=truth_field, eval_key="referee", use_masks=True, iou=0.5)
    found = tuple(dataset.sum(f"referee_{name}") for name in ("tp", "fp", "fn"))
    dataset.delete_evaluation("referee")
    return found


def test_the_counts_are_those_of_fiftyone(dataset: Any) -> None:
    result = measured(dataset)
    assert counts(result) == referee(dataset)
    assert min(counts(result)) > 3
    report = result.report
    assert (report.photos, report.labels) == (PHOTOS, dataset.count(f"{FIELD}.detections"))
    assert (
        report.labels_all == report.labels + dataset.count(f"{FIELD}_less_likely.detections") > report.labels
    )
    assert result.notes == ()
    assert [row.name for row in report.per_class] == list(WORDS)
    # a view counts alone, and patches mean their photos
    few = dataset.limit(3)
    assert measured(dataset, view=few).report.photos == 3
    patches = few.to_patches(FIELD)
    assert counts(measured(dataset, view=patches)) == counts(
        measured(dataset, view=dataset.select(patches.distinct("sample_id")))
    )


def test_rejected_labels_do_not_count_and_accepted_ones_are_certain(dataset: Any) -> None:
    before = measured(dataset).report
    decide(dataset, FIELD, "reject", Selection(labels=["cat"]))
    now = measured(dataset).report
    cats = now.per_class[WORDS.index("cat")]
    assert cats.labels == 0
    assert cats.counts.fn == cats.instances
    decide(dataset, FIELD, "accept", Selection(labels=["cat"]))
    again = measured(dataset).report
    assert again.micro == before.micro
    curve = again.class_curves["cat"]
    certain = again.per_class[WORDS.index("cat")].labels
    assert (curve.thresholds[0], curve.tp[0] + curve.fp[0]) == (1.0, certain)
    decide(dataset, f"{FIELD}_less_likely", "accept")
    every = measured(dataset).report
    assert (every.labels, every.labels_all) == (before.labels_all, before.labels_all)


def test_polylines_other_words_crowds_and_missing_truth(dataset: Any) -> None:
    import fiftyone as fo

    lines, others, boxes = [], [], []
    for number, truth in enumerate(dataset.values(f"{TRUTH}.detections")):
        shapes = []
        for each in truth:
            x, y, w, h = each.bounding_box
            corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
            shapes.append(fo.Polyline(label=each.label.upper(), points=[corners], closed=True, filled=True))
        wrong = [[(0.1, 0.1), (0.2, 0.2)], [(1e8, 1e8), (2e8, 1e8), (2e8, 2e8)], [(float("nan"), 0.5)] * 3]
        shapes.append(fo.Polyline(label="cat", points=wrong))
        lines.append(fo.Polylines(polylines=shapes))
        box = [fo.Detection(label=each.label, bounding_box=each.bounding_box) for each in truth]
        boxes.append(fo.Detections(detections=box))
        zebra = fo.Detection(label="zebra", bounding_box=[0, 0, 0.5, 0.5])
        crowd = fo.Detection(label="cat", bounding_box=[0, 0, 1, 1], iscrowd=True)
        others.append(fo.Detections(detections=[zebra, crowd]) if number else None)
    for name, values in (("lines", lines), ("others", others), ("boxes", boxes)):
        dataset.set_values(name, values, dynamic=True)
    assert truth_fields(dataset, FIELD) == [TRUTH, "others", "boxes", "lines"]
    expected = counts(measured(dataset))
    from_lines = measured(dataset, "lines")
    assert counts(from_lines) == expected
    assert from_lines.notes == (f"{PHOTOS} annotations enclose no pixel of their photo and are left out",)
    filled = measured(dataset, "boxes")
    assert (counts(filled), len(filled.notes)) == (expected, 1)
    assert "have no mask: they count as filled boxes" in filled.notes[0]
    result = measured(dataset, "others")
    assert result.report.photos == PHOTOS - 1
    assert (result.report.instances, result.report.crowds) == (0, PHOTOS - 1)
    assert result.notes[0] == "1 photos have no ground truth and are left out"
    assert result.notes[1].startswith(f"{PHOTOS - 1} annotations of other words are left out: zebra")


def test_what_is_no_ground_truth_is_refused(dataset: Any) -> None:
    import fiftyone as fo

    with pytest.raises(UsageError, match="no ground truth in 'quality'"):
        measured(dataset, "quality")
    with pytest.raises(UsageError, match="no ground truth in 'gem_label'"):
        measured(dataset, FIELD)
    dataset.add_sample_field("nothing", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    with pytest.raises(UsageError, match="no photo has ground truth in 'nothing'"):
        measured(dataset, "nothing")
    dataset.delete_sample_field("nothing")
