"""The photos of a run: what a listing and failures.jsonl say of each, and the listing of a shared run, in parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType

from gem_label.errors import GemLabelError
from gem_label.runs.jsonl import json_line, parse_line
from gem_label.stores import Store


@dataclass(frozen=True, slots=True)
class RunPhoto:
    """A photo of the run's listing, finished or not: number (from 1), absolute path, image_id."""

    number: int
    path: str
    image_id: str


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


def read_parts(store: Store, first: int = 0) -> Iterator[list[RunPhoto]]:
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
        rows = [parse_line(line, LISTING_FIELDS) for line in lines]
        if None in rows:
            place = f"{store.address}/{name}, line {rows.index(None) + 1}"
            raise GemLabelError(f"{place} is damaged: restore the file from a copy")
        yield [RunPhoto(row["number"], row["image"], row["image_id"]) for row in rows if row is not None]


def create_part(store: Store, number: int, photos: Sequence[RunPhoto]) -> bool:
    """Write a part of the listing; False: somebody else has written one with this number."""
    rows = ({"number": each.number, "image": each.path, "image_id": each.image_id} for each in photos)
    return store.create(_part_name(number), b"".join(map(json_line, rows)))


def _part_name(number: int) -> str:
    return f"listing/part-{number:06d}.jsonl"
