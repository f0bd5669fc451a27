"""Chunks of a shared run: photos that one process labels and writes as one shard."""

from __future__ import annotations

from dataclasses import dataclass

from gem_label.photos.photo import Photo


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """Where in the listing the photos of a chunk are.

    Attributes:
        number: of the chunk, from 0.
        part: of the listing.
        start: the first of its photos in that part.
        photos: how many it has.
    """

    number: int
    part: int
    start: int
    photos: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Photos that are labeled by one process and written as one shard.

    Attributes:
        number: of the chunk and its shard, from 0.
        photos: consecutive photos of the listing.
    """

    number: int
    photos: tuple[Photo, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a shared run is.

    Attributes:
        chunks: how many chunks the listing has.
        missing: the numbers of those that have no shard yet.
    """

    chunks: int
    missing: tuple[int, ...]
