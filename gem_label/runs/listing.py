"""The photos of a run: what a listing and failures.jsonl say of each, and the listing of a shared run, in parts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gem_label.errors import GemLabelError
from gem_label.photos.listing import unique_image_id
from gem_label.photos.photo import Photo
from gem_label.runs.jsonl import json_line, parse_line
from gem_label.stores import Store, is_address


@dataclass(frozen=True, slots=True)
class Failure:
    """A photo that could not be labeled: in which stage (read, propose, embed, label) and why."""

    image: str
    image_id: str
    stage: str
    error: str


FAILURE_FIELDS = MappingProxyType({"image": str, "image_id": str, "stage": str, "error": str})
LISTING_FIELDS = MappingProxyType({"number": int, "image": str, "image_id": str})
LISTING_REMEDY = "restore the file, or delete it: the same `gem-label label` writes it again"


def listed_photo(row: Mapping[str, Any]) -> Photo | None:
    """The photo of a row of a listing; None where its path is neither absolute nor an address."""
    photo = Photo(row["image"], row["image_id"], row["number"])
    return photo if os.path.isabs(photo.path) or is_address(photo.path) else None


def number_photos(photos: Iterable[Photo], last: int, taken: set[str]) -> list[Photo]:
    """Photos as the listing has them, with the numbers that follow.

    Args:
        photos: new ones, each path once.
        last: the highest number so far, 0 for none.
        taken: image ids of the listing, which other photos have had since an earlier session; the new ones are added.
    """
    numbered = []
    for number, photo in enumerate(photos, start=last + 1):
        suffix = Path(photo.path).suffix
        whole = photo.image_id if photo.image_id.endswith(suffix) else photo.image_id + suffix
        image_id = unique_image_id(photo.path, whole, taken) if photo.image_id in taken else photo.image_id
        taken.add(image_id)
        numbered.append(Photo(photo.path, image_id, number))
    return numbered


def read_parts(store: Store, first: int = 0) -> Iterator[list[Photo]]:
    """Yield the photos of each part of a shared run's listing.

    Args:
        store: of the run.
        first: the number of the part to begin with.

    Raises:
        GemLabelError: a part is damaged.
    """
    for number in count(first):
        name = _part_name(number)
        try:
            lines = store.read(name).splitlines()
        except FileNotFoundError:
            return
        photos = []
        for number_of_line, line in enumerate(lines, start=1):
            row = parse_line(line, LISTING_FIELDS)
            photo = None if row is None else listed_photo(row)
            if photo is None:
                place = f"{store.address}/{name}, line {number_of_line}"
                raise GemLabelError(f"{place} is damaged: restore the file from a copy")
            photos.append(photo)
        yield photos


def create_part(store: Store, number: int, photos: Sequence[Photo]) -> bool:
    """Write a part of the listing; False: somebody else has written one with this number."""
    rows = ({"number": each.number, "image": each.path, "image_id": each.image_id} for each in photos)
    return store.create(_part_name(number), b"".join(map(json_line, rows)))


def _part_name(number: int) -> str:
    return f"listing/part-{number:06d}.jsonl"
