"""GEM and GEM-SAM as predictors, behind the protocols of `gem_label.predictors`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gem_label.clip.dense import DenseEncoder
from gem_label.masks import MaskSet, patch_weights, pool_patches
from gem_label.metrics.points import assign_masks, min_max
from gem_label.phrases import as_words
from gem_label.predictors import ClassMasks, DenseModel
from gem_label.sam.models import Sam
from gem_label.sam.proposals import ProposalSettings, propose_masks


class EncoderModel:
    """A `DenseEncoder` as a `DenseModel`.

    Args:
        dense: the encoder.
        short_side: pixels of the input's shorter side; None takes the model's.
        feature_surgery: take off what all words of a vocabulary have in common, see `gem_label.clip.surgery`.
    """

    def __init__(
        self, dense: DenseEncoder, short_side: int | None = None, feature_surgery: bool = False
    ) -> None:
        self.dense = dense
        self.short_side = short_side or dense.clip.short_side
        self.feature_surgery = feature_surgery
        self.name = dense.method.name
        self.logit_scale = dense.clip.logit_scale

    def preprocess(self, image: NDArray[np.uint8]) -> Tensor:
        """(3, H, W) as `Clip.preprocess`; a long photo is seen smaller, as when it is labeled."""
        return self.dense.preprocess(image, self.short_side)

    def similarity(self, images: Tensor, texts: str | Sequence[str]) -> Tensor:
        """(B, C, h, w) cosines, or what feature surgery leaves of them."""
        return self.dense.similarity(images, texts, self.feature_surgery)

    def patches(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(h, w, d) unit-length patch features, rounded to float16 as a run keeps them."""
        features = self.dense.encode(self.preprocess(image)[None])[0]
        return features.cpu().numpy().astype(np.float16).astype(np.float32)

    def describe(self) -> dict[str, Any]:
        """Name, settings and weights."""
        clip = self.dense.clip
        return {
            "clip": clip.name,
            "weights_sha256": clip.weights_sha256,
            "short_side": self.short_side,
            "dense": self.dense.settings,
            "templates": list(self.dense.text.templates),
            **({"feature_surgery": True} if self.feature_surgery else {}),
        }


def similarity_of(
    model: DenseModel, image: NDArray[np.uint8], texts: str | Sequence[str]
) -> NDArray[np.float32]:
    """(C, h, w) similarity of one (H, W, 3) uint8 image with C phrases, or with those of a text: see `as_words`."""
    with torch.no_grad():
        return model.similarity(model.preprocess(image)[None], as_words(texts))[0].float().cpu().numpy()


def pooled_scores(masks: MaskSet, similarity: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, C) similarity of (C, h, w) maps pooled over each of N masks, scaled by `min_max` (GEM-SAM).

    Example:
        One mask over the left of two patches:

        >>> from gem_label.masks import encode_mask
        >>> left = np.array([[True, True, False, False]])
        >>> one = np.ones(1, np.float32)
        >>> masks = MaskSet(1, 4, (encode_mask(left),), one, one, np.zeros((1, 2), np.float32))
        >>> pooled_scores(masks, np.array([[[3.0, 1.0]], [[0.0, 2.0]]], np.float32)).tolist()
        [[1.0, 0.0]]
    """
    weights = patch_weights(masks, (similarity.shape[1], similarity.shape[2]))
    return pool_patches(weights, min_max(similarity, (masks.height, masks.width)).transpose(1, 2, 0))


class GemSam:
    """GEM-SAM as a `MaskModel`: SAM proposes, a dense model says which masks belong to which texts.

    Args:
        dense: the dense model.
        sam: proposes masks.
        rule: "threshold" or "argmax" (`gem_label.metrics.points.assign_masks`).
        proposals: how masks are proposed; None: the defaults.
    """

    def __init__(
        self,
        dense: EncoderModel,
        sam: Sam,
        rule: Literal["threshold", "argmax"] = "threshold",
        proposals: ProposalSettings | None = None,
    ) -> None:
        self.dense, self.sam, self.rule = dense, sam, rule
        self.proposals = proposals or ProposalSettings()
        self.name = f"{dense.name}-sam {rule}"

    def label(self, image: NDArray[np.uint8], texts: str | Sequence[str]) -> ClassMasks:
        """All proposals, with their pooled scaled similarity as score."""
        masks = propose_masks(self.sam, image, self.proposals)
        scores = pooled_scores(masks, similarity_of(self.dense, image, texts))
        return ClassMasks(masks, scores, assign_masks(scores, self.rule))

    def describe(self) -> dict[str, Any]:
        """Of both models."""
        return self.dense.describe() | {
            "sam": self.sam.name,
            "sam_sha256": self.sam.weights_sha256,
            "rule": self.rule,
        }
