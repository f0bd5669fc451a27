"""How gem-label named masks before scores, negative words and selection: what benchmarks compare with.

A softmax over the words alone of the pooled embedding e_m; every mask keeps its best word, whatever its probability,
but for masks inside a better one of the same class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from gem_label.labeling import MaskLabels, Vocabulary, candidate_logits
from gem_label.masks import MaskSet

CONTAINMENT = 0.9
"""Share of a mask's area inside a better mask of its class from which it goes."""


def label_by_older_rule(
    masks: MaskSet,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
    min_score: float = 0.0,
) -> MaskLabels:
    """Label the masks of one photo by the older rule.

    Args:
        masks: N masks with embeddings; surrounds and overlaps are not looked at.
        text: (P, d) unit-length text embeddings of `vocabulary.phrases`.
        vocabulary: classes and background words; negatives take no part.
        logit_scale: the CLIP model's scale.
        min_score: probability in [0, 1] below which a mask is not kept.

    Returns:
        The best class of each mask and its probability among classes and background words.

    Raises:
        ValueError: masks without embeddings.
    """
    if masks.embeddings is None and len(masks):
        raise ValueError("the masks have no embeddings yet: pool patch features first")
    vectors = np.zeros((0, text.shape[1]), np.float32) if masks.embeddings is None else masks.embeddings
    classes, competing = len(vocabulary.classes), len(vocabulary.classes) + len(vocabulary.background)
    logits = candidate_logits(vectors, text, vocabulary, logit_scale)[:, :competing]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = odds / odds.sum(axis=1, keepdims=True)
    best = probability[:, :classes].argmax(axis=1)
    score = probability[np.arange(len(best)), best]
    background = score < probability.max(axis=1)
    ordered = np.sort(np.hstack([np.zeros((len(best), 1), np.float32), probability]), axis=1)
    selected = ~background & ~_inside_better(masks, best, score, ~background)
    return MaskLabels(
        classes=vocabulary.classes,
        top_classes=best[:, None].astype(np.int32),
        top_scores=score[:, None].astype(np.float32),
        background=background,
        margin=(ordered[:, -1] - ordered[:, -2]).astype(np.float32),
        kept=selected & (score >= min_score),
        selected=selected,
    )


def _inside_better(
    masks: MaskSet, classes: NDArray[np.int64], scores: NDArray[np.float32], labeled: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(N,) the masks inside a better one of their class that stays: of a higher score, or the larger of equals."""
    goes = np.zeros(len(masks), bool)
    areas, rles = masks.areas, masks.rles
    for index in np.unique(classes[labeled]).tolist():
        rows = np.flatnonzero(labeled & (classes == index))
        rows = rows[np.lexsort((rows, -areas[rows], -scores[rows]))]
        of_class = [rles[row] for row in rows]
        # iscrowd divides the intersection by the first mask's area alone, which is containment
        inside = np.asarray(coco_mask.iou(of_class, of_class, [1] * len(of_class))) >= CONTAINMENT
        for place, row in enumerate(rows.tolist()):
            goes[row] = bool((inside[place, :place] & ~goes[rows[:place]]).any())
    return goes
