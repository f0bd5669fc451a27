"""CLIPSeg (Lueddecke and Ecker, CVPR 2022): a decoder on CLIP's layers, trained on masks of phrases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPSegForImageSegmentation

from gem_label.comparators.hub import load_pretrained, load_processors, prompts, squeezed, weights_sha256

INPUT_SIDE = 352  # what the decoder was trained at
TEXTS_AT_A_TIME = 32


class ClipSeg:
    """Logits of the decoder's masks; the photo goes through CLIP once for all texts.

    Args:
        source: a name on the model hub, or a folder.
        device: where to put it.
    """

    name = "clipseg"
    logit_scale = 1.0

    def __init__(self, source: str, device: torch.device | str = "cpu") -> None:
        self.source = source
        self.model = load_pretrained(CLIPSegForImageSegmentation, source)
        self.model.to(device)
        self.processor, self.tokenizer = load_processors(source)

    def preprocess(self, image: NDArray[np.uint8]) -> Tensor:
        """(3, 352, 352), the photo squeezed into the square that the decoder needs."""
        return squeezed(image, (INPUT_SIDE, INPUT_SIDE), self.processor)

    @torch.no_grad()
    def similarity(self, images: Tensor, texts: str | Sequence[str]) -> Tensor:
        """(B, C, S, S) logits of "here is this text"."""
        model, images = self.model, images.to(self.model.device)
        tokens = self.tokenizer(prompts(texts), padding="max_length", truncation=True, return_tensors="pt")
        inputs = {k: tokens[k].to(model.device) for k in ("input_ids", "attention_mask")}
        conditions = model.get_conditional_embeddings(batch_size=len(tokens["input_ids"]), **inputs)
        seen = model.clip.get_image_features(images, output_hidden_states=True, interpolate_pos_encoding=True)
        layers = [seen.hidden_states[i + 1] for i in model.extract_layers]
        maps = []
        for condition in conditions.split(TEXTS_AT_A_TIME):
            # every photo with every text: photos repeat in a row, texts in turn
            repeated = [layer.repeat_interleave(len(condition), dim=0) for layer in layers]
            logits = model.decoder(repeated, condition.repeat(len(images), 1)).logits
            maps.append(logits.reshape(len(images), len(condition), *logits.shape[-2:]))
        return torch.cat(maps, dim=1)

    def describe(self) -> dict[str, Any]:
        """Name and weights."""
        return {"method": self.name, "source": self.source, "weights_sha256": weights_sha256(self.source)}
