"""Sizes of photos that the dataset does not know are read from the files, whatever needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from review_safety import drop_metadata
from test_import_cases import CASES, FIELD, coco, counts, dataset, load, masks, state, written

from gem_label.errors import GemLabelError, UsageError
from gem_label.progress import finish
from gem_label.review.editing.decisions import decide
from gem_label.review.editing.joining import join_masks
from gem_label.review.queues.details import mask_details
from gem_label.review.queues.order import MaskReference
from gem_label.review.statistics.measuring import measure_labels
from gem_label.review.storage.selection import Selection

__all__ = ["dataset", "fiftyone_db"]

METADATA = [None, {"_cls": "ImageMetadata", "size_bytes": 7}]


def sizes(dataset: Any) -> list[Any]:
    dataset.reload()
    return [metadata and (metadata.width, metadata.height) for metadata in dataset.values("metadata")]


@pytest.mark.parametrize("metadata", METADATA)
def test_an_import_finds_out_sizes(dataset: Any, metadata: Any) -> None:
    drop_metadata(dataset, metadata)
    before = state(dataset)
    dry = load(dataset, CASES / "ellipse.xml", dry_run=True)
    assert state(dataset) == before
    report = load(dataset, CASES / "ellipse.xml")
    assert counts(report) == counts(dry) == {"unchanged": 2, "redrawn": 1}
    assert sizes(dataset) == [(64, 48)]


def test_the_photo_says_its_size_and_not_the_file(dataset: Any, tmp_path: Path) -> None:
    drop_metadata(dataset)

    def change(content: dict[str, Any]) -> None:
        content["images"][0] |= {"width": 128, "height": 96}
        content["annotations"][0]["segmentation"] = [[8, 8, 32, 8, 32, 28, 8, 28]]

    report = load(dataset, written(tmp_path, coco(change)), missing="delete")
    assert counts(report) == {"unchanged": 2, "refused": 1}
    Path(dataset.first().filepath).unlink()
    drop_metadata(dataset)
    assert counts(load(dataset, CASES / "photo.bom.json")) == {"unchanged": 3}  # with the size of the file


@pytest.mark.parametrize("metadata", METADATA)
def test_joining_finds_out_sizes(dataset: Any, metadata: Any) -> None:
    before = masks(dataset)
    decide(dataset, FIELD, "rename", label="pet")
    drop_metadata(dataset, metadata)
    join_masks(dataset, FIELD, Selection())
    (joined,) = masks(dataset).values()
    np.testing.assert_array_equal(joined, np.logical_or.reduce(list(before.values())))


def test_measuring_finds_out_sizes(dataset: Any) -> None:
    dataset.set_values("truth", dataset.values(FIELD))
    for metadata in METADATA:
        drop_metadata(dataset, metadata)
        report = finish(measure_labels(dataset, FIELD, "truth")).report
        assert (report.instances, report.labels) == (3, 3)
        assert sizes(dataset) == [(64, 48)]


def test_a_photo_that_cannot_be_read_is_named(dataset: Any) -> None:
    decide(dataset, FIELD, "rename", label="pet")
    dataset.set_values("truth", dataset.values(FIELD))
    drop_metadata(dataset)
    path = Path(dataset.first().filepath)
    path.unlink()
    for work in (
        lambda: join_masks(dataset, FIELD, Selection()),
        lambda: finish(measure_labels(dataset, FIELD, "truth")),
    ):
        with pytest.raises(UsageError, match=f"the size of {path} is not known"):
            work()
    assert len(masks(dataset)) == 3


def test_a_box_that_is_none_is_named(dataset: Any) -> None:
    collection = dataset._sample_collection
    for box in ([float("nan")] * 4, [float("inf"), 0, 1, 1], [0, 0, 1], ["a", 0, 1, 1]):
        collection.update_many({}, {"$set": {f"{FIELD}.detections.0.bounding_box": box}})
        before = state(dataset)
        with pytest.raises(GemLabelError, match=r"the box of detection .* \(1#0\) is no box"):
            load(dataset, CASES / "photo.bom.json")
        sample = before[0]
        reference = MaskReference(str(sample["_id"]), str(sample[FIELD]["detections"][0]["_id"]))
        (details,) = mask_details(dataset, FIELD, [reference])
        assert "is no box" in (details.problem or "")
        assert str(state(dataset)) == str(before)  # NaN is no equal of itself
