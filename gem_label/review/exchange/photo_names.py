"""Which photo a file name means that another tool wrote on another machine."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from gem_label.errors import UsageError
from gem_label.formats.annotations import brief
from gem_label.images import image_suffixes

Parts = tuple[str, ...]
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the names of photos that were uploaded to it."""


def match_photos(paths: Mapping[Any, str], names: Sequence[str]) -> list[Any | None]:
    """For each file name the key of its photo, None where there is none.

    A name means the photo whose path it shares the longest end with; a path below the innermost folder of all photos,
    as exports write it, is exact. Slashes of Windows, percent-encoding, the forms of Unicode and prefixes of uploads
    make no difference. Of two names for the same photo, the one that shares more of its path means it. A name without
    the suffix of an image, as label files of YOLO have it, means the photo that has this name but for its suffix.

    Args:
        paths: key -> path of the photo.
        names: N names of the file.

    Raises:
        UsageError: a name could be several photos, or two names could be the same one.
    """
    by_name: dict[str, list[tuple[Any, Parts]]] = {}
    by_stem: dict[str, list[tuple[Any, Parts]]] = {}
    suffixes = image_suffixes()
    parts_of = {key: _parts(path) for key, path in paths.items()}
    folder = _common([parts[:-1] for parts in parts_of.values()])
    for key, parts in parts_of.items():
        if parts:
            by_name.setdefault(parts[-1], []).append((key, parts))
            stem = PurePosixPath(parts[-1]).stem
            by_stem.setdefault(stem, []).append((key, (*parts[:-1], stem)))
    chosen: dict[Hashable, tuple[tuple[int, bool, int], Parts, str]] = {}
    found: list[tuple[Any, Parts] | None] = []
    for name in names:
        found.append(None)
        readings = list(_readings(name))
        tries = [(parts, by_name) for parts in readings]
        tries += [(p, by_stem) for p in readings if PurePosixPath(p[-1]).suffix.lower() not in suffixes]
        for rank, (parts, photos) in enumerate(tries):
            fits = _best(photos.get(parts[-1], []), parts, folder)
            if len(fits) > 1:
                raise UsageError(f"{brief(name)} could be any of {len(fits)} photos: give more of its path")
            if fits:
                key, shared = fits[0]
                found[-1] = key, parts
                mine = (shared, shared >= len(parts), -rank), parts, name
                other = chosen.setdefault(key, mine)
                if other[1] != parts and other[0] == mine[0]:
                    raise UsageError(
                        f"{brief(other[2])} and {brief(name)} could both be {paths[key]}: give more of their paths"
                    )
                chosen[key] = max(other, mine, key=lambda each: each[0])
                break
    return [each[0] if each is not None and chosen[each[0]][1] == each[1] else None for each in found]


def _best(candidates: list[tuple[Any, Parts]], parts: Parts, folder: int) -> list[tuple[Any, int]]:
    """The photos that share the most of a path, and how many parts they share (exact: more than any)."""
    shared = []
    for key, path in candidates:
        length = _common([path[::-1], parts[::-1]])
        shared.append((key, 1 << 30 if path[folder:] == parts or path == parts else length))
    most = max((length for _, length in shared), default=0)
    return [each for each in shared if each[1] == most]


def _common(paths: Sequence[Parts]) -> int:
    """How many parts all paths begin with."""
    first, last = min(paths, default=()), max(paths, default=())
    same = (a == b for a, b in zip(first, last, strict=False))
    return sum(1 for _ in takewhile(bool, same))


def _readings(name: str) -> Iterator[Parts]:
    """The parts of a path as it stands, and as other systems may have meant it."""
    for text in dict.fromkeys((name, unquote(name))):
        parts = _parts(text)
        if parts:
            yield parts
            prefix = _UPLOAD.match(parts[-1])
            if prefix:
                yield (*parts[:-1], parts[-1][prefix.end() :])


def _parts(path: str) -> Parts:
    text = unicodedata.normalize("NFC", path).replace("\\", "/")
    return tuple(part for part in text.split("/") if part not in ("", "."))
