"""`gem-label eval labels`: reading and joining runs and files, and the command."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from label_photos import CLASSES, SIZE, WORKED, coco_files, decoded, photo, pixels, plain, rle
from pycocotools import mask as coco_mask
from run_factory import make_run, mask_labels, mask_set

from gem_label.cli import run as cli
from gem_label.errors import GemLabelError, UsageError
from gem_label.evaluation.label_files import read_truth
from gem_label.evaluation.label_sources import open_labels
from gem_label.formats.reading import read_annotations
from gem_label.metrics.labels import evaluate_labels
from gem_label.runs import Run

# of pycocotools under numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The worked example as a run and annotations; photo 3 has no annotation, another one is not listed."""
    photos = {}
    for number, each in enumerate(WORKED, start=1):
        masks = mask_set([decoded(m) for m in each.masks], (SIZE, SIZE))
        names = [CLASSES[c] for c in np.asarray(each.classes)]
        photos[f"val/{number}.jpg"] = (masks, mask_labels(names, list(each.scores), list(each.kept)))
    other = mask_set([pixels((0, 0, 5, 5))])
    photos["val/4.jpg"] = (other, mask_labels(["cat"], [0.9]))
    make_run(tmp_path / "run", photos)
    truth, _ = coco_files(WORKED)
    truth["categories"] = [{"id": 1, "name": " Cat"}, {"id": 2, "name": "DOG"}, {"id": 9, "name": "tree"}]
    tree = dict(truth["annotations"][0], id=99, category_id=9)
    tree["segmentation"] = [[0, 0, 5, 0, 5, 5, 0, 5]]
    truth["annotations"].append(tree)
    truth["images"].append({"id": 7, "file_name": "7.jpg", "width": 5, "height": 5})
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    return tmp_path / "run", tmp_path / "truth.json"


def test_a_run_is_read_and_joined(files: tuple[Path, Path]) -> None:
    found = open_labels(*files)
    assert (found.classes, found.matched) == (CLASSES, 3)
    assert isinstance(found.threshold, float)
    assert [note.replace(str(files[1]), "FILE") for note in found.notes] == [
        "1 of 4 labeled photos are not in FILE: left out",
        "1 of 4 annotated photos are not labeled: left out",
        "1 annotations of 1 classes that were not asked for are left out: tree",
        "1 of 3 classes are no category of FILE, so that each of their labels counts as wrong: cup",
    ]
    report = evaluate_labels(found.photos, found.classes)
    worked = evaluate_labels(WORKED, CLASSES)
    assert report.micro == worked.micro
    assert report.presence == worked.presence
    assert report.confusions == worked.confusions
    assert report.labels_per_thing == worked.labels_per_thing


def test_labels_below_the_threshold_count_where_a_run_selects_them(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def photo_masks(self: Run, embeddings: bool = True) -> Iterator[tuple[Any, Any, Any]]:
        for record, masks, labels in original(self, embeddings):
            selected = np.ones(len(labels), bool)
            object.__setattr__(labels, "selected", selected)
            yield record, masks, labels

    original = Run.photo_masks
    monkeypatch.setattr(Run, "photo_masks", photo_masks)
    found = open_labels(*files)
    report = evaluate_labels(found.photos, found.classes)
    worked = evaluate_labels(WORKED, CLASSES)
    assert (report.labels, report.labels_all) == (6, 7)
    assert report.micro == worked.micro
    assert report.coco == worked.coco
    assert report.errors == worked.errors


def test_a_run_with_thresholds_by_class_has_no_single_one(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Thresholds:
        default, classes = 0.4, {"cat": 0.6}

        def __str__(self) -> str:
            return "0.4, cat=0.6"

    monkeypatch.setattr(Run, "label_settings", SimpleNamespace(min_score=Thresholds(), top_k=1))
    found = open_labels(*files)
    assert found.threshold is None
    assert "the run has thresholds of their own for some classes: 0.4, cat=0.6" in found.notes
    Thresholds.classes = {}
    assert open_labels(*files).threshold == 0.4


def test_files_are_read_in_every_form(tmp_path: Path) -> None:
    truth, results = coco_files(WORKED)
    for k, row in enumerate(truth["annotations"]):  # polygons, uncompressed and compressed run lengths
        x, y, width, height = map(int, row["bbox"])
        if k % 3 == 0:
            right, down = x + width, y + height
            row["segmentation"] = [[x, y, right, y, right, down, x, down]]
        elif k % 3 == 1:
            flat = pixels((x, y, width, height)).ravel(order="F")
            edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]).astype(int)))
            row["segmentation"] = {"size": [SIZE, SIZE], "counts": np.diff([0, *edges, SIZE * SIZE]).tolist()}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    whole = truth | {"annotations": results, "info": {"photo_folder": "/photos"}}
    (tmp_path / "whole.json").write_text(json.dumps(whole))
    every = evaluate_labels(
        [photo(*args, threshold=0.0) for args in (
            ([(CLASSES[c], s, coco_mask.toBbox(m).astype(int)) for m, c, s in
              zip(p.masks, np.asarray(p.classes), np.asarray(p.scores), strict=True)],
             [(CLASSES[c], coco_mask.toBbox(m).astype(int), crowd) for m, c, crowd in
              zip(p.true_masks, np.asarray(p.true_classes), np.asarray(p.crowd), strict=True)])
            for p in WORKED)],
        CLASSES,
    )  # fmt: skip
    for name in ("results.json", "whole.json"):
        found = open_labels(tmp_path / name, tmp_path / "truth.json")
        assert (found.classes, found.threshold, found.matched, found.notes) == (CLASSES, None, 3, ())
        assert evaluate_labels(found.photos, found.classes).to_dict() == every.to_dict()


