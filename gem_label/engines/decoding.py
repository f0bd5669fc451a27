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
from gem_label.photos.buckets import Buckets
from gem_label.photos.photo import Photo
from gem_label.photos.reading import read_image

DECODER_THREADS = min(4, os.cpu_count() or 1)
# Decoded photos that may wait or be decoded at a time, together; 3 bytes each, some more while decoding.
PIXELS_AHEAD = 100_000_000


class PixelBudget:
    """Lets photos be decoded while their pixels fit; the photo that is waited for always may.

    Args:
        limit: pixels.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._pixels: dict[int, int] = {}
        self._turn = 0
        self._closed = False

    def admit(self, index: int, pixels: int) -> None:
        """Wait until photo `index` of the sequence may be decoded.

        Raises:
            ImageError: `close` was called meanwhile.
        """

        def fits() -> bool:
            within = sum(self._pixels.values()) + pixels <= self._limit
            return self._closed or within or index <= self._turn

        with self._changed:
            self._changed.wait_for(fits)
            if self._closed:
                raise ImageError("the run has stopped")
            self._pixels[index] = pixels

    def wait_for(self, index: int) -> None:
        """Photo `index` is waited for: nothing else is decided until it is decoded."""
        with self._changed:
            self._turn = index
            self._changed.notify_all()

    def release(self, index: int) -> None:
        """Photo `index` is no longer held."""
        with self._changed:
            self._pixels.pop(index, None)
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody wants the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def iter_decoded(
    photos: Sequence[Photo],
    threads: int = DECODER_THREADS,
    pixels_ahead: int = PIXELS_AHEAD,
    in_use: int = 1,
) -> Generator[tuple[Photo, NDArray[np.uint8] | ImageError], None, None]:
    """Read photos in threads, in order; close the iterator to stop early.

    Args:
        photos: which.
        threads: how many decode at a time.
        pixels_ahead: decoded pixels held together, those in use included (one photo more when it is
            larger).
        in_use: how many photos the caller works on; whoever asks for another is done with all but the last
            `in_use` - 1.

    Yields:
        Each photo, with the tag of what was read, and its (H, W, 3) uint8 pixels or the reason why it cannot be read.
    """
    budget, buckets = PixelBudget(pixels_ahead), Buckets()

    def read(index: int) -> tuple[Photo, NDArray[np.uint8] | ImageError]:
        photo = photos[index]

        def take_tag(tag: str) -> None:
            nonlocal photo
            photo = replace(photo, tag=tag)

        try:
            photo.path.encode()
            pixels = read_image(photo.path, lambda pixels: budget.admit(index, pixels), buckets, take_tag)
        except ImageError as error:
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
