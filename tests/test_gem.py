"""GEM: agreement with the authors' package, and what the encoder promises on batches, shapes and settings."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from fixtures.make_gem_torch import CASES, FIXTURE, STRIDE, TEXTS, Case, build_model, make_images
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from gem_label.clip.attention import adaptive_inv_temp, gem_attention, self_self_attention
from gem_label.clip.dense import DenseEncoder
from gem_label.clip.models import as_clip
from gem_label.errors import UsageError

PATCH = 16


@pytest.fixture(scope="module")
def gem_torch() -> dict[str, np.ndarray]:
    with np.load(FIXTURE) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def model() -> open_clip.CLIP:
    return build_model()


def encoder_for(case: Case) -> DenseEncoder:
    model = build_model(case.layers, case.quick_gelu)
    return DenseEncoder(model, depth=case.depth, iterations=case.iterations, temperature=case.temperature)


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_agrees_with_gem_torch(case: Case, gem_torch: dict[str, np.ndarray]) -> None:
    encoder, images = encoder_for(case), make_images(case)
    patches = encoder.encode(images)
    assert patches.shape[1:3] == (case.size[0] // PATCH, case.size[1] // PATCH)
    np.testing.assert_allclose(patches.flatten(1, 2), gem_torch[f"{case.name}/patches"], atol=1e-4)

    np.testing.assert_allclose(encoder.text.encode(TEXTS), gem_torch[f"{case.name}/texts"], atol=1e-5)

    heat = F.interpolate(encoder.similarity(images, TEXTS), size=case.size, mode="bilinear")
    np.testing.assert_allclose(heat[..., ::STRIDE, ::STRIDE], gem_torch[f"{case.name}/heat"], atol=1e-4)


def test_the_fixture_can_tell_settings_apart(gem_torch: dict[str, np.ndarray]) -> None:
    case = next(case for case in CASES if case.name == "default")
    model, images, expected = build_model(), make_images(case), gem_torch["default/patches"]
    for changed in (
        {"depth": 5},
        {"iterations": 0},
        {"temperature": 5.0},
        {"projections": "qk"},
        {"projections": "v"},
        {"method": "clip"},
    ):
        patches = DenseEncoder(model, **changed).encode(images).flatten(1, 2).numpy()
        assert np.abs(patches - expected).max() > 1e-2, changed


def test_self_self_attention_is_the_formula() -> None:
    p, v = random_images(2, 3, 7, 5), random_images(2, 3, 7, 5, seed=1)
    inv_temp = torch.tensor([2.0, 9.0])[:, None, None, None]
    grouped = p
    for _ in range(2):
        grouped = F.normalize(grouped, dim=-1)
        grouped = (inv_temp * grouped @ grouped.mT).softmax(dim=-1) @ grouped
    grouped = F.normalize(grouped, dim=-1)
    expected = (inv_temp * grouped @ grouped.mT).softmax(dim=-1) @ v
    torch.testing.assert_close(self_self_attention(p, v, inv_temp, iterations=2), expected)


def test_gem_attention_is_the_mean_over_projections() -> None:
    q, k, v = (random_images(2, 3, 7, 4, seed=seed) for seed in range(3))
    inv_temp = adaptive_inv_temp(random_images(2, 7, 12), d_head=4)
    assert inv_temp.shape == (2, 1, 1, 1)
    for temperature in (inv_temp, 3.0):
        single = [self_self_attention(p, v, temperature) for p in (q, k, v)]
        torch.testing.assert_close(gem_attention([q, k, v], v, temperature), sum(single) / 3)


@settings(max_examples=12, deadline=None)
@given(
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    batch=st.integers(1, 3),
    method=st.sampled_from(["gem", "clip"]),
    temperature=st.sampled_from([None, 4.0]),
    projections=st.sampled_from(["qkv", "q", "kv"]),
)
def test_an_image_does_not_see_its_batch(
    model: open_clip.CLIP,
    rows: int,
    columns: int,
    batch: int,
    method: str,
    temperature: float | None,
    projections: str,
) -> None:
    encoder = DenseEncoder(model, method=method, temperature=temperature, projections=projections)
    scales = torch.arange(1, batch + 1)[:, None, None, None]
    images = scales * random_images(batch, 3, rows * PATCH, columns * PATCH)
    patches, embeddings = encoder.encode_with_class_token(images)
    assert patches.shape == (batch, rows, columns, 32)
    assert embeddings.shape == (batch, 32)
    torch.testing.assert_close(patches.norm(dim=-1), torch.ones(batch, rows, columns))
    for image, patch, embedding in zip(images, patches, embeddings, strict=True):
        alone = encoder.encode_with_class_token(image[None])
        torch.testing.assert_close(alone[0][0], patch, atol=1e-5, rtol=0)
        torch.testing.assert_close(alone[1][0], embedding, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["gem", "clip"])
def test_the_image_embedding_comes_with_the_same_patches(model: open_clip.CLIP, method: str) -> None:
    encoder, images = DenseEncoder(model, method=method), random_images(2, 3, 64, 96)
    torch.testing.assert_close(encoder.encode_with_class_token(images)[0], encoder.encode(images))


def test_similarity_is_the_cosine_of_patch_and_text(model: open_clip.CLIP) -> None:
    encoder, images = DenseEncoder(model), random_images(2, 3, 48, 64)
    similarity = encoder.similarity(images, TEXTS)
    assert similarity.shape == (2, 3, 3, 4)
    expected = encoder.encode(images)[1, 2, 3].numpy() @ encoder.text.encode(TEXTS)[1]
    assert similarity[1, 1, 2, 3].item() == pytest.approx(expected, abs=1e-6)


def test_half_precision_weights_stay_close(model: open_clip.CLIP) -> None:
    images = random_images(1, 3, 64, 64)
    half = build_model().to(torch.bfloat16)
    patches = DenseEncoder(half, depth=2).encode(images)
    assert patches.dtype == torch.float32
    cosine = (patches * DenseEncoder(model, depth=2).encode(images)).sum(dim=-1)
    assert cosine.min() > 0.98


def test_gem_leaves_the_model_as_it_was(model: open_clip.CLIP) -> None:
    images = random_images(1, 3, 64, 64)
    before = model.encode_image(images)
    encoder = DenseEncoder(model)
    features = encoder.encode(images)
    assert not features.requires_grad
    torch.testing.assert_close(model.encode_image(images), before, atol=0, rtol=0)
    assert encoder.clip.model is model


def test_depth_is_six_unless_the_model_is_shallower_or_says_otherwise(model: open_clip.CLIP) -> None:
    assert DenseEncoder(model).depth == 6
    assert DenseEncoder(build_model(layers=4)).depth == 4
    clip = as_clip(model)
    clip.dense_depth = 3
    assert DenseEncoder(clip).depth == 3


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"method": "dino"}, "gem, clip, maskclip"),
        ({"depth": 0}, "not 1 to 8"),
        ({"depth": 9}, "not 1 to 8"),
        ({"iterations": -1}, "iterations"),
        ({"projections": ""}, "q, k and v"),
        ({"projections": "qq"}, "q, k and v"),
        ({"projections": "x"}, "q, k and v"),
    ],
)
def test_wrong_settings_are_refused(model: open_clip.CLIP, wrong: dict, names: str) -> None:
    with pytest.raises(UsageError, match=names):
        DenseEncoder(model, **wrong)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 60, 64), (1, 3, 0, 64)])
def test_images_of_another_shape_are_refused(model: open_clip.CLIP, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="image"):
        DenseEncoder(model).encode(torch.zeros(shape))
