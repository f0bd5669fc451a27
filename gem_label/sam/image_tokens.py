"""SAM's image tokens under many prompts, never built per prompt. Pure functions on tensors.

A prompt has T = 7 tokens and an attention H = 8 heads, so all that a layer of SAM's two-way transformer adds to an
image token is a mix of H * T = 56 vectors, with the attention weights as coefficients. With X the N image tokens
that all prompts share,

    LayerNorm(X + A V) = s * (X_c + A V_c) * gamma + beta        A (N, 56), V (56, C), _c: mean over C removed

is again a scaled copy of a shared matrix plus a mix of few vectors, in the next layer too. A projection of the image
is therefore the shared projection of X, made once a photo, and a projection of 56 vectors; the variance behind the
scale s comes from inner products of X and the vectors. All of it is exact up to float rounding.

Letters in shapes: P prompts, H heads, T tokens, D width of a head, N image tokens, C channels, R = H * T * layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ImageState:
    """What all prompts share of the image tokens after some layers.

    Attributes:
        matrix: (N, C), X.
        offset: (C,), added to every token.
        bases: per layer so far (H, D + 1, C): a prompt's mixed vectors are its factors times these.
    """

    matrix: Tensor
    offset: Tensor
    bases: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class PromptedTokens:
    """The image tokens of P prompts: scale * X + coefficients^T (factors @ bases) + offset.

    Attributes:
        scale: (P, N); None before the first norm: one everywhere.
        coefficients: (P, R, N).
        factors: per layer so far (P, H, T, D + 1).
    """

    scale: Tensor | None
    coefficients: Tensor
    factors: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.coefficients)

    def __getitem__(self, prompts: Tensor) -> PromptedTokens:
        return PromptedTokens(
            None if self.scale is None else self.scale[prompts],
            self.coefficients[prompts],
            tuple(factors[prompts] for factors in self.factors),
        )


@dataclass(frozen=True)
class Projection:
    """What all prompts share of a linear projection of the image tokens.

    Attributes:
        matrix: (H, D, N), of X alone, or of all of it where `constant` is None.
        constant: (H, D, N) of the offset and the positional encoding, with the bias; (H, D, 1) where no positions
            are added; None where no prompt scales X yet, so that `matrix` holds it.
        weight: (H, D, C).
        bases: per layer so far (H, D + 1, C), the state's.
    """

    matrix: Tensor
    constant: Tensor | None
    weight: Tensor
    bases: tuple[Tensor, ...]


@dataclass(frozen=True)
class Norm:
    """What all prompts share of adding an attention's output to the tokens and normalizing the sum.

    Attributes:
        squares: (N,) squared lengths of the rows of X, centered.
        products: per layer (H, D + 1, N), inner products of the bases with the rows of X, both centered.
        bases: per layer (H, D + 1, C), centered, the added output's last.
        channels: C.
        epsilon: added to the variance.
    """

    squares: Tensor
    products: tuple[Tensor, ...]
    bases: tuple[Tensor, ...]
    channels: int
    epsilon: float


def project(
    state: ImageState, weight: Tensor, bias: Tensor, heads: int, positions: Tensor | None = None
) -> Projection:
    """A linear layer over the state's tokens.

    Args:
        state: the shared part of the tokens.
        weight: (H * D, C) of the layer.
        bias: (H * D,).
        heads: H.
        positions: (N, C), added to the tokens first; None adds nothing.
    """
    shift = state.offset[None] if positions is None else positions + state.offset
    matrix, constant = state.matrix @ weight.T, shift @ weight.T + bias
    unscaled = not state.bases
    return Projection(
        _by_head(matrix + constant if unscaled else matrix, heads),
        None if unscaled else _by_head(constant, heads),
        weight.unflatten(0, (heads, -1)),
        state.bases,
    )


def norm_after(
    state: ImageState, weight: Tensor, bias: Tensor, heads: int, norm: nn.LayerNorm
) -> tuple[Norm, ImageState]:
    """The norm of the state's tokens plus an attention's output, and the state that it leads to.

    Args:
        state: the shared part of the tokens.
        weight: (C, H * D) of the attention's output projection.
        bias: (C,) of the same.
        heads: H.
        norm: the layer norm over C.
    """
    constant = (state.offset + bias).expand(heads, 1, -1)
    added = torch.cat([weight.T.unflatten(0, (heads, -1)), constant], dim=1)
    matrix = _centred(state.matrix)
    bases = tuple(_centred(basis) for basis in (*state.bases, added))
    shared = Norm(
        matrix.square().sum(1), tuple(basis @ matrix.T for basis in bases), bases, matrix.shape[1], norm.eps
    )
    gain = norm.weight
    return shared, ImageState(matrix * gain, norm.bias, tuple(basis * gain for basis in bases))


def scores(tokens: PromptedTokens, image: Projection, vectors: Tensor) -> Tensor:
    """Inner products of the projected image tokens with vectors of each head: (P, H, T, N).

    Args:
        tokens: the image tokens of P prompts.
        image: their projection, with positions.
        vectors: (P, H, T, D).
    """
    products = _times_shared(vectors, image.matrix, tokens.scale, image.constant)
    if not tokens.factors:
        return products
    mixed = (vectors @ image.weight).flatten(1, 2) @ mixed_vectors(tokens, image.bases).mT
    return products.flatten(1, 2).baddbmm_(mixed, tokens.coefficients).view_as(products)


def averages(tokens: PromptedTokens, image: Projection, weights: Tensor) -> Tensor:
    """The projected image tokens, averaged with weights that sum to one over the image: (P, H, T, D).

    Args:
        tokens: the image tokens of P prompts.
        image: their projection, without positions.
        weights: (P, H, T, N).
    """
    prompts, heads, count, _ = weights.shape
    scaled = weights if tokens.scale is None else weights * tokens.scale[:, None, None]
    result = scaled.transpose(0, 1).flatten(1, 2) @ image.matrix.mT
    result = result.unflatten(1, (prompts, count)).transpose(0, 1)
    if image.constant is not None:
        result = result + image.constant.mT
    if tokens.factors:
        share = weights.flatten(1, 2) @ tokens.coefficients.mT  # (P, H * T, R)
        mixed = (share @ mixed_vectors(tokens, image.bases)).unflatten(1, (heads, count))
        result = result + mixed @ image.weight.mT
    return result


def normed(tokens: PromptedTokens, norm: Norm, weights: Tensor, values: Tensor) -> PromptedTokens:
    """The layer norm of the tokens plus what attention adds to them.

    Args:
        tokens: the image tokens of P prompts.
        norm: the shared part of the norm.
        weights: (P, H, T, N) of image tokens over prompt tokens, summing to one over T.
        values: (P, H, T, D) of the prompt tokens.
    """
    heads = values.shape[1]
    ones = torch.full_like(values[..., :1], 1 / heads)  # weights sum to H: the last basis is added once
    factors = (*tokens.factors, torch.cat([values, ones], dim=-1))
    coefficients = torch.cat([tokens.coefficients, weights.flatten(1, 2)], dim=1)
    grown = PromptedTokens(tokens.scale, coefficients, factors)
    variance = _squared_lengths(grown, norm) / norm.channels
    scale = (variance.clamp_(min=0) + norm.epsilon).rsqrt_()
    coefficients *= scale[:, None]
    return PromptedTokens(scale if tokens.scale is None else scale * tokens.scale, coefficients, factors)


def mixed_vectors(tokens: PromptedTokens, bases: tuple[Tensor, ...]) -> Tensor:
    """The vectors that the coefficients mix: (P, R, C).

    Args:
        tokens: the image tokens of P prompts.
        bases: per layer (H, D + 1, C).
    """
    vectors = [factors @ basis for factors, basis in zip(tokens.factors, bases, strict=True)]
    return torch.cat([layer.flatten(1, 2) for layer in vectors], dim=1)


def _squared_lengths(tokens: PromptedTokens, norm: Norm) -> Tensor:
    """Squared lengths of the image tokens, centered: (P, N)."""
    vectors = mixed_vectors(tokens, norm.bases)
    gram = vectors @ vectors.mT
    total = norm.squares if tokens.scale is None else tokens.scale.square() * norm.squares
    start = 0
    for factors, products in zip(tokens.factors, norm.products, strict=True):
        end = start + factors.shape[1] * factors.shape[2]
        # every pair of layers once, in the row of the later one
        pairs = torch.cat([2 * gram[:, start:end, :start], gram[:, start:end, start:end]], dim=2)
        inner = _times_shared(2 * factors, products, tokens.scale).flatten(1, 2)
        inner = inner.baddbmm_(pairs, tokens.coefficients[:, :end])
        total = total + inner.mul_(tokens.coefficients[:, start:end]).sum(1)
        start = end
    return total


def _times_shared(
    vectors: Tensor, shared: Tensor, scale: Tensor | None = None, constant: Tensor | None = None
) -> Tensor:
    """scale * (vectors @ shared) + vectors @ constant: (P, H, T, N), contiguous.

    Args:
        vectors: (P, H, T, D).
        shared: (H, D, N).
        scale: (P, N); None for one.
        constant: (H, D, N); None for zero.
    """
    prompts, _, count, _ = vectors.shape
    rows = vectors.transpose(0, 1).flatten(1, 2)  # (H, P * T, D): one matrix product a head for all prompts
    products = rows @ shared
    if scale is not None:
        products.unflatten(1, (prompts, count)).mul_(scale[:, None])
    if constant is not None:
        products.baddbmm_(rows, constant)
    return products.unflatten(1, (prompts, count)).transpose(0, 1).contiguous()


def _by_head(projected: Tensor, heads: int) -> Tensor:
    """(N, H * D) -> (H, D, N), contiguous."""
    return projected.T.unflatten(0, (heads, -1)).contiguous()


def _centred(vectors: Tensor) -> Tensor:
    return vectors - vectors.mean(dim=-1, keepdim=True)
