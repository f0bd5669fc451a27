"""Mask class tokens against the library's own blocks, one mask at a time, and what labels make of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from fixtures.make_gem_torch import build_model
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gem_label.clip.dense import DenseEncoder
from gem_label.clip.mask_tokens import Beside, advance_mask_tokens, mask_bias
from gem_label.clip.models import as_clip
from gem_label.clip.streams import ordinary_steps
from gem_label.clip.windows import Window
from gem_label.errors import UsageError
from gem_label.labeling.evidence import Evidence, evidence_of
from gem_label.labeling.scoring import ScoreModel, candidate_logits, mask_vectors
from gem_label.labeling.settings import LabelSettings
from gem_label.masks import MaskSet, encode_mask
from gem_label.precision import Precision
from gem_label.vocabulary import Vocabulary

GRID = (3, 5)


@pytest.fixture(scope="module")
def model() -> open_clip.CLIP:
    return build_model(layers=4)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((3, 48, 80))).float()


@pytest.fixture(scope="module")
def shares() -> NDArray[np.float32]:
    """A rectangle, single patches, parts of patches, less than a patch, everything, and nothing."""
    masks = np.zeros((6, *GRID), np.float32)
    masks[0, 1:, :2] = 1
    masks[1, [0, 2], [0, 4]] = 1
    masks[2] = np.random.default_rng(1).random(GRID)
    masks[3, 1, 1] = 0.05
    masks[4] = 1
    return masks


def one_token(model: open_clip.CLIP, image: Tensor, share: Tensor, beside: Beside) -> Tensor:
    """The embedding of one mask: open_clip's blocks over [token, class token, patches] with an attention mask."""
    x = as_clip(model).tower.tokens(image[None])
    n = x.shape[1]
    sees = torch.full((1 + n, 1 + n), -torch.inf)
    sees[1:, 1:] = 0
    sees[0, 0 if beside == "itself" else 1] = 0
    sees[0, 2:] = (share / share.max()).flatten().log() if share.max() > 0 else -torch.inf
    x = torch.cat([x[:, :1], x], dim=1)
    for block in model.visual.transformer.resblocks:
        x = block(x, attn_mask=sees)
    return F.normalize(model.visual.ln_post(x[:, 0]) @ model.visual.proj, dim=-1)[0]


@torch.no_grad()
def test_a_token_is_the_class_token_of_a_tower_that_sees_the_mask_alone(
    model: open_clip.CLIP, image: Tensor, shares: NDArray[np.float32]
) -> None:
    found = DenseEncoder(model).encode_photo(image, shares, mask_tokens=True).mask_tokens
    expected = [one_token(model, image, share, "itself") for share in torch.from_numpy(shares)]
    torch.testing.assert_close(torch.from_numpy(found), torch.stack(expected), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_token_may_see_the_class_token_in_place_of_itself(
    model: open_clip.CLIP, image: Tensor, shares: NDArray[np.float32]
) -> None:
    tower = as_clip(model).tower
    x = tower.tokens(image[None])
    tokens, bias = x[:, :1].expand(-1, len(shares), -1), mask_bias(torch.from_numpy(shares), "class_token")
    for step in ordinary_steps(tower, x):
        tokens = advance_mask_tokens(step.block, tokens, step.k, step.v, bias)
    found = F.normalize(tower.pool(tokens[0, :, None]), dim=-1)
    expected = [one_token(model, image, share, "class_token") for share in torch.from_numpy(shares)]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["gem", "clip", "naclip"])
def test_patches_and_image_are_as_without_masks(
    model: open_clip.CLIP, image: Tensor, shares: NDArray[np.float32], method: str
) -> None:
    encoder = DenseEncoder(model, method)
    patches, embedding = encoder.encode_with_class_token(image[None])
    for some in (shares, shares[:0]):
        found = encoder.encode_photo(image, some, mask_tokens=True)
        np.testing.assert_array_equal(found.patches, patches[0])
        np.testing.assert_array_equal(found.embedding, embedding[0])
        assert found.mask_tokens is not None
        assert found.mask_tokens.shape == (len(some), 32)
    assert encoder.encode_photo(image).mask_tokens is None


def test_the_token_of_the_whole_image_is_its_embedding(
    model: open_clip.CLIP, image: Tensor, shares: NDArray[np.float32]
) -> None:
    found = DenseEncoder(model).encode_photo(image, shares, mask_tokens=True)
    assert found.mask_tokens is not None
    np.testing.assert_allclose(found.mask_tokens[4], found.embedding, atol=1e-5)


def test_tokens_in_half_precision(model: open_clip.CLIP, image: Tensor, shares: NDArray[np.float32]) -> None:
    exact = DenseEncoder(model).encode_photo(image, shares, mask_tokens=True).mask_tokens
    half = DenseEncoder(replace(as_clip(model), precision=Precision.bfloat16))
    rounded = half.encode_photo(image, shares, mask_tokens=True).mask_tokens
    assert exact is not None
    assert rounded is not None
    assert (exact * rounded).sum(axis=1).min() > 0.95


def test_what_has_no_mask_tokens_says_so(image: Tensor, shares: NDArray[np.float32]) -> None:
    with pytest.raises(UsageError, match="pools its patches instead"):
        DenseEncoder(build_model(layers=2, pool_type="avg")).encode_photo(image, shares, mask_tokens=True)
    windows = DenseEncoder(build_model(layers=2), window=Window(48, 48))
    with pytest.raises(UsageError, match="leave out windows"):
        windows.encode_photo(image, shares, mask_tokens=True)


# labels


def evidence_with_tokens(tokens: NDArray[np.float32], share: float) -> Evidence:
    """Two masks of pooled embeddings and surrounds, and their tokens."""
    mask = np.zeros((4, 8), bool)
    mask[:, :4] = True
    rng = np.random.default_rng(0)
    masks = MaskSet(
        4,
        8,
        (encode_mask(mask), encode_mask(~mask)),
        *np.ones((2, 2), np.float32),
        np.zeros((2, 2), np.float32),
        embeddings=0.2 * rng.standard_normal((2, 6)).astype(np.float32),
        surrounds=0.2 * rng.standard_normal((2, 6)).astype(np.float32),
        mask_tokens=tokens,
    )
    return replace(evidence_of([masks[[0]], masks[[1]]], [None, None], 6), token_share=share)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_probabilities_by_tokens_and_by_patches_have_their_geometric_mean(share: float) -> None:
    rng = np.random.default_rng(1)
    tokens = rng.standard_normal((2, 6)).astype(np.float32)
    text = rng.standard_normal((4, 6)).astype(np.float32)
    words = Vocabulary.parse("cat, dog, cup", "wall")
    model = ScoreModel()

    def log_probabilities(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        logits = model.temperature * candidate_logits(vectors, text, words, 10.0).astype(np.float64)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    mixed = evidence_with_tokens(tokens, share)
    patches, _, _ = mask_vectors(replace(mixed, mask_tokens=None), slice(0, 2), model)
    found, _, _ = mask_vectors(mixed, slice(0, 2), model)
    mean = (1 - share) * log_probabilities(patches) + share * log_probabilities(tokens)
    mean -= np.log(np.exp(mean).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(log_probabilities(found), mean, atol=1e-5)


def test_the_share_is_kept_where_it_is_not_the_default() -> None:
    assert "token_share" not in LabelSettings().to_dict()
    other = LabelSettings(token_share=1.0)
    assert LabelSettings.from_dict(other.to_dict()) == other
    with pytest.raises(UsageError, match="token_share"):
        LabelSettings(token_share=1.5)
