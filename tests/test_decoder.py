"""The point decoder against segment-anything's mask decoder, on random weights of many shapes and on real ones."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling import Sam as SegmentAnything
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor, nn

from gem_label.sam import Sam, decoder, load_sam, mask_drawing
from gem_label.sam.decoder import PointDecoder
from gem_label.weights import pull_weights

CHANNELS, SIDE = 32, 96  # of the small SAM; its grid is 6 x 6


def small_sam(depth: int = 2, heads: int = 4, seed: int = 0) -> SegmentAnything:
    """A random SAM with no image encoder. Norms and biases are random too: as built they would hide mistakes."""
    torch.manual_seed(seed)
    model = SegmentAnything(
        image_encoder=nn.Identity(),
        prompt_encoder=PromptEncoder(CHANNELS, (6, 6), (SIDE, SIDE), mask_in_chans=4),
        mask_decoder=MaskDecoder(
            transformer_dim=CHANNELS,
            transformer=TwoWayTransformer(depth, CHANNELS, heads, mlp_dim=48),
            iou_head_hidden_dim=24,
        ),
    )
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3) if weight.dim() > 1 else nn.init.normal_(weight, mean=0.5)
    return model.eval().requires_grad_(False)


def random_features(seed: int = 0) -> Tensor:
    return torch.randn(1, CHANNELS, 6, 6, generator=torch.Generator().manual_seed(seed))


def random_prompts(count: int, side: int = SIDE) -> NDArray[np.float64]:
    return np.random.default_rng(1).uniform(0, side, (count, 2))


def judged(model: SegmentAnything, features: Tensor, prompts: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """What segment-anything's own decoder says: logits (P, 3, h, w) and predicted IoU (P, 3)."""
    points = torch.as_tensor(prompts)[:, None]
    labels = torch.ones(points.shape[:2], dtype=torch.int)
    sparse, dense = model.prompt_encoder(points=(points, labels), boxes=None, masks=None)
    grid = (..., slice(features.shape[2]), slice(features.shape[3]))
    return model.mask_decoder(
        features, model.prompt_encoder.get_dense_pe()[grid], sparse, dense[grid], multimask_output=True
    )


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("count", [1, 5, 9])
def test_logits_and_iou_are_those_of_the_mask_decoder(depth: int, heads: int, count: int) -> None:
    model, features = small_sam(depth, heads), random_features()
    logits, predicted_iou = judged(model, features, random_prompts(count))
    found = PointDecoder(model, features).decode(random_prompts(count))
    assert logits.abs().max() > 1  # not all the same
    torch.testing.assert_close(found[0], logits, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(found[1], predicted_iou, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("window", [(24, 24), (13, 24), (24, 5), (9, 17), (1, 1)])
def test_a_window_of_the_logits_is_a_part_of_them(window: tuple[int, int]) -> None:
    model, features = small_sam(), random_features()
    logits, _ = judged(model, features, random_prompts(3))
    found, _ = PointDecoder(model, features, window).decode(random_prompts(3))
    assert found.shape == (3, 3, *window)
    torch.testing.assert_close(found, logits[..., : window[0], : window[1]], atol=1e-3, rtol=1e-5)


def test_features_without_their_padding() -> None:
    """Not what SAM does with a photo, but what it would do with a smaller grid."""
    model, features = small_sam(), random_features()[:, :, :4, :5]
    logits, predicted_iou = judged(model, features, random_prompts(3))
    found = PointDecoder(model, features).decode(random_prompts(3))
    torch.testing.assert_close(found[0], logits, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(found[1], predicted_iou, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("together", [1, 3, 64])
def test_how_many_prompts_are_worked_on_together_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """64 is what happens on a GPU: all at once."""
    model, features, prompts = small_sam(), random_features(), random_prompts(7)
    logits, predicted_iou = judged(model, features, prompts)
    chosen = torch.rand(7, 3, generator=torch.Generator().manual_seed(3)) > 0.4
    monkeypatch.setattr(decoder, "_READ_ON_CPU", together)
    monkeypatch.setattr(decoder, "_DRAWN_ON_CPU", together)
    monkeypatch.setattr(mask_drawing, "_TOKENS_ON_CPU", 10 * together)
    points = PointDecoder(model, features)
    decoded = points.predict_iou(prompts)
    torch.testing.assert_close(decoded.predicted_iou, predicted_iou, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(points.decode_masks(decoded, chosen), logits[chosen], atol=1e-3, rtol=1e-5)


def test_only_chosen_masks_are_drawn_in_order() -> None:
    points = PointDecoder(small_sam(), random_features())
    prompts = random_prompts(7)
    everything, predicted_iou = points.decode(prompts)
    chosen = torch.rand(7, 3, generator=torch.Generator().manual_seed(2)) > 0.6
    assert 0 < chosen.sum() < chosen.numel()
    assert not chosen.any(1).all()  # a prompt without any
    decoded = points.predict_iou(prompts)
    torch.testing.assert_close(decoded.predicted_iou, predicted_iou)
    torch.testing.assert_close(points.decode_masks(decoded, chosen), everything[chosen])
    assert points.decode_masks(decoded, torch.zeros_like(chosen)).shape == (0, 24, 24)
    torch.testing.assert_close(
        points.decode_masks(decoded, chosen), everything[chosen]
    )  # drawing changes nothing


def test_prompts_do_not_influence_each_other() -> None:
    points = PointDecoder(small_sam(), random_features())
    prompts = random_prompts(9)
    logits, predicted_iou = points.decode(prompts)
    alone = [points.decode(prompts[i : i + 1]) for i in range(9)]
    torch.testing.assert_close(torch.cat([found[0] for found in alone]), logits, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(torch.cat([found[1] for found in alone]), predicted_iou)


def test_image_tokens_that_are_all_alike() -> None:
    """No variance over the image: the norm's variance comes from differences, which must not fall below zero."""
    model, features = small_sam(), torch.full((1, CHANNELS, 6, 6), 0.25)
    logits, _ = judged(model, features, random_prompts(2))
    found, _ = PointDecoder(model, features).decode(random_prompts(2))
    torch.testing.assert_close(found, logits, atol=1e-3, rtol=1e-5)


@pytest.fixture(scope="module")
def mobile_sam() -> Sam:
    pull_weights("mobile_sam", progress=False)
    return load_sam("mobile_sam")


@pytest.mark.slow
def test_mobile_sam_decodes_the_same_and_in_half_the_time(
    mobile_sam: Sam, photos: dict[str, NDArray[np.uint8]], one_thread: AbstractContextManager[None]
) -> None:
    """A fifth to a quarter of the time is usual: that is the aim, half is what must never be lost."""
    model = mobile_sam.model
    pixels = torch.as_tensor(ResizeLongestSide(1024).apply_image(photos["coffee"])).permute(2, 0, 1)[None]
    with torch.no_grad():
        features = model.image_encoder(model.preprocess(pixels))
    prompts = random_prompts(8, side=600)
    points = PointDecoder(model, features)
    ours, theirs = [], []
    with one_thread:
        for _ in range(3):
            started = time.process_time()
            logits, predicted_iou = judged(model, features, prompts)
            theirs.append(time.process_time() - started)
            started = time.process_time()
            found = points.decode(prompts)
            ours.append(time.process_time() - started)
    torch.testing.assert_close(found[0], logits, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found[1], predicted_iou, atol=1e-4, rtol=0)
    assert min(ours) < 0.5 * min(theirs)
