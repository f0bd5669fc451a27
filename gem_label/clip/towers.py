"""A uniform view of an open_clip vision transformer; the one module that knows the names of its layers.

Nothing is copied or patched: every function runs the tower's own weights. Images are (B, 3, H, W) with H and
W multiples of the patch size; tokens are (B, 1 + h * w, D), the class token first, then patches row by row.
"""

from __future__ import annotations

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from gem_label.errors import UsageError

CLASS_TOKENS = 1


class TowerBlock:
    """One residual attention block: the ordinary forward, and the parts that GEM puts together anew."""

    def __init__(self, block: ResidualAttentionBlock, batch_first: bool) -> None:
        self._block = block
        self._batch_first = batch_first
        self.num_heads: int = block.attn.num_heads

    def __call__(self, x: Tensor) -> Tensor:
        """The block as it was trained, (B, n, D) -> (B, n, D)."""
        if self._batch_first:
            return self._block(x)
        return self._block(x.transpose(0, 1)).transpose(0, 1)

    def ln_1(self, x: Tensor) -> Tensor:
        """The layer norm ahead of the attention, (B, n, D) -> (B, n, D)."""
        return self._block.ln_1(x)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of `ln_1`'s output, (B, n, D) -> three (B, heads, n, d_head)."""
        attn = self._block.attn
        projected = F.linear(x, attn.in_proj_weight, attn.in_proj_bias)
        q, k, v = projected.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def out_proj(self, o: Tensor) -> Tensor:
        """The attention branch's end, with its layer scale if any: (B, heads, n, d_head) -> (B, n, D)."""
        return self._block.ls_1(self._block.attn.out_proj(o.transpose(1, 2).flatten(2)))


class VisionTower:
    """The blocks, tokens and projection of `model.visual`.

    Attributes:
        patch_size: side of a patch in pixels.
        native_size: image side in pixels that the tower was trained at.
        width: D of the tokens.
        output_dim: d of the space that images and texts share.
        num_heads: attention heads of a block.
        blocks: the residual blocks, first to last.

    Raises:
        UsageError: for a tower that is not a plain ViT with a class or average pooled embedding.
    """

    def __init__(self, visual: VisionTransformer) -> None:
        problem = _problem(visual)
        if problem:
            raise UsageError(f"dense features need a plain open_clip ViT such as ViT-B-16, but {problem}")
        self._visual = visual
        self.patch_size: int = visual.patch_size[0]
        self.native_size: int = min(visual.image_size)
        self.width: int = visual.class_embedding.shape[0]
        self.output_dim: int = self.width if visual.proj is None else visual.proj.shape[1]
        # before open_clip 2.25 blocks took (n, B, D) and the transformer had no such attribute
        batch_first = getattr(visual.transformer, "batch_first", False)
        self.blocks = tuple(TowerBlock(block, batch_first) for block in visual.transformer.resblocks)
        self.num_heads = self.blocks[0].num_heads

    @property
    def num_blocks(self) -> int:
        """How many residual blocks the tower has."""
        return len(self.blocks)

    def block(self, index: int) -> TowerBlock:
        """The block at `index`; negative ones count from the last."""
        return self.blocks[index]

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Patches (h, w) of images (B, 3, H, W).

        Raises:
            ValueError: when the images have another shape or their sides are no multiples of the patch size.
        """
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise ValueError(f"images must be (B, 3, H, W), not {tuple(images.shape)}")
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"image sides must be multiples of the patch size {self.patch_size}, not {height} x {width}; "
                "Clip.preprocess rounds them"
            )
        return height // self.patch_size, width // self.patch_size

    def tokens(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to the first block's input (B, 1 + h * w, D)."""
        visual = self._visual
        grid = self.grid(images)
        patches = visual.conv1(images.to(visual.conv1.weight)).flatten(2).transpose(1, 2)
        class_token = visual.class_embedding.to(patches.dtype).expand(len(patches), CLASS_TOKENS, -1)
        x = torch.cat([class_token, patches], dim=1) + self._positions(grid).to(patches.dtype)
        return visual.ln_pre(x)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Positional embeddings (1 + h * w, D), resized bicubically from the trained grid to `grid`."""
        positions = self._visual.positional_embedding
        trained = tuple(self._visual.grid_size)
        if grid == trained:
            return positions
        of_class, of_patches = positions[:CLASS_TOKENS], positions[CLASS_TOKENS:]
        # float32, as half precision has no bicubic kernel on the CPU
        image = of_patches.float().T.unflatten(1, trained)[None]
        resized = F.interpolate(image, size=grid, mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([of_class.float(), resized[0].flatten(1).T])

    def project(self, tokens: Tensor) -> Tensor:
        """The final layer norm and projection of every token, (B, n, D) -> (B, n, d); not normalised."""
        return self._to_output(self._visual.ln_post(tokens))

    def patches(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """The patches without the class token, (B, 1 + h * w, C) -> (B, h, w, C)."""
        return tokens[:, CLASS_TOKENS:].unflatten(1, grid)

    def pool(self, tokens: Tensor) -> Tensor:
        """The last block's output (B, 1 + h * w, D) to the image embedding (B, d); not normalised."""
        visual = self._visual
        if not visual.final_ln_after_pool:
            tokens = visual.ln_post(tokens)
        pooled = tokens[:, CLASS_TOKENS:].mean(dim=1) if visual.pool_type == "avg" else tokens[:, 0]
        if visual.final_ln_after_pool:
            pooled = visual.ln_post(pooled)
        return self._to_output(pooled)

    def _to_output(self, x: Tensor) -> Tensor:
        return x if self._visual.proj is None else x @ self._visual.proj


def _problem(visual: VisionTransformer) -> str | None:
    """Why `visual` is no tower that GEM can run on, or None."""
    kind = type(visual).__name__
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    if blocks is None or not hasattr(visual, "class_embedding"):
        return f"this model's image tower is a {kind}"
    if not all(isinstance(block.attn, nn.MultiheadAttention) for block in blocks):
        return f"this one's blocks use {type(blocks[0].attn).__name__} in place of plain multi-head attention"
    if getattr(visual, "attn_pool", None) is not None or visual.pool_type not in ("tok", "avg"):
        return "this one pools by attention"
    if len(set(visual.patch_size)) != 1:
        return f"this one's patches are not square: {visual.patch_size}"
    return None
