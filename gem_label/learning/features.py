"""What a run knows about every mask and its label, as numbers that mean the same for any word (numpy only)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gem_label.labeling.evidence import Evidence
from gem_label.labeling.labels import MaskLabels
from gem_label.labeling.scoring import candidate_logits
from gem_label.masks import Overlaps
from gem_label.overlaps import STEPS
from gem_label.vocabulary import Vocabulary

FEATURES = (
    "inside", "surround", "difference", "margin", "lead", "norm", "surround_norm", "cosine", "alignment",
    "photo", "photo_lead", "log_odds", "log_area", "log_area_squared", "predicted_iou", "stability",
    "edges", "fills_photo", "fill", "elongation", "inside_larger", "duplicates", "nested_in", "holds",
)  # fmt: skip
"""Names of the columns of `mask_features`."""

_SMALLEST = 1e-6
_MOST_LOG_ODDS = 9.0
_DUPLICATE, _NESTED = 0.7, 0.8  # IoU of one thing masked twice; share of a mask inside a larger one


def log_odds(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """The log-odds of probabilities, within [-9, 9], so that a score of 0 stays a number."""
    bounded = np.clip(np.asarray(scores, np.float64), _SMALLEST, 1 - _SMALLEST)
    return np.clip(np.log(bounded / (1 - bounded)), -_MOST_LOG_ODDS, _MOST_LOG_ODDS)


def mask_features(
    evidence: Evidence,
    labels: MaskLabels,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
) -> NDArray[np.float32]:
    """The evidence for the label of every mask.

    Nothing here depends on which word the label is, so that what is learned from these numbers holds for other
    vocabularies too. Similarities are logits of the run's own CLIP model. What a run does not hold (surrounds,
    embeddings of photos) is 0.

    Args:
        evidence: M masks of P photos.
        labels: their labels by `score_evidence`; the best class of each is looked at.
        text: (T, d) text embeddings of `vocabulary.phrases`.
        vocabulary: the words.
        logit_scale: the CLIP model's scale.

    Returns:
        (M, F) float32, a column for each of `FEATURES`.
    """
    if not len(labels):
        return np.zeros((0, len(FEATURES)), np.float32)
    columns = _word_features(evidence, labels, text, vocabulary, logit_scale) | _shape_features(evidence)
    columns |= _overlap_features(evidence.areas, evidence.overlaps)
    return np.stack([columns[name] for name in FEATURES], axis=1).astype(np.float32)


def _word_features(
    evidence: Evidence,
    labels: MaskLabels,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
) -> dict[str, NDArray[np.floating]]:
    """Similarities of masks, surrounds and photos with the word of each mask."""
    classes, inside = np.maximum(labels.top_classes[:, 0], 0), evidence.embeddings
    around = np.zeros_like(inside) if evidence.surrounds is None else evidence.surrounds
    logits = _class_logits(inside, classes, text, vocabulary, logit_scale)
    around_logits = _class_logits(around, classes, text, vocabulary, logit_scale)
    norm, around_norm = np.linalg.norm(inside, axis=1), np.linalg.norm(around, axis=1)
    odds = log_odds(labels.top_scores[:, :2])
    photo = photo_lead = np.zeros(len(classes), np.float32)
    if evidence.photos is not None:
        of_photos = candidate_logits(evidence.photos, text, vocabulary, logit_scale)
        photo = of_photos[evidence.photo, classes]
        photo_lead = photo - of_photos.max(axis=1)[evidence.photo]
    return {
        "inside": logits,
        "surround": around_logits,
        "difference": logits - around_logits,
        "margin": labels.margin,
        "lead": odds[:, 0] - odds[:, 1] if odds.shape[1] > 1 else np.zeros(len(classes)),
        "norm": norm,
        "surround_norm": around_norm,
        "cosine": logits / np.maximum(norm, 0.1),
        "alignment": np.einsum("md,md->m", inside, around) / np.maximum(norm * around_norm, 1e-3),
        "photo": photo,
        "photo_lead": photo_lead,
        "log_odds": odds[:, 0],
    }


def _class_logits(
    vectors: NDArray[np.float32],
    classes: NDArray[np.integer],
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
) -> NDArray[np.float32]:
    """(M,) logit of each vector and its own class, with the best of the class's phrasings."""
    first, sizes = vocabulary.first_phrase[classes], np.array([len(p) for p in vocabulary.phrasings])[classes]
    best = np.einsum("md,md->m", vectors, text[first])
    for place in range(1, int(sizes.max(initial=1))):
        rows = np.flatnonzero(sizes > place)
        best[rows] = np.maximum(best[rows], np.einsum("md,md->m", vectors[rows], text[first[rows] + place]))
    return best * np.float32(logit_scale)


def _shape_features(evidence: Evidence) -> dict[str, NDArray[np.floating]]:
    """Size and form of the masks, and what SAM says about them."""
    size = evidence.sizes[evidence.photo]
    x, y, width, height = evidence.boxes.T
    log_area = np.log(np.maximum(evidence.areas, 1) / np.maximum(size.prod(axis=1), 1))
    edges = (x <= 1).astype(float) + (y <= 1) + (x + width >= size[:, 1] - 1) + (y + height >= size[:, 0] - 1)
    return {
        "log_area": log_area,
        "log_area_squared": log_area**2,
        "predicted_iou": evidence.predicted_iou,
        "stability": evidence.stability,
        "edges": edges,
        "fills_photo": (edges >= 3).astype(float),
        "fill": evidence.areas / np.maximum(width * height, 1),
        "elongation": np.abs(np.log(np.maximum(width, 1) / np.maximum(height, 1))),
    }


def _overlap_features(areas: NDArray[np.integer], overlaps: Overlaps) -> dict[str, NDArray[np.floating]]:
    """How each mask lies among the others of its photo."""
    count = len(areas)
    first, second = overlaps.first.astype(np.int64), overlaps.second.astype(np.int64)
    share, iou = pair_shares(areas, overlaps)
    smaller = np.where(areas[first] < areas[second], first, second)
    larger = first + second - smaller
    same = iou > _DUPLICATE
    nested = (share > _NESTED) & ~same
    inside = np.zeros(count)
    np.maximum.at(inside, smaller, share)
    twice = np.bincount(first[same], minlength=count) + np.bincount(second[same], minlength=count)
    return {
        "inside_larger": inside,
        "duplicates": np.log1p(twice),
        "nested_in": np.log1p(np.bincount(smaller[nested], minlength=count)),
        "holds": np.log1p(np.bincount(larger[nested], minlength=count)),
    }


def pair_shares(
    areas: NDArray[np.integer], overlaps: Overlaps
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each overlapping pair the share of the smaller mask that both have in common, and their IoU."""
    share = overlaps.share.astype(np.float64) / STEPS
    first, second = areas[overlaps.first], areas[overlaps.second]
    common = share * np.minimum(first, second)
    return share, common / np.maximum(first + second - common, 1)
