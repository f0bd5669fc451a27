"""mIoU: against torchmetrics and slow second implementations, and each dataset's official layout in miniature."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from run_factory import mask_set
from scipy.io import savemat
from small_clip import write_small_clip
from torch.nn import functional as F
from torchmetrics import JaccardIndex

from gem_label.cli import run as command
from gem_label.clip.dense import DenseEncoder
from gem_label.clip.models import load_clip
from gem_label.errors import GemLabelError, UsageError
from gem_label.evaluation import segmentation
from gem_label.evaluation.datasets import DATASETS, IGNORE, open_dataset, read_classes
from gem_label.evaluation.predictors import EncoderModel
from gem_label.evaluation.segmentation import (
    ConfusionMatrix,
    SegmentationSettings,
    best_phrasing,
    correct_labels,
    evaluate_segmentation,
    paint_masks,
    predict_image,
    predict_labels,
)
from gem_label.predictors import ClassMasks
from gem_label.vocabulary import Vocabulary

SIZES = {"voc": 20, "context59": 59, "ade20k": 150, "cocostuff": 171, "cityscapes": 19}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def model(clip: Path) -> EncoderModel:
    return EncoderModel(DenseEncoder(load_clip(str(clip))))


# --- the measure ---


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 6), ignored=st.booleans())
def test_miou_equals_torchmetrics(seed: int, classes: int, ignored: bool) -> None:
    rng = np.random.default_rng(seed)
    confusion = ConfusionMatrix(classes)
    judge = JaccardIndex(task="multiclass", num_classes=classes, ignore_index=IGNORE, average="macro")
    per_class = JaccardIndex(task="multiclass", num_classes=classes, ignore_index=IGNORE, average="none")
    for _ in range(2):
        truth = rng.integers(0, rng.integers(1, classes + 1), (6, 7))
        if ignored:
            truth[rng.random(truth.shape) < 0.3] = IGNORE
        predicted = rng.integers(0, rng.integers(1, classes + 1), truth.shape)
        confusion.add(truth, predicted)
        for metric in (judge, per_class):
            metric.update(torch.from_numpy(predicted), torch.from_numpy(truth))
    assert confusion.miou() == pytest.approx(judge.compute().item(), abs=1e-6)
    np.testing.assert_allclose(np.nan_to_num(confusion.ious()), per_class.compute().numpy(), atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    pixels=st.lists(
        st.tuples(st.sampled_from([0, 1, 2, IGNORE]), st.integers(0, 3)),
        max_size=40,
    )
)
def test_iou_equals_the_obvious_sets(pixels: list[tuple[int, int]]) -> None:
    """IoU of a class is the size of an intersection over that of a union of two sets of pixels."""
    confusion = ConfusionMatrix(3)
    truth, predicted = (np.array([p[i] for p in pixels], np.uint8) for i in (0, 1))
    confusion.add(truth, predicted)
    for c in range(3):
        true = {i for i, p in enumerate(pixels) if p[0] == c}
        found = {i for i, p in enumerate(pixels) if p[1] == c and p[0] != IGNORE}
        if true | found:
            assert confusion.ious()[c] == pytest.approx(len(true & found) / len(true | found))
        else:
            assert np.isnan(confusion.ious()[c])


def test_truth_and_prediction_must_be_of_one_size() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        ConfusionMatrix(2).add(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))


# --- from similarity to labels ---


@pytest.mark.parametrize("background", [None, 0.85])
@pytest.mark.parametrize("size", [(37, 53), (4, 5), (3, 100)])
def test_labels_equal_those_of_whole_maps(
    size: tuple[int, int], background: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole maps at once: torch's bilinear resize, softmax, argmax."""
    monkeypatch.setattr(segmentation, "ELEMENTS_AT_A_TIME", 6 * size[1] * 4)  # four rows at a time
    maps = torch.rand(6, 4, 5, generator=torch.Generator().manual_seed(1))
    whole = F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
    share, best = (whole * 10).softmax(dim=0).max(dim=0)
    expected = best if background is None else torch.where(share >= background, best + 1, 0)
    labels = predict_labels(maps, size, logit_scale=10, background=background)
    assert (labels == expected.numpy()).mean() > 0.999  # ties and rounding
    assert background is None or set(np.unique(labels)) > {0}


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers(0, 100))
def test_a_class_has_its_best_phrasing(sizes: list[int], seed: int) -> None:
    similarity = torch.rand(sum(sizes), 2, 3, generator=torch.Generator().manual_seed(seed))
    expected, start = [], 0
    for size in sizes:
        expected.append(np.max(similarity.numpy()[start : start + size], axis=0))
        start += size
    np.testing.assert_array_equal(best_phrasing(similarity, sizes), np.stack(expected))


