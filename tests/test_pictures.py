"""Images as Python users give them: paths, PIL images, arrays, several at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from gem_label.clip.dense import DenseEncoder
from gem_label.clip.models import load_clip
from gem_label.demo import scene_paths
from gem_label.errors import UsageError


@pytest.fixture(scope="module")
def dense() -> DenseEncoder:
    return DenseEncoder(load_clip("demo", "cpu"))


def test_paths_images_arrays_and_tensors_give_the_same_features(dense: DenseEncoder) -> None:
    path = scene_paths()[0]
    pixels = np.asarray(Image.open(path).convert("RGB"))
    expected = dense.encode(dense.preprocess(pixels)[None])
    for given in (path, str(path), Image.open(path), pixels, [pixels]):
        assert torch.equal(dense.encode(given), expected)
    both = dense.similarity([path, scene_paths()[1]], ["cat", "dog"])
    assert both.shape[:2] == (2, 2)
    assert torch.allclose(both[:1], dense.similarity(path, ["cat", "dog"]), atol=1e-5)
    assert torch.allclose(dense.encode_layers(path)[-1], expected, atol=1e-5)


def test_what_cannot_be_encoded_is_said(dense: DenseEncoder) -> None:
    with pytest.raises(UsageError, match=r"no such file: gone\.jpg"):
        dense.encode("gone.jpg")
    with pytest.raises(UsageError, match="one aspect ratio"):
        dense.encode([Image.new("RGB", (64, 64)), Image.new("RGB", (64, 32))])
    with pytest.raises(ValueError, match="uint8 RGB"):
        dense.encode(np.zeros((4, 4), np.uint8))
