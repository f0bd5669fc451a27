"""The engine of one process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from gem_label.checks import COUNT, check_numbers
from gem_label.engines import LabelJob, LabelReport, PhotoModels
from gem_label.engines.decoding import DECODER_THREADS, PIXELS_AHEAD
from gem_label.engines.photos import label_photos
from gem_label.engines.writing import write_results
from gem_label.runs import RunPhoto, RunWriter


@dataclass(frozen=True)
class LocalEngine:
    """Labels photos in this process.

    Attributes:
        workers: how many photos the models are asked about at a time; `workers_for` says how many a device is
            good for.
        threads: how many photos are decoded at a time.
        pixels_ahead: decoded pixels held at a time.
        progress: a bar on stderr.
    """

    workers: int = 1
    threads: int = DECODER_THREADS
    pixels_ahead: int = PIXELS_AHEAD
    progress: bool = True

    def __post_init__(self) -> None:
        check_numbers(self, dict.fromkeys(("workers", "threads", "pixels_ahead"), COUNT))

    def run(
        self, photos: Sequence[RunPhoto], models: PhotoModels, job: LabelJob, writer: RunWriter
    ) -> LabelReport:
        """Label photos into a run; what a photo's failure does is in `label_photo`.

        Raises:
            UsageError: the words per photo name several photos by one name.
            GemLabelError: the run cannot be written, or the models fail on every photo.
        """
        if job.words is not None:
            job.words.check_names(photos)
        results = label_photos(photos, models, job, self.workers, self.threads, self.pixels_ahead)
        with closing(results):
            return write_results(results, len(photos), writer, self.progress)
