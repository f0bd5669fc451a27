"""On a GPU everything stays on it, gives what a CPU gives, and the host waits a fixed number of times.

No GPU is needed: `accelerator` plays one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerator import accelerator, on_accelerator
from color_guide import COLOR_GUIDE
from pycocotools import mask as coco_mask
from small_clip import write_small_clip

from gem_label.clip.dense import DenseEncoder
from gem_label.clip.methods import METHODS
from gem_label.clip.models import Clip, as_clip, load_clip
from gem_label.clip.windows import Window
from gem_label.demo import demo_folder
from gem_label.labeler import Labeler
from gem_label.masks import MaskSet
from gem_label.photos.reading import read_image
from gem_label.sam import FastSettings, ProposalSettings, Sam, load_sam, propose_masks
from gem_label.sam.proposals import AnySettings
from gem_label.weights import pull_weights

SCENE = demo_folder() / "data"


@pytest.fixture(scope="module")
def mobile_sam() -> Sam:
    pull_weights("mobile_sam", progress=False)
    return load_sam("mobile_sam")


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return load_clip(str(write_small_clip(tmp_path_factory.mktemp("clip"))))


def moved(clip: Clip) -> Clip:
    with accelerator():
        return replace(
            as_clip(on_accelerator(clip.model)), short_side=clip.short_side, dense_depth=clip.dense_depth
        )


def photo() -> np.ndarray:
    return read_image(sorted(SCENE.iterdir())[0])


def assert_same(ours: MaskSet, theirs: MaskSet) -> None:
    assert len(ours) == len(theirs) > 0
    iou = coco_mask.iou(ours.rles, theirs.rles, [0] * len(theirs))
    assert iou.diagonal().min() >= 0.99
    np.testing.assert_allclose(ours.predicted_iou, theirs.predicted_iou, atol=1e-4)
    np.testing.assert_allclose(ours.stability, theirs.stability, atol=1e-2)
    np.testing.assert_array_equal(ours.points, theirs.points)


def test_the_simulation_refuses_what_a_device_refuses() -> None:
    with accelerator() as device:
        there, here = torch.arange(3.0, device="cuda"), torch.arange(3.0)
        assert (there.device.type, here.device.type) == ("cuda", "cpu")
        with pytest.raises(RuntimeError, match="add: tensors on cuda:0 and on the CPU"):
            there + here
        with pytest.raises(RuntimeError):
            there.numpy()
        assert (there + 1).cpu().numpy().tolist() == [1, 2, 3]
        assert (there + here.to(there)).sum().item() == 6
        assert there[there > 0].shape == (2,)
        assert device.round_trips == {"_to_copy": 1, "_local_scalar_dense": 1, "index": 1}


@pytest.mark.parametrize("method", METHODS)
def test_dense_features_on_a_gpu(method: str, small_clip: Clip) -> None:
    images = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    expected, embedding = DenseEncoder(small_clip, method, guide=COLOR_GUIDE).encode_with_class_token(images)
    clip = moved(small_clip)
    with accelerator() as device:
        features, embeddings = DenseEncoder(clip, method, guide=COLOR_GUIDE).encode_with_class_token(images)
        assert {features.device.type, embeddings.device.type} == {"cuda"}
        waits = dict(device.round_trips)
        features, embeddings = features.cpu(), embeddings.cpu()
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(embeddings, embedding, atol=1e-5, rtol=1e-4)
    # k-means ends when nothing moves any more; regions are made of masks, which are on the host
    assert not waits or "kmeans" in method or "corrclip" in method


def test_mask_tokens_on_a_gpu(small_clip: Clip) -> None:
    image = torch.randn(3, 96, 128, generator=torch.Generator().manual_seed(0))
    shares = np.random.default_rng(0).random((4, 6, 8), np.float32)
    expected = DenseEncoder(small_clip).encode_photo(image, shares, mask_tokens=True)
    clip = moved(small_clip)
    with accelerator():
        found = DenseEncoder(clip).encode_photo(image, shares, mask_tokens=True)
    np.testing.assert_allclose(found.mask_tokens, expected.mask_tokens, atol=1e-5)


def test_windows_and_scales_on_a_gpu(small_clip: Clip) -> None:
    images = torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    settings = {"window": Window(96, 64), "scales": (0.75, 1.0)}
    expected, _ = DenseEncoder(small_clip, **settings).encode_with_class_token(images)
    clip = moved(small_clip)
    with accelerator():
        features = DenseEncoder(clip, **settings).encode_with_class_token(images)[0].cpu()
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)


def test_similarity_to_words_on_a_gpu(small_clip: Clip) -> None:
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    expected = DenseEncoder(small_clip).similarity(images, ["cat", "dog"])
    clip = moved(small_clip)
    with accelerator():
        found = DenseEncoder(clip).similarity(images, ["cat", "dog"]).cpu()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "most_waits"),
    [
        (FastSettings(max_prompts=96, prompts_per_round=32), 40),
        # each batch of prompts is read, drawn and outlined
        (ProposalSettings(points_per_side=8, points_per_batch=32, pred_iou_thresh=0.6), 30),
    ],
    ids=["fast", "exact"],
)
def test_proposals_on_a_gpu(mobile_sam: Sam, settings: AnySettings, most_waits: int) -> None:
    """The same masks, and far fewer round trips than masks: one each took most of a photo's time."""
    image = photo()
    expected = propose_masks(mobile_sam, image, settings)
    sam = replace(mobile_sam, model=on_accelerator(mobile_sam.model))
    with accelerator() as device:
        assert sam.device.type == "cuda"
        masks = propose_masks(sam, image, settings)
    assert_same(masks, expected)
    assert device.round_trips.total() <= most_waits, device.round_trips


@pytest.mark.slow
def test_a_photo_labeled_on_a_gpu(mobile_sam: Sam, small_clip: Clip, tmp_path: Path) -> None:
    settings, words = FastSettings(max_prompts=16, points_per_side=4), ["cat", "dog"]
    image = photo()
    expected = Labeler(small_clip, mobile_sam, settings).label(image, words)
    clip, sam = moved(small_clip), replace(mobile_sam, model=on_accelerator(mobile_sam.model))
    with accelerator():
        found = Labeler(clip, sam, settings).label(image, words)
    assert_same(found.masks, expected.masks)
    assert found.masks.embeddings is not None
    assert expected.masks.embeddings is not None
    np.testing.assert_allclose(found.masks.embeddings, expected.masks.embeddings, atol=2e-3)
    assert found.labels.names == expected.labels.names
