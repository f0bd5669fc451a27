"""What a file does not have: masks that no file holds, copies in place of another mask, rows behind an open quote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from test_import_cases import BOXES, CASES, FIELD, coco, counts, dataset, filled, load, masks, state, written

from gem_label.errors import UsageError
from gem_label.formats.writing import FORMATS
from gem_label.progress import finish
from gem_label.review.exchange.export import export_masks

__all__ = ["dataset", "fiftyone_db"]


def test_tags_of_photos_in_cvat_are_no_masks(dataset: Any, tmp_path: Path) -> None:
    text = (
        (CASES / "box_rotated.xml")
        .read_text()
        .replace("</image>", '<tag label="cat" source="manual"/></image>')
    )
    assert "<tag" in text
    report = load(dataset, written(tmp_path, text, "a.xml"))
    assert counts(report) == {"unchanged": 2, "redrawn": 1}
    assert report.problems == ["1 tags, which are of whole photos"]


@pytest.mark.parametrize("missing", ["keep", "delete"])
def test_a_copy_over_another_mask_is_no_change_of_that_mask(
    dataset: Any, tmp_path: Path, missing: str
) -> None:
    def copy_over_the_dog(content: dict[str, Any]) -> None:
        cat, _, cup = content["annotations"]
        content["annotations"] = [
            cat,
            {**cat, "id": 9, "segmentation": [[30, 6, 44, 6, 44, 18, 30, 18]]},
            cup,
        ]

    report = load(dataset, written(tmp_path, coco(copy_over_the_dog)), missing=missing)
    assert counts(report) == {"unchanged": 2, "added": 1, "missing": 1}
    now = masks(dataset)
    assert set(now) == {"1#0", "1#0.2", "1#2"} | ({"1#1"} if missing == "keep" else set())
    np.testing.assert_array_equal(now["1#0.2"], filled(*BOXES["1#1"]))


def test_a_quote_that_is_not_closed_is_an_error(dataset: Any, tmp_path: Path) -> None:
    rows = [f"1.png,{id},cat,{x},{y},{w},{h}" for id, (x, y, w, h) in BOXES.items()]
    rows[1] = rows[1].replace("cat", '"cat')
    path = written(tmp_path, "\n".join(["photo,mask_id,label,x,y,w,h", *rows]), "a.csv")
    before = state(dataset)
    with pytest.raises(UsageError, match=r"cannot read .*a\.csv as a table, line 4: unexpected end of data"):
        load(dataset, path, missing="delete")
    assert state(dataset) == before


def set_first(dataset: Any, **values: Any) -> None:
    """Write attributes of the mask 1#0 as another program does."""
    change = {f"{FIELD}.detections.0.{name}": value for name, value in values.items()}
    assert dataset._sample_collection.update_one({}, {"$set": change}).matched_count == 1
    dataset.reload()


@pytest.mark.parametrize("values", [{"label": None}, {"label": " "}, {"bounding_box": [0.5, 0.5, 0, 0]}])
def test_masks_that_no_file_holds_are_not_missing(dataset: Any, tmp_path: Path, values: Any) -> None:
    set_first(dataset, **values)
    before = state(dataset)
    for name, format in FORMATS.items():
        out = tmp_path / f"{name}{format.suffix}"
        report = finish(export_masks(dataset, FIELD, out, name))
        assert (report.masks, report.left_out.total()) == (2, 1)
        assert counts(load(dataset, out, missing="delete")) == {"unchanged": 2}
        assert state(dataset) == before


def test_a_mask_id_that_is_no_text_is_none(dataset: Any, tmp_path: Path) -> None:
    set_first(dataset, mask_id=7)
    for name, format in FORMATS.items():
        out = tmp_path / f"{name}{format.suffix}"
        finish(export_masks(dataset, FIELD, out, name))
        assert counts(load(dataset, out, missing="delete")) == {"unchanged": 3}
