"""Open Images V7 point evaluation: the CSV reader, runs and photos, resuming, the command."""

from __future__ import annotations

import csv
import gzip
import json
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from run_factory import mask_labels, mask_set
from small_clip import write_small_clip
from torch.nn import functional as F

from gem_label.cli import run as command
from gem_label.clip.dense import MAX_PATCHES, DenseEncoder
from gem_label.clip.methods import METHODS
from gem_label.clip.models import load_clip
from gem_label.demo import demo_folder, scene_paths
from gem_label.demo.dataset import POINT_COLUMNS
from gem_label.demo.sprites import load_sprites
from gem_label.demo.truth import held_out_scenes
from gem_label.errors import UsageError
from gem_label.evaluation import openimages
from gem_label.evaluation.demo_clip import report
from gem_label.evaluation.models import encoder_of_run, load_model
from gem_label.evaluation.openimages import PointTable, class_names, read_class_names, read_points
from gem_label.evaluation.point_evaluation import (
    PointEvaluation,
    photo_predictions,
    run_predictions,
)
from gem_label.evaluation.predictors import EncoderModel
from gem_label.labeling import LabelSettings, Vocabulary
from gem_label.masks import MaskSet
from gem_label.metrics.points import PointTotals
from gem_label.photos.listing import list_images
from gem_label.photos.photo import Photo
from gem_label.photos.reading import read_image
from gem_label.runs import Run, RunWriter, open_run
from gem_label.weights import pull_weights

Row = tuple[str, float, float, str, str]


