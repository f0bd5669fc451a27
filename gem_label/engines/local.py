"""The engine of one process: decode ahead in threads, run the models, write behind."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from gem_label.engines import (
    LabelJob,
    LabelReport,
    PhotoError,
    PhotoModels,
    PhotoResult,
    failure_reason,
    label_photo,
)
from gem_label.engines.decoding import DECODER_THREADS, PIXELS_AHEAD, decode_ahead
from gem_label.errors import GemLabelError, ImageError
from gem_label.runs import RunPhoto, RunWriter

# So many model failures one after the other are no bad photos but a broken GPU or driver.
FAILURES_IN_A_ROW = 50
PHOTOS_BEHIND = 2  # finished photos that may wait for the disk
MOST_WORKERS = 8  # on a CPU, some 0.5 GB each
MOST_WORKERS_ON_GPU = 4
GPU_BYTES_PER_WORKER = 3 << 30


def workers_for(device: torch.device | str) -> int:
    """How many photos to label at a time: as many as there are processors and memory for, within bounds.

    On a CPU one photo on two processors takes longer than two photos on one each. On a GPU one photo's work on the
    host, resizing and run lengths, is hidden behind another one's on the device.
    """
    device, processors = torch.device(device), torch.get_num_threads()
    if device.type != "cuda":
        return min(processors, MOST_WORKERS)
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(processors, MOST_WORKERS_ON_GPU, free // GPU_BYTES_PER_WORKER))


@dataclass(frozen=True)
class LocalEngine:
    """Labels photos in this process.

    Attributes:
        workers: how many photos the models are asked about at a time, each by a thread of its own; `workers_for`
            says how many a device is good for. On a CPU they share PyTorch's threads among them.
        threads: how many photos are decoded at a time.
        pixels_ahead: decoded pixels held at a time.
        progress: a bar on stderr.
    """

    workers: int = 1
    threads: int = DECODER_THREADS
    pixels_ahead: int = PIXELS_AHEAD
    progress: bool = True

    def run(
        self, photos: Sequence[RunPhoto], models: PhotoModels, job: LabelJob, writer: RunWriter
    ) -> LabelReport:
        """Label photos into a run; what a photo's failure does is in `label_photo`.

        Raises:
            GemLabelError: the run cannot be written, or the models fail on every photo.
        """
        started, done, failed, masks, kept, in_a_row = time.monotonic(), 0, 0, 0, 0, 0
        bar = tqdm(
            total=len(photos), unit="photo", file=sys.stderr, disable=not self.progress, smoothing=0.05
        )
        with (
            bar,
            closing(decode_ahead(photos, self.threads, self.pixels_ahead, self.workers)) as images,
            closing(_WriteBehind(writer)) as output,
            _shared_threads(self.workers),
            closing(self._results(images, models, job)) as results,
        ):
            for photo, result in results:
                if isinstance(result, PhotoError):
                    failed += 1
                    in_a_row = 0 if result.stage == "read" else in_a_row + 1
                    output.fail(photo, result)
                    if in_a_row >= FAILURES_IN_A_ROW:
                        raise GemLabelError(
                            f"{in_a_row} photos in a row failed, the last with {result}: when the cause is "
                            "mended, the same command goes on where this one stopped"
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

    def _results(
        self,
        images: Iterable[tuple[RunPhoto, NDArray[np.uint8] | ImageError]],
        models: PhotoModels,
        job: LabelJob,
    ) -> Generator[tuple[RunPhoto, PhotoResult | PhotoError], None, None]:
        """Photos with what became of them, in order; several are under way at a time."""

        def work(photo: RunPhoto, image: NDArray[np.uint8] | ImageError) -> PhotoResult | PhotoError:
            try:
                return label_photo(photo, image, models, job)
            except PhotoError as error:
                return error

        if self.workers == 1:  # no thread: an interrupt then ends the photo too
            for photo, image in images:
                yield photo, work(photo, image)
            return
        under_way: deque[tuple[RunPhoto, Future[PhotoResult | PhotoError]]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="label")
        try:
            for photo, image in images:
                under_way.append((photo, pool.submit(work, photo, image)))
                del image
                if len(under_way) == self.workers:
                    first, future = under_way.popleft()
                    yield first, future.result()
            for photo, future in under_way:
                yield photo, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _shared_threads(workers: int) -> Iterator[None]:
    """PyTorch's threads shared among the workers, as long as the context lasts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _WriteBehind:
    """Writes finished photos in a thread of its own, in order, so that the models need not wait for the disk."""

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._under_way: deque[Future[None]] = deque()

    def write(self, photo: RunPhoto, result: PhotoResult) -> None:
        """Write a finished photo.

        Raises:
            GemLabelError: an earlier photo could not be written.
        """
        self._submit(
            self._writer.write, photo, result.masks, result.labels, result.image_embedding, result.patches
        )

    def fail(self, photo: RunPhoto, error: PhotoError) -> None:
        """Record a photo that could not be labelled; raises as `write` does."""
        self._submit(self._writer.fail, photo, error.stage, str(error))

    def _submit(self, work: Callable[..., None], *args: Any) -> None:
        while len(self._under_way) >= PHOTOS_BEHIND:
            self._wait()
        self._under_way.append(self._thread.submit(work, *args))

    def _wait(self) -> None:
        try:
            self._under_way.popleft().result()
        except OSError as error:
            raise GemLabelError(
                f"cannot write {self._writer.path} ({failure_reason(error)}): free some space, the same command "
                "goes on"
            ) from error

    def close(self) -> None:
        """Wait until everything is written; raises as `write` does."""
        try:
            while self._under_way:
                self._wait()
        finally:
            self._thread.shutdown(cancel_futures=True)
