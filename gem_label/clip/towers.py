"""A uniform view of vision transformers: what every adapter in `gem_label.clip.adapters` presents.

Nothing is copied or patched: an adapter names the layers of one library's tower, and everything runs over the
tower's own weights. Images are (B, 3, H, W) with H and W multiples of the patch size; tokens are (B, n, D), the
class token first where there is one, then h * w patches row by row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


class TowerBlock(ABC):
    """One residual block, x + attention(x) and then x + mlp(x), as the parts that dense methods put together."""

    @abstractmethod
    def ln_1(self, x: Tensor) -> Tensor:
        """The layer norm ahead of the attention, (B, n, D) -> (B, n, D)."""

    @abstractmethod
    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of `ln_1`'s output, (B, n, D) -> three (B, heads, n, d_head)."""

    @abstractmethod
    def out_proj(self, o: Tensor) -> Tensor:
        """The attention branch's end, with its layer scale if any: (B, heads, n, d_head) -> (B, n, D)."""

    @abstractmethod
    def feed_forward(self, x: Tensor) -> Tensor:
        """The second half of the block with its residual, x + mlp(ln_2(x)): (B, n, D) -> (B, n, D)."""

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The block as it was trained, from its input x (B, n, D) and the projections that `qkv` gave."""
        return self.feed_forward(x + self.out_proj(F.scaled_dot_product_attention(q, k, v)))

    def __call__(self, x: Tensor) -> Tensor:
        """The block as it was trained, (B, n, D) -> (B, n, D)."""
        return self.attend(x, *self.qkv(self.ln_1(x)))


class VisionTower(ABC):
    """Blocks, tokens and projection of an image tower.

    Attributes:
        blocks: the residual blocks, first to last.
        patch_size: side of a patch in pixels.
        native_size: image side in pixels that the tower was trained at.
        output_dim: d of the space that images and texts share.
        class_tokens: tokens ahead of the patches, 1 or 0.
        embeds_class_token: whether the image embedding is that of the class token, not a mean or an attention
            pooling of the patches.
    """

    def __init__(
        self,
        blocks: Sequence[TowerBlock],
        *,
        patch_size: int,
        native_size: int,
        output_dim: int,
        class_tokens: int,
        embeds_class_token: bool,
    ) -> None:
        self.blocks = tuple(blocks)
        self.patch_size = patch_size
        self.native_size = native_size
        self.output_dim = output_dim
        self.class_tokens = class_tokens
        self.embeds_class_token = embeds_class_token

    @abstractmethod
    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """Normalized images (B, 3, H, W) with (h, w) patches to the first block's input (B, n, D)."""

    @abstractmethod
    def project(self, tokens: Tensor) -> Tensor:
        """Every token to the space of the texts, (B, ..., D) -> (B, ..., d); not normalized."""

    @abstractmethod
    def pool(self, tokens: Tensor) -> Tensor:
        """The last block's output (B, n, D) to the image embedding (B, d); not normalized."""

    @property
    def num_blocks(self) -> int:
        """How many residual blocks the tower has."""
        return len(self.blocks)

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
        """Normalized images (B, 3, H, W) to the first block's input (B, n, D).

        Raises:
            ValueError: as `grid` does.
        """
        return self.embed(images, self.grid(images))

    def patches(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """The patches without the class token, (B, n, C) -> (B, h, w, C)."""
        return tokens[:, self.class_tokens :].unflatten(1, grid)


def resize_positions(positions: Tensor, trained: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Positional embeddings for another grid of patches: bicubic with antialias, as open_clip and timm resize.

    Args:
        positions: (c + H * W, D); the first c belong to class tokens and stay as they are.
        trained: (H, W) patches of the tower's native image.
        grid: (h, w) patches wanted.

    Returns:
        (c + h * w, D), float32 where anything was resized.
    """
    if grid == trained:
        return positions
    class_tokens = len(positions) - trained[0] * trained[1]
    # float32, as half precision has no bicubic kernel on the CPU
    of_class, of_patches = positions.float().split([class_tokens, len(positions) - class_tokens])
    image = of_patches.T.unflatten(1, trained)[None]
    resized = F.interpolate(image, size=grid, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([of_class, resized[0].flatten(1).T])
