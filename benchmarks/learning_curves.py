"""Simulated reviews of a run whose annotations are known, and what learning from them does to the other photos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from label_rules import EmbeddedTruth, EncodedWords, photo_labels
from numpy.typing import NDArray

from gem_label.labeling import LabelSettings, MaskLabels, Thresholds, label_evidence
from gem_label.labeling.settings import DEFAULT_MIN_SCORE
from gem_label.learning.estimates import best_threshold, estimate_precision
from gem_label.learning.judging import PhotoReview
from gem_label.learning.learned import Learned, apply_learned
from gem_label.learning.learning import Lesson, learn
from gem_label.learning.order import review_order
from gem_label.learning.training import ReviewedPhoto, evidence_of_photos, judge_photos, thing_classes
from gem_label.metrics.labels.curves import Counts, curve
from gem_label.metrics.labels.matching import compare

RECALL = 0.5
"""Recall at which the precision is reported."""


def reviewed(photo: EmbeddedTruth, words: EncodedWords) -> ReviewedPhoto:
    """A photo that is reviewed in full for all words."""
    classes = frozenset(words.vocabulary.classes)
    rows = [i for i, word in enumerate(photo.truth.words) if word in classes]
    review = PhotoReview(
        [photo.truth.masks[i] for i in rows], [photo.truth.words[i] for i in rows], complete=classes
    )
    return ReviewedPhoto(photo.masks, photo.image_embedding, review)


def label_by(
    photos: Sequence[ReviewedPhoto],
    words: EncodedWords,
    lesson: Lesson | None,
    min_score: float = DEFAULT_MIN_SCORE,
) -> MaskLabels:
    """The labels of all masks by what was learned; None: nothing."""
    learned = None if lesson is None else Learned(None, lesson.calibration, lesson.words)
    text, rescore = apply_learned(learned, words.text, words.vocabulary, words.logit_scale)
    evidence = evidence_of_photos(photos, words.text.shape[1])
    nothing, settings = [None] * len(photos), LabelSettings(Thresholds(min_score))
    return label_evidence(evidence, text, words.vocabulary, words.logit_scale, settings, nothing, rescore)


def figures_by(
    truths: Sequence[EmbeddedTruth],
    photos: Sequence[ReviewedPhoto],
    words: EncodedWords,
    lesson: Lesson | None,
    min_score: float = DEFAULT_MIN_SCORE,
) -> dict[str, float]:
    """The figures of photos labeled by what was learned; 0 where one is not defined.

    Returns:
        "f1", "precision" and "recall" of the kept labels, "best_f1" over all thresholds, and "precision_at_recall",
        the best precision at a recall of at least `RECALL`.
    """
    labels, start, parts = label_by(photos, words, lesson, min_score), 0, []
    for photo in photos:
        parts.append(labels[start : start + len(photo.masks)])
        start += len(photo.masks)
    found = compare(photo_labels(truths, parts, words), len(words.vocabulary.classes))
    kept, every, things = found.kept_matching, found.matching, int(found.instances.sum())
    right = int(kept.right.sum())
    counts = Counts(right, int(kept.wrong.sum()), things - right)
    over = curve(found.score[every.counted], every.right[every.counted], things)
    best, enough = over.best_f1(), np.flatnonzero(over.recall >= RECALL)
    return {
        "f1": counts.f1 or 0.0,
        "precision": counts.precision or 0.0,
        "recall": counts.recall or 0.0,
        "best_f1": 0.0 if best is None else best.f1 or 0.0,
        "precision_at_recall": float(over.precision[enough].max()) if len(enough) else 0.0,
    }


def photo_curve(
    truths: Sequence[EmbeddedTruth], words: EncodedWords, counts: Sequence[int], orders: int
) -> list[dict[str, Any]]:
    """Review the first photos of random orders, learn, and measure on all photos that were not reviewed.

    Args:
        truths: P photos.
        words: the vocabulary.
        counts: how many photos are reviewed.
        orders: how many random orders.

    Returns:
        For each order and count: "reviewed", "before" and "after" (`figures_by` on the other photos), "at_best" (the
        same at the best threshold of the reviewed photos), "labels", the decided ones, and whether a calibration and
        words were used.
    """
    photos = [reviewed(photo, words) for photo in truths]
    rows = []
    for order in range(orders):
        permuted = np.random.default_rng(order).permutation(len(photos))
        for count in counts:
            shown, rest = np.sort(permuted[:count]).tolist(), np.sort(permuted[count:]).tolist()
            lesson = learn([photos[i] for i in shown], words.text, words.vocabulary, words.logit_scale)
            others, known = [photos[i] for i in rest], [truths[i] for i in rest]
            before = figures_by(known, others, words, None)
            nothing = lesson.calibration is None and lesson.words is None
            after = before if nothing else figures_by(known, others, words, lesson)
            best = best_threshold([photos[i] for i in shown], lesson.after)
            least = DEFAULT_MIN_SCORE if best is None else best.threshold
            at_best = figures_by(known, others, words, lesson, least)
            rows.append(
                {
                    "order": order,
                    "reviewed": count,
                    "labels": round(lesson.validation.right + lesson.validation.wrong),
                    "before": before,
                    "after": after,
                    "at_best": at_best | {"threshold": least},
                    "calibration": lesson.calibration is not None,
                    "words": lesson.words is not None,
                }
            )
    return rows


def gap_closed(rows: Iterable[dict[str, Any]], figure: str = "f1") -> dict[str, float]:
    """Means, the share of what is missing to 1 that is gained, and the share of orders that are harmed."""
    before, after = (np.array([row[name][figure] for row in rows]) for name in ("before", "after"))
    best = float(np.mean([row["at_best"][figure] for row in rows]))
    gained = float((after.mean() - before.mean()) / max(1 - before.mean(), 1e-9))
    harmed = float((after < before - 1e-6).mean())
    return {
        "before": float(before.mean()),
        "after": float(after.mean()),
        "at_best": best,
        "gained": gained,
        "harmed": harmed,
    }


@dataclass(frozen=True)
class Answer:
    """What a simulated reviewer says about one mask: the class that it shows, or that its label is wrong."""

    photo: int
    mask: int
    label: str
    shows: str | None


def review_by_masks(
    truths: Sequence[EmbeddedTruth],
    pool: Sequence[int],
    test: Sequence[int],
    words: EncodedWords,
    order: str,
    steps: Sequence[int],
    seed: int,
) -> list[dict[str, float]]:
    """Decide about masks one by one, learn now and then, and measure on photos that are not reviewed.

    A reviewer accepts a right label, renames one whose mask shows another thing of the vocabulary, and rejects the
    others.

    Args:
        truths: P photos.
        pool: the photos whose labels are decided about.
        test: the photos that are measured.
        words: the vocabulary.
        order: "random" or "queue", `review_order` by what was learned so far.
        steps: after so many decisions it learns.
        seed: of the orders.

    Returns:
        After each step "decisions" and `figures_by`.
    """
    photos = [reviewed(truths[i], words) for i in pool]
    others, known = [reviewed(truths[i], words) for i in test], [truths[i] for i in test]
    owner = np.repeat(np.arange(len(photos)), [len(photo.masks) for photo in photos])
    first = np.cumsum([0, *(len(photo.masks) for photo in photos)])
    decided = np.zeros(len(owner), bool)
    answers: list[Answer] = []
    lesson: Lesson | None = None
    rows = []
    for before, step in zip([0, *steps[:-1]], steps, strict=True):
        labels = label_by(photos, words, lesson)
        judged = judge_photos(photos, labels)
        things = np.append(thing_classes(photos, labels.classes), -1)
        candidates = np.flatnonzero(labels.selected & ~decided & (labels.score >= 0.05))
        if order == "queue":
            probability, classes = labels.score[candidates], labels.label_index[candidates]
            keys = np.random.default_rng(seed + before).random(len(candidates))
            chosen = review_order(probability, classes, owner[candidates], step - before, keys)
        else:
            chosen = np.random.default_rng(seed + before).permutation(len(candidates))[: step - before]
        for mask in candidates[chosen].tolist():
            decided[mask] = True
            name = labels.classes[labels.label_index[mask]]
            shown = things[judged.thing[mask]] if judged.thing[mask] >= 0 else -1
            shows = name if judged.verdict[mask] == 1 else labels.classes[shown] if shown >= 0 else None
            answers.append(Answer(int(owner[mask]), int(mask - first[owner[mask]]), name, shows))
        lesson = learn(decided_photos(photos, answers), words.text, words.vocabulary, words.logit_scale)
        measured = figures_by(known, others, words, lesson)
        rows.append({"decisions": float(len(answers))} | measured)
    return rows


def decided_photos(photos: Sequence[ReviewedPhoto], answers: Sequence[Answer]) -> list[ReviewedPhoto]:
    """The photos with decisions, and no more known about them than these."""
    found = []
    for number in sorted({answer.photo for answer in answers}):
        photo, own = photos[number], [answer for answer in answers if answer.photo == number]
        rles = photo.masks.rles
        shown = [answer for answer in own if answer.shows is not None]
        wrong = [answer for answer in own if answer.shows != answer.label]
        review = PhotoReview(
            [rles[answer.mask] for answer in shown],
            [answer.shows or "" for answer in shown],
            [rles[answer.mask] for answer in wrong],
            [answer.label for answer in wrong],
        )
        found.append(ReviewedPhoto(photo.masks, photo.embedding, review))
    return found


def precision_coverage(
    right: NDArray[np.bool_], draws: Sequence[int], repeats: int, seed: int = 0
) -> dict[str, float]:
    """How often the stated interval holds the precision of all labels.

    Args:
        right: (L,) of all labels.
        draws: how many are decided about, drawn at random.
        repeats: simulated reviews for each.
        seed: of the draws.
    """
    rng, truth = np.random.default_rng(seed), float(right.mean())
    found = {}
    for count in draws:
        hits = 0
        for _ in range(repeats):
            drawn = right[rng.permutation(len(right))[:count]]
            estimate = estimate_precision(int(drawn.sum()), count, len(right))
            hits += estimate.low <= truth <= estimate.high
        found[str(count)] = hits / repeats
    return found
