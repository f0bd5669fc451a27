"""bfloat16 image encoders: nearly the same features, recorded in the run, and not mixed with float32."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from gem_label.cli import run
from gem_label.clip.dense import DenseEncoder
from gem_label.clip.models import load_clip
from gem_label.demo import demo_folder
from gem_label.evaluation.models import encoder_of_run
from gem_label.labeler import Labeler
from gem_label.photos.reading import read_image
from gem_label.precision import Precision
from gem_label.runs import open_run
from gem_label.sam import load_sam
from gem_label.sam.encoding import encode_image
from gem_label.weights import pull_weights

SCENE = sorted((demo_folder() / "data").iterdir())[0]


@pytest.mark.parametrize("size", [None, 96])
def test_dense_features_in_bfloat16(size: int | None) -> None:
    """Near to float32's, float32 themselves; words are encoded as ever."""
    exact, reduced = (DenseEncoder(load_clip("demo", precision=precision)) for precision in Precision)
    images = exact.clip.preprocess(read_image(SCENE), size)[None]
    ours, theirs = reduced.encode_with_class_token(images), exact.encode_with_class_token(images)
    for found, expected in zip(ours, theirs, strict=True):
        assert found.dtype == torch.float32
        assert not torch.equal(found, expected)
        # a hundredth is what 8 bits leave; words of one scene are some tenths apart
        assert (1 - (found * expected).sum(-1)).max() < 0.01
    torch.testing.assert_close(reduced.encode(images), ours[0])
    assert np.array_equal(reduced.text.encode(["cat"]), exact.text.encode(["cat"]))


def test_sam_features_in_bfloat16() -> None:
    pull_weights("mobile_sam", progress=False)
    image = read_image(SCENE)
    exact, reduced = (
        encode_image(load_sam("mobile_sam", precision=precision), image).features for precision in Precision
    )
    assert reduced.dtype == torch.float32
    assert not torch.equal(reduced, exact)
    assert functional.cosine_similarity(reduced, exact, dim=1).min() > 0.97


@pytest.mark.slow
def test_a_run_says_its_precision_and_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And does not go on with another; whoever evaluates it gets the encoder that made it."""
    (tmp_path / "photos").mkdir()
    Image.open(SCENE).resize((160, 120)).save(tmp_path / "photos" / "scene.png")
    quick = ["--points-per-side", "3", "--max-prompts", "9", "--clip", "demo", "--classes", "cat, dog"]
    command = ["label", str(tmp_path / "photos"), "--out", str(tmp_path / "run"), *quick]
    reduced = ["--precision", "bfloat16", "--method", "maskclip", "--short-side", "96"]
    assert run([*command, *reduced]) == 0
    settings = json.loads((tmp_path / "run" / "manifest.json").read_text())["settings"]
    assert settings["precision"] == {"clip": "bfloat16", "sam": "bfloat16"}
    assert (settings["dense"]["method"], settings["short_side"]) == ("maskclip", 96)
    capsys.readouterr()
    assert run([*command, "--method", "maskclip"]) == 2
    assert "precision" in capsys.readouterr().err
    assert encoder_of_run(open_run(tmp_path / "run")).dense.clip.precision is Precision.bfloat16
    assert run([*command, "--method", "nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_runs_in_float32_are_those_of_earlier_versions() -> None:
    clip, sam = load_clip("demo"), load_sam("mobile_sam")
    assert "precision" not in Labeler(clip, sam).settings
