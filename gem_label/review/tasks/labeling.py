"""Label the photos of a dataset: into a run that an interruption does not lose, and from it into a field."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gem_label.engines.local import LocalEngine
from gem_label.engines.stream import workers_for
from gem_label.errors import UsageError
from gem_label.labeling import LabelSettings, Vocabulary
from gem_label.labeling.negatives import Wanted
from gem_label.photos.listing import photo_folder, unique_image_id
from gem_label.photos.photo import Photo
from gem_label.progress import Progress
from gem_label.review.database import load_fiftyone
from gem_label.review.pushing.push_run import PushReport, push_run
from gem_label.review.storage.dataset_paths import photo_paths
from gem_label.review.storage.fields import check_field_name, mask_fields, pushed_fields
from gem_label.review.storage.internals import dataset_of
from gem_label.runs import open_run
from gem_label.runs.files import MANIFEST
from gem_label.words import WordsPerImage

if TYPE_CHECKING:
    from gem_label.labeler import Labeler


@dataclass(frozen=True, slots=True)
class LabelingReport:
    """What labeling a dataset did.

    Attributes:
        photos: how many photos were labeled.
        before: how many had been labeled before.
        failures: path and reason of each photo that could not be labeled.
        push: what came into the dataset.
    """

    photos: int
    before: int
    failures: list[tuple[str, str]]
    push: PushReport


def default_run_folder(dataset: Any, field: str) -> Path:
    """Where the run of a field is: where it was, or a folder in FiftyOne's own for datasets."""
    push = pushed_fields(dataset).get(field)
    if push is not None:
        return Path(push["run"])
    return runs_folder() / dataset.name / field


def runs_folder() -> Path:
    """The folder, in FiftyOne's own for datasets, that has the runs of datasets unless one gives another place."""
    import fiftyone  # without a look at its database: forms ask at every key

    return Path(fiftyone.config.default_dataset_dir).expanduser() / "gem-label"


def label_dataset(
    samples: Any,
    labeler: Labeler,
    vocabulary: Vocabulary,
    field: str,
    run_folder: str | Path,
    settings: LabelSettings | None = None,
    words: WordsPerImage | None = None,
    negatives: Wanted = "auto",
) -> Generator[Progress, None, LabelingReport]:
    """Label photos of a dataset and put the masks into a field.

    The run grows photo by photo; whatever ends the work, the same call continues where it stopped.

    Args:
        samples: a FiftyOne dataset or view of images.
        labeler: the models.
        vocabulary: the words.
        field: the field for the masks.
        run_folder: the run directory; made, or continued when its settings are the same.
        settings: thresholds; None: the defaults.
        words: words per photo; None: every photo may have every class.
        negatives: words that compete and are never a label, see `add_negatives`.

    Yields:
        Progress; the generator returns the report.

    Raises:
        UsageError: no photos, a field or run that does not fit.
        GemLabelError: the run is being written by another process, or cannot be written.
    """
    dataset = dataset_of(samples)
    check_field_name(dataset, field)
    photos = dataset_photos(samples)
    # a run that learned continues with what it learned
    known = open_run(run_folder).learned if (Path(run_folder) / MANIFEST).is_file() else None
    job = labeler.job(vocabulary, settings, words, negatives=negatives, learned=known)
    labeled = 0
    with labeler.start_run(run_folder, job) as writer:
        todo = writer.register(photos)
        before = len(photos) - len(todo)
        engine = LocalEngine(workers_for(labeler.device))
        yield Progress(before, len(photos), f"{before} of {len(photos)} photos labeled")
        with closing(engine.iter_counts(todo, labeler, job, writer)) as stream:
            for counts in stream:
                labeled, done = counts.photos, before + counts.photos + counts.failed
                yield Progress(done, len(photos), f"{done} of {len(photos)} photos labeled")
    yield Progress(len(photos), len(photos), "putting the masks into the dataset")
    run = open_run(run_folder)
    paths = {photo.path for photo in photos}
    failures = [(failure.image, failure.error) for failure in run.failures() if failure.image in paths]
    push = push_run(run, dataset.name, field=field, add_missing=False)
    return LabelingReport(labeled, before, failures, push)


def dataset_photos(samples: Any) -> list[Photo]:
    """The photos of a dataset or view, ids relative to the innermost folder that holds all of the dataset's.

    Raises:
        UsageError: there is none, or they are not images.
    """
    dataset = dataset_of(samples)
    # ids come from all photos, so that they do not depend on which are labeled first
    paths = photo_paths(dataset)
    chosen = set(samples.distinct("filepath"))
    if not chosen:
        raise UsageError("there is no photo to label: widen the view or the selection")
    folder = photo_folder(paths)
    taken: set[str] = set()
    photos = [Photo(path, unique_image_id(path, os.path.relpath(path, folder), taken)) for path in paths]
    return [photo for photo in photos if photo.path in chosen]


def words_of_field(samples: Any, field: str) -> WordsPerImage:
    """The words that are known to be in each photo, from a field of classifications.

    Raises:
        UsageError: there is no such field, or it is empty.
    """
    fo = load_fiftyone()
    present = samples.get_field(field)
    kind = getattr(present, "document_type", None)
    if kind not in (fo.Classifications, fo.Classification):
        raise UsageError(f"{field!r} is no field of classifications")
    path = f"{field}.classifications.label" if kind is fo.Classifications else f"{field}.label"
    words = {
        photo: ([labels] if isinstance(labels, str) else [label for label in labels or [] if label])
        for photo, labels in zip(*samples.values(["filepath", path]), strict=True)
    }
    if not any(words.values()):
        raise UsageError(f"field {field!r} has no label")
    return WordsPerImage(words)


def dataset_words(dataset: Any, field: str | None = None) -> list[str]:
    """The words that a dataset already has: the classes declared for a field or by default, else labels that occur.

    Args:
        dataset: the FiftyOne dataset.
        field: look at this field first.
    """
    if field is not None and dataset.classes.get(field):
        return list(dataset.classes[field])
    if dataset.default_classes:
        return list(dataset.default_classes)
    declared = [classes for name, classes in dataset.classes.items() if classes]
    if declared:
        return list(declared[0])
    return [] if field not in mask_fields(dataset) else dataset.distinct(f"{field}.detections.label")


def word_fields(dataset: Any) -> Sequence[str]:
    """Fields of classifications: known words per photo."""
    fo = load_fiftyone()
    schema = dataset.get_field_schema(ftype=fo.EmbeddedDocumentField)
    return [
        name for name, each in schema.items() if each.document_type in (fo.Classifications, fo.Classification)
    ]