def test_masks_are_painted_by_their_score() -> None:
    """Two masks overlap in a column: it goes to the better scored one; a mask without a class paints nothing."""
    left, right, none = (np.zeros((1, 5), bool) for _ in range(3))
    left[:, :2] = right[:, 1:4] = none[:] = True
    masks = mask_set([left, right, none])
    scores = np.array([[0.9, 0.1, 0.8], [0.2, 0.3, 0.7], [1.0, 1.0, 1.0]], np.float32)
    belongs = np.array([[True, False, True], [True, True, True], [False] * 3])
    labels = paint_masks(ClassMasks(masks, scores, belongs), [2, 1])  # class 0 has two phrasings
    assert labels.tolist() == [[0, 0, 1, 1, 2]]


class Halves:
    """A model of masks: whatever is asked first is on the left."""

    name = "halves"

    def label(self, image: NDArray[np.uint8], texts: list[str]) -> ClassMasks:
        left = np.zeros(image.shape[:2], bool)
        left[:, : left.shape[1] // 2] = True
        scores = np.eye(1, len(texts), dtype=np.float32)
        return ClassMasks(mask_set([left]), scores, scores > 0)

    def describe(self) -> dict:
        return {"method": self.name}


def test_models_of_masks_are_evaluated_too() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    labels = predict_image(Halves(), image, (8, 12), [["cat"], ["dog"]])
    assert labels.shape == (8, 12)
    assert (labels[:, :6] == 0).all()
    assert (labels[:, 6:] == 2).all()
    with_background = predict_image(Halves(), image, (4, 6), [["cat"], ["dog"]], background=0.85)
    assert with_background[0].tolist() == [1, 1, 1, 0, 0, 0]


def test_map_correction_gives_a_mask_the_class_of_most_of_its_pixels() -> None:
    small, large = np.zeros((2, 6), bool), np.zeros((2, 6), bool)
    small[0, :3] = True
    large[:, 2:5] = True
    labels = np.array([[0, 1, 1, 2, 2, 3], [0, 2, 1, 1, 2, 3]], np.uint8)
    corrected = correct_labels(labels, mask_set([small, large]))
    # the pixel of both is the larger one's, and where two classes are equally frequent the first wins
    assert corrected.tolist() == [[0, 0, 1, 1, 1, 3], [0, 2, 1, 1, 1, 3]]
    assert np.array_equal(correct_labels(labels, mask_set([large])[[]]), labels)
    twice = np.kron(labels, np.ones((2, 2), np.uint8))  # a label map larger than the photo
    assert np.array_equal(
        correct_labels(twice, mask_set([small, large])), np.kron(corrected, np.ones((2, 2), np.uint8))
    )


# --- class lists ---


@pytest.mark.parametrize("name", SIZES)
def test_class_lists_make_a_vocabulary(name: str) -> None:
    classes = read_classes(name)
    assert len(classes.names) == len(set(classes.values)) == SIZES[name]
    Vocabulary(classes.names, classes.phrasings)  # no phrase stands for two classes


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("voc", {1: "aeroplane", 15: "person", 20: "tvmonitor"}),
        ("context59", {1: "aeroplane", 21: "bag", 40: "mountain", 59: "wood"}),
        ("ade20k", {1: "wall", 13: "person", 90: "television", 150: "flag"}),
        ("cocostuff", {0: "person", 12: "stop sign", 89: "toothbrush", 91: "banner", 181: "wood"}),
        ("cityscapes", {7: "road", 24: "person", 33: "bicycle"}),
    ],
)
def test_label_values_are_the_official_ones(name: str, known: dict[int, str]) -> None:
    classes = read_classes(name)
    table = dict(zip(classes.values, classes.names, strict=True))
    assert {value: table[value] for value in known} == known


