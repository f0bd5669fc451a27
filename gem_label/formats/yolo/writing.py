"""YOLO segmentation, written: a folder with data.yaml, photos, a text file of polygons for each, and a side file."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from gem_label.atomic import replacing_folder
from gem_label.errors import UsageError
from gem_label.formats.annotations import AnnotatedPhoto, Annotations, WriteReport
from gem_label.formats.drawing import DrawnMask, PhotoFiles, WriteSettings, draw_masks
from gem_label.formats.yolo.side_file import SIDE_FILE, Polygon, side_line
from gem_label.text_files import read_text

TOLERANCE = 1.0
"""Pixels that polygons may depart from a mask's border unless the settings say otherwise."""

MARKER = "gem_label"
"""Key in data.yaml with the version that wrote the folder."""

IMAGES, LABELS, LIST = "images/train", "labels/train", "train.txt"

_OURS = {"data.yaml", "images", IMAGES, "labels", LABELS, LIST, SIDE_FILE}
_LONGEST = 200
"""Bytes of a name in the folder; file systems take 255, and numbers and suffixes come on top."""


def write_yolo(
    annotations: Annotations, out: Path, settings: WriteSettings | None = None
) -> Generator[int, None, WriteReport]:
    """Write a folder that YOLO tools train on, all photos in the split "train".

    A line is a mask: the class's number and one polygon, whose bridges of no width join several parts and lead to
    holes (`single_outline`). Photos without masks have an empty label file. Photos keep their names and folders, but
    not where two would have one label file or YOLO tools would not find the photo. The side file has what the format
    has no place for: names, exact masks, mask ids, scores and states. data.yaml has no `path`, so that the folder can
    be moved.

    Args:
        annotations: what to write.
        out: the folder; appears when it is whole. One that gem-label wrote is replaced.
        settings: `tolerance`, None: `TOLERANCE`; `photos`: "link" (copies where links are impossible), "copy", or
            "list": train.txt has their paths, from which YOLO tools do not find the labels.

    Yields:
        How many masks are written, after each photo; the generator returns the report.

    Raises:
        UsageError: `out` holds something else, or photos that the new folder does not have.
        GemLabelError: a mask cannot be drawn.
        OSError: the folder cannot be written.
    """
    settings = settings or WriteSettings()
    out = Path(os.path.realpath(out))
    check_replaceable(out)
    report = WriteReport(classes=len(annotations.classes))
    index = {name: i for i, name in enumerate(annotations.classes)}
    with replacing_folder(out, replace=True) as folder:
        about = _data_yaml(annotations, settings.photos)
        (folder / "data.yaml").write_text(about, encoding="utf-8")
        for part in [LABELS] if settings.photos == "list" else [LABELS, IMAGES]:
            (folder / part).mkdir(parents=True)
        places = _Places(folder, out, settings.photos)
        with open(folder / SIDE_FILE, "w", encoding="ascii") as side:
            for photo in annotations.photos:
                report.photos += 1
                name = places.add(photo, report)
                labels = folder / LABELS / _label_name(name)
                labels.parent.mkdir(parents=True, exist_ok=True)
                rows = []
                with open(labels, "w", encoding="ascii") as file:
                    for drawn in draw_masks(photo, report):
                        polygon = _polygon(drawn, settings.tolerance, report)
                        report.masks += 1
                        numbers = " ".join(
                            f"{value:.6f}".rstrip("0").rstrip(".") for value in polygon.ravel()
                        )
                        file.write(f"{index[drawn.mask.label]} {numbers}\n")
                        rows.append((drawn, polygon))
                side.write(side_line(labels.relative_to(folder).as_posix(), photo, rows))
                yield report.masks
        _check_nothing_lost(out, folder)
    return report


def check_replaceable(out: Path) -> None:
    """Check that a folder may be replaced: there is none, it is empty, or gem-label wrote all of it.

    Raises:
        UsageError: it holds something else.
    """
    if not out.is_dir() or not any(out.iterdir()):
        return
    try:
        data = yaml.load(read_text(out / "data.yaml"), yaml.BaseLoader)  # noqa: S506 - text, lists, dicts
        ours = isinstance(data, dict) and MARKER in data
    except (UsageError, yaml.YAMLError, RecursionError):
        ours = False
    if not ours:
        raise UsageError(
            f"{out} is not empty, and no YOLO folder of gem-label: give the name of a new folder"
        )
    splits = [path for folder in ("images", "labels") for path in out.glob(f"{folder}/*")]
    found = [path.relative_to(out).as_posix() for path in [*out.iterdir(), *splits]]
    others = sorted(name for name in found if name not in _OURS and not name.endswith(".cache"))
    if others:
        raise UsageError(
            f"{out} would be replaced, but it holds {others[0]!r} too: give the name of a new folder"
        )


