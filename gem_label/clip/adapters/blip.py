"""BLIP's retrieval models through transformers (the extra `gem-label[transformers]`).

Image and text embeddings are those of BLIP's contrastive loss (Li et al., ICML 2022, section 3.2): the class
tokens of both towers through `vision_proj` and `text_proj`. A patch goes the way of the class token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gem_label.clip.towers import TowerBlock, VisionTower, resize_positions

if TYPE_CHECKING:
    from transformers import BlipForImageTextRetrieval


class BlipVisual(nn.Module):
    """BLIP's image tower with the projection into the space of the texts."""

    def __init__(self, vision_model: nn.Module, proj: nn.Linear) -> None:
        super().__init__()
        self.vision_model: Any = vision_model
        self.proj = proj


class BlipClip(nn.Module):
    """A retrieval BLIP with the attributes that `Clip` reads of an open_clip model.

    The temperature that BLIP's contrastive loss learned is not among the weights in transformers' layout; the
    logit scale is the value it started from, `config.logit_scale_init_value`.
    """

    def __init__(self, model: BlipForImageTextRetrieval) -> None:
        super().__init__()
        self.visual = BlipVisual(model.vision_model, model.vision_proj)
        self.text_encoder: Any = model.text_encoder
        self.text_proj: nn.Linear = model.text_proj
        text_config: Any = model.config.text_config
        self.pad_token_id: int = text_config.pad_token_id
        self.logit_scale: Tensor
        self.register_buffer("logit_scale", torch.tensor(float(model.config.logit_scale_init_value)))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids (C, n), padded at the end, to embeddings (C, d); not normalized."""
        mask = (tokens != self.pad_token_id).long()
        states = self.text_encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        return self.text_proj(states[:, 0])


class Block(TowerBlock):
    """A `BlipEncoderLayer`."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def ln_1(self, x: Tensor) -> Tensor:
        """See `TowerBlock.ln_1`."""
        return self._layer.layer_norm1(x)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `TowerBlock.qkv`."""
        attn = self._layer.self_attn
        q, k, v = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def out_proj(self, o: Tensor) -> Tensor:
        """See `TowerBlock.out_proj`."""
        return self._layer.self_attn.projection(o.transpose(1, 2).flatten(2))

    def feed_forward(self, x: Tensor) -> Tensor:
        """See `TowerBlock.feed_forward`."""
        return x + self._layer.mlp(self._layer.layer_norm2(x))


class Tower(VisionTower):
    """A `BlipVisionModel` with its projection."""

    def __init__(self, visual: BlipVisual) -> None:
        self._vision, self._proj = visual.vision_model, visual.proj
        embeddings = self._vision.embeddings
        super().__init__(
            [Block(layer) for layer in self._vision.encoder.layers],
            patch_size=embeddings.patch_size,
            native_size=embeddings.image_size,
            output_dim=self._proj.out_features,
            class_tokens=1,
            embeds_class_token=True,
        )

    def embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """See `VisionTower.embed`."""
        embeddings = self._vision.embeddings
        patches = embeddings.patch_embedding(images.to(embeddings.patch_embedding.weight))
        class_token = embeddings.class_embedding.expand(len(images), -1, -1)
        side = self.native_size // self.patch_size
        positions = resize_positions(embeddings.position_embedding[0], (side, side), grid)
        return torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1) + positions.to(
            patches.dtype
        )

    def project(self, tokens: Tensor) -> Tensor:
        """The final layer norm and projection, as the class token gets them."""
        return self._proj(self._vision.post_layernorm(tokens))

    def pool(self, tokens: Tensor) -> Tensor:
        """See `VisionTower.pool`."""
        return self.project(tokens[:, 0])


def handles(visual: nn.Module) -> bool:
    """Whether this adapter is the one for such a tower."""
    return isinstance(visual, BlipVisual)


def problem(visual: BlipVisual) -> str | None:
    """Why the patches of `visual` cannot be read, or None."""
    embeddings = visual.vision_model.embeddings
    if not isinstance(embeddings.patch_size, int) or not isinstance(embeddings.image_size, int):
        return (
            f"this one's images or patches are not square: {embeddings.image_size}, {embeddings.patch_size}"
        )
    return None
