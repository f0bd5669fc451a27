"""timm's vision transformer inside open_clip's `TimmModel`: SigLIP and SigLIP 2.

SigLIP has no class token. Its image embedding is read out of all patches by an attention pooling head: one learned
query attends to them, and the weighted mean of their values goes through a projection and an MLP with residual.
A patch gets what this head gives when it sees that patch alone: the softmax over one key is 1, so the query does
not matter, and what remains is the head's value path, proj(W_v x) and its MLP. It is to the pooling head what
MaskCLIP's value path is to the last attention, and it ends in the space of the texts.
"""

from __future__ import annotations

from typing import Any

import torch
from open_clip.timm_model import TimmModel
from timm.layers import Attention, PatchEmbed
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from gem_label.clip.towers import TowerBlock, VisionTower, resize_positions

_NONE = (type(None), nn.Identity)


class Block(TowerBlock):
    """A pre-norm `Block` of timm."""

    def __init__(self, block: TimmBlock) -> None:
        self._block: Any = block

    def ln_1(self, x: Tensor) -> Tensor:
        """See `TowerBlock.ln_1`."""
        return self._block.norm1(x)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `TowerBlock.qkv`."""
        attn = self._block.attn
        q, k, v = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return attn.q_norm(q), attn.k_norm(k), v

    def out_proj(self, o: Tensor) -> Tensor:
        """See `TowerBlock.out_proj`."""
        return self._block.ls1(self._block.attn.proj(o.transpose(1, 2).flatten(2)))

    def feed_forward(self, x: Tensor) -> Tensor:
        """See `TowerBlock.feed_forward`."""
        return x + self._block.ls2(self._block.mlp(self._block.norm2(x)))


class Tower(VisionTower):
    """A `TimmModel` around a `VisionTransformer`."""

    def __init__(self, visual: TimmModel) -> None:
        self._visual = visual
        self._trunk: Any = visual.trunk
        trunk = self._trunk
        head = list(visual.head.modules())
        widths = [layer.out_features for layer in head if isinstance(layer, nn.Linear)]
        classifier = getattr(trunk.head, "out_features", trunk.embed_dim)
        super().__init__(
            [Block(block) for block in trunk.blocks],
            patch_size=trunk.patch_embed.patch_size[0],
            native_size=min(trunk.patch_embed.img_size),
            output_dim=widths[-1] if widths else classifier,
            class_tokens=trunk.num_prefix_tokens,
            embeds_class_token=trunk.global_pool == "token",
        )

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """See `VisionTower.embed`."""
        trunk = self._trunk
        embed = trunk.patch_embed
        x = embed.norm(embed.proj(images.to(embed.proj.weight)).flatten(2).transpose(1, 2))
        positions = resize_positions(trunk.pos_embed[0], embed.grid_size, grid).to(x.dtype)
        if trunk.cls_token is None:
            return trunk.norm_pre(x + positions)
        class_token = trunk.cls_token.expand(len(x), -1, -1)
        if trunk.no_embed_class:  # the class token has no position
            return trunk.norm_pre(torch.cat([class_token, x + positions], dim=1))
        return trunk.norm_pre(torch.cat([class_token, x], dim=1) + positions)

    def project(self, tokens: Tensor) -> Tensor:
        """What the pooling head gives for each token alone, (B, ..., D) -> (B, ..., d)."""
        return self.pool(tokens.reshape(-1, 1, tokens.shape[-1])).unflatten(0, tokens.shape[:-1])

    def pool(self, tokens: Tensor) -> Tensor:
        """See `VisionTower.pool`."""
        trunk = self._trunk
        return self._visual.head(trunk.forward_head(trunk.norm(tokens)))


def handles(visual: nn.Module) -> bool:
    """Whether this adapter is the one for such a tower."""
    return isinstance(visual, TimmModel)


def problem(visual: TimmModel) -> str | None:
    """Why the patches of `visual` cannot be read, or None."""
    trunk = visual.trunk
    embed = getattr(trunk, "patch_embed", None)
    if not isinstance(trunk, VisionTransformer) or type(embed) is not PatchEmbed:
        return f"this model's image tower is timm's {type(trunk).__name__} with {type(embed).__name__}"
    for block in trunk.blocks:
        attn = block.attn
        if type(block) is not TimmBlock or type(attn) is not Attention:
            return f"this one's blocks are {type(block).__name__} with {type(attn).__name__}"
        # both are younger than the oldest timm that works
        if getattr(attn, "gate", None) is not None or not isinstance(getattr(attn, "norm", None), _NONE):
            return "this one changes the attention's output by a gate or a norm"
    if trunk.pos_embed is None or getattr(trunk, "reg_token", None) is not None:
        return "this one has register tokens or no positional embeddings"
    pool, class_tokens = trunk.global_pool, trunk.num_prefix_tokens
    if (pool, class_tokens) not in (("map", 0), ("avg", 0), ("token", 1)):
        return f"this one pools by {pool!r} over {class_tokens} class tokens and the patches"
    if len(set(trunk.patch_embed.patch_size)) != 1:
        return f"this one's patches are not square: {trunk.patch_embed.patch_size}"
    return None