# --- official layouts in miniature ---

PHOTO = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


def save(path: Path, values: NDArray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette:
        image = image.convert("P") if values.ndim == 3 else image
        if image.mode == "L":
            image.putpalette(list(np.random.default_rng(0).integers(0, 255, 768)))
    image.save(path)


def values_with(*values: int) -> NDArray[np.uint8]:
    """A (30, 50) label map: the values in vertical stripes."""
    columns = np.repeat(np.array(values, np.uint8), -(-50 // len(values)))[:50]
    return np.tile(columns, (30, 1))


def make_voc(root: Path) -> None:
    base = root / "VOCdevkit/VOC2012"
    save(base / "JPEGImages/2007_000033.jpg", PHOTO)
    save(base / "SegmentationClass/2007_000033.png", values_with(0, 1, 15, 255, 20), palette=True)
    (base / "ImageSets/Segmentation").mkdir(parents=True)
    (base / "ImageSets/Segmentation/val.txt").write_text("2007_000033\n")


def make_context(root: Path) -> None:
    base = root / "VOCdevkit/VOC2010"
    save(base / "JPEGImages/2008_000002.jpg", PHOTO)
    save(base / "SegmentationClassContext/2008_000002.png", values_with(0, 1, 59))
    (base / "ImageSets/SegmentationContext").mkdir(parents=True)
    (base / "ImageSets/SegmentationContext/val.txt").write_text("2008_000002\n")


def make_context_mat(root: Path) -> None:
    """The official annotation: 459 classes in .mat files, numbered by labels.txt."""
    base = root / "VOCdevkit/VOC2010"
    for name in ("2008_000002", "2008_000003"):
        save(base / f"JPEGImages/{name}.jpg", PHOTO)
    (base / "ImageSets/Main").mkdir(parents=True)
    (base / "ImageSets/Main/val.txt").write_text("2008_000002\n2008_000003\n")
    names = [*(f"other {i}" for i in range(400)), *read_classes("context59").names]
    (root / "labels.txt").write_text("\n".join(f"{i + 1}: {name}" for i, name in enumerate(names)))
    (root / "trainval").mkdir()
    values = values_with(0, 1, 2).astype(np.uint16)
    values[values == 1] = 401  # aeroplane
    values[values == 2] = 459  # wood
    savemat(root / "trainval/2008_000002.mat", {"LabelMap": values})


def make_ade(root: Path) -> None:
    base = root / "ADEChallengeData2016"
    save(base / "images/validation/ADE_val_00000001.jpg", PHOTO)
    save(base / "annotations/validation/ADE_val_00000001.png", values_with(0, 1, 150))


def make_coco_stuff(root: Path) -> None:
    save(root / "val2017/000000000139.jpg", PHOTO)
    save(root / "stuffthingmaps/val2017/000000000139.png", values_with(0, 11, 181, 255))


def make_cityscapes(root: Path) -> None:
    name = "frankfurt/frankfurt_000000_000294"
    save(root / f"leftImg8bit/val/{name}_leftImg8bit.png", PHOTO)
    save(root / f"gtFine/val/{name}_gtFine_labelIds.png", values_with(3, 7, 33, 0))


# dataset, what makes it, class indices (-1: ignored) of the stripes
LAYOUTS: list[tuple[str, Callable[[Path], None], list[int]]] = [
    ("voc20", make_voc, [-1, 0, 14, -1, 19]),
    ("voc21", make_voc, [0, 1, 15, -1, 20]),
    ("context59", make_context, [-1, 0, 58]),
    ("context59", make_context_mat, [-1, 0, 58]),
    ("context60", make_context, [0, 1, 59]),
    ("context60", make_context_mat, [0, 1, 59]),
    ("ade20k", make_ade, [-1, 0, 149]),
    ("cocostuff", make_coco_stuff, [0, -1, 170, -1]),  # 11 is "street sign", which is not among the 171
    ("cityscapes", make_cityscapes, [-1, 0, 18, -1]),
]


@pytest.mark.parametrize(("name", "make", "stripes"), LAYOUTS, ids=lambda v: getattr(v, "__name__", None))
def test_official_layouts(
    name: str, make: Callable[[Path], None], stripes: list[int], tmp_path: Path, model: EncoderModel
) -> None:
    """Labels have their class, and mIoU of the real pipeline is torchmetrics' on the very predictions."""
    make(tmp_path)
    dataset = open_dataset(name, tmp_path)
    assert len(dataset) == 1
    assert len(dataset.names) == SIZES[DATASETS[name][0]] + dataset.background
    image, truth = dataset.read(0)
    assert image.shape == PHOTO.shape
    np.testing.assert_array_equal(truth, values_with(*(IGNORE if s < 0 else s for s in stripes)))
    result = evaluate_segmentation(dataset, model, progress=False)
    phrasings = [phrases[:1] for phrases in dataset.phrasings]
    predicted = predict_image(model, image, truth.shape, phrasings, 0.85 if dataset.background else None)
    judge = JaccardIndex(task="multiclass", num_classes=len(dataset.names), ignore_index=IGNORE)
    expected = judge(torch.from_numpy(predicted).long(), torch.from_numpy(truth).long())
    assert result["miou"] == pytest.approx(expected.item(), abs=1e-6)
    assert result["settings"]["model"]["weights_sha256"] == model.dense.clip.weights_sha256


def test_a_perfect_model_has_miou_one(tmp_path: Path) -> None:
    """A model that knows the label map: the stripes are five patches side by side."""

    class Oracle:
        name, logit_scale = "oracle", 100.0

        def preprocess(self, image: NDArray[np.uint8]) -> torch.Tensor:
            return torch.from_numpy(image.copy()).permute(2, 0, 1)

        def similarity(self, images: torch.Tensor, texts: list[str]) -> torch.Tensor:
            maps = torch.zeros(1, len(texts), 1, 50)
            if "sky" in texts:
                maps[0, texts.index("wall")] = 0.5
            for stripe, text in ((1, "aeroplane"), (2, "person"), (4, "tv monitor")):
                maps[0, texts.index(text), 0, 10 * stripe : 10 * stripe + 10] = 1
            return maps

        def describe(self) -> dict:
            return {}

    make_voc(tmp_path)
    for name in ("voc20", "voc21"):
        result = evaluate_segmentation(open_dataset(name, tmp_path), Oracle(), progress=False)
        assert (result["miou"], result["accuracy"]) == (1.0, 1.0)
    words = SegmentationSettings(background_words=("sky", "wall"))
    result = evaluate_segmentation(open_dataset("voc21", tmp_path), Oracle(), words, progress=False)
    assert result["miou"] == 1.0
    assert result["settings"]["background_words"] == ["sky", "wall"]
    with pytest.raises(UsageError, match="no background class"):
        evaluate_segmentation(open_dataset("voc20", tmp_path), Oracle(), words, progress=False)
    result = evaluate_segmentation(open_dataset("voc21", tmp_path), Halves(), words, progress=False)
    assert 0 < result["accuracy"] < 1  # what lies under no mask is background, which is right in places
    found = open_dataset("voc20", tmp_path)
    everything = mask_set([np.ones(found.read(0)[0].shape[:2], bool)])
    result = evaluate_segmentation(found, Oracle(), progress=False, propose=lambda _: everything)
    assert result["accuracy"] < 1  # all pixels have one class
    assert result["settings"]["map_correction"]
    all_phrasings = SegmentationSettings(phrasings="all")
    result = evaluate_segmentation(open_dataset("voc20", tmp_path), Oracle(), all_phrasings, progress=False)
    assert result["miou"] == 1.0


def test_the_root_may_be_the_inner_folder_too(tmp_path: Path) -> None:
    make_voc(tmp_path)
    assert len(open_dataset("voc20", tmp_path / "VOCdevkit/VOC2012")) == 1


@pytest.mark.parametrize("name", DATASETS)
def test_what_is_missing_is_said(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--root"):
        open_dataset(name, tmp_path)
    next(make for known, make, _ in LAYOUTS if known == name)(tmp_path)
    label = open_dataset(name, tmp_path).samples[0][1]
    label.unlink()
    with pytest.raises(UsageError, match=f"{label.name} is missing|no images"):
        open_dataset(name, tmp_path)


def test_a_colored_label_map_is_refused(tmp_path: Path) -> None:
    make_ade(tmp_path)
    dataset = open_dataset("ade20k", tmp_path)
    save(dataset.samples[0][1], PHOTO)
    with pytest.raises(GemLabelError, match="label map of class numbers"):
        dataset.read(0)


def test_the_command(tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_voc(tmp_path)
    out = tmp_path / "result.json"
    arguments = ["--dataset", "voc21", "--root", str(tmp_path), "--clip", str(clip), "--device", "cpu"]
    more = ["--method", "maskclip", "--phrasings", "all", "--crop", "64", "--json", str(out)]
    assert command(["eval", "segmentation", *arguments, *more]) == 0
    result = json.loads(out.read_text())
    assert result["settings"]["background_threshold"] == 0.85
    assert result["settings"]["model"]["dense"]["window"] == {"crop": 64, "stride": 32}
    assert [row["name"] for row in result["per_class"]][:2] == ["background", "aeroplane"]
    assert "mIoU" in capsys.readouterr().out
    assert command(["eval", "segmentation", *arguments, "--stride", "32"]) == 2
    assert "--crop" in capsys.readouterr().err


def test_the_benchmark_recipe(tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two methods on two datasets, the paper's figures beside ours; a second run computes nothing again."""
    make_voc(tmp_path / "voc")
    make_ade(tmp_path / "ade")
    recipe = Path(__file__).parents[1] / "pipelines/segmentation_benchmarks.py"
    settings = yaml.safe_load(recipe.with_suffix(".yaml").read_text())
    settings |= {
        "datasets": {"voc21": str(tmp_path / "voc"), "ade20k": str(tmp_path / "ade"), "cityscapes": None},
        "clip": str(clip),
        "device": "cpu",
        "out": str(tmp_path / "out"),
        "methods": ["clip", "gem"],
        "short_side": 96,
        "paper": "clearclip",
    }
    main = runpy.run_path(str(recipe))["main"]
    first = main(settings)
    assert first.keys() == {"clip", "gem"}
    assert first["gem"].keys() == {"voc21", "ade20k"}
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("gem  "))
    assert "15.7 / " in line
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert len(times) == 4
    assert main(settings) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == times


def test_empty_lines_and_comments_shift_no_class(tmp_path: Path) -> None:
    make_context_mat(tmp_path)
    names = (tmp_path / "labels.txt").read_text().splitlines()
    plain = open_dataset("context59", tmp_path)
    (tmp_path / "labels.txt").write_bytes(
        "\r\n".join(["# 459 classes", "", *names, "", " "]).encode("utf-16")
    )
    (tmp_path / "VOCdevkit/VOC2010/ImageSets/Main/val.txt").write_text(
        "\n# two\n2008_000002\n\n2008_000003\n"
    )
    again = open_dataset("context59", tmp_path)
    np.testing.assert_array_equal(again.lookup, plain.lookup)
    assert again.samples == plain.samples
    (tmp_path / "labels.txt").write_text("1: wall\nfloor\n")
    with pytest.raises(UsageError, match=r"labels\.txt: expected 'number: name', not 'floor'"):
        open_dataset("context59", tmp_path)
