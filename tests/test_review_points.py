"""Point evaluation of a dataset against a plain loop over FiftyOne's labels."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from review_dataset import FIELD, WORDS
from run_factory import make_run, mask_labels, mask_set, rectangles

from gem_label.errors import UsageError
from gem_label.progress import finish
from gem_label.review.editing.decisions import decide
from gem_label.review.statistics.points import evaluate_points, import_points, result_names
from gem_label.review.storage.selection import Selection

__all__ = ["fiftyone_db"]

MEAN, RESULT = result_names(FIELD)


@pytest.fixture
def dataset(fiftyone_db: str, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    import fiftyone as fo

    from gem_label.review import push_run

    rng = np.random.default_rng(3)
    photos = {}
    for i in range(6):
        masks = [mask | np.roll(mask, 9, axis=1) for mask in rectangles(5, seed=i)]
        labels = [str(word) for word in rng.choice(WORDS, 5)]
        photos[f"{i}.jpg"] = mask_set(masks, seed=i), mask_labels(labels, [0.5] * 5, classes=WORDS)
    name = f"points {request.node.name}"
    push_run(make_run(tmp_path / "run", photos, classes=WORDS), name)
    yield fo.load_dataset(name)
    fo.delete_dataset(name)


def write_points(path: Path, dataset: Any) -> None:
    """Points on masks and beside them, also unsure ones and a class that nobody saw."""
    rng = np.random.default_rng(0)
    rows = []
    for photo in range(5):  # the sixth has no points
        for _ in range(40):
            answer = str(rng.choice(["yes", "no", "unsure"], p=[0.4, 0.5, 0.1]))
            rows.append((photo, *rng.random(2).round(4), str(rng.choice([*WORDS, "zebra"])), answer))
        rows.append((photo, 0.5, 0.5, "unicorn", "no"))
    rows += [(0, *np.array([x, y]) / 97, "cat", "yes") for x in range(97) for y in range(0, 97, 9)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ImageId", "X", "Y", "Label", "EstimatedYesNo", "TextLabel"])
        writer.writerows((*row, row[3]) for row in rows)


def expected(sample: Any) -> tuple[dict[str, list[int]], list[str | None]]:
    """Counts per class and a result per point, the slow way."""
    whole = {}
    for detection in sample[FIELD].detections:
        if "rejected" in detection.tags:
            continue
        x, y, w, h = (round(v * s) for v, s in zip(detection.bounding_box, (64, 48, 64, 48), strict=True))
        mask = whole.setdefault(detection.label, np.zeros((48, 64), bool))
        mask[y : y + h, x : x + w] |= detection.mask > 0
    seen = {p.label for p in sample["points"].keypoints if p["estimated_yes_no"] == "yes"}
    counts, results = {label: [0, 0, 0] for label in seen}, []
    for point in sample["points"].keypoints:
        if point.label not in seen or point["estimated_yes_no"] == "unsure":
            results.append(None)
            continue
        x, y = np.array(point.points[0], np.float32)
        covered = whole.get(point.label, np.zeros((48, 64), bool))[min(int(y * 48), 47), min(int(x * 64), 63)]
        yes = point["estimated_yes_no"] == "yes"
        results.append(("TP" if covered else "FN") if yes else ("FP" if covered else "TN"))
        if results[-1] != "TN":
            counts[point.label][("TP", "FP", "FN").index(results[-1])] += 1
    return counts, results


def test_against_a_plain_loop(dataset: Any, tmp_path: Path) -> None:
    write_points(tmp_path / "points.csv", dataset)
    assert import_points(dataset, tmp_path / "points.csv") == 5
    decide(dataset, FIELD, "reject", Selection(labels=["horse"], view=dataset.limit(2)))
    report = finish(evaluate_points(dataset, FIELD, "points"))
    dataset.reload()
    pooled: dict[str, np.ndarray] = {}
    pairs, images = [], []
    for sample in dataset.exists("points"):
        counts, results = expected(sample)
        assert [point[RESULT] for point in sample["points"].keypoints] == results
        ious = [row[0] / sum(row) for row in counts.values() if sum(row)]
        assert sample[MEAN] == pytest.approx(np.mean(ious))
        pairs += ious
        images.append(np.mean(ious))
        for label, row in counts.items():
            pooled[label] = pooled.get(label, np.zeros(3, int)) + row
    assert report.averages.pairs == pytest.approx(np.mean(pairs))
    assert report.averages.images == pytest.approx(np.mean(images))
    assert report.class_counts == {label: tuple(row) for label, row in pooled.items()}
    assert "zebra" in report.unused_classes
    assert report.images == 5
    # the failures can be filtered
    import fiftyone as fo

    missed = dataset.filter_labels("points", fo.ViewField(RESULT) == "FN")
    assert missed.count("points.keypoints") == sum(row[2] for row in pooled.values())
    assert dataset.exists(MEAN).match(fo.ViewField(MEAN) < 0.5).count() == sum(
        value < 0.5 for value in images
    )
    # as FiftyOne's Open Images V7 has them: unsure points among the others
    sample = dataset.exists("points").first()
    sample["points"].keypoints[0]["estimated_yes_no"] = "unsure"
    sample.save()
    again = finish(evaluate_points(dataset, FIELD, "points", dataset.limit(1)))
    assert (again.images, again.points) == (1, report.points - sum(
        r is not None for s in dataset.exists("points").skip(1) for r in expected(s)[1]) - 1)  # fmt: skip


def test_what_cannot_be_evaluated_is_refused(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    with pytest.raises(UsageError, match="no field of keypoints"):
        finish(evaluate_points(dataset, FIELD, "points"))
    dataset.add_sample_field("points", fo.EmbeddedDocumentField, embedded_doc_type=fo.Keypoints)
    with pytest.raises(UsageError, match="no point answered"):
        finish(evaluate_points(dataset, FIELD, "points"))
    (tmp_path / "other.csv").write_text(
        "ImageId,X,Y,Label,EstimatedYesNo,TextLabel\nzzz,0.5,0.5,cat,yes,cat\n"
    )
    with pytest.raises(UsageError, match="none of the 6 photos"):
        import_points(dataset, tmp_path / "other.csv")
    with pytest.raises(UsageError, match=r"cannot read .*missing\.csv"):
        import_points(dataset, tmp_path / "missing.csv")


def test_a_name_of_several_photos_is_refused(dataset: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    write_points(tmp_path / "points.csv", dataset)
    dataset.add_sample(fo.Sample(filepath=str(tmp_path / "elsewhere" / "2.png")))
    with pytest.raises(UsageError, match=r"an image '2', which may be .*/2\.jpg or .*/elsewhere/2\.png"):
        import_points(dataset, tmp_path / "points.csv")
    assert not dataset.has_field("points")
