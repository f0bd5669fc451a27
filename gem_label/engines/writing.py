"""Labeled photos into the run of this process, behind the models."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np

from gem_label.engines.counts import LabelCounts
from gem_label.errors import GemLabelError
from gem_label.labeled_photo import LabeledPhoto, PhotoError, failure_reason
from gem_label.photos.photo import Photo
from gem_label.runs import RunWriter

FAILURES_IN_A_ROW = 50
PHOTOS_BEHIND = 2  # finished photos that may wait for the disk


class FailureGuard:
    """Tells bad photos from a broken GPU or driver, on which every photo fails."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def check(self, result: LabeledPhoto | PhotoError) -> None:
        """Look at what became of the next photo.

        Raises:
            GemLabelError: the models failed on `FAILURES_IN_A_ROW` photos in a row.
        """
        if not isinstance(result, PhotoError) or result.stage == "read":
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if self._in_a_row >= FAILURES_IN_A_ROW:
            raise GemLabelError(
                f"{self._in_a_row} photos in a row failed, the last with {result}: when the cause is mended, the "
                "same command resumes the run"
            ) from result


def count_result(result: LabeledPhoto | PhotoError) -> LabelCounts:
    """The counts of one photo."""
    if isinstance(result, PhotoError):
        return LabelCounts(failed=1)
    return LabelCounts(photos=1, masks=len(result), kept=int(np.count_nonzero(result.labels.kept)))


def iter_written(
    results: Iterable[tuple[Photo, LabeledPhoto | PhotoError]], writer: RunWriter
) -> Generator[LabelCounts, None, None]:
    """Write labeled photos into a run, and record those that failed; close the iterator to stop early.

    Args:
        results: photos with what became of them, in any order.
        writer: of the run.

    Yields:
        The counts so far, after each photo. At the end of the iterator everything is written.

    Raises:
        GemLabelError: the run cannot be written, or the models fail on every photo.
    """
    counts, guard = LabelCounts(), FailureGuard()
    with closing(_WriteBehind(writer)) as output:
        for photo, result in results:
            if isinstance(result, PhotoError):
                output.fail(photo, result)
            else:
                output.write(photo, result)
            guard.check(result)
            counts += count_result(result)
            yield counts


class _WriteBehind:
    """Writes finished photos in a thread of its own, in order, so that the models need not wait for the disk."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._waiting: deque[Future[None]] = deque()

    def write(self, photo: Photo, labeled: LabeledPhoto) -> None:
        """Write a finished photo.

        Raises:
            GemLabelError: an earlier photo could not be written.
        """
        self._submit(
            self._writer.write, photo, labeled.masks, labeled.labels, labeled.image_embedding, labeled.patches
        )

    def fail(self, photo: Photo, error: PhotoError) -> None:
        """Record a photo that could not be labeled; raises as `write` does."""
        self._submit(self._writer.fail, photo, error.stage, str(error))

    def _submit(self, work: Callable[..., None], *args: Any) -> None:
        while len(self._waiting) >= PHOTOS_BEHIND:
            self._wait()
        self._waiting.append(self._thread.submit(work, *args))

    def _wait(self) -> None:
        try:
            self._waiting.popleft().result()
        except OSError as error:
            raise GemLabelError(
                f"cannot write {self._writer.path} ({failure_reason(error)}): free some space, the same command "
                "resumes the run"
            ) from error

    def close(self) -> None:
        """Wait until everything is written; raises as `write` does."""
        try:
            while self._waiting:
                self._wait()
        finally:
            self._thread.shutdown(cancel_futures=True)
