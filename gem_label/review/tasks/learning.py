"""What the decisions of reviewers teach the run behind a field, and the labels that come of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Literal

from gem_label.errors import GemLabelError
from gem_label.progress import Progress
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


def learn_from_decisions(dataset: Any, field: str, encoder: TextEncoder) -> LearnReport:
    """What the decided masks of a field teach its run; nothing is changed.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        encoder: the text encoder of the run's CLIP.

    Raises:
        UsageError: there is no such field, or nobody decided about a mask.
        GemLabelError: the run cannot be read, or was labeled with words per photo.
    """
    field = main_field(dataset, field)
    run = run_of(dataset, field)
    reviews = reviews_of(run, decided_annotations(dataset, field), complete=False)
    text = encoder.encode(run.vocabulary.phrases)
    return learn_from_reviews(run, reviews.photos, text, source={"dataset": dataset.name, "field": field})


def apply_lesson(
    dataset: Any, field: str, encoder: TextEncoder, learned: Learned | Literal["none"]
) -> Generator[Progress, None, PushReport]:
    """Give the masks of a field the labels that rest on what was learned; no photo is opened.

    Masks that reviewers decided about stay as they are: the report says how many. `learned.json` of the run has what
    was learned afterwards.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        encoder: the text encoder of the run's CLIP.
        learned: what was learned; "none": back to the words alone.

    Yields:
        Progress; the generator returns the report.

    Raises:
        GemLabelError: the run cannot be read, or was labeled with words per photo.
    """
    field = main_field(dataset, field)
    run = run_of(dataset, field)
    if run.manifest["labeling"]["words_per_image"]:
        raise GemLabelError("the run was labeled with words per photo: use gem-label learn --words-per-image")
    settings = settings_of_field(dataset, field, run, run.vocabulary)
    yield Progress(0, 2, "labeling the masks of the run")
    text = encoder.encode(run.vocabulary.phrases)
    run = relabel_run(run, run.vocabulary, text, label_settings=settings, learned=learned)
    yield Progress(1, 2, "putting the labels into the dataset")
    return push_labels(dataset, field, run)
