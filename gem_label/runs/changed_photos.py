"""Photos that were replaced after they were labeled: their masks are of a picture that is no longer there."""

from __future__ import annotations

import os
from collections.abc import Iterable

from gem_label.photos.buckets import Buckets
from gem_label.photos.listing import photo_folder
from gem_label.runs.schema import PhotoRecord
from gem_label.stores import is_address
from gem_label.stores.local import file_tag


class ChangedPhotos:
    """Looks at photos again, by size and time of change, or by the tags that a store lists; opens none.

    Photos of runs of earlier versions, whose tags are not known, and photos that are gone are passed over. Those of
    the local file system need no memory, those of stores some 200 bytes each.
    """

    def __init__(self) -> None:
        self._count, self._first = 0, ""
        self._addresses: dict[str, str] = {}

    def add(self, photos: Iterable[PhotoRecord]) -> None:
        """Look at photos of a run."""
        for photo in photos:
            if not photo.tag:
                continue
            if is_address(photo.image):
                self._addresses[photo.image] = photo.tag
                continue
            try:
                changed = file_tag(os.stat(photo.image)) != photo.tag
            except (OSError, ValueError):
                continue
            if changed:
                self._found(photo.image)

    def _found(self, image: str) -> None:
        self._first = self._first or image
        self._count += 1

    def note(self) -> str | None:
        """One line about those that were replaced; None where none was.

        Raises:
            GemLabelError: a store does not answer.
        """
        if self._addresses:
            buckets = Buckets()
            for folder in _folders(self._addresses):
                for address, tag in buckets.tags_below(folder):
                    if self._addresses.pop(address, tag) != tag:
                        self._found(address)
            self._addresses.clear()
        if not self._count:
            return None
        photos = "1 photo was" if self._count == 1 else f"{self._count} photos were"
        return (
            f"{photos} replaced after labeling, such as {self._first}: the masks are of the old picture; label into "
            "another --out for new ones"
        )


def _folders(addresses: Iterable[str]) -> list[str]:
    """The innermost folder of each bucket that holds its photos."""
    buckets: dict[str, list[str]] = {}
    for address in addresses:
        scheme, _, rest = address.partition("://")
        buckets.setdefault(f"{scheme}://{rest.partition('/')[0]}", []).append(address)
    return [photo_folder(paths) for paths in buckets.values()]


def note_of_changed(photos: Iterable[PhotoRecord]) -> str | None:
    """One line about those of some photos that were replaced after labeling; None where none was."""
    changed = ChangedPhotos()
    changed.add(photos)
    return changed.note()
