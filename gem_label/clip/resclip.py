"""The attention of ResCLIP, "Residual Attention for Training-free Dense Vision-language Inference" (CVPR 2025).

The last block attends by its keys and by place, as NACLIP does, and by what middle blocks attended to. The paper's
second part, feedback by the words of the vocabulary, would make features depend on words and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gem_label.clip.attention import neighborhood_bias
from gem_label.clip.last_block import BlockOutputs, Guidance, LastBlockMethod, scaled_block


@dataclass(frozen=True)
class ResClip(LastBlockMethod):
    """Settings of ResCLIP's residual cross-correlation self-attention.

    Attributes:
        share: of the middle blocks in the attention, in [0, 1]. The authors set it for each dataset, 0.2 to 0.6.
        scale: factor on the attention's sum.
        neighborhood: standard deviation, in patches, of NACLIP's Gaussian.
        middle: first and last of the middle blocks, numbered from 1 in a tower of 12 (see `scaled_block`).
    """

    name: str = "resclip"
    share: float = 0.3
    scale: float = 2.0
    neighborhood: float = 5.0
    middle: tuple[int, int] = (6, 9)

    def blocks(self, count: int) -> frozenset[int]:
        """See `LastBlockMethod.blocks`."""
        first, last = (scaled_block(number, count) for number in self.middle)
        return frozenset(range(first, last + 1))

    def features(self, outputs: BlockOutputs, guidance: Guidance) -> Tensor:
        """See `LastBlockMethod.features`."""
        tower, last = outputs.tower, outputs.last
        bias = neighborhood_bias(outputs.grid, self.neighborhood, tower.class_tokens).to(last.k)
        own = F.scaled_dot_product_attention(last.k, last.k, last.v, attn_mask=bias)
        middle = [outputs.steps[number] for number in self.blocks(tower.num_blocks)]
        # the mean of attentions, read out of v, is the mean of what each reads out of v
        cross = torch.stack([F.scaled_dot_product_attention(step.q, step.k, last.v) for step in middle]).mean(
            dim=0
        )
        tokens = last.block.out_proj(self.scale * ((1 - self.share) * own + self.share * cross))
        return tower.project(outputs.patches(tokens)).unflatten(1, outputs.grid)
