"""What an import of an annotation file can be asked for: boxes through SAM, other resolutions, a dry run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from PIL import Image
from test_import_cases import (
    BOXES,
    CASES,
    FIELD,
    build,
    coco,
    counts,
    dataset,
    load,
    set_size,
    state,
    written,
)

from gem_label.errors import UsageError
from gem_label.formats.drawing import WriteSettings
from gem_label.formats.writing import FORMATS
from gem_label.progress import finish
from gem_label.review.editing.decisions import decide
from gem_label.review.exchange.corrections import import_corrections
from gem_label.review.exchange.export import export_masks
from gem_label.review.storage.selection import Selection

__all__ = ["dataset", "fiftyone_db"]


@pytest.mark.parametrize("boxes", ["rectangle", "leave"])
def test_turned_boxes_are_boxes_too(dataset: Any, boxes: str) -> None:
    report = load(dataset, CASES / "box_rotated.xml", boxes=boxes)
    assert counts(report) == {"unchanged": 2} | {"redrawn" if boxes == "rectangle" else "refused": 1}


@pytest.mark.slow
def test_sam_draws_masks_in_boxes(dataset: Any, tmp_path: Path) -> None:
    """A red disk on white: its box alone gives back the disk, up to SAM's border."""
    from PIL import ImageDraw

    from gem_label.review.exchange.box_masks import load_box_drawer
    from gem_label.weights import pull_weights

    pull_weights("mobile_sam", progress=False)
    picture = Image.new("RGB", (640, 480), "white")
    ImageDraw.Draw(picture).ellipse((200, 100, 399, 299), fill="red")
    picture.save(dataset.first().filepath)
    set_size(dataset, 640, 480)

    def change(content: dict[str, Any]) -> None:
        content["images"][0] |= {"width": 640, "height": 480}
        box = {"segmentation": None, "bbox": [200, 100, 200, 200], "mask_id": None, "attributes": {}}
        content["annotations"] = [content["annotations"][0] | box]

    path = written(tmp_path, coco(change))
    work = import_corrections(dataset, FIELD, path, boxes="sam", draw_boxes=load_box_drawer())
    report = finish(work)
    assert counts(report) == {"added": 1, "missing": 3}
    added = next(mask for mask in dataset.first()[FIELD].detections if mask.mask_id is None)
    y, x = np.mgrid[100:300, 200:400]
    disk = np.zeros((480, 640), bool)
    disk[100:300, 200:400] = (x + 0.5 - 300) ** 2 + (y + 0.5 - 200) ** 2 <= 100**2
    drawn = np.zeros_like(disk)
    left, top = round(added.bounding_box[0] * 640), round(added.bounding_box[1] * 480)
    drawn[top : top + added.mask.shape[0], left : left + added.mask.shape[1]] = added.mask
    assert (drawn & disk).sum() / (drawn | disk).sum() > 0.95
    assert report.problems == []


