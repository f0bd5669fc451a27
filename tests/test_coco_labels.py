"""`pipelines/coco_labels.py` on a copy in COCO's layout that is made of demo scenes."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from gem_label.demo import demo_folder
from gem_label.errors import UsageError
from gem_label.runs import open_run
from gem_label.weights import pull_weights

RECIPE = Path(__file__).parents[1] / "pipelines/coco_labels.py"
SCENES = 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """val2017/ and annotations/instances_val2017.json of two packaged scenes, with the words of their things."""
    folder = tmp_path_factory.mktemp("coco")
    (folder / "val2017").mkdir()
    (folder / "annotations").mkdir()
    coco: dict[str, Any] = json.loads((demo_folder() / "instances.json").read_text())
    images = coco["images"][:SCENES]
    annotations = [row for row in coco["annotations"] if row["image_id"] <= SCENES]
    used = {row["category_id"] for row in annotations}
    for image in images:
        picture = Image.open(demo_folder() / "data" / image["file_name"])
        picture.save(folder / "val2017" / image["file_name"], quality=92)
    part = {
        "images": images,
        "annotations": annotations,
        "categories": [row for row in coco["categories"] if row["id"] in used],
    }
    (folder / "annotations/instances_val2017.json").write_text(json.dumps(part))
    return folder


def small_settings(data: Path, out: Path) -> dict[str, Any]:
    """The recipe's own settings, with the demo CLIP and few prompts."""
    pull_weights("mobile_sam", progress=False)
    settings = yaml.safe_load(RECIPE.with_suffix(".yaml").read_text())
    changes = {"data": str(data), "out": str(out), "clip": "demo", "device": "cpu", "plots": False}
    return settings | changes | {"proposals": {"points_per_side": 6, "max_prompts": 36}}


@pytest.mark.slow
def test_labels_export_and_figures_in_one_go(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command line with a limit, then all photos: the run resumes, and the figures are of all of them."""
    settings = small_settings(data, tmp_path / "out")
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings | {"data": "elsewhere"}))
    given = [str(RECIPE), str(tmp_path / "settings.yaml"), "--data", str(data), "--limit", "1"]
    monkeypatch.setattr(sys, "argv", given)
    recipe = runpy.run_path(str(RECIPE), run_name="__main__")
    assert "\n1 photos with labels and annotations" in capsys.readouterr().out
    report = recipe["main"](settings | {"plots": True})
    assert report.photos == SCENES
    assert "\n1 photos, " in capsys.readouterr().out  # the other one was done already
    things = json.loads((data / "annotations/instances_val2017.json").read_text())["annotations"]
    assert report.instances == len(things)
    assert report.micro.precision is not None
    assert report.micro.precision > 0.5
    assert report.micro.tp >= len(things) // 4  # 36 prompts a scene do not find everything
    run, exported = open_run(tmp_path / "out/run"), json.loads((tmp_path / "out/labels.json").read_text())
    kept = sum(int(labels.kept.sum()) for _, _, labels in run.photo_masks(embeddings=False))
    assert len(exported["annotations"]) == kept == report.labels
    written = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert written["micro"]["f1"] == report.micro.f1
    assert (tmp_path / "out/plots/f1.png").is_file()


def test_a_folder_in_another_layout_is_refused(data: Path) -> None:
    find_data = runpy.run_path(str(RECIPE))["find_data"]
    assert find_data(str(data), None)[0] == data / "val2017"
    with pytest.raises(UsageError, match="has no val2017/"):
        find_data(str(data / "val2017"), None)
