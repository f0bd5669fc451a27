"""New words for the masks of a dataset: a preview on a few photos, and the relabel itself."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gem_label.labeling import LabelSettings, Thresholds, Vocabulary, label_maskset
from gem_label.labeling.negatives import Wanted
from gem_label.learning.learned import apply_learned
from gem_label.progress import Progress
from gem_label.review.pushing.push_run import PushReport, push_run
from gem_label.review.storage.detections import Document, detections_of, is_decided
from gem_label.review.storage.fields import (
    main_field,
    pushed_fields,
    run_of,
    thresholds_of_push,
)
from gem_label.review.storage.internals import samples_of
from gem_label.review.storage.less_likely import HIDDEN_FLOOR
from gem_label.runs import PhotoRecord, Run, relabel_run
from gem_label.runs.schema import table_masks
from gem_label.words import WordsPerImage

if TYPE_CHECKING:
    from gem_label.clip.text import TextEncoder
    from gem_label.learning.learned import Learned

MinScore = float | str | Mapping[str, float] | Thresholds | None
"""What `Thresholds.of` takes; None: as the field has it now."""


@dataclass(frozen=True, slots=True)
class LabelChange:
    """What a mask is called now and would be called then; None: it is, or would be, no mask of the dataset."""

    image: str
    mask_id: str
    old: str | None
    new: str | None
    score: float
    decided: bool


def field_thresholds(dataset: Any, field: str, classes: Collection[str]) -> Thresholds:
    """The thresholds that decide which labels are in a field now, without those of classes that are not among these.

    They are those of the last push, or else those of the run.

    Raises:
        GemLabelError: as `run_of`.
    """
    run = run_of(dataset, field)
    pushed = thresholds_of_push(pushed_fields(dataset)[main_field(dataset, field)], list(classes))
    return pushed or run.label_settings.min_score.among(classes)


def settings_of_field(
    dataset: Any, field: str, run: Run, vocabulary: Vocabulary, min_score: MinScore = None
) -> LabelSettings:
    """The settings of a run, with other thresholds; None: those of the field."""
    if min_score is None:
        min_score = field_thresholds(dataset, field, vocabulary.classes)
    return replace(run.label_settings, min_score=Thresholds.of(min_score))


def preview_labels(
    dataset: Any,
    field: str,
    photos: Collection[str],
    vocabulary: Vocabulary,
    encoder: TextEncoder,
    negatives: Wanted = "auto",
    min_score: MinScore = None,
    words: WordsPerImage | None = None,
    learned: Learned | None = None,
) -> list[LabelChange]:
    """What a relabel would do to the masks of a few photos; nothing is changed.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        photos: paths of the photos.
        vocabulary: the new words.
        encoder: the text encoder of the run's CLIP.
        negatives: words that compete and are never a label, see `add_negatives`.
        min_score: see `Thresholds.of`; None: as the field has it now.
        words: words per photo; None: every photo may have every class.
        learned: what the labels rest on besides the words; None: what the run rests on now.

    Returns:
        Every mask that is in the labels' field or would come into it, photo by photo.
    """
    field = main_field(dataset, field)
    run = run_of(dataset, field)
    settings = settings_of_field(dataset, field, run, vocabulary, min_score)
    vocabulary = encoder.prepare(vocabulary, negatives)
    text, rescore = apply_learned(
        learned or run.learned, encoder.encode(vocabulary.phrases), vocabulary, run.logit_scale
    )
    present: dict[str, dict[str, Document]] = {}
    wanted = {"filepath": {"$in": list(photos)}}
    for document in samples_of(dataset).find(wanted, ["filepath", f"{field}.detections"]):
        detections = detections_of(document, field)
        present[document["filepath"]] = {mask["mask_id"]: mask for mask in detections if mask.get("mask_id")}
    changes = []
    for photo, rows in _rows_of(run, set(photos)):
        (masks,) = table_masks(rows, [photo])
        allowed = None if words is None else words.allowed(vocabulary, photo.image, photo.image_id)
        labels = label_maskset(
            masks,
            text,
            vocabulary,
            run.logit_scale,
            settings,
            allowed,
            photo.embedding,
            rescore,
        )
        known = present.get(photo.image, {})
        for i, name in enumerate(labels.names):
            mask_id = f"{photo.image_id}#{i}"
            old, new = known.get(mask_id), name if labels.kept[i] else None
            if old is None and new is None:
                continue
            decided = old is not None and is_decided(old)
            label = None if old is None else old.get("label")
            score = float(labels.score[i])
            changes.append(
                LabelChange(photo.image, mask_id, label, label if decided else new, score, decided)
            )
    return changes


def _rows_of(run: Run, paths: set[str]) -> Generator[tuple[PhotoRecord, Any], None, None]:
    """The rows of some photos; shards without any of them are not read."""
    missing = set(paths)
    with run.shards() as shards:
        for shard in shards:
            if not missing:
                return
            if missing.isdisjoint(photo.image for photo in shard.photos):
                continue
            for photos, table in shard.groups():
                start = 0
                for photo in photos:
                    if photo.image in missing:
                        missing.discard(photo.image)
                        yield photo, table.slice(start, photo.masks)
                    start += photo.masks


def relabel_dataset(
    dataset: Any,
    field: str,
    vocabulary: Vocabulary,
    encoder: TextEncoder,
    negatives: Wanted = "auto",
    min_score: MinScore = None,
    words: WordsPerImage | None = None,
) -> Generator[Progress, None, PushReport]:
    """Give the masks of a field new labels, by their run's embeddings; no photo is opened.

    Masks that reviewers decided about stay as they are: the report says how many. The run has the new words and
    thresholds afterwards.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        vocabulary: the new words.
        encoder: the text encoder of the run's CLIP.
        negatives: words that compete and are never a label, see `add_negatives`.
        min_score: see `Thresholds.of`; None: as the field has it now.
        words: words per photo; None: every photo may have every class.

    Yields:
        Progress; the generator returns the report.

    Raises:
        UsageError: a threshold for a class that is not among the words.
    """
    field = main_field(dataset, field)
    run = run_of(dataset, field)
    settings = settings_of_field(dataset, field, run, vocabulary, min_score)
    yield Progress(0, 3, "encoding the words")
    vocabulary = encoder.prepare(vocabulary, negatives)
    text = encoder.encode(vocabulary.phrases)
    yield Progress(1, 3, "labeling the masks of the run")
    run = relabel_run(run, vocabulary, text, label_settings=settings, words=words)
    yield Progress(2, 3, "putting the labels into the dataset")
    return push_labels(dataset, field, run)


def push_labels(dataset: Any, field: str, run: Run) -> PushReport:
    """Bring the labels of a relabeled run into the field that it was pushed into; no photo is added.

    Args:
        dataset: the FiftyOne dataset.
        field: the field of the labels, not that of the less likely ones.
        run: the relabeled run.
    """
    hidden_from = pushed_fields(dataset)[field].get("hidden_from", HIDDEN_FLOOR)
    return push_run(run, dataset.name, field=field, add_missing=False, hidden_from=hidden_from)
