"""Masks to labels: scores, thresholds, and one mask for each thing (DESIGN, "Masks and labels, exactly")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError
from gem_label.labeling.evidence import Evidence, evidence_of
from gem_label.labeling.labels import MaskLabels
from gem_label.labeling.scoring import image_top_k, score_evidence
from gem_label.labeling.selection import select_masks
from gem_label.labeling.settings import LabelSettings
from gem_label.masks import MaskSet
from gem_label.vocabulary import Vocabulary

Rescore = Callable[[Evidence, MaskLabels], MaskLabels]
"""Gives masks other scores, before each thing gets one mask and thresholds are looked at."""


def label_maskset(
    masks: MaskSet,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
    settings: LabelSettings | None = None,
    allowed: NDArray[np.bool_] | None = None,
    image_embedding: NDArray[np.floating] | None = None,
    rescore: Rescore | None = None,
) -> MaskLabels:
    """Label the masks of one photo.

    Args:
        masks: N masks with embeddings.
        text: (P, d) unit-length text embeddings of `vocabulary.phrases`.
        vocabulary: the words.
        logit_scale: the CLIP model's scale.
        settings: thresholds; None: the defaults.
        allowed: (C,) the classes that are known to be in this photo; None: not known, it may have all.
        image_embedding: (d,) the photo's class-token embedding; None: presence in the photo counts for nothing.
        rescore: what was learned about scores; None: nothing.
    """
    evidence = evidence_of([masks], [image_embedding], text.shape[1])
    settings = settings or LabelSettings()
    return label_evidence(evidence, text, vocabulary, logit_scale, settings, [allowed], rescore)


def label_evidence(
    evidence: Evidence,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
    settings: LabelSettings,
    allowed: Sequence[NDArray[np.bool_] | None],
    rescore: Rescore | None = None,
) -> MaskLabels:
    """Label the masks of several photos.

    Args:
        evidence: M masks of P photos.
        text: (T, d) unit-length text embeddings of `vocabulary.phrases`.
        vocabulary: C classes, and the words that compete with them.
        logit_scale: the CLIP model's scale.
        settings: thresholds.
        allowed: for each photo (C,) the classes that are known to be in it; None: not known, it may have all.
        rescore: what was learned about scores; None: nothing.

    Returns:
        The labels of all masks, photo after photo.

    Raises:
        UsageError: `settings.image_top_k` and photos without embeddings, or a threshold for an unknown class.
    """
    settings.min_score.by_class(vocabulary.classes)  # a class that is not there is told before the work
    classes = _allowed_by_photo(evidence, text, vocabulary, settings, allowed)
    known = np.array([each is not None for each in allowed], bool)
    evidence = replace(evidence, token_share=settings.token_share)
    labels = score_evidence(evidence, text, vocabulary, logit_scale, classes, known, settings.top_k)
    if rescore is not None:
        labels = rescore(evidence, labels)
    return select_labels(evidence, labels, settings)


def select_labels(evidence: Evidence, labels: MaskLabels, settings: LabelSettings) -> MaskLabels:
    """Each thing once, and which labels reach the threshold, by the scores that the labels have.

    Args:
        evidence: M masks of some photos.
        labels: of these masks.
        settings: thresholds.

    Raises:
        UsageError: a threshold for an unknown class.
    """
    thresholds = settings.min_score.by_class(labels.classes)
    index = labels.label_index
    if settings.overlaps:
        selected = index >= 0
    else:
        selected = select_masks(labels.score, index, evidence.areas, evidence.overlaps)
    return replace(labels, selected=selected, kept=selected & (labels.score >= thresholds[index]))


def _allowed_by_photo(
    evidence: Evidence,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    settings: LabelSettings,
    allowed: Sequence[NDArray[np.bool_] | None],
) -> NDArray[np.bool_] | None:
    """(P, C) the classes that take part in each photo, None: all in all."""
    if settings.image_top_k is None and all(each is None for each in allowed):
        return None
    chosen = np.ones((len(evidence.masks), len(vocabulary.classes)), bool)
    for number, (row, some) in enumerate(zip(chosen, allowed, strict=True)):
        if some is not None:
            row[:] = some
        if settings.image_top_k is not None:
            if evidence.photos is None:
                raise UsageError("image_top_k needs the photo's own embedding, which this run does not hold")
            row[:] = image_top_k(evidence.photos[number], text, vocabulary, settings.image_top_k, row.copy())
    return chosen
