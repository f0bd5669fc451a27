"""The photos of a run: what a listing says of each, and the listing of a shared run, which is in parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from gem_label.errors import GemLabelError
from gem_label.runs.jsonl import json_line
from gem_label.stores import Store


@dataclass(frozen=True, slots=True)
class RunPhoto:
    """A photo of the run's listing, finished or not: number (from 1), absolute path, image_id."""

    number: int
    path: str
    image_id: str


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
        try:
            rows = [json.loads(line) for line in lines]
            yield [RunPhoto(int(row["number"]), str(row["image"]), str(row["image_id"])) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            raise GemLabelError(
                f"{store.address}/{name} is damaged ({error}): restore it from a copy"
            ) from error


def create_part(store: Store, number: int, photos: Sequence[RunPhoto]) -> bool:
    """Write a part of the listing; False: somebody else has written one with this number."""
    rows = ({"number": each.number, "image": each.path, "image_id": each.image_id} for each in photos)
    return store.create(_part_name(number), b"".join(map(json_line, rows)))


def _part_name(number: int) -> str:
    return f"listing/part-{number:06d}.jsonl"
