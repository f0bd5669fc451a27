"""The photos of a run: those that were asked for, those that failed, and those that shards hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from gem_label.runs.files import run_of_shard
from gem_label.runs.jsonl import last_row
from gem_label.runs.shards import ShardError, ShardFile, repair_advice

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class RunPhoto:
    """A photo of the run's listing, finished or not: number (from 1), absolute path, image_id."""

    number: int
    path: str
    image_id: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A photo that could not be labelled: in which stage (read, propose, embed, label) and why."""

    image: str
    image_id: str
    stage: str
    error: str


FAILURE_FIELDS = MappingProxyType({"image": str, "image_id": str, "stage": str, "error": str})
LISTING_REMEDY = "restore the file, or delete it: the same `gem-label label` writes it again"
LISTING_FIELDS = MappingProxyType({"number": int, "image": str, "image_id": str})


class SeenPhotos:
    """The photos of the shards that were read so far: none of them twice, and all of them listed.

    Memory is one byte a photo.
    """

    def __init__(self, listing: Path | None) -> None:
        """Begin with no photo.

        Args:
            listing: images.jsonl; None: photos need not be listed.
        """
        self._listing = listing
        self._last = 0
        self._paths: list[Path] = []
        self._seen: dict[int, NDArray[np.bool_]] = {}

    def add(self, file: ShardFile) -> None:
        """Take in the photos of a shard.

        Raises:
            ShardError: one of them was seen already, or comes after the end of the listing.
        """
        for number in (photo.number for photo in file.photos):
            chunk = self._seen.setdefault(number // _CHUNK, np.zeros(_CHUNK, bool))
            if chunk[number % _CHUNK]:
                holder, advice = self._holder(number), repair_advice(file.path)
                raise ShardError(f"{file.path} holds photo {number}, which {holder} holds too: {advice}")
            if self._listing is not None and number > self._last:
                row = last_row(self._listing, LISTING_FIELDS)
                self._last = number if row is None else row["number"]
                if number > self._last:
                    raise ShardError(
                        f"{self._listing} ends with photo {self._last}, but {file.path} holds photo {number}: "
                        f"`gem-label repair {run_of_shard(file.path)}` completes the list"
                    )
        for number in (photo.number for photo in file.photos):
            self._seen[number // _CHUNK][number % _CHUNK] = True
        self._paths.append(file.path)

    def _holder(self, number: int) -> str:
        """The name of the file that holds a photo."""
        for path in self._paths:
            file = ShardFile(path)
            file.close()
            if any(photo.number == number for photo in file.photos):
                return path.name
        return "another file"
