"""YOLO folders out of a dataset and back: what nobody touched is as it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fiftyone_fixture import fiftyone_db
from test_import_cases import FIELD, build

from gem_label.formats.drawing import WriteSettings
from gem_label.formats.reading import read_annotations
from gem_label.progress import finish
from gem_label.review.exchange.corrections import import_corrections
from gem_label.review.exchange.export import export_masks

__all__ = ["fiftyone_db"]

PHOTOS = ("1.png", "a/1.png", "b/2.png")


@pytest.fixture
def dataset(fiftyone_db: str, tmp_path: Path) -> Iterator[Any]:
    import fiftyone as fo

    dataset = build(tmp_path, "yolo dataset", PHOTOS)
    yield dataset
    fo.delete_dataset(dataset.name)


def test_lines_come_back_to_their_masks(dataset: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = WriteSettings(photos="copy")
    report = finish(export_masks(dataset, FIELD, out, "yolo", settings=settings))
    assert (report.photos, report.masks) == (3, 9)
    shutil.make_archive(str(tmp_path / "packed"), "zip", out)
    for file in (out, out / "data.yaml", tmp_path / "packed.zip"):
        assert len(list(read_annotations(file).photos)) == 3
        found = finish(import_corrections(dataset, FIELD, file))
        assert (found.photos, found.unknown, found.unchanged, found.missing) == (3, 0, 9, 0)
        assert (found.decision, found.problems) == (None, [])
    labels = out / "labels/train/a/1.txt"
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join(["2" + lines[0][1:], lines[2], "0 0.8 0.8 0.9 0.8 0.9 0.9", "9 1 1 1 1"]))
    found = finish(import_corrections(dataset, FIELD, out, missing="reject"))
    assert (found.unchanged, found.relabeled, found.added, found.missing, found.refused) == (7, 1, 1, 0, 1)
    assert found.problems == ["labels/train/a/1.txt, line 4 has class '9', which data.yaml does not have"]


def test_label_files_alone_find_their_photos(dataset: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finish(export_masks(dataset, FIELD, out, "yolo"))
    shutil.rmtree(out / "images")
    (out / "gem_label.jsonl").unlink()
    found = finish(import_corrections(dataset, FIELD, out))
    assert (found.photos, found.unknown, found.unchanged) == (3, 0, 9)  # rectangles are exact as outlines
