"""SAM's mask decoder for many point prompts on one photo: the same masks for a fraction of the arithmetic.

segment-anything's `MaskDecoder` copies the image for every prompt. `PointDecoder` runs the same weights with the
image's part computed once a photo (`image_tokens`), estimates the masks' IoU from the prompts' tokens alone, and
draws only the masks that are asked for, only where the photo is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam as SegmentAnything
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor

from gem_label.sam.image_tokens import (
    ImageState,
    Norm,
    Projection,
    PromptedTokens,
    averages,
    norm_after,
    normed,
    project,
    scores,
)
from gem_label.sam.mask_drawing import MaskDrawing

# Prompts worked on together on a CPU, whose caches they share; on other devices it is all of them.
_READ_ON_CPU, _DRAWN_ON_CPU = 4, 1


@dataclass(frozen=True)
class DecodedPoints:
    """What SAM makes of P points before a mask is drawn.

    Attributes:
        predicted_iou: (P, 3) SAM's own estimate of each mask's IoU; it may be a little above 1.
        hypernetwork_outputs: (P, 3, C') what each mask looks for in the upscaled image's channels.
        images: the image tokens after the last layer, in groups of consecutive points.
    """

    predicted_iou: Tensor
    hypernetwork_outputs: Tensor
    images: list[PromptedTokens]


@dataclass(frozen=True)
class _Layer:
    """A block of the two-way transformer, and what all prompts share of its image side."""

    block: TwoWayAttentionBlock
    keys: Projection
    values: Projection
    queries: Projection
    norm: Norm


class PointDecoder:
    """SAM's mask decoder on one photo.

    Args:
        model: segment-anything's network, of which the prompt encoder and the mask decoder are used.
        features: (1, C, h, w) image features; fewer rows or columns than the model's grid leave out padding, which
            SAM itself does see.
        window: rows and columns of the logits that are wanted, from the top left; all, (4 h, 4 w), when None.
    """

    @torch.no_grad()
    def __init__(
        self, model: SegmentAnything, features: Tensor, window: tuple[int, int] | None = None
    ) -> None:
        self._prompt_encoder, self._decoder = model.prompt_encoder, model.mask_decoder
        rows, columns = features.shape[-2:]
        self._window = window or (4 * rows, 4 * columns)
        wanted = (-(-self._window[0] // 4), -(-self._window[1] // 4))
        order = _window_first((rows, columns), wanted).to(features.device)
        positions = self._prompt_encoder.get_dense_pe()[0, :, :rows, :columns].flatten(1).T[order]
        no_mask = self._prompt_encoder.no_mask_embed.weight[0]

        state = ImageState(features[0].flatten(1).T[order] + no_mask, torch.zeros_like(no_mask))
        transformer = self._decoder.transformer
        self._layers = []
        for block in transformer.layers:
            keys, values = _keys_and_values(block.cross_attn_token_to_image, state, positions)
            writing = block.cross_attn_image_to_token
            queries = project(state, writing.q_proj.weight, writing.q_proj.bias, writing.num_heads, positions)
            norm, state = norm_after(
                state, writing.out_proj.weight, writing.out_proj.bias, writing.num_heads, block.norm4
            )
            self._layers.append(_Layer(block, keys, values, queries, norm))
        self._keys, self._values = _keys_and_values(transformer.final_attn_token_to_image, state, positions)
        self._drawing = MaskDrawing(self._decoder.output_upscaling, state, wanted)

    @torch.no_grad()
    def decode(self, prompts: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """Three masks per point: logits (P, 3, rows, columns) over the window and predicted IoU (P, 3).

        Args:
            prompts: (P, 2) points x, y in the model's input frame.
        """
        decoded = self.predict_iou(prompts)
        everything = torch.ones_like(decoded.predicted_iou, dtype=torch.bool)
        return self.decode_masks(decoded, everything).unflatten(0, everything.shape), decoded.predicted_iou

    @torch.no_grad()
    def predict_iou(self, prompts: NDArray[np.float64]) -> DecodedPoints:
        """The first step of decoding: how good each point's masks will be, but not yet where.

        Args:
            prompts: (P, 2) points x, y in the model's input frame; the result takes 2 MB a point with SAM's sizes.
        """
        start = self._first_tokens(prompts)
        together = _READ_ON_CPU if start.device.type == "cpu" else max(1, len(start))
        untouched = start.new_empty(0, self._values.matrix.shape[-1])
        images = [
            PromptedTokens(None, untouched.expand(len(group), -1, -1)) for group in start.split(together)
        ]
        tokens = start
        for layer in self._layers:
            tokens, images = _through(layer, tokens, start, images)
        transformer = self._decoder.transformer
        attention = transformer.final_attn_token_to_image
        tokens = tokens + _read_image(attention, self._keys, self._values, tokens + start, images)
        tokens = transformer.norm_final_attn(tokens)
        networks = self._decoder.output_hypernetworks_mlps
        masks = range(1, self._decoder.num_mask_tokens)  # mask 0 is SAM's answer when it may give only one
        return DecodedPoints(
            self._decoder.iou_prediction_head(tokens[:, 0])[:, 1:],
            torch.stack([networks[mask](tokens[:, 1 + mask]) for mask in masks], dim=1),
            images,
        )

    @torch.no_grad()
    def decode_masks(self, decoded: DecodedPoints, chosen: Tensor) -> Tensor:
        """The second step: logits of the chosen masks, (M, rows, columns) over the window, in the order of `chosen`.

        Args:
            decoded: what `predict_iou` made of P points.
            chosen: (P, 3) bool.
        """
        rows, columns = self._window
        drawn = [torch.zeros(0, rows, columns, device=chosen.device)]
        for group, image in _groups(decoded.images):
            asked = chosen[group].any(dim=1).nonzero()[:, 0]
            if not len(asked):
                continue
            for some in asked.split(_DRAWN_ON_CPU if chosen.device.type == "cpu" else len(asked)):
                vectors, wanted = decoded.hypernetwork_outputs[group][some], chosen[group][some]
                if len(some) == 1:
                    vectors, wanted = vectors[:, wanted[0]], wanted[:, wanted[0]]
                drawn.append(self._drawing.logits(image[some], vectors)[wanted][:, :rows, :columns])
        return torch.cat(drawn)

    def _first_tokens(self, prompts: NDArray[np.float64]) -> Tensor:
        """Tokens of P prompts before the first layer: for the IoU, for each mask, and the point's: (P, T, C)."""
        own = torch.cat([self._decoder.iou_token.weight, self._decoder.mask_tokens.weight])
        # Like the generator: points go in as float64 where the device has it, and become float32 in the encoding.
        dtype = torch.float32 if own.device.type == "mps" else torch.float64
        points = torch.as_tensor(prompts, dtype=dtype, device=own.device)[:, None]
        labels = torch.ones(points.shape[:2], dtype=torch.int, device=own.device)
        sparse, _ = self._prompt_encoder(points=(points, labels), boxes=None, masks=None)
        return torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)