BOX = {"size": [SIZE, SIZE], "counts": plain(rle((0, 0, 5, 5)))["counts"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": [{"image_id": 1, "category_id": 1, "segmentation": BOX}]}, "no score"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "segmentation": BOX, "score": 1.5}]}, "the score 1.5"),
        ({"annotations": [{"image_id": 8, "category_id": 1, "segmentation": BOX}]}, "image 8, which is not listed"),
        ({"annotations": [{"image_id": 1, "category_id": 8, "segmentation": BOX}]}, "category 8, which is not"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "score": 1}]}, "'number 1' of 1.jpg has no mask"),
        ({"annotations": [{"id": 5, "image_id": 1, "category_id": 1, "score": 1, "bbox": [1, 2, 3, 4]}]},
         "annotation 5 of 1.jpg has a box and no mask: boxes alone cannot be compared"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "score": 1, "segmentation": BOX | {"size": [9, 9]}}]},
         "mask of 9 x 9 pixels, the image has 20 x 20 pixels"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "score": 1, "segmentation": [[0, 1, 2, 3]]}]},
         "polygon that is no list of at least three points"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "score": 1,
                           "segmentation": {"size": [SIZE, SIZE], "counts": "zz"}}]}, "do not cover 20 x 20"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "score": 1,
                           "segmentation": {"size": [SIZE, SIZE], "counts": [3, 4]}}]}, "do not cover 20 x 20"),
        ({"annotations": {}}, "no list of objects 'annotations'"),
        ({"images": [{"id": 1, "width": 20, "height": 20}]}, "image 1 lacks an id or a file_name"),
        ({"images": [{"id": 1, "file_name": "9.jpg", "width": 20, "height": 20}], "annotations": []},
         "lists no photo of"),
        ({"images": [{"id": 1, "file_name": "1.jpg", "width": 20, "height": 10}], "annotations": []},
         "was labeled at 10 x 20 pixels, but"),
        ({"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "Cat "}], "annotations": []}, "the same word"),
        ({"categories": [], "annotations": []}, "has no classes"),
    ],
)  # fmt: skip
def test_bad_files_are_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    truth, _ = coco_files(WORKED)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "labels.json").write_text(json.dumps(truth | {"annotations": []} | change))
    assert cli(["eval", "labels", f"{tmp_path}/labels.json", "--annotations", f"{tmp_path}/truth.json"]) in (
        1,
        2,
    )
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("gem-label: ")
    assert message in line
    assert "Traceback" not in line


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
def test_coco_files_in_any_encoding_and_packed(tmp_path: Path, encoding: str) -> None:
    truth, _ = coco_files(WORKED)
    plain_file, packed = tmp_path / "truth.json", tmp_path / "truth.json.gz"
    plain_file.write_text(json.dumps(truth))
    packed.write_bytes(gzip.compress(json.dumps(truth).encode(encoding)))
    for read in (read_truth, read_annotations):
        names = [[(m.label, m.area, m.crowd) for m in p.masks] for p in read(packed).photos]
        assert names == [[(m.label, m.area, m.crowd) for m in p.masks] for p in read(plain_file).photos]
        assert sum(map(len, names)) == len(truth["annotations"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is no JSON file"), ("[3]", "its entries are objects"), ("3", "holds no COCO instances")],
)
def test_what_is_no_coco_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(coco_files(WORKED)[0]))
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        open_labels(tmp_path / "labels.json", tmp_path / "truth.json")
    with pytest.raises(UsageError, match=r"is no JSON file|holds no COCO instances"):
        open_labels(tmp_path / "truth.json", tmp_path / "labels.json")
    with pytest.raises(UsageError, match="no such run or file"):
        open_labels(tmp_path / "nothing", tmp_path / "truth.json")
    with pytest.raises(UsageError, match="cannot read"):
        open_labels(tmp_path / "labels.json", tmp_path / "nothing.json")
    with pytest.raises(GemLabelError):
        open_labels(tmp_path, tmp_path / "truth.json")  # a folder that is no run


