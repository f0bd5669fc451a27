"""Decoding photos ahead of the models, in threads, within a fixed memory."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import ImageError
from gem_label.memory import available_bytes
from gem_label.photos.buckets import Buckets
from gem_label.photos.photo import Photo
from gem_label.photos.reading import read_image

DECODER_THREADS = min(4, os.cpu_count() or 1)
BYTES_AHEAD = 400_000_000
"""Of photos that are decoded or wait, together."""


class MemoryBudget:
    """Lets photos be decoded while their bytes fit; the photo that is waited for always may.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._bytes: dict[int, int] = {}
        self._turn = 0
        self._closed = False

    def admit(self, index: int, size: int) -> None:
        """Wait until photo `index` of the sequence may be decoded, which takes `size` bytes.

        Raises:
            ImageError: `close` was called meanwhile, or the machine has not so much memory left.
        """

        def fits() -> bool:
            within = sum(self._bytes.values()) + size <= self._limit
            return self._closed or within or index <= self._turn

        with self._changed:
            self._changed.wait_for(fits)
            if self._closed:
                raise ImageError("the run has stopped")
            check_room(size, self._limit)
            self._bytes[index] = size

    def keep(self, index: int, size: int) -> None:
        """Photo `index` is decoded and holds `size` bytes."""
        with self._changed:
            if index in self._bytes:
                self._bytes[index] = size
            self._changed.notify_all()

    def wait_for(self, index: int) -> None:
        """Photo `index` is waited for: nothing else is decided until it is decoded."""
        with self._changed:
            self._turn = index
            self._changed.notify_all()

    def release(self, index: int) -> None:
        """Photo `index` is no longer held."""
        with self._changed:
            self._bytes.pop(index, None)
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody wants the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def check_room(size: int, small: int) -> None:
    """Make sure that the machine has the memory to decode a photo.

    Args:
        size: bytes that it takes.
        small: bytes that it is expected to have at any time.

    Raises:
        ImageError: it has less.
    """
    free = available_bytes() if size > small else None
    if free is not None and size > free:
        raise ImageError(
            f"enormous: decoding it takes {size / 1e9:.1f} GB of memory, of which {free / 1e9:.1f} GB are free"
        )


def iter_decoded(
    photos: Sequence[Photo],
    threads: int = DECODER_THREADS,
    bytes_ahead: int = BYTES_AHEAD,
    in_use: int = 1,
) -> Generator[tuple[Photo, NDArray[np.uint8] | ImageError], None, None]:
    """Read photos in threads, in order; close the iterator to stop early.

    Args:
        photos: which.
        threads: how many decode at a time.
        bytes_ahead: of photos that are decoded, wait and are in use, together (one photo more when it is
            larger).
        in_use: how many photos the caller works on; whoever asks for another is done with all but the last
            `in_use` - 1.

    Yields:
        Each photo, with the tag of what was read, and its (H, W, 3) uint8 pixels or the reason why it cannot be read.
    """
    budget, buckets = MemoryBudget(bytes_ahead), Buckets()

    def read(index: int) -> tuple[Photo, NDArray[np.uint8] | ImageError]:
        photo = photos[index]

        def take_tag(tag: str) -> None:
            nonlocal photo
            photo = replace(photo, tag=tag)

        try:
            photo.path.encode()
            pixels = read_image(photo.path, lambda size: budget.admit(index, size), buckets, take_tag)
            budget.keep(index, pixels.nbytes)
        except ImageError as error:
            budget.release(index)
            return photo, error
        except UnicodeEncodeError:
            return photo, ImageError("the file's name is not UTF-8: rename it")
        return photo, pixels

    waiting: deque[Future[tuple[Photo, NDArray[np.uint8] | ImageError]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for index in range(len(photos)):
            while index + len(waiting) < len(photos) and len(waiting) < 2 * threads:
                waiting.append(pool.submit(read, index + len(waiting)))
            budget.release(index - in_use)
            budget.wait_for(index)
            yield waiting.popleft().result()
    finally:
        budget.close()
        pool.shutdown(cancel_futures=True)