def _check_nothing_lost(old: Path, new: Path) -> None:
    """Check that photos which are files of the old folder, not links, are in the new one."""
    for folder, _, names in os.walk(old / "images"):
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink() and not (new / path.relative_to(old)).is_file():
                photo = path.relative_to(old)
                raise UsageError(
                    f"{old} would be replaced, but only there is {photo}: give the name of a new folder"
                )


def _data_yaml(annotations: Annotations, photos: PhotoFiles) -> str:
    split = LIST if photos == "list" else IMAGES
    data: dict[str, Any] = {
        "train": split,
        "val": split,
        "names": dict(enumerate(annotations.classes)),
        MARKER: version("gem-label"),
    }
    return yaml.safe_dump(data, allow_unicode=True, sort_keys=False, width=1000)


def _polygon(drawn: DrawnMask, tolerance: float | None, report: WriteReport) -> Polygon:
    """A mask as one polygon, (N, 2) x, y as parts of the photo's width and height, rounded as it is written."""
    from gem_label.formats.outlines.polygons import single_outline  # OpenCV only where polygons are asked for

    found = single_outline(drawn.crop, TOLERANCE if tolerance is None else tolerance)
    report.add_outline(found.iou)
    if found.dropped:
        report.altered["masks whose smallest parts were dropped"] += 1
    if found.block > 1:
        report.altered["masks whose outlines have a lower resolution"] += 1
    if drawn.mask.crowd:
        report.altered["masks that are no crowds any more"] += 1
    height, width = drawn.rle["size"]
    polygon: NDArray[np.float64] = (found.polygons[0] + np.array(drawn.box[:2])) / (width, height)
    return polygon.round(6)


class _Places:
    """Where photos of a folder are; puts them there."""

    def __init__(self, folder: Path, out: Path, photos: PhotoFiles) -> None:
        self.folder, self.out, self.photos = folder, out, photos
        self._taken: set[str] = set()

    def add(self, photo: AnnotatedPhoto, report: WriteReport) -> str:
        """Link, copy or list a photo: its path below the folder of images, which has a label file of its own."""
        wanted = place(photo.name)
        path, number = PurePosixPath(wanted), 2
        # file systems of other machines may not tell A from a
        while (key := _label_name(path.as_posix()).casefold()) in self._taken:
            path = PurePosixPath(wanted).with_stem(f"{PurePosixPath(wanted).stem}~{number}")
            number += 1
        self._taken.add(key)
        name = path.as_posix()
        if name != photo.name:
            report.altered["photos with another name"] += 1
        source = self._source(photo)
        if source is None:
            report.altered["photos that are not on this machine"] += 1
        if self.photos == "list":
            with open(self.folder / LIST, "a", encoding="utf-8", errors="surrogateescape") as file:
                line = str(source or photo.name)
                file.write((line if "\n" not in line and "\r" not in line else name) + "\n")
        elif source is not None:
            self._put(source, self.folder / IMAGES / name)
        return name

    def _source(self, photo: AnnotatedPhoto) -> Path | None:
        """The photo's file; of a link in the folder that is about to be replaced, the file that it points to."""
        if photo.path is None or not os.path.isfile(photo.path):
            return None
        source = Path(os.path.abspath(photo.path))
        in_old = Path(os.path.realpath(source.parent)).is_relative_to(self.out)
        return Path(os.path.realpath(source)) if in_old else source

    def _put(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.photos == "link" and not source.is_relative_to(self.out):
            with suppress(OSError, NotImplementedError):
                target.symlink_to(source)
                return
        shutil.copyfile(source, target)


def place(name: str) -> str:
    r"""A photo's path in a folder of images: below it, and such that YOLO tools find the photo and its labels.

    Tools find labels by exchanging the last folder "images" of a path, and pass over hidden files.

    Example:
        >>> place(r"..\images\.a.jpg")
        'images_/_.a.jpg'
    """
    text = re.sub(r"[\x00-\x1f]", "_", name.replace("\\", "/")).encode("utf-8", "replace").decode("utf-8")
    parts = [part for part in text.split("/") if part not in ("", ".", "..")] or ["photo"]
    parts = [f"_{part}" if part.startswith(".") else part for part in parts]
    # the label file of "a" must not stand where the folder "a.txt" has its label files
    folders = [f"{part}_" if part == "images" or part.endswith(".txt") else part for part in parts[:-1]]
    parts = [*folders, parts[-1]]
    return "/".join(map(_shortened, parts))


def _shortened(part: str) -> str:
    suffix = PurePosixPath(part).suffix[:20]
    stem = part[: len(part) - len(suffix)]
    while len(f"{stem}{suffix}".encode()) > _LONGEST:
        stem = stem[:-1]
    return stem + suffix


def _label_name(name: str) -> str:
    """The path of a photo's label file below the folder of labels."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.rpartition('.')[0] or last}.txt"
