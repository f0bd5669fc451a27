"""`learn_run`: a run learns from reviews of some of its photos and labels all masks again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import GemLabelError
from gem_label.labeling import Thresholds
from gem_label.learning.added_words import AddedWords
from gem_label.learning.estimates import best_threshold, count_labels
from gem_label.learning.judging import PhotoReview
from gem_label.learning.learned import Learned
from gem_label.learning.learning import Lesson, learn
from gem_label.learning.mistakes import Mistake, likely_mistakes
from gem_label.learning.words import learned_text
from gem_label.metrics.labels.curves import Counts, ThresholdPoint
from gem_label.runs.reader import Run
from gem_label.runs.relabel import relabel_run
from gem_label.runs.reviews import reviewed_photos
from gem_label.vocabulary import Vocabulary
from gem_label.words import WordsPerImage


@dataclass(frozen=True)
class LearnReport:
    """What a run learned.

    Attributes:
        learned: for RUN/learned.json.
        lesson: how it does on photos that it has not seen.
        before, after: right, wrong and missed labels in the reviewed photos, without learning and by what the other
            photos taught.
        best: the threshold with the best F1 in the reviewed photos, by what the other photos taught; None where no
            label is right.
        mistakes: decisions that the rest contradicts, the least likely first.
        photos: the reviewed photos, as mistakes count them: image_id of each.
        vocabulary: the words that it was learned with: those of the run, and those that reviewers added.
        added: what reviewers added now.
        left_out: what of the reviews could not be used, a line each.
    """

    learned: Learned
    lesson: Lesson
    before: Counts
    after: Counts
    best: ThresholdPoint | None
    mistakes: tuple[Mistake, ...]
    photos: tuple[str, ...]
    vocabulary: Vocabulary
    added: AddedWords
    left_out: tuple[str, ...] = ()

    @property
    def mistaken_masks(self) -> tuple[str, ...]:
        """The ids of the masks of `mistakes` in the run, "<image_id>#<index>"."""
        return tuple(f"{self.photos[each.photo]}#{each.mask}" for each in self.mistakes)

    @property
    def teaches(self) -> bool:
        """Whether anything was learned that helps, or classes were added."""
        learned = self.learned
        return learned.calibration is not None or learned.words is not None or bool(self.added.classes)


def learn_from_reviews(
    run: Run,
    reviews: Mapping[int, PhotoReview],
    text: NDArray[np.float32],
    words: WordsPerImage | None = None,
    source: Mapping[str, Any] | None = None,
    vocabulary: Vocabulary | None = None,
    added: AddedWords | None = None,
) -> LearnReport:
    """Learn from reviews; nothing is written.

    Args:
        run: an open run.
        reviews: by the number of the photo in the run.
        text: (T, d) text embeddings of `vocabulary.phrases`, without any learning.
        words: words per photo, those that labeled the run; None: every photo may have every class.
        source: where the reviews come from, as JSON, for the record.
        vocabulary: the words, not with words per photo; None: those of the run.
        added: what reviewers added to the words of the run.

    Raises:
        GemLabelError: the run was labeled with words per photo, and they are not given.
    """
    if words is None and run.manifest["labeling"]["words_per_image"]:
        raise GemLabelError("the run was labeled with words per photo: give --words-per-image again")
    vocabulary, added = vocabulary or run.vocabulary, added or AddedWords()
    before = AddedWords() if run.learned is None else AddedWords.from_source(run.learned.source)
    examples = None if run.learned is None else run.learned.examples
    if examples is not None:
        text = learned_text(text, vocabulary, examples)
    photos = reviewed_photos(run, reviews, words)
    lesson = learn(photos, text, vocabulary, run.logit_scale, run.label_settings)
    about = dict(source or {}) | {
        "reviews_sha256": _digest(reviews),
        "vocabulary": list(vocabulary.classes),
        "added": (before + added).to_dict(),
        "calibration": asdict(lesson.validation),
        "words": asdict(lesson.word_validation),
    }
    learned = Learned(run.clip_sha256, lesson.calibration, lesson.words, examples, about)
    records = {record.number: record for record in run.photos()}
    return LearnReport(
        learned,
        lesson,
        count_labels(photos, lesson.before),
        count_labels(photos, lesson.after),
        best_threshold(photos, lesson.after),
        likely_mistakes(photos, lesson.after),
        tuple(records[number].image_id for number in sorted(reviews)),
        vocabulary,
        added,
    )


def learn_run(
    run: Run,
    report: LearnReport,
    text: NDArray[np.float32],
    words: WordsPerImage | None = None,
    out: str | Path | None = None,
    min_score: Thresholds | None = None,
) -> Run:
    """Label all masks of a run by what was learned, see `relabel_run`.

    Args:
        run: the run that learned.
        report: by `learn_from_reviews`.
        text: (T, d) text embeddings of the report's vocabulary, without any learning.
        words: words per photo; None: every photo may have every class.
        out: a new run directory; None: in place.
        min_score: thresholds; None: as in the run.
    """
    settings = run.label_settings
    return relabel_run(
        run,
        report.vocabulary,
        text,
        label_settings=settings if min_score is None else replace(settings, min_score=min_score),
        words=words,
        out=out,
        learned=report.learned if report.teaches or report.learned.examples else "none",
    )


def _digest(reviews: Mapping[int, PhotoReview]) -> str:
    """sha256 of what was learned from: photos, masks, classes."""
    digest = hashlib.sha256()
    for number in sorted(reviews):
        review = reviews[number]
        parts = ((review.names, review.things), (review.rejected_names, review.rejected))
        masks = [
            sorted([name, rle["counts"].decode("ascii")] for name, rle in zip(names, rles, strict=True))
            for names, rles in parts
        ]
        row = [number, *masks, sorted(review.complete)]
        digest.update(json.dumps(row, ensure_ascii=False).encode())
    return digest.hexdigest()
