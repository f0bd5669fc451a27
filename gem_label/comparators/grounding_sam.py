"""Grounding DINO (Liu et al., 2023) finds boxes for phrases, SAM draws the mask in each box: "GroundingSAM"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GroundingDinoForObjectDetection

from gem_label.comparators.hub import load_pretrained, load_processors, weights_sha256
from gem_label.phrases import as_words
from gem_label.predictors import ClassMasks
from gem_label.sam.boxes import mask_boxes
from gem_label.sam.models import Sam

# the defaults of transformers' own post-processing
BOX_THRESHOLD = 0.25
TEXT_THRESHOLD = 0.25
SPECIAL_TOKENS = 2  # one at each end of the text


class GroundingSam:
    """Masks of the boxes that Grounding DINO finds.

    Args:
        source: a name on the model hub, or a folder.
        sam: draws the masks.
        device: where to put it.
    """

    name = "grounding-sam"

    def __init__(self, source: str, sam: Sam, device: torch.device | str = "cpu") -> None:
        self.source, self.sam = source, sam
        self.model = load_pretrained(GroundingDinoForObjectDetection, source)
        self.model.to(device)
        self.processor, self.tokenizer = load_processors(source)

    def label(self, image: NDArray[np.uint8], texts: str | Sequence[str]) -> ClassMasks:
        """A mask for every box whose best phrase reaches the threshold."""
        boxes, scores = self.detect(image, texts)
        masks = mask_boxes(self.sam, image, boxes)
        return ClassMasks(masks, scores, scores > TEXT_THRESHOLD)

    @torch.no_grad()
    def detect(
        self, image: NDArray[np.uint8], texts: str | Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes (N, 4) as x0, y0, x1, y1 in pixels, and the score (N, C) in [0, 1] of each with each phrase.

        Phrases that do not fit into one text are asked in several passes.
        """
        texts = as_words(texts)
        height, width = image.shape[:2]
        inputs = self.processor(images=image, return_tensors="pt").to(self.model.device)
        found: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        for chosen in self._chunks(texts):
            tokens, phrase_of = self._encode([texts[i] for i in chosen])
            out = self.model(**inputs, **{k: v.to(self.model.device) for k, v in tokens.items()})
            # (Q, tokens) -> (Q, phrases): a phrase scores as its best token
            probabilities = out.logits[0, :, : len(phrase_of)].sigmoid().cpu()
            by_phrase = torch.stack(
                [probabilities[:, phrase_of == i].amax(dim=1) for i in range(len(chosen))], dim=1
            )
            keep = by_phrase.amax(dim=1) > BOX_THRESHOLD
            x, y, w, h = out.pred_boxes[0].cpu()[keep].unbind(dim=1)
            corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dim=1)
            scores = np.zeros((int(keep.sum()), len(texts)), np.float32)
            scores[:, chosen] = by_phrase[keep].numpy()
            found.append(((corners * torch.tensor([width, height, width, height])).numpy(), scores))
        return np.concatenate([boxes for boxes, _ in found]), np.concatenate([scores for _, scores in found])

    def _chunks(self, texts: str | Sequence[str]) -> Iterator[list[int]]:
        """Which phrases go into one text together."""
        room = self.model.config.max_text_len - SPECIAL_TOKENS
        chunk: list[int] = []
        used = 0
        for i, text in enumerate(texts):
            length = len(self.tokenizer(phrase(text), add_special_tokens=False)["input_ids"])
            if chunk and used + length > room:
                yield chunk
                chunk, used = [], 0
            chunk.append(i)
            used += length
        if chunk:
            yield chunk

    def _encode(self, texts: str | Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
        """Tokens of "cat. dog.", and for each token the number of its phrase, -1 for dots and the two ends."""
        whole = " ".join(phrase(text) for text in texts)
        tokens = self.tokenizer(whole, return_tensors="pt", return_offsets_mapping=True)
        starts = np.cumsum([0, *(len(phrase(text)) + 1 for text in texts)])
        owner = []
        for begin, end in tokens.pop("offset_mapping")[0].tolist():
            is_dot = whole[begin:end] == "."
            owner.append(
                -1 if begin == end or is_dot else int(np.searchsorted(starts, begin, side="right")) - 1
            )
        return dict(tokens), torch.tensor(owner)

    def describe(self) -> dict[str, Any]:
        """Names, thresholds and weights."""
        return {
            "method": self.name,
            "source": self.source,
            "weights_sha256": weights_sha256(self.source),
            "sam": self.sam.name,
            "sam_sha256": self.sam.weights_sha256,
            "box_threshold": BOX_THRESHOLD,
            "text_threshold": TEXT_THRESHOLD,
        }


def phrase(text: str) -> str:
    """A phrase as Grounding DINO takes it: lower case, a dot at the end and nowhere else.

    Example:
        >>> phrase("St. Bernard")
        'st bernard.'
    """
    return " ".join(text.lower().replace(".", " ").split()) + "."