def _window_first(grid: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """An order of the grid's cells, (N,), in which the window's come first: image tokens need none of their own."""
    outside = torch.ones(grid, dtype=torch.bool)
    outside[: window[0], : window[1]] = False
    return outside.flatten().int().argsort(stable=True)


def _keys_and_values(
    attention: Attention, state: ImageState, positions: Tensor
) -> tuple[Projection, Projection]:
    keys, values, heads = attention.k_proj, attention.v_proj, attention.num_heads
    return (
        project(state, keys.weight, keys.bias, heads, positions),
        project(state, values.weight, values.bias, heads),
    )


def _through(
    layer: _Layer, tokens: Tensor, start: Tensor, images: list[PromptedTokens]
) -> tuple[Tensor, list[PromptedTokens]]:
    """One block of the two-way transformer, step by step as in `TwoWayAttentionBlock.forward`.

    Args:
        layer: the block.
        tokens: (P, T, C) of the prompts.
        start: (P, T, C), the tokens before the first layer, which serve as their positional encoding.
        images: the image tokens, in groups of prompts.
    """
    block = layer.block
    if block.skip_first_layer_pe:
        tokens = block.self_attn(q=tokens, k=tokens, v=tokens)
    else:
        tokens = tokens + block.self_attn(q=tokens + start, k=tokens + start, v=tokens)
    tokens = block.norm1(tokens)
    reading, writing = block.cross_attn_token_to_image, block.cross_attn_image_to_token
    tokens = block.norm2(tokens + _read_image(reading, layer.keys, layer.values, tokens + start, images))
    tokens = block.norm3(tokens + block.mlp(tokens))

    keys = _by_head(writing.k_proj(tokens + start), writing)
    keys = keys * keys.shape[-1] ** -0.5
    values = _by_head(writing.v_proj(tokens), writing)
    written = []
    for group, image in _groups(images):
        weights = scores(image, layer.queries, keys[group]).softmax(dim=2)
        written.append(normed(image, layer.norm, weights, values[group]))
    return tokens, written


def _read_image(
    attention: Attention, keys: Projection, values: Projection, tokens: Tensor, images: list[PromptedTokens]
) -> Tensor:
    """What the prompts' tokens (P, T, C) get by attending to the image: (P, T, C)."""
    queries = _by_head(attention.q_proj(tokens), attention)
    queries = queries * queries.shape[-1] ** -0.5
    read = []
    for group, image in _groups(images):
        weights = scores(image, keys, queries[group]).softmax(dim=3)
        read.append(averages(image, values, weights))
    return attention.out_proj(torch.cat(read).transpose(1, 2).flatten(2))


def _by_head(projected: Tensor, attention: Attention) -> Tensor:
    """(P, T, H * D) -> (P, H, T, D)."""
    return projected.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)


def _groups(images: list[PromptedTokens]) -> Iterator[tuple[slice, PromptedTokens]]:
    """Each group of prompts with its place among all of them."""
    first = 0
    for image in images:
        yield slice(first, first + len(image)), image
        first += len(image)
