"""GroupViT (Xu et al., CVPR 2022): a ViT trained on captions to gather patches into a few groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GroupViTModel

from gem_label.comparators.hub import load_pretrained, load_processors, prompts, squeezed, weights_sha256


class GroupVit:
    """Similarity of each place: the cosine of its group and the text.

    Args:
        source: a name on the model hub, or a folder.
        device: where to put it.
    """

    name = "groupvit"

    def __init__(self, source: str, device: torch.device | str = "cpu") -> None:
        self.source = source
        self.model = load_pretrained(GroupViTModel, source)
        self.model.to(device)
        self.processor, self.tokenizer = load_processors(source)
        self.logit_scale = self.model.logit_scale.exp().item()

    def preprocess(self, image: NDArray[np.uint8]) -> Tensor:
        """(3, S, S), S the size that the model was trained at: its groups are those of a whole photo."""
        side = self.model.config.vision_config.image_size
        return squeezed(image, (side, side), self.processor)

    @torch.no_grad()
    def similarity(self, images: Tensor, texts: str | Sequence[str]) -> Tensor:
        """(B, C, S, S) cosines, each group's weighted by how much of a place belongs to it."""
        tokens = self.tokenizer(prompts(texts), padding="max_length", truncation=True, return_tensors="pt")
        inputs = {k: tokens[k].to(self.model.device) for k in ("input_ids", "attention_mask")}
        out = self.model(pixel_values=images.to(self.model.device), output_segmentation=True, **inputs)
        return out.segmentation_logits / self.logit_scale**2  # the library multiplies by it twice

    def describe(self) -> dict[str, Any]:
        """Name and weights."""
        return {"method": self.name, "source": self.source, "weights_sha256": weights_sha256(self.source)}
