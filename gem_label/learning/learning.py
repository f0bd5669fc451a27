"""Learning: words and a calibration from reviewed photos, each used only where it helps photos it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gem_label.labeling.labeling import label_evidence, select_labels
from gem_label.labeling.labels import MaskLabels, join_labels
from gem_label.labeling.settings import LabelSettings
from gem_label.learning.calibration import Calibration
from gem_label.learning.estimates import count_labels
from gem_label.learning.features import mask_features
from gem_label.learning.judging import Judgments
from gem_label.learning.training import (
    ReviewedPhoto,
    decided_labels,
    evidence_of_photos,
    judge_photos,
    word_examples,
)
from gem_label.learning.validation import Validation, choose_calibration, photo_folds
from gem_label.learning.word_choice import WORD_FOLDS, WordValidation, choose_words
from gem_label.learning.words import LearnedWords
from gem_label.vocabulary import Vocabulary


@dataclass(frozen=True)
class Lesson:
    """What reviewed photos taught, and how it does on photos that it has not seen.

    Attributes:
        calibration: None where the untaught scores stay.
        words: None where classes stay their text.
        validation: of the calibration.
        word_validation: of the words.
        before: the labels of all masks of the reviewed photos without learning.
        after: the same by what was learned from the other photos, so that their scores are honest.
        judged: what the reviews say about the labels after.
    """

    calibration: Calibration | None
    words: LearnedWords | None
    validation: Validation
    word_validation: WordValidation
    before: MaskLabels
    after: MaskLabels
    judged: Judgments


def learn(
    photos: Sequence[ReviewedPhoto],
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
    settings: LabelSettings | None = None,
) -> Lesson:
    """Learn from reviewed photos. Deterministic: the same photos always teach the same.

    Args:
        photos: in the order of the run, those that follow each other may be alike.
        text: (T, d) text embeddings of `vocabulary.phrases`, without any learning.
        vocabulary: the words.
        logit_scale: the CLIP model's scale.
        settings: thresholds of the labels before and after; None: the defaults.
    """
    settings = settings or LabelSettings()
    evidence = replace(evidence_of_photos(photos, text.shape[1]), token_share=settings.token_share)

    def label(some: Sequence[ReviewedPhoto], words: NDArray[np.float32]) -> MaskLabels:
        allowed = [photo.allowed for photo in some]
        of_some = evidence_of_photos(some, text.shape[1])
        return label_evidence(of_some, words, vocabulary, logit_scale, settings, allowed)

    before = label(photos, text)
    examples = word_examples(photos, evidence, before, judge_photos(photos, before))
    words = choose_words(examples, len(photos), text, vocabulary, logit_scale)
    labels, features = before, mask_features(evidence, before, text, vocabulary, logit_scale)
    if words.words is not None:
        parts = []
        for fold, taught in zip(photo_folds(len(photos), WORD_FOLDS), words.held_out_text, strict=True):
            some = [photos[i] for i in fold.tolist()]
            found, of_some = label(some, taught), evidence_of_photos(some, text.shape[1])
            parts.append((found, mask_features(of_some, found, taught, vocabulary, logit_scale)))
        labels = join_labels([found for found, _ in parts])
        features = np.concatenate([each for _, each in parts])
    judged = judge_photos(photos, labels)
    choice = choose_calibration(decided_labels(evidence, labels, judged, features))
    after, calibration, validation = labels, choice.calibration, choice.validation
    if calibration is not None:
        scores = labels.top_scores.copy()
        scores[:, 0] = np.where(scores[:, 0] > 0, choice.held_out, 0.0)
        after = select_labels(evidence, replace(labels, top_scores=scores), settings)
        if (count_labels(photos, after).f1 or 0.0) < (count_labels(photos, labels).f1 or 0.0):
            reason = "fewer of the labels that reach the threshold would be right, or more things missed"
            after, calibration = labels, None
            validation = replace(validation, used=False, reason=reason)
    return Lesson(calibration, words.words, validation, words.validation, before, after, judged)
