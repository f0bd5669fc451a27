"""Where a YOLO folder has its photos and label files: the layouts of ultralytics, Roboflow and CVAT."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from gem_label.errors import UsageError
from gem_label.photos.reading import image_suffixes
from gem_label.text_files import read_text

SPLITS = ("train", "val", "validation", "valid", "test", "minival")
"""Keys of data.yaml that say where photos are."""


@dataclass(frozen=True, slots=True)
class Located:
    """A photo of a YOLO folder.

    Attributes:
        name: below its folder, or as a list has it; without a suffix where only the label file is there.
        image: its file; None where it is not there.
        labels: its label file; None where there is none.
    """

    name: str
    image: str | None = None
    labels: str | None = None


@dataclass(slots=True)
class YoloFolder:
    """The files of a folder with a data.yaml.

    Attributes:
        root: the folder, absolute.
        base: what paths in data.yaml are relative to, absolute.
        listed: absolute paths of photos that belong there but were not unpacked.
        closed: look for nothing outside of the folder.
        noted: names of photos by their label files' paths below the folder, where a side file has them.
    """

    root: str
    base: str
    listed: Sequence[str] = ()
    closed: bool = False
    noted: Mapping[str, str] = field(default_factory=dict)
    _parents: set[str] = field(default_factory=set)

    @classmethod
    def open(
        cls, root: Path, data: Mapping[str, Any], photos: Sequence[str] | None, noted: Mapping[str, str]
    ) -> YoloFolder:
        """The folder of a data.yaml.

        Args:
            root: where data.yaml is.
            data: what it says.
            photos: paths of photos that were not unpacked; the folder is then looked at alone.
            noted: see the attribute.
        """
        top, path = os.path.abspath(root), data.get("path")
        base = os.path.abspath(os.path.join(top, path)) if isinstance(path, str) else top
        suffixes = image_suffixes()
        listed = [
            os.path.abspath(name) for name in photos or () if os.path.splitext(name)[1].lower() in suffixes
        ]
        parents = {str(parent) for name in listed for parent in PurePosixPath(name).parents}
        return cls(top, base if os.path.isdir(base) else top, listed, photos is not None, noted, parents)

    def locate(self, data: Mapping[str, Any]) -> list[Located]:
        """The photos of all splits, each once, with names that differ.

        Raises:
            UsageError: nothing is where data.yaml says, and nothing is in folders "labels" either.
        """
        found: dict[str, Located] = {}
        resolved = False
        for entry in _entries(data):
            target = self._resolve(entry)
            if target is None:
                continue
            resolved = True
            photos = self._in_list(target) if os.path.isfile(target) else self._in_folder(target)
            for photo in photos:
                found.setdefault(photo.image or photo.labels or photo.name, photo)
        if not resolved:
            folders = [folder for folder, _ in _walk(self.root) if os.path.basename(folder) == "labels"]
            if not folders:
                raise UsageError(f"{self.root} has no photos where data.yaml says, and no folder 'labels'")
            for folder in folders:
                for photo in self._in_folder(os.path.join(os.path.dirname(folder), "images")):
                    found.setdefault(photo.image or photo.labels or photo.name, photo)
        return _with_own_names(list(found.values()), self.root)

    def _resolve(self, entry: str) -> str | None:
        """The folder or list that data.yaml means, which may have been written on another machine."""
        text = entry.replace("\\", "/")
        wanted = [os.path.join(base, text) for base in (self.base, self.root)]
        if text.startswith("../"):
            wanted += [os.path.join(base, text[3:]) for base in (self.base, self.root)]
        parts = [part for part in text.split("/") if part not in ("", ".", "..")]
        wanted += [os.path.join(self.root, *parts[k:]) for k in range(len(parts))]
        for path in map(os.path.abspath, wanted):
            if not self._allows(path):
                continue
            if os.path.isfile(path) and path.lower().endswith(".txt"):
                return path
            if os.path.isdir(path) or path in self._parents or os.path.isdir(self._labels_folder(path)):
                return path
        return None

    def _allows(self, path: str) -> bool:
        """Whether to look there: not through whole disks, and of an archive at what was unpacked alone."""
        if path == self.root or path.startswith(self.root + os.sep):
            return True
        return not self.closed and not self.root.startswith(path.rstrip(os.sep) + os.sep)

    def _labels_folder(self, folder: str) -> str:
        """Where the labels of a folder of photos are: the last "images" of its path exchanged, or beside them."""
        return os.path.dirname(self._label_path(os.path.join(folder, "photo")))

    def _label_path(self, image: str) -> str:
        """Where ultralytics looks for the label file of a photo; folders above the root do not count."""
        above = self.root if image.startswith(self.root + os.sep) else ""
        folder, name = os.path.split(image[len(above) :])
        parts = folder.split(os.sep)
        if "images" in parts:
            last = len(parts) - 1 - parts[::-1].index("images")
            parts[last] = "labels"
        return above + os.sep.join([*parts, (name.rpartition(".")[0] or name) + ".txt"])

    def _labels_of(self, image: str) -> str | None:
        beside = (image.rpartition(".")[0] or image) + ".txt"
        return next((path for path in (self._label_path(image), beside) if os.path.isfile(path)), None)

    def _in_folder(self, folder: str) -> Iterator[Located]:
        """The photos of a folder, and those of which only the label file is there."""
        suffixes, taken = image_suffixes(), set()
        files = [os.path.join(parent, name) for parent, names in _walk(folder) for name in names]
        below = [path for path in self.listed if path.startswith(folder + os.sep)]
        for path in dict.fromkeys([*files, *below]):
            if os.path.splitext(path)[1].lower() in suffixes:
                labels = self._labels_of(path)
                taken.add(labels)
                image = path if os.path.isfile(path) else None
                yield Located(_relative(path, folder), image, labels)
        yield from self._label_files(self._labels_folder(folder), taken)

    def _label_files(self, folder: str, taken: set[str | None]) -> Iterator[Located]:
        """The label files of a folder that are of no photo there."""
        for parent, names in _walk(folder):
            for name in names:
                path = os.path.join(parent, name)
                about = parent == self.root or name == "classes.txt"  # lists and read-me files
                if name.lower().endswith(".txt") and path not in taken and not about:
                    yield Located(_relative(path, folder)[: -len(".txt")], None, path)

    def _in_list(self, path: str) -> list[Located]:
        """The photos of a list of paths, and of label files beside it that are of none of them."""
        lines = dict.fromkeys(line.strip() for line in read_text(path).splitlines())
        photos = [self._listed_photo(line, os.path.dirname(path)) for line in lines if line]
        folder = os.path.join(self.root, "labels", os.path.splitext(os.path.basename(path))[0])
        if not os.path.isdir(folder):
            return photos
        # paths of another machine, or of photos that have their labels only here; the most of a path decides
        alone = {
            each: self._ends(each) for each in self._label_files(folder, {each.labels for each in photos})
        }
        by_end: dict[str, set[int]] = {}
        for i, photo in enumerate(photos):
            if photo.labels is None:
                for name in {PurePosixPath(photo.name).name, PurePosixPath(photo.name).stem}:
                    by_end.setdefault(name, set()).add(i)
        for each, end in sorted(alone.items(), key=lambda item: -item[1].count("/")):
            fits = [
                i
                for i in by_end.get(end.rpartition("/")[2], ())
                if photos[i].labels is None
                and any(
                    f"/{name}".endswith(f"/{end}")
                    for name in (photos[i].name, _without_suffix(photos[i].name))
                )
            ]
            if len(fits) == 1:
                photos[fits[0]] = replace(photos[fits[0]], labels=each.labels)
            else:
                photos.append(each)
        return photos

    def _ends(self, alone: Located) -> str:
        """What the path of a label file's photo ends with: its name, or that without a suffix."""
        return self.noted.get(_relative(str(alone.labels), self.root), alone.name)

    def _listed_photo(self, line: str, folder: str) -> Located:
        text = line.replace("\\", "/").removeprefix("./")
        parts = [part for part in text.split("/") if part not in ("", ".", "..")]
        wanted = [os.path.join(base, text) for base in (folder, self.base, self.root)]
        wanted += [os.path.join(self.root, *parts[k:]) for k in range(len(parts) - 1)]
        for path in map(os.path.abspath, wanted):
            image = path if self._allows(path) and os.path.isfile(path) else None
            labels = self._labels_of(path) if self._allows(path) else None
            if image or labels:
                return Located(text, image, labels)
        return Located(text)


def _without_suffix(name: str) -> str:
    return name.removesuffix(PurePosixPath(name).suffix)


def _entries(data: Mapping[str, Any]) -> Iterator[str]:
    """What data.yaml has for its splits."""
    for split in SPLITS:
        value = data.get(split)
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, str) and entry.strip():
                yield entry.strip()


def _walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Each folder with the names of its files, sorted, without hidden ones; links to folders are followed once."""
    visited: set[tuple[int, int]] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent, sorted(name for name in names if not name.startswith("."))


def _with_own_names(photos: list[Located], root: str) -> list[Located]:
    """The photos with names that differ: those of the same name in two splits have their paths below the root."""
    counts = Counter(photo.name for photo in photos)
    return [
        replace(photo, name=_relative(photo.image or (photo.labels or photo.name).removesuffix(".txt"), root))
        if counts[photo.name] > 1
        else photo
        for photo in photos
    ]


def _relative(path: str, folder: str) -> str:
    return PurePosixPath(os.path.relpath(path, folder)).as_posix()
