"""`gem-label eval labels`: annotations and predictions in every format."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from label_photos import CLASSES, SIZE, coco_files, photo
from PIL import Image

from gem_label.cli import run as cli
from gem_label.errors import UsageError
from gem_label.evaluation.label_sources import open_labels
from gem_label.formats.annotations import AnnotatedMask, AnnotatedPhoto, Annotations, draw_rle
from gem_label.formats.writing import FORMATS, write_annotations
from gem_label.metrics.labels import LabelReport, PhotoLabels, evaluate_labels
from gem_label.progress import finish

PHOTOS = (
    photo(
        [("cat", 0.9, (0, 0, 9, 9)), ("cat", 0.5, (0, 0, 5, 4)), ("cup", 0.75, (10, 10, 10, 9))],
        [("cat", (0, 0, 10, 10), False), ("dog", (10, 10, 10, 10), False)],
        threshold=0.0,
    ),
    photo([("dog", 0.25, (2, 2, 7, 7))], [("dog", (2, 2, 8, 8), False), ("cup", (14, 14, 4, 4), False)], 0.0),
)


def annotations(folder: Path, photos: Sequence[PhotoLabels], predicted: bool) -> Annotations:
    """The labels or the annotations of photos, which come to lie in a folder."""
    annotated = []
    (folder / "photos").mkdir(exist_ok=True)
    for number, each in enumerate(photos, start=1):
        path = folder / "photos" / f"{number}.png"
        Image.new("RGB", (SIZE, SIZE)).save(path)
        chosen = (each.masks, each.classes) if predicted else (each.true_masks, each.true_classes)
        scores = list(np.asarray(each.scores)) if predicted else [None] * len(each.true_masks)
        masks = [
            AnnotatedMask(CLASSES[c], draw_rle(rle), score=None if score is None else float(score))
            for rle, c, score in zip(chosen[0], np.asarray(chosen[1]), scores, strict=True)
        ]
        annotated.append(AnnotatedPhoto(path.name, (SIZE, SIZE), masks, number, str(path)))
    return Annotations(annotated, CLASSES, (), len(photos), str(folder / "photos"))


def measured(predictions: Path, truth: Path) -> LabelReport:
    found = open_labels(predictions, truth)
    assert found.matched == len(PHOTOS)
    return evaluate_labels(found.photos, found.classes)


@pytest.mark.parametrize("format", FORMATS)
def test_annotations_of_every_format_give_the_same_figures(format: str, tmp_path: Path) -> None:
    labels, truth = tmp_path / "labels.json", tmp_path / ("truth" + FORMATS[format].suffix)
    finish(write_annotations(annotations(tmp_path, PHOTOS, True), labels))
    finish(write_annotations(annotations(tmp_path, PHOTOS, False), truth, format))
    report, wanted = measured(labels, truth), evaluate_labels(PHOTOS, CLASSES)
    assert (report.micro, report.coco, report.errors) == (wanted.micro, wanted.coco, wanted.errors)
    out = tmp_path / "out.json"
    assert cli(["eval", "labels", str(labels), "--annotations", str(truth), "--json", str(out)]) == 0
    settings = json.loads(out.read_text())["settings"]
    assert ("annotations_sha256" in settings) == truth.is_file()


@pytest.mark.parametrize("format", FORMATS)
def test_predictions_need_a_format_that_holds_scores(format: str, tmp_path: Path) -> None:
    labels, truth = tmp_path / ("labels" + FORMATS[format].suffix), tmp_path / "truth.json"
    finish(write_annotations(annotations(tmp_path, PHOTOS, True), labels, format))
    finish(write_annotations(annotations(tmp_path, PHOTOS, False), truth))
    if format != "cvat":
        assert measured(labels, truth).micro == evaluate_labels(PHOTOS, CLASSES).micro
    else:
        with pytest.raises(UsageError, match="has no score: labels need one between 0 and 1"):
            measured(labels, truth)


def test_archives_and_a_results_list_of_files_without_ids(tmp_path: Path) -> None:
    truth = tmp_path / "truth.json"
    finish(write_annotations(annotations(tmp_path, PHOTOS, False), truth))
    results = coco_files(PHOTOS)[1]
    (tmp_path / "results.json.gz").write_bytes(gzip.compress(json.dumps(results).encode()))
    with zipfile.ZipFile(tmp_path / "truth.zip", "w") as archive:
        archive.write(truth, "annotations/instances.json")
        archive.writestr("__MACOSX/annotations/._instances.json", b"")
    wanted = evaluate_labels(PHOTOS, CLASSES)
    assert measured(tmp_path / "results.json.gz", tmp_path / "truth.zip").coco == wanted.coco
    finish(write_annotations(annotations(tmp_path, PHOTOS, False), tmp_path / "truth.xml", "cvat"))
    with pytest.raises(UsageError, match=r"is a COCO results list, but .*truth.xml has no ids of categories"):
        measured(tmp_path / "results.json.gz", tmp_path / "truth.xml")


def test_boxes_of_other_formats_are_refused(tmp_path: Path) -> None:
    finish(write_annotations(annotations(tmp_path, PHOTOS, True), tmp_path / "labels.json"))
    (tmp_path / "truth.xml").write_text(
        '<annotations><image id="0" name="1.png" width="20" height="20">'
        '<box label="cat" xtl="1" ytl="1" xbr="9" ybr="9" rotation="30"/></image></annotations>'
    )
    with pytest.raises(UsageError, match=r"shape 1 \(box\) of 1.png has a box and no mask: boxes alone"):
        list(open_labels(tmp_path / "labels.json", tmp_path / "truth.xml").photos)
