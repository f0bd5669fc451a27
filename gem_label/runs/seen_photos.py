"""Which photos the shards of a run hold: none twice, and none that was not asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gem_label.runs.files import run_of_shard
from gem_label.runs.jsonl import last_row
from gem_label.runs.listing import LISTING_FIELDS
from gem_label.runs.shards import PhotoLists, ShardError, repair_advice

_CHUNK = 1 << 16


class SeenPhotos:
    """The photos of the shards that were read so far: none of them twice, and all of them listed.

    Memory is four bytes a photo.
    """

    def __init__(self, listing: Path | None) -> None:
        """Begin with no photo.

        Args:
            listing: images.jsonl; None: photos need not be listed.
        """
        self._listing = listing
        self._last = 0
        self._names: list[str] = [""]
        self._holders: dict[int, NDArray[np.int32]] = {}  # by number // _CHUNK: places in _names

    def add(self, file: PhotoLists) -> None:
        """Take in the photos of a shard.

        Raises:
            ShardError: one of them was seen already, or comes after the end of the listing.
        """
        numbers = [photo.number for photo in file.photos]
        for number in numbers:
            chunk = self._holders.get(number // _CHUNK)
            if chunk is not None and chunk[number % _CHUNK]:
                holder, advice = self._names[chunk[number % _CHUNK]], repair_advice(file.path)
                raise ShardError(f"{file.path} holds photo {number}, which {holder} holds too: {advice}")
        if numbers and self._listing is not None and max(numbers) > self._last:
            row = last_row(self._listing, LISTING_FIELDS)  # read once more: runs grow while they are read
            self._last = max(numbers) if row is None else row["number"]
            if max(numbers) > self._last:
                raise ShardError(
                    f"{self._listing} ends with photo {self._last}, but {file.path} holds photo {max(numbers)}: "
                    f"`gem-label repair {run_of_shard(file.path)}` completes the list"
                )
        for number in numbers:
            chunk = self._holders.setdefault(number // _CHUNK, np.zeros(_CHUNK, np.int32))
            chunk[number % _CHUNK] = len(self._names)
        self._names.append(file.path.name)
