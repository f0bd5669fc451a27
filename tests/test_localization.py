"""Localization properties against the supplement's sums written out as loops."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_clip import write_small_clip

from gem_label.cli import run as command
from gem_label.clip.dense import DenseEncoder
from gem_label.clip.models import load_clip
from gem_label.evaluation.datasets import open_dataset
from gem_label.evaluation.localization import (
    dataset_objects,
    layer_properties,
    object_background_contrast,
    patch_patch_similarity,
    patches_inside,
    text_object_background_contrast,
)
from gem_label.evaluation.predictors import EncoderModel


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_clip(tmp_path_factory.mktemp("clip"))


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def michelson(a: float, b: float) -> float:
    return (a - b) / (a + b) if a + b else math.nan


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 9), objects=st.integers(1, 3))
def test_all_measures_equal_the_written_sums(seed: int, n: int, objects: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.nn.functional.normalize(
        torch.randn(n, 4, generator=generator, dtype=torch.float64), dim=-1
    )
    text = torch.nn.functional.normalize(
        torch.randn(objects, 4, generator=generator, dtype=torch.float64), dim=-1
    )
    inside = torch.rand(objects, n, generator=generator) < 0.5
    x, t = features.tolist(), text.tolist()
    pairs = [cosine(x[i], x[j]) for i in range(n) for j in range(n) if i != j]
    assert patch_patch_similarity(features) == pytest.approx(sum(pairs) / (n * (n - 1)))
    visual = object_background_contrast(features, inside)
    words = text_object_background_contrast(text @ features.T, inside)
    for k in range(objects):
        mine = [i for i in range(n) if inside[k, i]]
        rest = [i for i in range(n) if not inside[k, i]]
        own = [max(0.0, cosine(x[i], x[j])) for i in mine for j in mine if i != j]
        other = [max(0.0, cosine(x[i], x[j])) for i in mine for j in rest]
        if len(mine) > 1 and rest:
            expected = michelson(sum(own) / len(own), sum(other) / len(other))
            assert visual[k].item() == pytest.approx(expected, nan_ok=True)
        else:
            assert visual[k].isnan()
        near = [max(0.0, cosine(t[k], x[i])) for i in mine]
        far = [max(0.0, cosine(t[k], x[i])) for i in rest]
        if mine and rest:
            expected = michelson(sum(near) / len(near), sum(far) / len(far))
            assert words[k].item() == pytest.approx(expected, nan_ok=True)
        else:
            assert words[k].isnan()


def test_a_patch_belongs_to_the_mask_that_covers_half_of_it() -> None:
    mask = np.zeros((4, 6), bool)
    mask[:, :3] = True  # patches are 2 x 2: the second column is covered half, the third not
    assert patches_inside(mask[None], (2, 3)).tolist() == [[[True, True, False]] * 2]
    mask[0, 2] = False
    assert patches_inside(mask[None], (2, 3)).tolist() == [[[True, False, False], [True, True, False]]]


def test_layers_are_those_of_the_model(clip: Path) -> None:
    """The last layer's measures are those of the features that the encoder gives."""
    model = EncoderModel(DenseEncoder(load_clip(str(clip))))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)
    mask = np.zeros((1, 96, 96), bool)
    mask[0, :48] = True
    rows, objects = layer_properties(model, [(image, mask, ["cat"])], progress=False)
    assert [row.layer for row in rows] == [1, 2, 3]
    assert objects == 1
    features = model.dense.encode(model.preprocess(image)[None])[0].flatten(0, 1)
    inside = torch.arange(36)[None] < 18
    text = torch.from_numpy(model.dense.text.encode(["cat"]))
    last = rows[-1]
    assert last.patch_patch_similarity == pytest.approx(patch_patch_similarity(features), abs=1e-5)
    expected = object_background_contrast(features, inside).item()
    assert last.object_background_contrast == pytest.approx(expected, abs=1e-5)
    expected = text_object_background_contrast(text @ features.T, inside).item()
    assert last.text_object_background_contrast == pytest.approx(expected, abs=1e-5)


def make_voc(root: Path, objects: bool) -> None:
    """Two persons beside each other in one photo, void between them, and background."""
    base = root / "VOCdevkit/VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(
        base / "JPEGImages/2007_000001.jpg"
    )
    classes = np.zeros((96, 96), np.uint8)
    classes[:, :32], classes[:, 32:34], classes[:, 34:64] = 15, 255, 15
    things = classes.copy()
    things[:, :32], things[:, 34:64] = 1, 2
    Image.fromarray(classes).save(base / "SegmentationClass/2007_000001.png")
    if objects:
        Image.fromarray(things).save(base / "SegmentationObject/2007_000001.png")
    (base / "ImageSets/Segmentation/train.txt").write_text("2007_000001\n")


@pytest.mark.parametrize(
    ("name", "objects", "masks"), [("voc20", True, 2), ("voc21", True, 2), ("voc20", False, 1)]
)
def test_objects_of_a_dataset(name: str, objects: bool, masks: int, tmp_path: Path) -> None:
    make_voc(tmp_path, objects)
    ((_, found, words),) = dataset_objects(open_dataset(name, tmp_path, "train"))
    assert words == ["person"] * masks
    assert found.sum() == 96 * 62


def test_the_command(tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_voc(tmp_path, objects=True)
    out = tmp_path / "result.json"
    arguments = ["--dataset", "voc20", "--root", str(tmp_path), "--clip", str(clip), "--device", "cpu"]
    assert command(["eval", "localization", *arguments, "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["objects"] == 2
    assert len(result["layers"]) == 3
    assert "text-object-background" in capsys.readouterr().out
    assert command(["eval", "localization", *arguments, "--method", "nothing"]) == 2
