"""open_clip's own vision transformer: CLIP, OpenCLIP, MetaCLIP and the others in its layout."""

from __future__ import annotations

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from gem_label.clip.towers import TowerBlock, VisionTower, resize_positions


class Block(TowerBlock):
    """A `ResidualAttentionBlock`."""

    def __init__(self, block: ResidualAttentionBlock) -> None:
        self._block = block

    def ln_1(self, x: Tensor) -> Tensor:
        """See `TowerBlock.ln_1`."""
        return self._block.ln_1(x)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `TowerBlock.qkv`."""
        attn = self._block.attn
        projected = F.linear(x, attn.in_proj_weight, attn.in_proj_bias)
        q, k, v = projected.unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def out_proj(self, o: Tensor) -> Tensor:
        """See `TowerBlock.out_proj`."""
        return self._block.ls_1(self._block.attn.out_proj(o.transpose(1, 2).flatten(2)))

    def feed_forward(self, x: Tensor) -> Tensor:
        """See `TowerBlock.feed_forward`."""
        return x + self._block.ls_2(self._block.mlp(self._block.ln_2(x)))


class Tower(VisionTower):
    """A `VisionTransformer` with a class token, whose embedding is that token or the patches' mean."""

    def __init__(self, visual: VisionTransformer) -> None:
        self._visual = visual
        width = visual.class_embedding.shape[0]
        super().__init__(
            [Block(block) for block in visual.transformer.resblocks],
            patch_size=visual.patch_size[0],
            native_size=min(visual.image_size),
            output_dim=width if visual.proj is None else visual.proj.shape[1],
            class_tokens=1,
            embeds_class_token=visual.pool_type == "tok",
        )

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """See `VisionTower.embed`."""
        visual = self._visual
        patches = visual.conv1(images.to(visual.conv1.weight)).flatten(2).transpose(1, 2)
        class_token = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        positions = resize_positions(visual.positional_embedding, tuple(visual.grid_size), grid)
        return visual.ln_pre(torch.cat([class_token, patches], dim=1) + positions.to(patches.dtype))

    def project(self, tokens: Tensor) -> Tensor:
        """The final layer norm and projection, as the class token gets them."""
        return self._to_output(self._visual.ln_post(tokens))

    def pool(self, tokens: Tensor) -> Tensor:
        """See `VisionTower.pool`."""
        visual = self._visual
        if not visual.final_ln_after_pool:
            tokens = visual.ln_post(tokens)
        pooled = tokens[:, 1:].mean(dim=1) if visual.pool_type == "avg" else tokens[:, 0]
        if visual.final_ln_after_pool:
            pooled = visual.ln_post(pooled)
        return self._to_output(pooled)

    def _to_output(self, x: Tensor) -> Tensor:
        return x if self._visual.proj is None else x @ self._visual.proj


def handles(visual: nn.Module) -> bool:
    """Whether this adapter is the one for such a tower."""
    return isinstance(visual, VisionTransformer)


def problem(visual: VisionTransformer) -> str | None:
    """Why the patches of `visual` cannot be read, or None."""
    blocks = visual.transformer.resblocks
    if not all(isinstance(block.attn, nn.MultiheadAttention) for block in blocks):
        return f"this one's blocks use {type(blocks[0].attn).__name__} in place of plain multi-head attention"
    if visual.attn_pool is not None or visual.pool_type not in ("tok", "avg"):
        return "this one pools by attention over queries of its own"
    if len(set(visual.patch_size)) != 1:
        return f"this one's patches are not square: {visual.patch_size}"
    return None