def test_masks_of_another_resolution_where_that_is_asked_for(dataset: Any, tmp_path: Path) -> None:
    def larger(content: dict[str, Any]) -> None:
        content["images"][0] |= {"width": 128, "height": 96}
        for row, box in zip(content["annotations"], BOXES.values(), strict=True):
            x, y, w, h = (2 * side for side in box)
            row["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]

    def swapped(content: dict[str, Any]) -> None:
        content["images"][0] |= {"width": 48, "height": 64}
        content["annotations"][0]["segmentation"] = [[4, 4, 16, 4, 16, 14, 4, 14]]

    before = state(dataset)
    path = written(tmp_path, coco(larger))
    assert counts(load(dataset, path)) == {"refused": 3}
    assert counts(load(dataset, path, resize=True)) == {"unchanged": 3}
    assert state(dataset) == before
    report = load(dataset, written(tmp_path, coco(swapped)), resize=True)
    assert counts(report) == {"unchanged": 2, "refused": 1}  # another shape is another photo
    case = load(dataset, CASES / "rle_of_another_resolution.json", resize=True)
    assert case.refused == 0


def test_a_dry_run_says_what_would_change_and_changes_nothing(dataset: Any) -> None:
    before = state(dataset)
    report = load(dataset, CASES / "mask_split.xml", missing="delete", dry_run=True)
    assert counts(report) == {"unchanged": 2, "redrawn": 1, "added": 1}
    assert report.decision is None
    assert state(dataset) == before
    assert counts(load(dataset, CASES / "mask_split.xml", missing="delete")) == counts(report)


def test_the_mask_id_of_another_photo_is_not_taken_over(
    fiftyone_db: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    import fiftyone as fo

    dataset = build(tmp_path, f"cases {request.node.name}", ("1.png", "2.png"))
    try:

        def change(content: dict[str, Any]) -> None:
            content["images"][0]["file_name"] = "2.png"
            content["annotations"] = content["annotations"][:1]
            content["annotations"][0]["segmentation"] = [[50, 30, 60, 30, 60, 40, 50, 40]]

        report = load(dataset, written(tmp_path, coco(change)))
        assert counts(report) == {"added": 1, "missing": 3}
        assert report.problems == ["annotation 1 has the mask id 1#0 of another photo: taken as drawn"]
        ids = dataset.values(f"{FIELD}.detections.mask_id", unwind=True)
        assert sorted(ids, key=str) == ["1#0", "1#1", "1#2", "2#0", "2#1", "2#2", None]
    finally:
        fo.delete_dataset(dataset.name)


def test_an_import_into_a_field_that_does_not_exist_makes_it(dataset: Any, tmp_path: Path) -> None:
    path = written(tmp_path, coco(lambda content: None))
    report = finish(import_corrections(dataset, "ground_truth", path))
    assert (report.added, report.decision.masks if report.decision else 0) == (3, 3)
    assert dataset.count("ground_truth.detections") == 3
    assert set(dataset.values("ground_truth.detections.label", unwind=True)) == {"cat", "dog", "cup"}


@pytest.mark.parametrize("says", [True, False])
def test_outlines_within_a_tolerance_change_nothing(dataset: Any, tmp_path: Path, says: bool) -> None:
    """A file of outlines says its tolerance; where a tool drops that, the import is told."""
    round_cat = written(tmp_path, coco(lambda c: c["annotations"][0].update(segmentation=[DISK])))
    load(dataset, round_cat)
    before = state(dataset)
    path = tmp_path / "outlines.json"
    settings = WriteSettings(segmentation="polygon", tolerance=1.0)
    report = finish(export_masks(dataset, FIELD, path, settings=settings))
    assert 0.9 < report.lowest_iou < 1

    def forget(content: dict[str, Any]) -> None:
        if not says:
            del content["info"]["outline_tolerance"]

    change(path, forget)
    if not says:
        assert counts(load(dataset, path, dry_run=True)) == {"redrawn": 1, "unchanged": 2}
    assert counts(load(dataset, path, tolerance=None if says else 1.0)) == {"unchanged": 3}
    assert state(dataset) == before

    def grow(content: dict[str, Any]) -> None:
        x, y = np.reshape(content["annotations"][0]["segmentation"][0], (-1, 2)).T
        content["annotations"][0]["segmentation"] = [np.stack([x + 4 * (x > 14), y], 1).ravel().tolist()]

    change(path, grow)
    assert counts(load(dataset, path, tolerance=1.0)) == {"redrawn": 1, "unchanged": 2}


DISK = np.stack(
    [14 + 9 * np.cos(np.linspace(0, 6.2, 40)), 14 + 9 * np.sin(np.linspace(0, 6.2, 40))], 1
).ravel().tolist()  # fmt: skip


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("format", [*FORMATS])
def test_labels_that_a_format_cannot_hold_are_the_same_labels_when_they_come_back(
    dataset: Any, tmp_path: Path, format: str
) -> None:
    labels = ["do\x00g", "two\nlines\ttab\x1b[31m", "\ufffe=1+1"]
    for mask, label in zip(dataset.first()[FIELD].detections, labels, strict=True):
        decide(dataset, FIELD, "rename", Selection(ids=[mask.id]), label)
    out = tmp_path / f"out{FORMATS[format].suffix}"
    finish(export_masks(dataset, FIELD, out, format))
    before = state(dataset)
    report = load(dataset, out, missing="delete")
    assert (counts(report), report.decision) == ({"unchanged": 3}, None)
    assert state(dataset) == before


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf"), 1e9])
def test_a_tolerance_out_of_range_is_refused(dataset: Any, tolerance: float) -> None:
    with pytest.raises(UsageError, match="the tolerance is a number of pixels from 0 to 1000, not"):
        load(dataset, CASES / "ellipse.xml", tolerance=tolerance)
