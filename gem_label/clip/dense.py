"""Patch features that text can find: GEM, and plain CLIP patches as the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gem_label.clip.attention import adaptive_inv_temp, gem_attention
from gem_label.clip.models import Clip, as_clip
from gem_label.clip.text import TextEncoder
from gem_label.clip.towers import TowerBlock
from gem_label.errors import UsageError

if TYPE_CHECKING:
    import open_clip

METHODS = ("gem", "clip")


class DenseEncoder:
    """Dense features of images in the space of the text embeddings.

    Args:
        clip: what `load_clip` returns, or any open_clip model with a ViT.
        method: "gem", or "clip" for the patches of the ordinary last block.
        depth: how many of the last blocks GEM runs on; None takes the model's own, 6 as a rule.
            The authors' package counts one more: its `gem_depth=7` is `depth=6`. The paper's text says 4.
        iterations: grouping steps of the self-self attention, 0 or more.
        temperature: None adapts it to each image; a number is used as it stands as the factor on the cosines
            inside the softmax (an inverse temperature, what the authors' package calls `ss_attn_temp`).
        projections: which of the projections "q", "k" and "v" are averaged.
        text: the text encoder that `similarity` uses; None makes one with the prompt "a photo of a {}.".

    Raises:
        UsageError: for settings that do not exist or do not fit the model.
    """

    def __init__(
        self,
        clip: Clip | open_clip.CLIP,
        method: Literal["gem", "clip"] = "gem",
        depth: int | None = None,
        iterations: int = 1,
        temperature: float | None = None,
        projections: str = "qkv",
        text: TextEncoder | None = None,
    ) -> None:
        self.clip = as_clip(clip)
        self.tower = self.clip.tower
        self.method = method
        self.depth = self.clip.dense_depth if depth is None else depth
        self.iterations = iterations
        self.temperature = temperature
        self.projections = projections
        self.text = text or TextEncoder(self.clip)
        if method not in METHODS:
            raise UsageError(f"unknown dense method {method!r}: choose one of {', '.join(METHODS)}")
        if not 1 <= self.depth <= self.tower.num_blocks:
            raise UsageError(
                f"depth {self.depth} is not 1 to {self.tower.num_blocks}, the blocks of {self.clip.name}"
            )
        if iterations < 0:
            raise UsageError(f"iterations must be 0 or more, not {iterations}")
        if not projections or len(set(projections)) != len(projections) or not set(projections) <= set("qkv"):
            raise UsageError(f"projections must be some of the letters q, k and v, not {projections!r}")

    def encode(self, images: Tensor) -> Tensor:
        """Patch features.

        Args:
            images: (B, 3, H, W) normalised floats, sides multiples of the patch size (see `Clip.preprocess`).

        Returns:
            (B, h, w, d) float32 of unit length, on the model's device.
        """
        return self._encode(images, with_embedding=False)[0]

    def encode_with_class_token(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Patch features and the ordinary image embedding, out of one pass.

        Args:
            images: as in `encode`.

        Returns:
            (B, h, w, d) patch features and (B, d) image embeddings, both float32 of unit length. At the
            tower's native size the embedding is that of the model's own `encode_image`.
        """
        patches, embedding = self._encode(images, with_embedding=True)
        assert embedding is not None
        return patches, embedding

    def similarity(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Cosine of each patch with each text.

        Args:
            images: as in `encode`.
            texts: C phrases, which go through the text encoder's templates.

        Returns:
            (B, C, h, w) float32 in [-1, 1].
        """
        patches = self.encode(images)
        embeddings = torch.from_numpy(self.text.encode(texts)).to(patches)
        return torch.einsum("bhwd,cd->bchw", patches, embeddings)

    @torch.no_grad()
    def _encode(self, images: Tensor, with_embedding: bool) -> tuple[Tensor, Tensor | None]:
        tower = self.tower
        grid = tower.grid(images)
        x = tower.tokens(images.to(self.clip.device))
        if self.method == "clip":
            for block in tower.blocks:
                x = block(x)
            dense = x
        else:
            dense, x = self._gem(x, with_embedding)
        patches = F.normalize(tower.project(tower.patches(dense, grid)).float(), dim=-1)
        return patches, F.normalize(tower.pool(x).float(), dim=-1) if with_embedding else None

    def _gem(self, x: Tensor, finish: bool) -> tuple[Tensor, Tensor]:
        """GEM's stream and the ordinary one; unless `finish` is set the latter stops short of its last block.

        The GEM stream parts from the ordinary one `depth` blocks before the end and then only adds attention
        branches, no MLP; the ordinary stream goes on as trained and feeds every block (GEM, figure 2).
        """
        first = self.tower.num_blocks - self.depth
        for block in self.tower.blocks[:first]:
            x = block(x)
        dense = x
        for block in self.tower.blocks[first:-1]:
            dense = dense + self._gem_branch(block, x)
            x = block(x)
        last = self.tower.blocks[-1]
        dense = dense + self._gem_branch(last, x)
        return dense, last(x) if finish else x

    def _gem_branch(self, block: TowerBlock, x: Tensor) -> Tensor:
        """GEM's attention branch of one block on the ordinary stream, (B, n, D) -> (B, n, D)."""
        x = block.ln_1(x)
        projected = dict(zip("qkv", block.qkv(x), strict=True))
        v = projected["v"]
        inv_temp = adaptive_inv_temp(x, v.shape[-1]) if self.temperature is None else self.temperature
        chosen = [projected[name] for name in self.projections]
        return block.out_proj(gem_attention(chosen, v, inv_temp, self.iterations))
