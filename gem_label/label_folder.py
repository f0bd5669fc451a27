"""Labeling images into a run, in one call."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gem_label.defaults import DEFAULT_CLIP, DEFAULT_SAM
from gem_label.engines.local import LocalEngine
from gem_label.engines.stream import workers_for
from gem_label.labeler import Labeler, as_vocabulary, load_labeler
from gem_label.labeling import LabelSettings, Thresholds, Vocabulary
from gem_label.labeling.negatives import Wanted
from gem_label.photos.listing import list_images
from gem_label.runs import Run, open_run
from gem_label.words import WordsPerImage


def label_images(
    images: Iterable[str | os.PathLike[str]],
    classes: Vocabulary | Sequence[str] | str,
    out: str | os.PathLike[str],
    labeler: Labeler | None = None,
    *,
    background: str | Sequence[str] = (),
    min_score: float | str | Mapping[str, float] | Thresholds | None = None,
    negatives: Wanted = "auto",
    words_per_image: WordsPerImage | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Run:
    """Label images into a run directory; the same call resumes an interrupted run.

    Args:
        images: files, folders, lists and archives, see `list_images`.
        classes: words, text for `Vocabulary.parse`, or a vocabulary.
        out: the run directory.
        labeler: the models; None loads the defaults, ViT-B-16/openai and MobileSAM, onto the GPU where there is one.
        background: words that compete with the classes and are never a label.
        min_score: score in [0, 1] below which a mask is not kept, for all classes or by class; None: the default.
        negatives: words of the lexicon that compete besides, see `Labeler.job`.
        words_per_image: the classes that each image may have; None: all.
        workers: images that are labeled at a time; None: as many as the device and memory allow.
        progress: show a bar on stderr.

    Returns:
        The run. Images that could not be labeled are in `Run.failures`; the others are labeled.

    Raises:
        UsageError: words, thresholds or images that make no sense, or a run of other settings in `out`.
        GemLabelError: weights that cannot be loaded, a run that cannot be written, or models that fail on image after
            image.

    Example:
        run = label_images(["photos/"], "cat, dog", "RUN")
        print(summarize_run(run))
    """
    vocabulary = as_vocabulary(classes, background)
    settings = LabelSettings(Thresholds.of(min_score))
    photos = list_images(images)
    if words_per_image is not None:
        words_per_image.check(vocabulary)
        words_per_image.check_photos(photos)
    if labeler is None:
        labeler = load_labeler(clip=DEFAULT_CLIP, sam=DEFAULT_SAM)
    job = labeler.job(vocabulary, settings, words_per_image, negatives=negatives)
    with labeler.start_run(Path(out), job) as writer:
        engine = LocalEngine(workers or workers_for(labeler.device), progress=progress)
        engine.run(writer.register(photos), labeler, job, writer)
    return open_run(Path(out))
