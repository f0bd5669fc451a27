"""`gem-label export` and `gem-label import` on runs and datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fiftyone_fixture import fiftyone_db
from pycocotools.coco import COCO
from test_import_cases import CASES, FIELD, dataset, masks, state

from gem_label.cli import run
from gem_label.formats.reading import read_annotations
from gem_label.formats.writing import FORMATS
from gem_label.review.editing.decisions import decide
from gem_label.review.storage.selection import Selection

__all__ = ["dataset", "fiftyone_db"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("source", ["run", "dataset"])
def test_every_format_is_written_and_read_again(
    dataset: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str, source: str
) -> None:
    out = tmp_path / f"out{FORMATS[format].suffix}"
    name = str(tmp_path / "run") if source == "run" else dataset.name
    assert run(["export", name, "--format", format, "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 1 images, 3 annotations, 3 categories")
    before = state(dataset)
    assert run(["import", str(out), "--dataset", dataset.name, "--missing", "delete"]) == 0
    assert capsys.readouterr().out == "1 photos: 3 unchanged\n"
    assert state(dataset) == before
    (photo,) = read_annotations(out).photos
    assert sorted(mask.label for mask in photo.masks) == ["cat", "cup", "dog"]


def test_ids_are_the_same_from_a_run_and_its_dataset(dataset: Any, tmp_path: Path) -> None:
    decide(dataset, FIELD, "reject", Selection(labels=["cat"]))
    paths = [tmp_path / "run.json", tmp_path / "dataset.json"]
    for name, path in zip((str(tmp_path / "run"), dataset.name), paths, strict=True):
        assert run(["export", name, "--out", str(path)]) == 0
    of_run, of_dataset = (COCO(str(path)) for path in paths)
    assert of_run.cats == of_dataset.cats
    assert {a["mask_id"]: a["id"] for a in of_dataset.anns.values()} == {"1#1": 1002, "1#2": 1003}
    assert all(of_run.anns[id]["category_id"] == a["category_id"] for id, a in of_dataset.anns.items())


def test_a_tolerance_means_polygons(dataset: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", dataset.name, "--tolerance", "1", "--out", str(tmp_path / "o.json")]) == 0
    assert "outlines keep IoU 1.000 on average" in capsys.readouterr().out
    for row in json.loads((tmp_path / "o.json").read_text())["annotations"]:
        assert [len(part) for part in row["segmentation"]] == [8]


def test_which_masks(dataset: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    decide(dataset, FIELD, "accept", Selection(labels=["cat"]))
    decide(dataset, FIELD, "reject", Selection(labels=["dog"]))
    for which, count in (("accepted", 1), ("not-rejected", 2), ("all", 3)):
        assert run(["export", dataset.name, "--which", which, "--out", str(tmp_path / "o.json")]) == 0
        assert f" {count} annotations" in capsys.readouterr().out
    content = json.loads((tmp_path / "o.json").read_text())
    states = {row["mask_id"]: row["state"] for row in content["annotations"]}
    assert states == {"1#0": "accepted", "1#1": "rejected", "1#2": "undecided"}


def test_an_import_says_what_it_does(
    dataset: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(dataset)
    command = ["import", str(CASES / "mask_split.xml"), "--dataset", dataset.name]
    assert run([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out == "would change: 1 photos: 1 redrawn, 1 added, 2 unchanged\n"
    assert state(dataset) == before
    assert run(command) == 0
    assert len(masks(dataset)) == 4
    assert run(["import", str(CASES / "outside.json"), "--dataset", dataset.name]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("note: annotation 1 has no pixels inside of the photo\n")
    assert "1 refused" in captured.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "nothing", "--out", "o.json"], "'nothing' is neither a run directory nor a FiftyOne dataset"),
        (["export", "DATASET", "--out", "o.json", "--min-score", "0.5"], "are about a run"),
        (["export", "DATASET", "--out", "o.json", "--field", "other"], "no field 'other'"),
        (["import", "no.json", "--dataset", "DATASET"], "cannot read no.json: No such file"),
        (["import", "no.json", "--dataset", "nothing"], "'nothing' is no FiftyOne dataset"),
    ],
)  # fmt: skip
def test_requests_that_cannot_be_met_are_one_line(
    dataset: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run([dataset.name if each == "DATASET" else each for each in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