def test_a_run_seen_at_another_size_is_refused(files: tuple[Path, Path]) -> None:
    truth = json.loads(files[1].read_text())
    truth["images"][0]["height"] = SIZE + 1
    truth["annotations"] = []
    files[1].write_text(json.dumps(truth))
    with pytest.raises(GemLabelError, match="was labeled at 20 x 20 pixels"):
        list(open_labels(*files).photos)


def test_the_command_prints_and_writes_everything(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "labels.json"
    arguments = ["eval", "labels", str(files[0]), "--annotations", str(files[1]), "--json", str(out)]
    assert cli([*arguments, "--plots", str(tmp_path / "plots"), "--precision", "0.9"]) == 0
    printed = capsys.readouterr()
    assert "note: 1 of 4 labeled photos are not in" in printed.err
    lines = [line.split() for line in printed.out.splitlines()]
    assert "3 photos with labels and annotations, 3 classes, 3 instances, 1 crowds\n" in printed.out
    assert ["all", "classes", "together", "20.0", "33.3", "25.0", "1", "4", "2"] in lines
    assert ["labels", "for", "a", "thing", "found", "3.00"] in lines
    assert ["absent", "words", "labeled", "(1", "of", "5)", "20.0"] in lines
    assert ["cat", "dog", "1"] in lines
    # float32(0.9) is a little less than 0.9
    assert '  --min-score "0.89"\n(3 classes with fewer than 10 labels take the first number)' in printed.out
    result = json.loads(out.read_text())
    assert result["evaluation"] == "labels"
    assert result["micro"]["tp"] == 1
    assert result["wanted_precision"] == 0.9
    assert result["settings"]["settings"] == {"made_by": "run_factory"}
    assert "numpy" in result["versions"]
    for name in ("precision-recall", "f1", "reliability", "errors"):
        assert (tmp_path / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_plots_of_nothing_are_drawn(tmp_path: Path) -> None:
    from gem_label.evaluation.label_plots import write_plots

    assert len(write_plots(evaluate_labels([], CLASSES), tmp_path)) == 4


def test_missing_matplotlib_is_one_line_before_any_work(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    arguments = ["eval", "labels", str(files[0]), "--annotations", str(files[1]), "--plots", "plots"]
    assert cli(arguments) == 1
    printed = capsys.readouterr()
    assert printed.err == 'gem-label: plots need matplotlib: pip install "gem-label[eval]"\n'
    assert not printed.out


def test_a_size_that_one_side_leaves_open_is_that_of_the_other(tmp_path: Path) -> None:
    truth, results = coco_files(WORKED)
    bare = truth | {"images": [{"id": i["id"], "file_name": i["file_name"]} for i in truth["images"]]}
    labels = {"annotations": results}
    for name, content in (("a", truth), ("b", bare), ("c", truth | labels), ("d", bare | labels)):
        (tmp_path / name).write_text(json.dumps(content))
    reports = []
    for predicted, annotated in ("ca", "cb", "da"):
        found = open_labels(tmp_path / predicted, tmp_path / annotated)
        reports.append(evaluate_labels(found.photos, found.classes).to_dict())
    assert reports[0] == reports[1] == reports[2]
    with pytest.raises(
        GemLabelError, match=r"the size of 1\.jpg is not known: neither its labels nor .*b say it"
    ):
        list(open_labels(tmp_path / "d", tmp_path / "b").photos)
    results[0]["segmentation"]["size"] = [9, 9]  # run lengths say their size themselves
    (tmp_path / "d").write_text(json.dumps(bare | labels))
    with pytest.raises(UsageError, match="a mask of 9 x 9 pixels, the image has 20 x 20 pixels"):
        list(open_labels(tmp_path / "d", tmp_path / "a").photos)


def test_ids_match_as_text_and_an_annotation_that_cannot_be_drawn_is_named(tmp_path: Path) -> None:
    truth, results = coco_files(WORKED)
    for row in truth["annotations"]:
        row |= {"image_id": str(row["image_id"]), "category_id": float(row["category_id"])}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    found = open_labels(tmp_path / "results.json", tmp_path / "truth.json")
    report = evaluate_labels(found.photos, found.classes)
    assert report.coco == evaluate_labels(WORKED, CLASSES).coco
    truth["annotations"][1]["segmentation"] = [[0, 0, 9, 0, 9, 9], [1, 2]]  # a part that can be drawn, too
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(UsageError, match=r"truth.json: annotation 2 of 1.jpg has a polygon that is no list"):
        list(open_labels(tmp_path / "results.json", tmp_path / "truth.json").photos)


def test_a_photo_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    truth, results = coco_files(WORKED)
    (tmp_path / "labels.json").write_text(json.dumps(truth | {"annotations": results}))
    truth["images"][1]["file_name"] = "./1.jpg"
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(
        UsageError, match=r"'1.jpg' and './1.jpg' could both be 1.jpg: each photo is to be listed"
    ):
        open_labels(tmp_path / "labels.json", tmp_path / "truth.json")
