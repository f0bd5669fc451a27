"""ProxyCLIP: attention by the features of another vision model (Lan et al., ECCV 2024).

Patches of one thing are alike in SAM's or DINO's features long before they are in CLIP's. Whoever is more alike than
the average attends to each other in the last block; CLIP's values say what is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from gem_label.clip.last_block import BlockOutputs, Guidance, LastBlockMethod
from gem_label.clip.streams import Step


@dataclass(frozen=True)
class ProxyClip(LastBlockMethod):
    """Settings of ProxyCLIP.

    Attributes:
        threshold: cosines below this multiple of the image's mean cosine do not count.
        sharpness: factor on what is above.
    """

    needs_proxy: ClassVar[bool] = True
    name: str = "proxyclip"
    threshold: float = 1.2
    sharpness: float = 3.0

    def blocks(self, count: int) -> frozenset[int]:
        """See `LastBlockMethod.blocks`."""
        return frozenset()

    def features(self, outputs: BlockOutputs, guidance: Guidance) -> Tensor:
        """See `LastBlockMethod.features`."""
        assert guidance.proxy is not None
        cosines = proxy_cosines(guidance.proxy)
        scores = self.sharpness * (cosines - self.threshold * cosines.mean(dim=(1, 2), keepdim=True))
        # where all is alike, the mean times the threshold is above every cosine: each patch still sees itself
        scores = torch.where(scores < 0, -torch.inf, scores)
        scores.diagonal(dim1=1, dim2=2).clamp_(min=0)
        tokens = attend_patches(outputs.last, outputs.patches(outputs.last.x), scores)
        return outputs.tower.project(tokens).unflatten(1, outputs.grid)


def proxy_cosines(proxy: Tensor) -> Tensor:
    """(B, n, n) cosines of the places of (B, C, h, w) features."""
    unit = F.normalize(proxy.float().flatten(2), dim=1)
    return unit.mT @ unit


def attend_patches(last: Step, patches: Tensor, scores: Tensor) -> Tensor:
    """A block's attention branch with given scores in place of queries and keys.

    Args:
        last: the block.
        patches: (B, n, D) its input, without class tokens.
        scores: (B, n, n), ahead of the softmax, for all heads.

    Returns:
        (B, n, D).
    """
    _, _, v = last.block.qkv(last.block.ln_1(patches))
    return last.block.out_proj(scores.softmax(dim=-1)[:, None].to(v) @ v)
