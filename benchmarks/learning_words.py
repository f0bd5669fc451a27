"""A word that the model does not know, taught by a few examples: F1 on photos that taught nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from label_rules import EmbeddedTruth, EncodedWords
from learning_curves import reviewed

from gem_label.labeling import LabelSettings, MaskLabels, label_evidence
from gem_label.learning.judging import PhotoReview
from gem_label.learning.learned import Learned, apply_learned
from gem_label.learning.learning import learn
from gem_label.learning.training import ReviewedPhoto, evidence_of_photos, judge_photos, thing_classes
from gem_label.metrics.labels.curves import Counts


def teach_nonsense(
    truths: Sequence[EmbeddedTruth], word: str, name: str, words: EncodedWords, examples: int, order: int
) -> dict[str, float]:
    """Accept the first things of a word under another name, learn, and label the photos without any of them.

    Args:
        truths: P photos.
        word: as the annotations call it.
        name: as the vocabulary calls it.
        words: the vocabulary.
        examples: how many things are accepted; nothing else is known about their photos.
        order: seed of the order of the photos.

    Returns:
        "before" and "f1" of the word without and with what was learned, and whether words were used.
    """
    named = [
        replace(
            photo, truth=replace(photo.truth, words=[name if w == word else w for w in photo.truth.words])
        )
        for photo in truths
    ]
    shown: list[ReviewedPhoto] = []
    rest = np.random.default_rng(order).permutation(len(named)).tolist()
    left = examples
    while left and rest:
        photo = named[rest.pop(0)]
        things = [mask for mask, w in zip(photo.truth.masks, photo.truth.words, strict=True) if w == name][
            :left
        ]
        left -= len(things)
        shown.append(
            ReviewedPhoto(photo.masks, photo.image_embedding, PhotoReview(things, [name] * len(things)))
        )
    lesson = learn(shown, words.text, words.vocabulary, words.logit_scale)
    others = [reviewed(named[i], words) for i in sorted(rest)]
    evidence = evidence_of_photos(others, words.text.shape[1])
    found = {}
    for kind, learned in (("before", None), ("f1", Learned(None, lesson.calibration, lesson.words))):
        text, rescore = apply_learned(learned, words.text, words.vocabulary, words.logit_scale)
        labels = label_evidence(
            evidence,
            text,
            words.vocabulary,
            words.logit_scale,
            LabelSettings(),
            [None] * len(others),
            rescore,
        )
        found[kind] = counts_of_class(others, labels, name).f1 or 0.0
    return found | {"used": float(lesson.words is not None)}


def counts_of_class(photos: Sequence[ReviewedPhoto], labels: MaskLabels, name: str) -> Counts:
    """Right, wrong and missed labels of one class."""
    number = labels.classes.index(name)
    judged = judge_photos(photos, labels)
    things = np.flatnonzero(thing_classes(photos, labels.classes) == number)
    kept = labels.kept & (labels.label_index == number)
    hits = len(np.intersect1d(np.unique(judged.thing[kept & (judged.verdict == 1)]), things))
    return Counts(hits, int(kept.sum()) - hits, len(things) - hits)
