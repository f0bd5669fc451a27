"""The classes that fit masks that a person asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gem_label.labeling.labeling import label_maskset
from gem_label.labeling.settings import LabelSettings, Thresholds
from gem_label.masks import MaskSet
from gem_label.vocabulary import Vocabulary

COUNT = 10
"""How many classes are given."""


@dataclass(frozen=True, slots=True)
class LabelProposal:
    """What a mask may be.

    Attributes:
        classes: up to `COUNT` classes with their scores in [0, 1], best first.
        margin: best minus second-best probability, in [0, 1]; None where nothing is proposed.
    """

    classes: tuple[tuple[str, float], ...]
    margin: float | None

    def score(self, label: str) -> float | None:
        """The score of a class, None where it is not among the classes."""
        return dict(self.classes).get(label)


NO_PROPOSAL = LabelProposal((), None)


def propose_labels(
    masks: MaskSet,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
    image_embedding: NDArray[np.floating] | None = None,
) -> list[LabelProposal]:
    """The classes that fit masks best. A person says that a thing is there, so that no class is too unlikely.

    Args:
        masks: masks with their embeddings and those of their surrounds.
        text: (P, d) unit-length text embeddings of `vocabulary.phrases`.
        vocabulary: the words.
        logit_scale: the CLIP model's scale.
        image_embedding: (d,) the photo's class-token embedding; None: presence in the photo counts for nothing.
    """
    settings = LabelSettings(Thresholds(0.0), top_k=COUNT, overlaps=True)
    labels = label_maskset(masks, text, vocabulary, logit_scale, settings, image_embedding=image_embedding)
    return [
        LabelProposal(
            tuple((labels.classes[i], float(s)) for i, s in zip(classes, scores, strict=True) if i >= 0),
            float(margin),
        )
        for classes, scores, margin in zip(labels.top_classes, labels.top_scores, labels.margin, strict=True)
    ]
