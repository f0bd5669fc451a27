"""Segmentation datasets in their official folder layouts: photos, label maps, class names with phrasings.

| name | root holds | label maps |
|---|---|---|
| voc20, voc21 | VOCdevkit/VOC2012 | SegmentationClass/*.png |
| context59, context60 | VOCdevkit/VOC2010 | SegmentationClassContext/*.png; or trainval/*.mat and labels.txt |
| ade20k | ADEChallengeData2016 | annotations/validation/*.png |
| cocostuff | val2017 (or images/val2017) | stuffthingmaps/val2017/*.png |
| cityscapes | leftImg8bit and gtFine | gtFine/val/*/*_gtFine_labelIds.png |

The root may also be that first folder itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gem_label.errors import GemLabelError, UsageError
from gem_label.tables import shorten
from gem_label.text_files import read_text

IGNORE = 255
LABEL_VALUES = 1 << 16
BACKGROUND = "background"
WITH_BACKGROUND = frozenset({"voc21", "context60"})
"""Datasets where everything else is a class, too."""
Split = Literal["train", "val"]
Samples = list[tuple[Path, Path]]


@dataclass(frozen=True)
class ClassList:
    """The classes of a dataset.

    Attributes:
        names: C official names.
        values: (C,) their values in label maps.
        phrasings: per class what a text encoder may be given, the plain name first.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    phrasings: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class SegmentationDataset:
    """Photos and label maps of one split.

    Attributes:
        name: such as "voc21".
        split: "train" or "val".
        names: C class names; with `background` the first is "background", which has no phrasing.
        phrasings: those of the classes that are not background.
        background: whether places that look like no class count as a class of their own.
        samples: photo and label map of each image.
        lookup: (65536,) uint8, label-map value to class index, 255 for values that are ignored.
    """

    name: str
    split: Split
    names: tuple[str, ...]
    phrasings: tuple[tuple[str, ...], ...]
    background: bool
    samples: Samples
    lookup: NDArray[np.uint8] = field(repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Photo (H, W, 3) and label map (H, W) of class indices, 255 where no class is asked.

        The photo is taken as it is stored: label maps know no EXIF rotation.

        Raises:
            GemLabelError: a file cannot be read.
        """
        photo, label = self.samples[index]
        try:
            with Image.open(photo) as image:
                pixels = np.asarray(image.convert("RGB"))
            values = _read_mat(label) if label.suffix == ".mat" else _read_png(label)
        except OSError as error:
            raise GemLabelError(f"cannot read {photo} or its label map {label}: {error}") from error
        return pixels, self.lookup[values]

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        return (self.read(index) for index in range(len(self)))


def read_classes(name: str) -> ClassList:
    """A packaged class list: voc, context59, ade20k, cocostuff or cityscapes."""
    text = (resources.files("gem_label.evaluation") / "classes" / f"{name}.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    return ClassList(
        names=tuple(row[1] for row in rows),
        values=tuple(int(row[0]) for row in rows),
        phrasings=tuple(tuple(phrase.strip() for phrase in row[2].split(",")) for row in rows),
    )


def open_dataset(name: str, root: Path, split: Split = "val") -> SegmentationDataset:
    """Find a dataset below `root`.

    Args:
        name: one of `DATASETS`.
        root: a folder in the official layout (see above).
        split: which part.

    Raises:
        UsageError: an unknown name, or the folders or files are not there.
    """
    if name not in DATASETS:
        raise UsageError(f"unknown dataset {name!r}: choose one of {', '.join(DATASETS)}")
    class_file, find = DATASETS[name]
    classes = read_classes(class_file)
    samples, values = find(root, split, classes)
    if not samples:
        raise UsageError(f"no images of {name} ({split}) below {root}")
    for path in (*samples[0], *samples[-1]):
        if not path.is_file():
            raise UsageError(f"{name} below {root} is not whole: {path} is missing")
    background = name in WITH_BACKGROUND
    lookup = np.full(LABEL_VALUES, IGNORE, np.uint8)
    if background:
        # .mat files of Context have hundreds of other things in them, which are no class
        lookup[slice(None) if samples[0][1].suffix == ".mat" else 0] = 0
    lookup[list(values)] = np.arange(len(values)) + background
    names = (BACKGROUND, *classes.names) if background else classes.names
    return SegmentationDataset(name, split, names, classes.phrasings, background, samples, lookup)


def _voc(root: Path, split: Split, classes: ClassList) -> tuple[Samples, Sequence[int]]:
    base = _folder(root, "VOCdevkit/VOC2012", "VOC2012", needs="JPEGImages")
    ids = _lines(base / "ImageSets/Segmentation" / f"{split}.txt")
    return [
        (base / "JPEGImages" / f"{i}.jpg", base / "SegmentationClass" / f"{i}.png") for i in ids
    ], classes.values


def _context(root: Path, split: Split, classes: ClassList) -> tuple[Samples, Sequence[int]]:
    base = _folder(root, "VOCdevkit/VOC2010", "VOC2010", needs="JPEGImages")
    if (base / "SegmentationClassContext").is_dir():
        ids = _lines(base / "ImageSets/SegmentationContext" / f"{split}.txt")
        labels = base / "SegmentationClassContext"
        return [(base / "JPEGImages" / f"{i}.jpg", labels / f"{i}.png") for i in ids], classes.values
    labels = _folder(root, base.relative_to(root).as_posix(), needs="trainval") / "trainval"
    numbers = _numbered_names(labels.parent / "labels.txt")
    missing = sorted(set(classes.names) - numbers.keys())
    if missing:
        raise UsageError(f"{labels.parent / 'labels.txt'} has no class {missing[0]}")
    listed = _lines(base / "ImageSets/Main" / f"{split}.txt")
    paths = [(base / "JPEGImages" / f"{i}.jpg", labels / f"{i}.mat") for i in listed]
    return [pair for pair in paths if pair[1].is_file()], [numbers[name] for name in classes.names]


def _ade(root: Path, split: Split, classes: ClassList) -> tuple[Samples, Sequence[int]]:
    base = _folder(root, "ADEChallengeData2016", needs="annotations")
    part = {"val": "validation", "train": "training"}[split]
    labels = base / "annotations" / part
    photos = sorted((base / "images" / part).glob("*.jpg"))
    return [(photo, labels / f"{photo.stem}.png") for photo in photos], classes.values


def _coco_stuff(root: Path, split: Split, classes: ClassList) -> tuple[Samples, Sequence[int]]:
    part = f"{split}2017"
    photos = _folder(root, "images", needs=part) / part
    places = [root / "stuffthingmaps", root / "annotations", root / "stuffthingmaps_trainval2017"]
    labels = next((place / part for place in places if (place / part).is_dir()), places[0] / part)
    return [(photo, labels / f"{photo.stem}.png") for photo in sorted(photos.glob("*.jpg"))], classes.values


def _cityscapes(root: Path, split: Split, classes: ClassList) -> tuple[Samples, Sequence[int]]:
    base = _folder(root, "cityscapes", needs="leftImg8bit")
    pairs = []
    for photo in sorted((base / "leftImg8bit" / split).glob("*/*_leftImg8bit.png")):
        name = photo.name.replace("_leftImg8bit", "_gtFine_labelIds")
        pairs.append((photo, base / "gtFine" / split / photo.parent.name / name))
    return pairs, classes.values


Finder = Callable[[Path, Split, ClassList], tuple[Samples, Sequence[int]]]
DATASETS: dict[str, tuple[str, Finder]] = {
    "voc20": ("voc", _voc),
    "voc21": ("voc", _voc),
    "context59": ("context59", _context),
    "context60": ("context59", _context),
    "ade20k": ("ade20k", _ade),
    "cocostuff": ("cocostuff", _coco_stuff),
    "cityscapes": ("cityscapes", _cityscapes),
}


def _folder(root: Path, *below: str, needs: str) -> Path:
    """The first of `root` and the folders below it that holds `needs`."""
    places = [root, *(root / part for part in below)]
    for place in places:
        if (place / needs).is_dir():
            return place
    raise UsageError(
        f"no folder {needs} in {' or '.join(map(str, places))}: --root takes the dataset's folder"
    )


def _lines(path: Path) -> list[str]:
    """The lines of a list, without empty ones and comments."""
    lines = (line.strip() for line in read_text(path).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _numbered_names(path: Path) -> dict[str, int]:
    """Names and numbers of a file whose lines are "number: name"."""
    numbers = {}
    for line in _lines(path):
        number, _, name = line.partition(":")
        if not number.strip().isdecimal() or not name.strip():
            raise UsageError(f"{path}: expected 'number: name', not {shorten(line)!r}")
        numbers[name.strip()] = int(number)
    return numbers


def _read_png(path: Path) -> NDArray[np.integer]:
    with Image.open(path) as image:
        values = np.asarray(image)
    if values.ndim != 2:
        raise GemLabelError(f"{path} is a color picture, not a label map of class numbers")
    return values


def _read_mat(path: Path) -> NDArray[np.integer]:
    from scipy.io import loadmat

    return loadmat(path)["LabelMap"].astype(np.int64)
