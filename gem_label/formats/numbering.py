"""Ids for formats whose photos and masks each need a number of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from gem_label.formats.annotations import AnnotatedMask, AnnotatedPhoto
from gem_label.geometry import is_whole


def with_numbers(photos: Iterable[AnnotatedPhoto]) -> Iterator[AnnotatedPhoto]:
    """Yield photos whose ids are whole numbers, each once, and so are those of their masks.

    Whole numbers stay, but for those that occur again. The others get the lowest free numbers. Where photos are a
    stream nobody knows what is free: its photos and its masks have a whole number each, or none of them has one.

    Args:
        photos: a sequence or a stream; iterated once, unless it is a sequence.
    """
    of_photos, of_masks = _Numbers(()), _Numbers(())
    if isinstance(photos, Sequence):
        of_photos = _Numbers(photo.id for photo in photos)
        of_masks = _Numbers(mask.id for photo in photos for mask in photo.masks)
    for photo in photos:
        yield replace(photo, id=of_photos.give(photo.id), masks=[_numbered(m, of_masks) for m in photo.masks])


def _numbered(mask: AnnotatedMask, numbers: _Numbers) -> AnnotatedMask:
    number = numbers.give(mask.id)
    return mask if number == mask.id else replace(mask, id=number)


class _Numbers:
    """Gives out numbers, each once.

    Args:
        ids: all ids for which numbers will be asked; none where they are not known.
    """

    def __init__(self, ids: Iterable[Any]) -> None:
        found = Counter(id for id in ids if is_whole(id))
        self._again = {id for id, times in found.items() if times > 1}
        self._given: set[int] = set()
        self._free = (number for number in count(1) if number not in found)

    def give(self, id: Any) -> int:
        """The number of what has this id."""
        if not is_whole(id) or id in self._given:
            return next(self._free)
        if id in self._again:
            self._given.add(id)
        return int(id)