def write_points(path: Path, rows: Sequence[Row], names: dict[str, str] | None = None) -> Path:
    """A CSV as Open Images has them; `names` fills TextLabel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(POINT_COLUMNS)
        for image, x, y, label, answer in rows:
            writer.writerow(
                [image, x, y, label, answer, "val_verified", 3, 0, 0, (names or {}).get(label, "")]
            )
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_clip(tmp_path_factory.mktemp("clip"))


# --- the reader ---


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["b", "a", "0f"]),
            st.integers(0, 8),
            st.integers(0, 8),
            st.sampled_from(["/m/2", "/m/1", "/m/3"]),
            st.sampled_from(["yes", "no", "unsure"]),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_the_table_equals_the_obvious_reader(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, int, str, str]]
) -> None:
    """The obvious reader: a dict of lists; classes without a "yes" in an image are not there."""
    path = tmp_path_factory.getbasetemp() / "random-points.csv"
    scaled = [(image, x / 8, y / 8, label, answer) for image, x, y, label, answer in rows]
    write_points(path, scaled)
    expected: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for image, x, y, label, answer in scaled:
        if answer != "unsure":
            expected[image][label].append((x, y, answer == "yes"))
    for image in list(expected):
        present = {k: v for k, v in expected[image].items() if any(positive for _, _, positive in v)}
        expected[image] = defaultdict(list, present)
        if not present:
            del expected[image]
    if not expected:
        with pytest.raises(UsageError, match="answered"):
            read_points(path)
        return
    table = read_points(path)
    found: dict[str, dict[str, list]] = {}
    for i, image in enumerate(table.image_ids):
        labels, asked = table.image(i)
        found[image] = {label: [] for label in labels}
        for x, y, c, positive in zip(asked.x, asked.y, asked.class_index, asked.positive, strict=True):
            found[image][labels[c]].append((float(x), float(y), bool(positive)))
    assert found == expected
    assert list(table.image_ids) == sorted(expected)
    assert list(table.labels) == sorted(table.labels)


def test_a_file_of_many_blocks_is_read_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Row] = [(f"{i % 7:04x}", i % 10 / 10, 0.5, f"/m/{i % 5}", "yes") for i in range(2000)]
    path = write_points(tmp_path / "points.csv", rows)
    whole = read_points(path)
    monkeypatch.setattr(openimages, "BLOCK_BYTES", 4096)
    parts = read_points(path)
    assert parts.image_ids == whole.image_ids
    for name in ("starts", "class_code", "x", "y", "positive"):
        assert (getattr(parts, name) == getattr(whole, name)).all(), name


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_points_and_names_in_any_encoding_and_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setattr(openimages, "BLOCK_BYTES", 4096)  # several blocks
    rows: list[Row] = [(f"é{i % 7:04x}", i % 10 / 10, 0.5, f"/m/{i % 5}", "yes") for i in range(500)]
    plain = write_points(tmp_path / "plain.csv", rows)
    expected = read_points(plain)
    data = plain.read_text().encode(encoding)
    (tmp_path / "points.csv").write_bytes(data)
    (tmp_path / "points.csv.gz").write_bytes(gzip.compress(data))
    with zipfile.ZipFile(tmp_path / "points.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("points.csv", data)
    for name in ("points.csv", "points.csv.gz", "points.zip"):
        table = read_points(tmp_path / name)
        assert table.image_ids == expected.image_ids
        np.testing.assert_array_equal(table.x, expected.x)
    (tmp_path / "names.csv").write_bytes("LabelName,DisplayName\r\n/m/0,Café\r\n".encode(encoding))
    assert read_class_names(tmp_path / "names.csv") == {"/m/0": "Café"}


def test_empty_lines_and_comments_in_class_names_are_no_classes(tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text("# of version 7\n\nLabelName,DisplayName\n/m/1,Cat\n\n , \n# the end\n /m/2 , Dog \n\n")
    assert read_class_names(path) == {"/m/1": "Cat", "/m/2": "Dog"}
    path.write_text("/m/1,Cat\n\n/m/2,\n")
    with pytest.raises(UsageError, match="line 3: expected a label and a name"):
        read_class_names(path)


def test_a_photo_is_no_points_file(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "points.png")
    for read in (read_points, read_class_names):
        with pytest.raises(UsageError, match="is no text file"):
            read(tmp_path / "points.png")


def test_a_row_without_a_label_is_of_its_text_label(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("TextLabel,ImageId,X,Y,Label,EstimatedYesNo\nbroken window,a,0.5,0.5,,yes\n")
    table = read_points(path)
    assert table.image(0)[0] == ("broken window",)
    assert class_names(table, path) == {"broken window": "broken window"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ImageId,X,Y,Label\n", "EstimatedYesNo"),
        ("ImageId,X,Y,Label,EstimatedYesNo\na,0.5,1.5,/m/1,yes\n", "0 to 1"),
        ("ImageId,X,Y,Label,EstimatedYesNo\na,here,0.5,/m/1,yes\n", "here"),
        ("ImageId,X,Y,Label,EstimatedYesNo\na,,0.5,/m/1,yes\n", "0 to 1"),
        ("ImageId,X,Y,Label,EstimatedYesNo\na,0.5,0.5,/m/1,perhaps\n", "perhaps"),
        ("ImageId,X,Y,Label,EstimatedYesNo\na,0.5,0.5,/m/1,unsure\n", "no answered point"),
        ("ImageId,X,Y,Label,EstimatedYesNo\na,0.5,0.5,/m/1,no\n", "answered 'yes'"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=says) as error:
        read_points(path)
    assert "\n" not in str(error.value)


def test_class_names_come_from_where_the_zoo_puts_them(tmp_path: Path) -> None:
    path = write_points(
        tmp_path / "labels/points.csv", [("a", 0, 0, "/m/1", "yes"), ("a", 0, 0, "/m/2", "yes")]
    )
    table = read_points(path)
    with pytest.raises(UsageError, match="--class-names"):
        class_names(table, path)
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/classes.csv").write_text('/m/1,Cat\n/m/2,"Plate, dish"\n')  # no header in this one
    assert class_names(table, path) == {"/m/1": "Cat", "/m/2": "Plate, dish"}
    (tmp_path / "metadata/point_classes.csv").write_text("LabelName,DisplayName\n/m/1,Kitten\n/m/2,Dish\n")
    assert class_names(table, path)["/m/1"] == "Kitten"
    other = tmp_path / "names.csv"
    other.write_text("/m/1,Tom\n/m/2,Jerry\n")
    assert class_names(table, path, other) == {"/m/1": "Tom", "/m/2": "Jerry"}
    (tmp_path / "bad.csv").write_text("only one column\n")
    with pytest.raises(UsageError, match="line 1"):
        read_class_names(tmp_path / "bad.csv")


# --- totals ---


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
            max_size=4,
            unique_by=lambda row: row[0],
        ),
        max_size=6,
    )
)
def test_totals_equal_the_obvious_averages(images: list[list[tuple[str, int, int, int]]]) -> None:
    totals = PointTotals()
    for rows in images:
        totals.add([row[0] for row in rows], np.array([row[1:] for row in rows], np.int64).reshape(-1, 3))
    pairs = [[tp / (tp + fp + fn) for _, tp, fp, fn in rows if tp + fp + fn] for rows in images]
    per_class = defaultdict(lambda: [0, 0, 0])
    for rows in images:
        for name, *counts in rows:
            per_class[name] = [a + b for a, b in zip(per_class[name], counts, strict=True)]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else 0.0

    averages = totals.averages()
    assert averages.pairs == pytest.approx(mean([iou for image in pairs for iou in image]))
    assert averages.images == pytest.approx(mean([mean(image) for image in pairs if image]))
    assert averages.classes == pytest.approx(mean([c[0] / sum(c) for c in per_class.values() if sum(c)]))


# --- a run whose similarity is known ---

NAMES = {"/m/1": "cat", "/m/2": "dog"}


def write_run(
    path: Path, model: EncoderModel, photos: dict[str, tuple[MaskSet, NDArray | None]], folder: Path
) -> Run:
    """A run with the given masks and patches, as `gem-label label` would have written it."""
    clip = model.dense.clip
    description = {
        "clip": clip.name,
        "short_side": model.short_side,
        "dense": model.dense.settings,
        "templates": list(model.dense.text.templates),
    }
    writer = RunWriter.create_or_resume(
        path,
        settings=description,
        vocabulary=Vocabulary.from_words(["cat"]),
        embedding_dim=clip.embedding_dim,
        logit_scale=clip.logit_scale,
        label_settings=LabelSettings(),
        weights={"clip": {"name": clip.name, "sha256": clip.weights_sha256}},
    )
    with writer:
        listing = [Photo(str(folder / name), Path(name).stem) for name in photos]
        for photo in writer.register(listing):
            masks, patches = photos[Path(photo.path).name]
            masks = masks.with_embeddings(np.zeros((len(masks), clip.embedding_dim), np.float32))
            labels = mask_labels(["cat"] * len(masks), [1.0] * len(masks), classes=("cat",))
            writer.write(photo, masks, labels, np.zeros(clip.embedding_dim, np.float16), patches)
    return open_run(path)


def half(side: str, height: int = 40, width: int = 80) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    mask[:, : width // 2] = True
    return mask if side == "left" else ~mask


def test_one_image_by_hand(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Left patch "cat", right patch "dog": maps are cat (1, 0) and dog (0, 1) once scaled to [0, 1].

    cat: yes (0.2, 0.5) on the left is hit, yes (0.9, 0.5) on the right is missed, no (0.1, 0.5) is wrongly hit:
         TP 1, FP 1, FN 1, IoU 1/3. dog: yes (0.8, 0.5) hit, no (0.3, 0.5) is not: TP 1, IoU 1.
    GEM-SAM has one mask, the left half, whose pooled cat is 1 and dog 0. By both rules it is a cat: cat as above,
    dog has no mask: FN 1, IoU 0.
    A class that is only answered "no", or "unsure", is not present and does not count.
    """
    model = EncoderModel(DenseEncoder(load_clip(str(clip))))
    patches = model.dense.text.encode(["cat", "dog"])[None]
    photos = {"0a.jpg": (mask_set([half("left")]), patches)}
    write_run(tmp_path / "run", model, photos, tmp_path / "photos")
    rows: list[Row] = [
        ("0a", 0.2, 0.5, "/m/1", "yes"),
        ("0a", 0.9, 0.5, "/m/1", "yes"),
        ("0a", 0.1, 0.5, "/m/1", "no"),
        ("0a", 0.6, 0.5, "/m/1", "unsure"),
        ("0a", 0.8, 0.5, "/m/2", "yes"),
        ("0a", 0.3, 0.5, "/m/2", "no"),
        ("0a", 0.5, 0.5, "/m/3", "no"),
        ("0b", 0.5, 0.5, "/m/1", "yes"),  # not in the run
    ]
    file = write_points(tmp_path / "points.csv", rows, NAMES | {"/m/3": "cow"})
    out = tmp_path / "result.json"
    assert command(["eval", "points", str(tmp_path / "run"), "--points", str(file), "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert (result["images"], result["images_missing"]) == (1, 1)
    by_class = {row["name"]: row for row in result["per_class"]}
    assert by_class.keys() == {"cat", "dog"}
    assert by_class["cat"]["gem"] == {"tp": 1, "fp": 1, "fn": 1, "iou": pytest.approx(1 / 3)}
    assert by_class["dog"]["gem"] == {"tp": 1, "fp": 0, "fn": 0, "iou": 1.0}
    for rule in ("gem_sam_threshold", "gem_sam_argmax"):
        assert by_class["cat"][rule] == {"tp": 1, "fp": 1, "fn": 1, "iou": pytest.approx(1 / 3)}
        assert by_class["dog"][rule] == {"tp": 0, "fp": 0, "fn": 1, "iou": 0.0}
    assert result["p_miou"]["gem"]["pairs"] == pytest.approx(2 / 3)
    assert result["settings"]["weights"]["clip"]["sha256"] == model.dense.clip.weights_sha256
    shown = capsys.readouterr().out
    assert "gem_sam_argmax" in shown
    assert "66.7" in shown


# --- packaged scenes with their true masks ---

SCENES = [path.name for path in scene_paths()[:4]]
POINTS = demo_folder() / "labels/points.csv"


def true_masks(name: str) -> MaskSet:
    """The things of a packaged scene."""
    data = json.loads((demo_folder() / "instances.json").read_text())
    image = next(row for row in data["images"] if row["file_name"] == name)
    counts = [a["segmentation"]["counts"] for a in data["annotations"] if a["image_id"] == image["id"]]
    n = len(counts)
    ones = np.ones(n, np.float32)
    codes = tuple(c.encode() for c in counts)
    return MaskSet(image["height"], image["width"], codes, ones, ones, np.zeros((n, 2), np.float32))


@pytest.fixture(scope="module")
def scene_runs(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """Two runs over four scenes: one kept patches, the other did not."""
    model = EncoderModel(DenseEncoder(load_clip(str(clip))))
    folder, out = demo_folder() / "data", tmp_path_factory.mktemp("runs")
    masks = {name: true_masks(name) for name in SCENES}
    kept = {name: (masks[name], model.patches(read_image(folder / name))) for name in SCENES}
    bare = {name: (masks[name], None) for name in SCENES}
    return write_run(out / "kept", model, kept, folder), write_run(out / "bare", model, bare, folder)


@pytest.fixture(scope="module")
def table() -> PointTable:
    return read_points(POINTS)


def evaluate(
    run: Run, table: PointTable, partial: Path | None = None, stop: int | None = None
) -> PointEvaluation:
    names = class_names(table, POINTS)
    evaluation = PointEvaluation(table, {"run": 1}, partial)
    for i, (image_id, predicted) in enumerate(
        run_predictions(run, table, names, encoder_of_run(run), done=evaluation.done)
    ):
        if i == stop:
            break
        assert isinstance(predicted, dict)
        evaluation.add(image_id, predicted)
    return evaluation


Counts = dict[str, dict[str, list[int]]]


def obvious_counts(run: Run, points: Path, names: dict[str, str]) -> Counts:
    """TP, FP, FN by predictor and class: maps sampled by torch, one point and one mask after the other."""
    text = encoder_of_run(run).dense.text
    counts: Counts = {
        name: defaultdict(lambda: [0, 0, 0]) for name in ("gem", "gem_sam_threshold", "gem_sam_argmax")
    }
    rows = list(csv.DictReader(points.open()))
    for photo, masks, _ in run.photo_masks():
        mine = [row for row in rows if row["ImageId"] == Path(photo.image).stem]
        present = sorted({row["Label"] for row in mine if row["EstimatedYesNo"] == "yes"})
        patches = run.patches(photo.number).astype(np.float32)
        scaled = {}
        for label in present:
            similarity = (patches @ text.encode([names[label]])[0]).astype(np.float64)
            scaled[label] = (similarity - similarity.min()) / (similarity.max() - similarity.min())
        belief = {}
        down, across = patches.shape[:2]
        for i, mask in enumerate(masks):
            # repeated pixels make every patch whole pixels, first in height, then in width
            share = mask.repeat(down, axis=0).reshape(down, masks.height, masks.width).mean(axis=1)
            share = share.repeat(across, axis=1).reshape(down, across, masks.width).mean(axis=2)
            belief[i] = {label: (share * scaled[label]).sum() / share.sum() for label in present}
        for row in mine:
            label, yes = row["Label"], row["EstimatedYesNo"] == "yes"
            if label not in present or row["EstimatedYesNo"] == "unsure":
                continue
            x, y = float(row["X"]), float(row["Y"])
            at = torch.tensor([[[[2 * x - 1, 2 * y - 1]]]], dtype=torch.float64)
            whole = torch.from_numpy(scaled[label])[None, None]
            value = F.grid_sample(whole, at, padding_mode="border", align_corners=False).item()
            pixel = min(int(y * masks.height), masks.height - 1), min(int(x * masks.width), masks.width - 1)
            over = [i for i, mask in enumerate(masks) if mask[pixel]]
            hit = {
                "gem": value >= 0.5,
                "gem_sam_threshold": any(belief[i][label] >= 0.5 for i in over),
                "gem_sam_argmax": any(max(belief[i], key=belief[i].__getitem__) == label for i in over),
            }
            for name, inside in hit.items():
                counts[name][label][0] += inside and yes
                counts[name][label][1] += inside and not yes
                counts[name][label][2] += yes and not inside
    return counts


def test_a_run_equals_the_slow_and_obvious_evaluation(scene_runs: tuple[Run, Run], table: PointTable) -> None:
    names = class_names(table, POINTS)
    report = evaluate(scene_runs[0], table).report(names)
    expected = obvious_counts(scene_runs[0], POINTS, names)
    for row in report["per_class"]:
        for name, per_class in expected.items():
            assert [row[name][k] for k in ("tp", "fp", "fn")] == per_class[row["label"]], (row["name"], name)
    assert len(report["per_class"]) == len(expected["gem"])
    assert report["images"] == len(SCENES)


def test_without_kept_patches_the_photos_give_the_same(
    scene_runs: tuple[Run, Run], table: PointTable
) -> None:
    kept, bare = (evaluate(run, table).report(class_names(table, POINTS)) for run in scene_runs)
    assert kept["per_class"] == bare["per_class"]


def test_long_photos_are_seen_as_when_they_are_labeled(clip: Path) -> None:
    model = EncoderModel(DenseEncoder(load_clip(str(clip))), short_side=512)
    height, width = model.preprocess(np.zeros((100, 1500, 3), np.uint8)).shape[1:]
    assert height * width / 16**2 <= MAX_PATCHES < 32 * 480


def test_an_interrupted_evaluation_goes_on(
    scene_runs: tuple[Run, Run], table: PointTable, tmp_path: Path
) -> None:
    names, partial = class_names(table, POINTS), tmp_path / "partial.jsonl"
    whole = evaluate(scene_runs[0], table).report(names)
    evaluate(scene_runs[0], table, partial, stop=2)
    with partial.open("a") as file:
        file.write('{"image_id": "scene_003", "cla')  # a kill in the midst of a line
    resumed = evaluate(scene_runs[0], table, partial)
    assert resumed.report(names)["per_class"] == whole["per_class"]
    assert resumed.report(names)["p_miou"] == whole["p_miou"]
    again = PointEvaluation(table, {"run": 1}, partial)
    assert again.done == {Path(name).stem for name in SCENES}
    with pytest.raises(UsageError, match="other settings"):
        PointEvaluation(table, {"run": 2}, partial)


def test_photos_need_no_run(clip: Path, table: PointTable, tmp_path: Path) -> None:
    """A folder of photos gives what a run of the same method gives; a broken photo is told and left out."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in SCENES[:2]:
        (folder / name).write_bytes((demo_folder() / "data" / name).read_bytes())
    (folder / SCENES[2]).write_bytes(b"no photo")
    Image.new("RGB", (32, 32)).save(folder / "without-points.png")
    out = tmp_path / "result.json"
    arguments = ["--points", str(POINTS), "--clip", str(clip), "--method", "clip", "--json", str(out)]
    assert command(["eval", "points", str(folder), *arguments]) == 1
    result = json.loads(out.read_text())
    assert result["images"] == 2
    assert list(result["failures"]) == [Path(SCENES[2]).stem]
    names = class_names(table, POINTS)
    evaluation = PointEvaluation(table, {})
    evaluation.run(
        photo_predictions(list_images([folder]), table, names, load_model("clip", str(clip))), progress=False
    )
    assert evaluation.report(names)["p_miou"] == result["p_miou"]


def test_nothing_to_evaluate_is_one_line(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "elsewhere.png")
    out = tmp_path / "result.json"
    arguments = ["--points", str(POINTS), "--clip", str(clip), "--json", str(out)]
    assert command(["eval", "points", str(tmp_path), *arguments]) == 2
    assert "elsewhere" not in capsys.readouterr().err
    (tmp_path / SCENES[0]).write_bytes(b"no photo")
    assert command(["eval", "points", str(tmp_path), *arguments]) == 1
    assert "not an image" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("result*")] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["RUN", "--points", "nowhere.csv"], "nowhere.csv"),
        ([".", "--points", str(POINTS), "--method", "gem", "--weights", "x", "--clip", "demo"], "--weights"),
        ([".", "--points", str(POINTS), "--method", "bard", "--clip", "demo"], "bard"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = [str(demo_folder()) if word == "." else word for word in arguments]
    assert command(["eval", "points", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_help_has_examples_and_needs_no_torch() -> None:
    script = (
        "import sys\nfrom gem_label.cli import run\n"
        "for name in ('points', 'segmentation', 'localization'):\n"
        "    assert run(['eval', name, '--help']) == 0\n"
        "assert run(['eval']) == 2\n"
        "sys.exit('torch' in sys.modules or 'pyarrow' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  Example: gem-label eval ") == 4


# --- the recipe for table 3 ---


@pytest.mark.slow
def test_the_open_images_recipe(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A local copy in the layout of FiftyOne's zoo, made of two packaged scenes: all rows, then all from disk."""
    pull_weights("mobile_sam", progress=False)
    part = tmp_path / "root/validation"
    (part / "data").mkdir(parents=True)
    for name in SCENES[:2]:
        Image.open(demo_folder() / "data" / name).resize((160, 160)).save(part / "data" / name)
    for folder in ("labels", "metadata"):
        shutil.copytree(demo_folder() / folder, part / folder)
    recipe = Path(__file__).parents[1] / "pipelines/openimages_v7.py"
    settings = yaml.safe_load(recipe.with_suffix(".yaml").read_text())
    settings |= {
        "root": str(tmp_path / "root"),
        "out": str(tmp_path / "out"),
        "clip": str(clip),
        "device": "cpu",
        "methods": {"CLIP": "clip", "GEM": "gem"},
        "sam": "mobile_sam",
        "proposals": {"points_per_side": 2, "pred_iou_thresh": 0.5, "stability_score_thresh": 0.5},
    }
    main = runpy.run_path(str(recipe))["main"]
    rows = main(settings)
    assert [row["row"] for row in rows] == ["CLIP", "GEM", "GEM-SAM threshold", "GEM-SAM argmax"]
    assert [row["paper"] for row in rows] == [27.6, 50.9, 53.4, 53.4]
    assert all(row["seconds"] > 0 for row in rows)
    assert "GEM-SAM argmax" in capsys.readouterr().out
    # the row of a run is the row of photos: two ways to the same number
    result = tmp_path / "result.json"
    command(
        [
            "eval",
            "points",
            str(tmp_path / "out/run"),
            "--points",
            str(part / "labels/points.csv"),
            "--json",
            str(result),
        ]
    )
    p_miou = json.loads(result.read_text())["p_miou"]
    assert p_miou["gem_sam_argmax"]["pairs"] == rows[3]["pairs"]
    assert p_miou["gem"]["pairs"] == pytest.approx(rows[1]["pairs"], abs=0.05)  # patches are float16 in a run
    again = main(settings)
    assert [row["pairs"] for row in again] == [row["pairs"] for row in rows]


@pytest.mark.slow
def test_the_table_of_methods_agrees_with_the_demo_report(capsys: pytest.CaptureFixture[str]) -> None:
    """Two programs measure the same scenes: pipelines/compare_methods.py and gem_label.evaluation.demo_clip."""
    book = load_sprites()
    scenes, words = held_out_scenes(book, 2, size=224, thing_size=(60, 110)), list(book.nouns)
    clip = load_clip("demo")
    recipe = runpy.run_path(str(Path(__file__).parents[1] / "pipelines/compare_methods.py"))
    table = recipe["measure"](clip, {name: METHODS[name] for name in ("clip", "gem")}, scenes, words)
    expected = report(clip, words, scenes)
    assert table["gem"].p_miou == pytest.approx(expected.gem, abs=1e-6)
    assert table["clip"].p_miou == pytest.approx(expected.clip, abs=1e-6)
    assert 0 < table["gem"].miou <= table["gem"].miou_own_words <= 1
    recipe["print_table"](table)
    assert "photos/s" in capsys.readouterr().out
