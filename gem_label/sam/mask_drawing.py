"""The last part of SAM's mask decoder: image tokens become masks' logits at four times their resolution."""

from __future__ import annotations

from typing import cast

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional

from gem_label.sam.image_tokens import ImageState, PromptedTokens, mixed_vectors

_TOKENS_ON_CPU = 512  # upscaled at a time: what comes of them fits into a second-level cache


class MaskDrawing:
    """`MaskDecoder.output_upscaling` and its product with the masks' vectors, channels last.

    A transposed convolution with kernel 2 and stride 2 makes four pixels of one, none of which another one touches:
    it is a matrix product. The first one's is projected from the image tokens' shared part and the prompt's vectors.

    Args:
        layers: the decoder's upscaling: convolution, norm, activation, convolution, activation.
        state: the image tokens after the transformer; those wanted come first, row by row.
        grid: rows and columns of the wanted tokens.
    """

    def __init__(self, layers: nn.Sequential, state: ImageState, grid: tuple[int, int]) -> None:
        first, second = (cast(nn.ConvTranspose2d, layers[index]) for index in (0, 3))
        self._norm = cast(LayerNorm2d, layers[1])
        self._activations = layers[2], layers[4]
        self._grid = grid
        # (C, C1, 2, 2) -> (C, 4 * C1): a column for each channel of each of the four pixels
        self._first = first.weight.permute(0, 2, 3, 1).flatten(1)
        self._second = second.weight.permute(0, 2, 3, 1).flatten(1)
        self._second_bias = cast(Tensor, second.bias).repeat(4)
        self._bases = state.bases
        self._image = state.matrix[: grid[0] * grid[1]] @ self._first
        self._constant = state.offset @ self._first + cast(Tensor, first.bias).repeat(4)

    def logits(self, image: PromptedTokens, vectors: Tensor) -> Tensor:
        """Logits of M masks for each of P prompts: (P, M, 4 * rows, 4 * columns).

        Args:
            image: the image tokens of the prompts, after the transformer.
            vectors: (P, M, C2) what each mask looks for in the upscaled channels.
        """
        count = len(self._image)
        step = _TOKENS_ON_CPU if vectors.device.type == "cpu" else count
        mixed = mixed_vectors(image, self._bases) @ self._first
        parts = [
            vectors @ self._upscaled(image, mixed, slice(start, min(start + step, count))).mT
            for start in range(0, count, step)
        ]
        rows, columns = self._grid
        # a token's 16 pixels lie together: row and column of the coarser four, row and column within these
        logits = torch.cat(parts, dim=2).unflatten(2, (rows, columns, 2, 2, 2, 2))
        return logits.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(*logits.shape[:2], 4 * rows, 4 * columns)

    def _upscaled(self, image: PromptedTokens, mixed: Tensor, part: slice) -> Tensor:
        """A part of the wanted tokens as 16 pixels each: (P, 16 * tokens, C2).

        Args:
            image: the image tokens of P prompts.
            mixed: (P, R, 4 * C1) the prompts' vectors through the first convolution.
            part: which tokens.
        """
        scale = cast(Tensor, image.scale)[:, part, None]
        x = torch.addcmul(self._constant, self._image[part], scale)
        x = x.baddbmm_(image.coefficients[:, :, part].mT, mixed).unflatten(2, (4, -1))
        norm = self._norm
        x = functional.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)
        x = self._activations[0](x).flatten(0, 2)
        x = torch.addmm(self._second_bias, x, self._second)
        return self._activations[1](x).view(len(mixed), -1, self._second.shape[1] // 4)
