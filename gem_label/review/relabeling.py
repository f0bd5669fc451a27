"""New words for the masks of a dataset: a preview on a few photos, and the relabel itself."""

from __future__ import annotations

from collections.abc import Collection, Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.labeling import LabelSettings, Vocabulary, label_maskset
from gem_label.review.dataset import PushReport, push_run
from gem_label.review.fields import run_of
from gem_label.review.merge import Document, is_decided
from gem_label.review.progress import Progress
from gem_label.runs import PhotoRecord, Run, relabel_run
from gem_label.runs.schema import table_masks
from gem_label.words import WordsPerImage


@dataclass(frozen=True, slots=True)
class LabelChange:
    """What a mask is called now and would be called then; None: it is, or would be, no mask of the dataset."""

    image: str
    mask_id: str
    old: str | None
    new: str | None
    score: float
    decided: bool


def preview_labels(
    dataset: Any,
    field: str,
    photos: Collection[str],
    vocabulary: Vocabulary,
    text: NDArray[np.floating],
    settings: LabelSettings | None = None,
    words: WordsPerImage | None = None,
) -> list[LabelChange]:
    """What a relabel would do to the masks of a few photos; nothing is changed.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        photos: paths of the photos.
        vocabulary: the new words.
        text: (P, d) unit-length embeddings of `vocabulary.phrases`.
        settings: thresholds; None: the run's.
        words: words per photo; None: every photo may have every class.

    Returns:
        Every mask that is in the dataset or would come into it, photo by photo.
    """
    run = run_of(dataset, field)
    settings = settings or run.label_settings
    present: dict[str, dict[str, Document]] = {}
    wanted = {"filepath": {"$in": list(photos)}}
    for document in dataset._sample_collection.find(wanted, ["filepath", f"{field}.detections"]):
        detections = (document.get(field) or {}).get("detections") or []
        present[document["filepath"]] = {mask["mask_id"]: mask for mask in detections if mask.get("mask_id")}
    changes = []
    for photo, rows in _rows_of(run, set(photos)):
        (masks,) = table_masks(rows, [photo])
        allowed = None if words is None else words.allowed(vocabulary, photo.image, photo.image_id)
        labels = label_maskset(
            masks,
            np.asarray(text, np.float32),
            vocabulary,
            run.logit_scale,
            settings,
            allowed,
            photo.embedding,
        )
        known = present.get(photo.image, {})
        for i, name in enumerate(labels.names):
            mask_id = f"{photo.image_id}#{i}"
            old, new = known.get(mask_id), name if labels.kept[i] else None
            if old is None and new is None:
                continue
            decided = old is not None and is_decided(old)
            label = None if old is None else old["label"]
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
    text: NDArray[np.floating],
    min_score: float | None = None,
    words: WordsPerImage | None = None,
) -> Generator[Progress, None, PushReport]:
    """Give the masks of a field new labels, by their run's embeddings; no photo is opened.

    Masks that reviewers decided about stay as they are: the report says how many.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        vocabulary: the new words.
        text: (P, d) unit-length embeddings of `vocabulary.phrases`, by the CLIP of the run.
        min_score: keep masks with at least this score, in [0, 1]; None: as in the run.
        words: words per photo; None: every photo may have every class.

    Yields:
        Progress; the generator returns the report.
    """
    run = run_of(dataset, field)
    settings = run.label_settings if min_score is None else replace(run.label_settings, min_score=min_score)
    yield Progress(0, 2, "labelling the masks of the run")
    run = relabel_run(run, vocabulary, text, label_settings=settings, words=words)
    yield Progress(1, 2, "putting the labels into the dataset")
    return push_run(run, dataset.name, field=field, add_missing=False)
