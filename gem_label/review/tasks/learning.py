"""What the decisions of reviewers teach the run behind a field, and the labels that come of it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from gem_label.errors import GemLabelError
from gem_label.learning.added_words import AddedWords, add_classes, remove_classes
from gem_label.progress import Progress
from gem_label.review.database import database_errors
from gem_label.review.exchange.decided import decided_annotations
from gem_label.review.pushing.push_run import PushReport
from gem_label.review.storage.fields import main_field, run_of
from gem_label.review.tasks.relabeling import push_labels, settings_of_field
from gem_label.runs import relabel_run
from gem_label.runs.learn import LearnReport, learn_from_reviews
from gem_label.runs.reviews import reviews_of

if TYPE_CHECKING:
    from gem_label.clip.text import TextEncoder
    from gem_label.learning.learned import Learned
    from gem_label.runs import Run
    from gem_label.vocabulary import Vocabulary
    from gem_label.words import WordsPerImage


@database_errors()
def learn_from_decisions(
    dataset: Any, field: str, encoder: TextEncoder, run: Run | None = None, words: WordsPerImage | None = None
) -> LearnReport:
    """What the decided masks of a field teach its run; nothing is changed.

    Classes that reviewers gave masks and that the run does not have join its words, unless photos have words of their
    own.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        encoder: the text encoder of the run's CLIP.
        run: another run of the same photos; None: the one behind the field.
        words: words per photo, those that labeled the run; None: every photo may have every class.

    Raises:
        UsageError: there is no such field, or nobody decided about a mask.
        GemLabelError: the run cannot be read, or was labeled with words per photo that are not given.
    """
    field = main_field(dataset, field)
    run = run or run_of(dataset, field)
    known = decided_annotations(dataset, field)
    vocabulary, added = run.vocabulary, AddedWords()
    if words is None:
        names = {mask.label for photo in known.photos for mask in photo.masks if mask.state != "rejected"}
        vocabulary, added = add_classes(vocabulary, sorted(filter(None, names)), partial(_prepare, encoder))
    reviews = reviews_of(run, known, complete=False, vocabulary=vocabulary)
    text = encoder.encode(vocabulary.phrases)
    source = {"dataset": dataset.name, "field": field}
    report = learn_from_reviews(run, reviews.photos, text, words, source, vocabulary, added)
    return replace(report, left_out=reviews.left_out)


def _prepare(encoder: TextEncoder, vocabulary: Vocabulary) -> Vocabulary:
    """The vocabulary as the encoder can use it, without negative words that resemble a class."""
    return encoder.prepare(replace(vocabulary, negatives=()), list(vocabulary.negatives) or "none")


def apply_lesson(
    dataset: Any, field: str, encoder: TextEncoder, report: LearnReport | None
) -> Generator[Progress, None, PushReport]:
    """Give the masks of a field the labels that rest on what was learned; no photo is opened.

    Masks that reviewers decided about stay as they are: the report says how many. `learned.json` of the run has what
    was learned afterwards.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        encoder: the text encoder of the run's CLIP.
        report: what was learned; None: back to the words alone, without those that reviewers added.

    Yields:
        Progress; the generator returns the report.

    Raises:
        GemLabelError: the run cannot be read, or was labeled with words per photo.
    """
    field = main_field(dataset, field)
    run = run_of(dataset, field)
    if run.manifest["labeling"]["words_per_image"]:
        raise GemLabelError("the run was labeled with words per photo: use gem-label learn --words-per-image")
    learned: Learned | Literal["none"] = "none"
    if report is not None:
        vocabulary, learned = report.vocabulary, report.learned
    elif run.learned is not None:
        vocabulary = remove_classes(run.vocabulary, AddedWords.from_source(run.learned.source))
    else:
        vocabulary = run.vocabulary
    settings = settings_of_field(dataset, field, run, vocabulary)
    yield Progress(0, 2, "labeling the masks of the run")
    text = encoder.encode(vocabulary.phrases)
    run = relabel_run(run, vocabulary, text, label_settings=settings, learned=learned)
    yield Progress(1, 2, "putting the labels into the dataset")
    return push_labels(dataset, field, run)
