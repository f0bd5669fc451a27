"""The stream of labeled photos: decoded ahead, several at a time, each by a thread of its own.

Runs of one process and of several, actors of Ray, the App and Python users all read this stream. It knows models by
their protocol alone; torch is imported only where its threads and devices are asked about.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gem_label.engines.decoding import BYTES_AHEAD, DECODER_THREADS, iter_decoded
from gem_label.errors import ImageError
from gem_label.labeled_photo import LabeledPhoto, LabelJob, PhotoError, PhotoModels, label_photo
from gem_label.memory import total_bytes
from gem_label.photos.photo import Photo

if TYPE_CHECKING:
    import torch

MOST_WORKERS = 8
BYTES_PER_WORKER = (
    2 << 30
)  # of the machine's memory: one takes some 0.5 GB with ViT-B, more with larger models
MOST_WORKERS_ON_GPU = 4
GPU_BYTES_PER_WORKER = 3 << 30


def workers_for(device: torch.device | str) -> int:
    """How many photos to label at a time: as many as there are processors and memory for, within bounds.

    On a CPU one photo on two processors takes longer than two photos on one each. On a GPU one photo's work on the
    host, resizing and run lengths, is hidden behind another one's on the device.
    """
    import torch

    device, processors = torch.device(device), torch.get_num_threads()
    if device.type != "cuda":
        return max(1, min(processors, MOST_WORKERS, total_bytes() // BYTES_PER_WORKER))
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(processors, MOST_WORKERS_ON_GPU, free // GPU_BYTES_PER_WORKER))


def iter_labeled_photos(
    photos: Sequence[Photo],
    models: PhotoModels,
    job: LabelJob,
    workers: int = 1,
    threads: int = DECODER_THREADS,
    bytes_ahead: int = BYTES_AHEAD,
) -> Generator[tuple[Photo, LabeledPhoto | PhotoError], None, None]:
    """Yield photos with their labels; close the iterator to stop early.

    Args:
        photos: which.
        models: SAM and GEM; asked by several threads when there are several workers.
        job: the words and thresholds.
        workers: how many photos are labeled at a time. On a CPU they share PyTorch's threads among them.
        threads: how many photos are decoded at a time.
        bytes_ahead: of photos that are decoded or wait, together.

    Yields:
        Each photo, in order, with what became of it.

    Example:
        Label a folder without a run::

            job = labeler.job(gem_label.Vocabulary.parse("cat, dog"))
            for photo, labeled in iter_labeled_photos(list_images(["photos"]), labeler, job):
                if isinstance(labeled, PhotoError):
                    print(photo.path, labeled.stage, labeled)
                else:
                    print(photo.path, labeled.kept.labels.names)
    """

    def work(photo: Photo, image: NDArray[np.uint8] | ImageError) -> LabeledPhoto | PhotoError:
        try:
            return label_photo(photo, image, models, job)
        except PhotoError as error:
            return error

    workers = max(1, min(workers, len(photos)))  # one photo alone may have all threads
    with (
        closing(iter_decoded(photos, threads, bytes_ahead, workers)) as images,
        _shared_threads(workers),
    ):
        if workers == 1:  # no thread: an interrupt then ends the photo too
            for photo, image in images:
                yield photo, work(photo, image)
            return
        started: deque[tuple[Photo, Future[LabeledPhoto | PhotoError]]] = deque()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="label")
        try:
            for photo, image in images:
                started.append((photo, pool.submit(work, photo, image)))
                del image
                if len(started) == workers:
                    first, future = started.popleft()
                    yield first, future.result()
            for photo, future in started:
                yield photo, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _shared_threads(workers: int) -> Iterator[None]:
    """PyTorch's threads shared among the workers, as long as the context lasts."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
