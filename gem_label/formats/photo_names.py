"""Which photo a file name means that another tool wrote on another machine."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote

from gem_label.errors import UsageError
from gem_label.formats.annotations import brief
from gem_label.photos.reading import image_suffixes

Parts = tuple[str, ...]
Key = TypeVar("Key", bound=Hashable)
Name = TypeVar("Name", bound=Hashable)
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the names of photos that were uploaded to it."""
_ADDRESS = re.compile("https?://", re.IGNORECASE)


def pair_photos(paths: Mapping[Key, str], names: Mapping[Name, str]) -> dict[Key, Name]:
    """Pair the photos of two sources, one to one (see `match_photos`).

    Args:
        paths: key -> path of the photo in the one source.
        names: key -> file name in the other.

    Returns:
        Keys of the other source by those of the one, in the order of `paths`; photos without a partner are missing.

    Raises:
        UsageError: a photo could be paired with several.
    """
    pairs: dict[Key, Name] = {}
    matched: list[Key | None] = match_photos(paths, list(names.values()))
    for name, key in zip(names, matched, strict=True):
        if key is not None and pairs.setdefault(key, name) != name:
            raise UsageError(
                f"{brief(names[pairs[key]])} and {brief(names[name])} could both be {paths[key]}: each photo is to "
                "be listed once"
            )
    return {key: pairs[key] for key in paths if key in pairs}


def match_photos(paths: Mapping[Key, str], names: Sequence[str]) -> list[Key | None]:
    """For each file name the key of its photo, None where there is none.

    A name means the photo whose path it shares the longest end with, whole names of folders and files; a path below
    the innermost folder of all photos, as exports write it, is exact. Slashes of Windows, percent-encoding, the forms
    of Unicode, prefixes of uploads and queries of addresses make no difference, unless photos differ by nothing else.
    A name without the suffix of an image, as label files of YOLO have it, means the photo that has this name but for
    its suffix. Of two names for the same photo, the one that shares more of its path means it.

    Args:
        paths: key -> path of the photo.
        names: N names of the file.

    Raises:
        UsageError: a name could be several photos, or two names could be the same one.

    Example:
        >>> match_photos({1: "/data/a/1.png", 2: "/data/b/1.png"}, ["b\\\\1.png", "2.png"])
        [2, None]
    """
    readings = [(key, list(_readings(path))) for key, path in paths.items()]
    as_written = _Paths((key, each[0]) for key, each in readings if each)
    as_meant = _Paths((key, meant) for key, each in readings for meant in each[1:])
    stems = _Paths((key, _without_suffix(each)) for key, readings_of in readings for each in readings_of)
    suffixes = image_suffixes()
    claims = [_claim(name, (as_written, as_meant), stems, suffixes) for name in names]
    strongest: dict[Key, _Claim] = {}
    for claim in claims:
        if claim is not None and len(claim.keys) == 1:
            (key,) = claim.keys
            strongest[key] = max(strongest.get(key, claim), claim, key=lambda each: each.strength)
    return [
        None if claim is None else _settle(claim, name, strongest, paths, names, claims)
        for claim, name in zip(claims, names, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Claim:
    """The photos that a name could be.

    Attributes:
        keys: at least one; several cannot be told apart.
        parts: the name as it is read.
        strength: parts of the path that they share, whether these are all of the name, and how plainly it is read.
    """

    keys: tuple[Any, ...]
    parts: Parts
    strength: tuple[int, bool, int]


def _claim(name: str, sources: Iterable[_Paths], stems: _Paths, suffixes: Collection[str]) -> _Claim | None:
    """What a name could be among paths, the plainest reading first; stems are for names without a suffix."""
    rank = 0
    for source in sources:
        for parts in _readings(name):
            keys, shared = source.find(parts)
            if keys:
                return _Claim(keys, parts, (shared, shared == len(parts), -rank))
            rank += 1
    for parts in _readings(name):
        if PurePosixPath(parts[-1]).suffix.lower() not in suffixes:
            keys, shared = stems.find(parts)
            if keys:
                return _Claim(keys, parts, (shared, shared == len(parts), -rank))
        rank += 1
    return None


def _without_suffix(parts: Parts) -> Parts:
    return (*parts[:-1], PurePosixPath(parts[-1]).stem)


def _settle(
    claim: _Claim,
    name: str,
    strongest: Mapping[Any, _Claim],
    paths: Mapping[Key, str],
    names: Sequence[str],
    claims: Sequence[_Claim | None],
) -> Key | None:
    """The photo that a name means, None where other names mean all that it could be.

    Raises:
        UsageError: there are several, or another name is as close.
    """
    free = [key for key in claim.keys if key not in strongest or claim.strength >= strongest[key].strength]
    if not free:
        return None
    if len(claim.keys) > 1:
        some = " or ".join(paths[key] for key in claim.keys[:2])
        raise UsageError(
            f"{brief(name)} could be any of {len(claim.keys)} photos, {some}: give more of its path"
        )
    best = strongest[free[0]]
    if best.parts != claim.parts:
        other = names[next(i for i, each in enumerate(claims) if each is best)]
        raise UsageError(
            f"{brief(other)} and {brief(name)} could both be {paths[free[0]]}: give more of their paths"
        )
    return free[0]


class _Paths:
    """Paths of photos, found by their ends.

    Args:
        paths: keys and parts of paths; a key may have several.
    """

    def __init__(self, paths: Iterable[tuple[Any, Parts]]) -> None:
        entries = sorted(((parts[::-1], key) for key, parts in paths), key=lambda entry: entry[0])
        self._ends = [end for end, _ in entries]  # from the last part to the first
        self._keys = [key for _, key in entries]
        self._folder = _common([end[:0:-1] for end in self._ends])

    def find(self, parts: Parts) -> tuple[tuple[Any, ...], int]:
        """The keys of the paths that share the longest end with a path, and how many parts that has."""
        end = parts[::-1]
        place = bisect_left(self._ends, end)
        shared = max((_common([end, near]) for near in self._ends[max(place - 1, 0) : place + 1]), default=0)
        if not shared:
            return (), 0
        last = bisect_right(self._ends, end[:shared], key=lambda each: each[:shared])
        found = range(bisect_left(self._ends, end[:shared]), last)
        if len(found) > 1 and shared == len(end):
            lengths = (len(end) + self._folder, len(end))
            exact = [i for i in found if len(self._ends[i]) in lengths]
            found = exact or found  # type: ignore[assignment]
        return tuple(dict.fromkeys(self._keys[i] for i in found)), shared


def _common(paths: Sequence[Parts]) -> int:
    """How many parts all paths begin with."""
    first, last = min(paths, default=()), max(paths, default=())
    same = (a == b for a, b in zip(first, last, strict=False))
    return sum(1 for _ in takewhile(bool, same))


def _readings(name: str) -> Iterator[Parts]:
    """Yield the parts of a path as it stands, and as other systems may have meant it."""
    path = re.split("[?#]", name, maxsplit=1)[0] if _ADDRESS.match(name) else name
    for text in dict.fromkeys((name, unquote(name), unquote(path))):
        parts = _parts(text)
        if parts:
            yield parts
            prefix = _UPLOAD.match(parts[-1])
            if prefix:
                yield (*parts[:-1], parts[-1][prefix.end() :])


def _parts(path: str) -> Parts:
    text = unicodedata.normalize("NFC", path).replace("\\", "/")
    return tuple(part for part in text.split("/") if part not in ("", "."))
