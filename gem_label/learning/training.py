"""From reviewed photos to examples: which vectors show which word, and which labels are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gem_label.labeling.evidence import Evidence, evidence_of
from gem_label.labeling.labels import MaskLabels
from gem_label.labeling.scoring import ScoreModel, mask_vectors
from gem_label.learning.calibration import DecidedLabels
from gem_label.learning.features import pair_shares
from gem_label.learning.judging import RIGHT, UNKNOWN, WRONG, Judgments, PhotoReview, judge_labels
from gem_label.learning.words import OTHER, WordExamples
from gem_label.masks import MaskSet, Overlaps

SURROUND_WEIGHT = 0.5
"""How much the surround of an example counts, as something that does not show its word."""
UNSELECTED_WEIGHT = 0.3
"""How much a mask counts for a calibration that repeats a better one; masks of one thing share it."""
TWICE = 0.5
"""IoU from which two masks count as one decision."""


@dataclass(frozen=True)
class ReviewedPhoto:
    """A photo of a run with what is known about it.

    Attributes:
        masks: N masks with embeddings.
        embedding: (d,) class-token embedding of the photo; None where the run holds none.
        review: its things and rejected masks.
        allowed: (C,) the classes that are known to be in it; None: not known.
    """

    masks: MaskSet
    embedding: NDArray[np.floating] | None
    review: PhotoReview
    allowed: NDArray[np.bool_] | None = None


def evidence_of_photos(photos: Sequence[ReviewedPhoto], dimension: int) -> Evidence:
    """The evidence of all masks of the photos, photo after photo."""
    return evidence_of([photo.masks for photo in photos], [photo.embedding for photo in photos], dimension)


def judge_photos(photos: Sequence[ReviewedPhoto], labels: MaskLabels) -> Judgments:
    """What the reviews say about the labels of all masks; things are numbered on from photo to photo."""
    names, parts, start, things = labels.names, [], 0, 0
    for photo in photos:
        stop = start + len(photo.masks)
        judged = judge_labels(photo.masks.rles, names[start:stop], photo.review)
        parts.append((judged, np.where(judged.thing >= 0, judged.thing + things, -1)))
        start, things = stop, things + len(photo.review.things)
    nothing = np.zeros(0, np.int64)
    return Judgments(
        np.concatenate([nothing.astype(np.int8), *(each.verdict for each, _ in parts)]),
        np.concatenate([nothing, *(thing for _, thing in parts)]),
        np.concatenate([np.zeros(0), *(each.iou for each, _ in parts)]),
        np.concatenate([np.zeros(0, bool), *(each.misplaced for each, _ in parts)]),
    )


def thing_classes(photos: Sequence[ReviewedPhoto], classes: Sequence[str]) -> NDArray[np.int64]:
    """(T,) class index of every thing of the photos, -1 for classes that are not among these."""
    place = {name: number for number, name in enumerate(classes)}
    return np.array([place.get(name, -1) for photo in photos for name in photo.review.names], np.int64)


def word_examples(
    photos: Sequence[ReviewedPhoto],
    evidence: Evidence,
    labels: MaskLabels,
    judged: Judgments,
    model: ScoreModel | None = None,
) -> WordExamples:
    """What the reviews teach about words.

    The masks of a thing show its word, and their surrounds do not. A mask with a wrong label that lies on no known
    thing shows something else; one that is only a bad outline of a thing says nothing about words.

    Args:
        photos: P photos with M masks.
        evidence: of all masks.
        labels: of all masks, without any learning.
        judged: by `judge_photos`.
        model: how scores follow from logits; None: the default.
    """
    model = model or ScoreModel()
    inside, around, surrounded = mask_vectors(evidence, slice(0, len(labels)), model)
    things = thing_classes(photos, labels.classes)
    shown = np.where(judged.thing >= 0, np.append(things, -1)[judged.thing], -1)
    share = np.ones(len(labels))
    on_thing = judged.thing >= 0
    share[on_thing] = 1 / np.bincount(judged.thing[on_thing], minlength=1)[judged.thing[on_thing]]
    wrong = labels.selected & (judged.verdict == WRONG) & ~judged.misplaced & (judged.thing < 0)
    rows = np.concatenate([np.flatnonzero(shown >= 0), np.flatnonzero(wrong)])
    ring = np.flatnonzero((shown >= 0) & surrounded)
    surrounds = np.zeros_like(inside) if around is None else around
    return WordExamples(
        np.concatenate([inside[rows], surrounds[ring]]),
        np.concatenate([np.where(wrong[rows], OTHER, shown[rows]), np.full(len(ring), -1)]),
        np.concatenate([np.full(len(rows), -1), shown[ring]]),
        np.concatenate([share[rows], SURROUND_WEIGHT * share[ring]]),
        np.concatenate([evidence.photo[rows], evidence.photo[ring]]),
    )


def decided_labels(
    evidence: Evidence, labels: MaskLabels, judged: Judgments, features: NDArray[np.float32]
) -> DecidedLabels:
    """The labels of all masks as a calibration learns from them.

    Args:
        evidence: of M masks.
        labels: of these masks, without calibration.
        judged: by `judge_photos`.
        features: (M, F) of `mask_features`.

    Returns:
        M labels. Those that nothing is known about have the weight 0, and selected ones count most.
    """
    shared = UNSELECTED_WEIGHT / same_masks(evidence.areas, evidence.overlaps)
    weight = np.where(labels.selected, 1.0, shared)
    weight[judged.verdict == UNKNOWN] = 0.0
    names = np.array([name or "" for name in labels.names], object)
    right = judged.verdict == RIGHT
    return DecidedLabels(features, labels.score, names, right, evidence.photo, weight)


def same_masks(areas: NDArray[np.integer], overlaps: Overlaps) -> NDArray[np.float64]:
    """(M,) how many masks have an IoU of at least 0.5 with each mask, itself included."""
    _, iou = pair_shares(areas, overlaps)
    same = iou >= TWICE
    pairs = np.concatenate([overlaps.first[same], overlaps.second[same]])
    return np.bincount(pairs, minlength=len(areas)).astype(np.float64) + 1
