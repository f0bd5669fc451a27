"""A run as annotated photos, which the writers of `gem_label.formats` take, and as a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from gem_label.formats.annotations import (
    AnnotatedMask,
    AnnotatedPhoto,
    Annotations,
    WriteReport,
    annotation_ids,
    draw_rle,
)
from gem_label.formats.drawing import WriteSettings
from gem_label.formats.writing import check_target, write_annotations
from gem_label.labeling import MaskLabels, Thresholds
from gem_label.masks import MaskSet
from gem_label.photos.listing import photo_folder
from gem_label.progress import finish
from gem_label.runs.reader import Run
from gem_label.runs.schema import PhotoRecord


def export_run(
    run: Run,
    out: str | Path,
    format: str = "coco",
    min_score: float | str | Thresholds | None = None,
    settings: WriteSettings | None = None,
) -> WriteReport:
    """Write the labeled masks of a run as an annotation file.

    Args:
        run: an open run.
        out: the file, or in some formats the folder; appears when it is whole.
        format: one of `gem_label.formats.writing.FORMATS`.
        min_score: see `run_annotations`.
        settings: how masks are written; None: as the format does by itself.

    Raises:
        UsageError: an argument is none of what it may be.
        GemLabelError: `out` cannot be written.
    """
    check_target(out, format)
    return finish(write_annotations(run_annotations(run, min_score), out, format, settings))


def run_annotations(run: Run, min_score: float | str | Thresholds | None = None) -> Annotations:
    """The labeled masks of a run.

    Photo ids are the photos' numbers in the run and annotation ids follow from photo and mask, so both stay the same
    when the run grows, gets other words or is written with another threshold. Names of photos are relative to the
    innermost folder that holds all photos of the run. A class is absent from a photo when no mask of the photo has it
    as its label; one that only masks below the threshold have is not exhaustive. Of runs with words per photo neither
    is known.

    Args:
        run: an open run; read as a stream.
        min_score: the selected masks with at least this score, in [0, 1], also those below the run's own threshold;
            see `Thresholds.of`. None: all that are kept.

    Raises:
        UsageError: `min_score` is not a probability.
    """
    classes = run.vocabulary.classes
    least = None if min_score is None else Thresholds.of(min_score).by_class(classes)
    folder = photo_folder(photo.path for photo in run.listing())
    knows_absence = not run.manifest["labeling"]["words_per_image"]

    def photos() -> Iterator[AnnotatedPhoto]:
        for photo, masks, labels in run.photo_masks(embeddings=False):
            yield _photo(photo, masks, labels, folder, least, knows_absence)

    info = {
        "description": f"Masks and labels of the gem-label run {PurePosixPath(run.place).name}",
        "version": run.manifest.get("versions", {}).get("gem-label", ""),
        "date_created": run.manifest.get("created", ""),
    }
    return Annotations(photos(), classes, count=run.manifest["counts"]["photos"], folder=folder, info=info)


def _photo(
    photo: PhotoRecord,
    masks: MaskSet,
    labels: MaskLabels,
    folder: str,
    least: NDArray[np.float32] | None,
    knows_absence: bool,
) -> AnnotatedPhoto:
    names, scores, rles = labels.label_index, labels.score, masks.rles
    chosen = labels.kept if least is None else labels.selected & (scores >= least[names])
    rows = np.flatnonzero(chosen & (names >= 0) & (masks.areas > 0)).tolist()
    annotated = [
        AnnotatedMask(
            labels.classes[names[i]],
            draw_rle(rles[i]),
            mask_id=f"{photo.image_id}#{i}",
            id=id,
            score=float(scores[i]),
            margin=float(labels.margin[i]),
        )
        for i, id in zip(rows, annotation_ids(photo.number, rows), strict=True)
    ]
    shown = set(names[rows].tolist())
    possible = set(names[labels.selected & (names >= 0)].tolist())
    return AnnotatedPhoto(
        Path(os.path.relpath(photo.image, folder)).as_posix(),
        (photo.height, photo.width),
        annotated,
        photo.number,
        photo.image,
        tuple(c for i, c in enumerate(labels.classes) if i not in possible | shown) if knows_absence else (),
        tuple(labels.classes[i] for i in sorted(possible - shown)) if knows_absence else (),
    )
