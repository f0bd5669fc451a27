"""Imports find the photos of a dataset by file names of other systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fiftyone_fixture import fiftyone_db
from test_import_cases import FIELD, build, coco, written

from gem_label.progress import finish
from gem_label.review.exchange.corrections import import_corrections

__all__ = ["fiftyone_db"]


def test_the_report_counts_the_photos_that_matched(fiftyone_db: str, tmp_path: Path) -> None:
    import fiftyone as fo

    dataset = build(tmp_path, "photo names", ("1.png", "a/1.png", "b/2.png"))

    def rename(content: dict[str, Any]) -> None:
        content["images"] += [
            {"id": 2, "file_name": "A%2F1.png".lower(), "width": 64, "height": 48},
            {"id": 3, "file_name": r"D:\b\2.png"},
            {"id": 4, "file_name": "3.png", "width": 64, "height": 48},
        ]
        content["annotations"] = [{**a, "image_id": i} for a in content["annotations"] for i in (1, "3")]
        for number, annotation in enumerate(content["annotations"]):
            annotation["id"] = number
            del annotation["mask_id"], annotation["attributes"]

    report = finish(import_corrections(dataset, FIELD, written(tmp_path, coco(rename))))
    assert (report.photos, report.unknown, report.unchanged, report.missing) == (3, 1, 6, 3)
    assert (report.decision, report.problems) == (None, [])
    fo.delete_dataset(dataset.name)
