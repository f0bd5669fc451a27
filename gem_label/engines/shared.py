"""Labeling a shared run, chunk by chunk; the same for `--shard`, for Ray's actors and for one process alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from gem_label.engines.counts import LabelCounts
from gem_label.engines.stream import iter_labeled_photos
from gem_label.engines.watchdog import Watchdog
from gem_label.engines.writing import FailureGuard
from gem_label.errors import UsageError
from gem_label.labeled_photo import LabeledPhoto, LabelJob, PhotoError, PhotoModels
from gem_label.photos.photo import Photo
from gem_label.runs.attempts import Attempt, attempt_chunk
from gem_label.runs.checking import RowError, checked_table
from gem_label.runs.checksums import array_bytes
from gem_label.runs.chunks import Chunk, ChunkPlace
from gem_label.runs.schema import make_record
from gem_label.runs.shared import SharedRun

PHOTO_TIMEOUT = 1800.0


@dataclass(frozen=True, slots=True)
class Part:
    """Every n-th chunk, for one of n processes.

    Attributes:
        index: of the process, from 0.
        parts: n.

    Raises:
        UsageError: an index that is not below n.
    """

    index: int
    parts: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.parts:
            raise UsageError(
                f"shard {self.index}/{self.parts}: write i/n with i from 0 to n - 1, such as 0/4"
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.parts}"

    def of(self, run: SharedRun) -> Iterator[ChunkPlace]:
        """Yield where the chunks of this process are that have no shard yet."""
        done = run.committed()
        for place in run.places():
            if place.number % self.parts == self.index and place.number not in done:
                yield place


class ChunkLabeler:
    """Labels chunks of a shared run, one after the other.

    Args:
        run: the run.
        models: SAM and GEM.
        job: the words and thresholds.
        workers: how many photos of a chunk are labeled at a time.
        on_photo: called after each photo.
        photo_timeout: seconds after which a photo that does not come to an end ends the process.
    """

    def __init__(
        self,
        run: SharedRun,
        models: PhotoModels,
        job: LabelJob,
        workers: int = 1,
        on_photo: Callable[[], object] = lambda: None,
        photo_timeout: float = PHOTO_TIMEOUT,
    ) -> None:
        self._run, self._models, self._job = run, models, job
        self._workers, self._on_photo = workers, on_photo
        self._photo_timeout = photo_timeout
        self._guard = FailureGuard()

    def label(self, chunk: Chunk) -> LabelCounts:
        """Label a chunk and write its shard.

        Raises:
            GemLabelError: the store cannot be written, or the models fail on photo after photo.
        """
        if self._run.is_committed(chunk):
            return LabelCounts()
        with attempt_chunk(self._run, chunk) as attempt, Watchdog(self._photo_timeout) as watchdog:
            for photo, result in self._results(attempt, attempt.remaining()):
                watchdog.beat()
                self._take(attempt, photo, result)
                self._on_photo()
            attempt.commit()
        kept = sum(int(np.count_nonzero(table["kept"])) for _, table in attempt.rows.values())
        masks = sum(len(table) for _, table in attempt.rows.values())
        return LabelCounts(len(attempt.rows), len(attempt.failures), masks, kept)

    def _results(
        self, attempt: Attempt, photos: list[Photo]
    ) -> Iterator[tuple[Photo, LabeledPhoto | PhotoError]]:
        """Yield photos with what became of them."""
        if not attempt.one_by_one:
            with closing(iter_labeled_photos(photos, self._models, self._job, self._workers)) as results:
                yield from results
            return
        for photo in photos:
            attempt.announce(photo)
            yield from iter_labeled_photos([photo], self._models, self._job)

    def _take(self, attempt: Attempt, photo: Photo, result: LabeledPhoto | PhotoError) -> None:
        self._guard.check(result)
        if isinstance(result, PhotoError):
            attempt.fail(photo, result.stage, str(result))
            return
        record = make_record(photo, result.masks, result.image_embedding)
        if result.patches is not None:
            content = array_bytes(result.patches.astype(np.float16))
            self._run.store.create(f"patches/{photo.number}.npy", content)
        try:
            table = checked_table(record, result.masks, result.labels, self._run.embedding_dim)
        except RowError as error:
            attempt.fail(photo, "label", f"the models gave {error}")
            return
        attempt.finish(record, table)


def label_chunks(
    run: SharedRun,
    chunks: Iterable[ChunkPlace],
    models: PhotoModels,
    job: LabelJob,
    workers: int,
    progress: bool = True,
    photo_timeout: float = PHOTO_TIMEOUT,
) -> LabelCounts:
    """Label chunks of a shared run in this process.

    Args:
        run: the run.
        chunks: which.
        models: SAM and GEM.
        job: the words and thresholds.
        workers: how many photos of a chunk are labeled at a time.
        progress: a bar on stderr.
        photo_timeout: see `ChunkLabeler`.

    Raises:
        GemLabelError: the store cannot be written, or the models fail on photo after photo.
    """
    todo = list(chunks)
    total = sum(place.photos for place in todo)
    with tqdm(
        total=total, unit="photo", file=sys.stderr, disable=not (progress and total), smoothing=0.05
    ) as bar:
        labeler = ChunkLabeler(run, models, job, workers, bar.update, photo_timeout)
        return sum((labeler.label(run.read_chunk(place)) for place in todo), LabelCounts())
