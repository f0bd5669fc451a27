"""The engine of one process."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from tqdm import tqdm

from gem_label.checks import COUNT, check_numbers
from gem_label.engines.counts import LabelCounts
from gem_label.engines.decoding import BYTES_AHEAD, DECODER_THREADS
from gem_label.engines.stream import iter_labeled_photos
from gem_label.engines.writing import iter_written
from gem_label.labeled_photo import LabelJob, PhotoModels
from gem_label.photos.photo import Photo
from gem_label.runs import RunWriter


@dataclass(frozen=True)
class LocalEngine:
    """Labels photos in this process.

    Attributes:
        workers: how many photos the models are asked about at a time; `workers_for` says how many a device is
            good for.
        threads: how many photos are decoded at a time.
        bytes_ahead: of photos that are decoded or wait, together.
        progress: `run` shows a bar on stderr.
    """

    workers: int = 1
    threads: int = DECODER_THREADS
    bytes_ahead: int = BYTES_AHEAD
    progress: bool = True

    def __post_init__(self) -> None:
        check_numbers(self, dict.fromkeys(("workers", "threads", "bytes_ahead"), COUNT))

    def iter_counts(
        self, photos: Sequence[Photo], models: PhotoModels, job: LabelJob, writer: RunWriter
    ) -> Generator[LabelCounts, None, None]:
        """Label photos into a run, photo by photo; close the iterator to stop early, which loses no finished photo.

        Args:
            photos: those that `writer.register` gave.
            models: SAM and GEM.
            job: the words and thresholds.
            writer: of the run.

        Yields:
            The counts so far, after each photo.

        Raises:
            UsageError: the words per photo name several photos by one name.
            GemLabelError: the run cannot be written, or the models fail on every photo.
        """
        if job.words is not None:
            job.words.check_names(photos)
        labeled = iter_labeled_photos(photos, models, job, self.workers, self.threads, self.bytes_ahead)
        with closing(labeled), closing(iter_written(labeled, writer)) as written:
            yield from written

    def run(
        self, photos: Sequence[Photo], models: PhotoModels, job: LabelJob, writer: RunWriter
    ) -> LabelCounts:
        """Label photos into a run; arguments and errors as for `iter_counts`."""
        counts = LabelCounts()
        with tqdm(
            total=len(photos), unit="photo", file=sys.stderr, disable=not self.progress, smoothing=0.05
        ) as bar:
            for counts in self.iter_counts(photos, models, job, writer):
                bar.set_postfix(masks=counts.masks, kept=counts.kept, failed=counts.failed, refresh=False)
                bar.update()
        return counts
