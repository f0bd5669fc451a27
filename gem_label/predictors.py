"""What evaluations ask of a model: similarity of every place with every text, or masks that belong to texts.

GEM (`evaluation.predictors`) and published models (`comparators`) stand behind the same protocols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gem_label.masks import MaskSet


class DenseModel(Protocol):
    """Similarity of every place of an image with every text.

    Attributes:
        name: for tables.
        logit_scale: factor on similarities before a softmax over texts.
    """

    name: str
    logit_scale: float

    def preprocess(self, image: NDArray[np.uint8]) -> Tensor:
        """(H, W, 3) uint8 RGB to the network's input (3, H', W'), which covers the whole image."""
        ...

    def similarity(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, C, h, w) float32 of preprocessed images (B, 3, H', W') with C phrases; larger is more alike."""
        ...

    def describe(self) -> dict[str, Any]:
        """Settings, and the weights' name and sha256, as JSON."""
        ...


@dataclass(frozen=True)
class ClassMasks:
    """Masks of one image and what they are.

    Attributes:
        masks: N masks.
        scores: (N, C) float32, how well each mask fits each text.
        belongs: (N, C) bool, which texts each mask counts for.
    """

    masks: MaskSet
    scores: NDArray[np.float32]
    belongs: NDArray[np.bool_]


@runtime_checkable
class MaskModel(Protocol):
    """Masks of an image, each for some of the texts."""

    name: str

    def label(self, image: NDArray[np.uint8], texts: Sequence[str]) -> ClassMasks:
        """Masks of (H, W, 3) uint8 RGB for C phrases."""
        ...

    def describe(self) -> dict[str, Any]:
        """Settings, and the weights' names and sha256, as JSON."""
        ...
