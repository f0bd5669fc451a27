"""COCO export: judged by pycocotools."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from run_factory import make_run, mask_labels, mask_set, rectangles

from gem_label.errors import GemLabelError, UsageError
from gem_label.formats.drawing import WriteSettings
from gem_label.photos.listing import photo_folder
from gem_label.runs import Run
from gem_label.runs.export import export_run


def blob(height: int, width: int, seed: int, coarse: int = 8) -> NDArray[np.bool_]:
    """A mask with several parts and holes."""
    import cv2

    noise = np.random.default_rng(seed).random((height // coarse, width // coarse)).astype(np.float32)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) > 0.5


@pytest.fixture
def run(tmp_path: Path) -> Run:
    ring = np.zeros((48, 64), bool)
    ring[4:40, 6:50] = True
    ring[10:30, 12:40] = False
    masks = mask_set([*rectangles(3), ring, blob(48, 64, 1)])
    labels = mask_labels(["dog", "cup", None, "dog", "cat"], [0.9, 0.4, 0.8, 0.7, 0.6])
    tall = mask_set([blob(120, 40, 2), blob(120, 40, 3)])
    photos = {
        "a.jpg": (masks, labels),
        "empty.jpg": (mask_set([]), mask_labels([], [])),
        "deeper/b.png": (tall, mask_labels(["cup", "cup"], [0.5, 0.95], kept=[False, True])),
    }
    return make_run(tmp_path / "run", photos)


def load(path: Path) -> COCO:
    return COCO(str(path))


def test_rle_masks_equal_the_runs_masks(run: Run, tmp_path: Path) -> None:
    report = export_run(run, tmp_path / "coco.json")
    coco = load(tmp_path / "coco.json")
    assert (report.photos, report.masks, report.classes) == (3, 5, 3)
    assert len(coco.imgs) == 3
    seen = 0
    for photo, masks, labels in run.photo_masks():
        for annotation in coco.imgToAnns[photo.number]:
            index = int(annotation["mask_id"].split("#")[1])
            np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), masks.decode(index))
            assert annotation["area"] == masks.decode(index).sum()
            assert annotation["bbox"] == coco_mask.toBbox(masks.rles[index]).tolist()
            assert annotation["score"] == pytest.approx(labels.score[index], abs=1e-6)
            assert coco.cats[annotation["category_id"]]["name"] == labels.names[index]
            assert labels.kept[index]
            seen += 1
    assert seen == report.masks


def test_polygons_lose_nothing(run: Run, tmp_path: Path) -> None:
    export_run(run, tmp_path / "rle.json")
    export_run(run, tmp_path / "polygon.json", settings=WriteSettings(segmentation="polygon"))
    exact, polygons = load(tmp_path / "rle.json"), load(tmp_path / "polygon.json")
    assert exact.anns.keys() == polygons.anns.keys()
    for number, annotation in polygons.anns.items():
        assert all(len(part) >= 8 and len(part) % 2 == 0 for part in annotation["segmentation"])
        np.testing.assert_array_equal(polygons.annToMask(annotation), exact.annToMask(exact.anns[number]))
        assert annotation["area"] == exact.anns[number]["area"]


@pytest.mark.parametrize("segmentation", ["rle", "polygon"])
@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_cocoeval_of_the_file_against_itself_is_perfect(
    run: Run, tmp_path: Path, segmentation: str, kind: str
) -> None:
    export_run(run, tmp_path / "coco.json", settings=WriteSettings(segmentation=segmentation))  # type: ignore[arg-type]
    truth = load(tmp_path / "coco.json")
    results = json.loads((tmp_path / "coco.json").read_text())["annotations"]
    evaluation = COCOeval(truth, truth.loadRes(results), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_ids_are_stable_and_categories_follow_the_vocabulary(run: Run, tmp_path: Path) -> None:
    export_run(run, tmp_path / "all.json")
    export_run(run, tmp_path / "again.json")
    assert (tmp_path / "all.json").read_bytes() == (tmp_path / "again.json").read_bytes()
    export_run(run, tmp_path / "sure.json", min_score=0.65)
    everything, sure = load(tmp_path / "all.json"), load(tmp_path / "sure.json")
    categories = [(c["id"], c["name"]) for c in everything.dataset["categories"]]
    assert categories == [(1, "cat"), (2, "dog"), (3, "cup")]
    assert set(sure.anns) == {i for i, a in everything.anns.items() if a["score"] >= 0.65}
    assert all(sure.anns[i] == everything.anns[i] for i in sure.anns)
    assert {a["mask_id"]: i for i, a in everything.anns.items()}["a#3"] == 1_004
    assert len(sure.imgs) == 3


def test_file_names_are_relative_to_the_photo_folder(run: Run, tmp_path: Path) -> None:
    export_run(run, tmp_path / "coco.json")
    coco = load(tmp_path / "coco.json")
    assert [image["file_name"] for image in coco.dataset["images"]] == ["a.jpg", "empty.jpg", "deeper/b.png"]
    assert coco.dataset["info"]["photo_folder"] == str(tmp_path / "photos")
    sizes = [(image["width"], image["height"]) for image in coco.dataset["images"]]
    assert sizes == [(64, 48), (64, 48), (40, 120)]
    assert photo_folder(["/x/a/1.jpg", "/x/ab/1.jpg"]) == "/x"


def test_a_run_without_photos_is_a_valid_file(tmp_path: Path) -> None:
    export_run(make_run(tmp_path / "run", {}), tmp_path / "coco.json")
    assert load(tmp_path / "coco.json").dataset["annotations"] == []


def test_wrong_requests_are_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'rle' or 'polygon'"):
        export_run(run, tmp_path / "x.json", settings=WriteSettings(segmentation="svg"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="between 0 and 1"):
        export_run(run, tmp_path / "x.json", min_score=50)
    with pytest.raises(UsageError, match="is a folder"):
        export_run(run, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(GemLabelError, match="cannot write"):
        export_run(run, tmp_path / "file" / "x.json")
    assert not list(tmp_path.glob(".*"))
