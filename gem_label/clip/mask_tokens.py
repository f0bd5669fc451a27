"""Mask class tokens: a copy of the class token for every mask, which sees itself and the mask's own patches alone.

The tokens run beside the ordinary stream from the first block on and use its keys and values, so the patches run
once and are unchanged. At the end a token is to its mask what the class token is to the whole image (MaskCLIP, Ding
et al., ICML 2023; CorrCLIP, Zhang et al., ICCV 2025, where the token sees the class token in place of itself).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gem_label.clip.towers import TowerBlock, VisionTower
from gem_label.errors import UsageError

Beside = Literal["itself", "class_token"]
"""What a mask's token sees besides the mask's patches."""


def check_mask_tokens(tower: VisionTower, name: str, wanted_by: str) -> None:
    """Make sure that a tower has a class token that images are embedded by.

    Args:
        tower: of the model.
        name: of the model, for the message.
        wanted_by: what needs mask tokens, for the message.

    Raises:
        UsageError: it has none.
    """
    if not tower.embeds_class_token:
        raise UsageError(
            f"{wanted_by} needs a CLIP whose image embedding is that of its class token, and {name} pools its "
            "patches instead: use a model such as ViT-B-16/openai"
        )


def mask_bias(weights: Tensor, beside: Beside = "itself") -> Tensor:
    """What is added to the scores of each mask's token, as `advance_mask_tokens` takes it.

    A patch's share under the mask goes into the softmax as a factor: all of a patch counts as it would anyway, a
    patch outside counts for nothing. Shares are relative to the mask's best patch, so that a mask smaller than a
    patch sees one.

    Args:
        weights: (N, h, w) share of each patch's area under each mask, in [0, 1].
        beside: what a token sees besides the patches.

    Returns:
        (N, 1 + h * w), or (N, 1 + h * w + N) where tokens see themselves: the class token, the patches, the tokens.
    """
    share = weights.flatten(1)
    share = share / share.amax(dim=1, keepdim=True).clamp(min=torch.finfo(share.dtype).tiny)
    own = torch.eye(len(share), device=share.device, dtype=share.dtype)
    sees_class = share.new_full((len(share), 1), float(beside == "class_token"))
    seen = [sees_class, share] if beside == "class_token" else [sees_class, share, own]
    return torch.cat(seen, dim=1).log()


def advance_mask_tokens(block: TowerBlock, tokens: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Take the masks' tokens through a block, with the block's own weights.

    Args:
        block: the block.
        tokens: (1, N, D) its input for the N tokens.
        k: (1, heads, n, d_head) keys of the ordinary stream in this block.
        v: values likewise.
        bias: by `mask_bias`.

    Returns:
        (1, N, D).
    """
    queries, own_k, own_v = block.qkv(block.ln_1(tokens))
    if bias.shape[1] > k.shape[2]:
        k, v = torch.cat([k, own_k], dim=2), torch.cat([v, own_v], dim=2)
    seen = F.scaled_dot_product_attention(queries, k, v, attn_mask=bias.to(queries))
    return block.feed_forward(tokens + block.out_proj(seen))
