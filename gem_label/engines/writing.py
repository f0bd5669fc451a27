"""Results into the run, behind the models, and what is said of them."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

from tqdm import tqdm

from gem_label.engines import LabelReport, PhotoError, PhotoResult, failure_reason
from gem_label.errors import GemLabelError
from gem_label.runs import RunPhoto, RunWriter

# So many model failures one after the other are no bad photos but a broken GPU or driver.
FAILURES_IN_A_ROW = 50
PHOTOS_BEHIND = 2  # finished photos that may wait for the disk


def write_results(
    results: Iterable[tuple[RunPhoto, PhotoResult | PhotoError]],
    total: int,
    writer: RunWriter,
    progress: bool = True,
) -> LabelReport:
    """Write what engines make of photos, until there is no more.

    Args:
        results: photos with what became of them, in any order.
        total: how many there will be.
        writer: of the run.
        progress: a bar on stderr.

    Raises:
        GemLabelError: the run cannot be written, or the models fail on every photo.
    """
    started, done, failed, masks, kept, in_a_row = time.monotonic(), 0, 0, 0, 0, 0
    bar = tqdm(total=total, unit="photo", file=sys.stderr, disable=not progress, smoothing=0.05)
    with bar, closing(_WriteBehind(writer)) as output:
        for photo, result in results:
            if isinstance(result, PhotoError):
                failed += 1
                in_a_row = 0 if result.stage == "read" else in_a_row + 1
                output.fail(photo, result)
                if in_a_row >= FAILURES_IN_A_ROW:
                    raise GemLabelError(
                        f"{in_a_row} photos in a row failed, the last with {result}: when the cause is "
                        "mended, the same command resumes the run"
                    ) from result
            else:
                done += 1
                masks += len(result.masks)
                kept += int(result.labels.kept.sum())
                in_a_row = 0
                output.write(photo, result)
            bar.set_postfix(masks=masks, kept=kept, failed=failed, refresh=False)
            bar.update()
    return LabelReport(done, failed, masks, kept, time.monotonic() - started)


class _WriteBehind:
    """Writes finished photos in a thread of its own, in order, so that the models need not wait for the disk."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._waiting: deque[Future[None]] = deque()

    def write(self, photo: RunPhoto, result: PhotoResult) -> None:
        """Write a finished photo.

        Raises:
            GemLabelError: an earlier photo could not be written.
        """
        self._submit(
            self._writer.write, photo, result.masks, result.labels, result.image_embedding, result.patches
        )

    def fail(self, photo: RunPhoto, error: PhotoError) -> None:
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
