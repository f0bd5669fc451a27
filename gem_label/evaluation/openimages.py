"""Open Images' point labels and class names, read from the official CSV files.

The validation set has 5 million answers on 36 702 images: the file is streamed in blocks; what stays in memory are
plain arrays of about 17 bytes a point, never a Python object per point.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv as pa_csv

from gem_label.errors import UsageError
from gem_label.metrics.points import ImagePoints
from gem_label.tables import reason, shorten
from gem_label.text_files import open_binary, open_text

BLOCK_BYTES = 1 << 23
CODE = pa.dictionary(pa.int32(), pa.string())
COLUMNS = {
    "ImageId": CODE,
    "X": pa.float32(),
    "Y": pa.float32(),
    "Label": CODE,
    "EstimatedYesNo": CODE,
    "TextLabel": CODE,
}
ANSWERS = {"yes": 1, "no": 0, "unsure": -1}
# where a points file's class names are looked for: in the layout of FiftyOne's zoo, then beside the file
CLASS_NAME_FILES = (
    "../metadata/point_classes.csv",
    "../metadata/classes.csv",
    "oidv7-class-descriptions.csv",
)


@dataclass(frozen=True)
class PointTable:
    """The answered points of many images, only those on classes that are present in the image.

    A class is present in an image when at least one of its points there was answered "yes".

    Attributes:
        image_ids: I ids, sorted.
        labels: K class labels ("/m/01g317"), sorted.
        text: names of classes that the points file itself gives.
        starts: (I + 1,) where each image's points begin.
        class_code: (P,) index into `labels`, ascending within an image.
        x: (P,) in [0, 1].
        y: (P,) in [0, 1].
        positive: (P,) the answer.
    """

    image_ids: tuple[str, ...]
    labels: tuple[str, ...]
    text: dict[str, str]
    starts: NDArray[np.int64]
    class_code: NDArray[np.int32]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    positive: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.image_ids)

    @cached_property
    def index(self) -> dict[str, int]:
        """Image id to its place in `image_ids`."""
        return {image_id: i for i, image_id in enumerate(self.image_ids)}

    def check_photos(self, paths: Iterable[str]) -> None:
        """Make sure that no image is several photos, such as "1" of a/1.jpg and b/1.jpg.

        Raises:
            UsageError: one is.
        """
        named: dict[str, str] = {}
        for path in paths:
            name = image_name(path)
            if name in self.index and named.setdefault(name, path) != path:
                raise UsageError(
                    f"the points are about an image {name!r}, which may be {named[name]} or {path}: give photos that "
                    "have the ids as their names"
                )

    def image(self, index: int) -> tuple[tuple[str, ...], ImagePoints]:
        """The labels of one image's present classes, and its points, whose `class_index` counts those labels."""
        part = slice(self.starts[index], self.starts[index + 1])
        codes, class_index = np.unique(self.class_code[part], return_inverse=True)
        points = ImagePoints(self.x[part], self.y[part], class_index.astype(np.int64), self.positive[part])
        return tuple(self.labels[code] for code in codes), points


def image_name(path: str) -> str:
    """The Open Images id of a photo: its file name without suffix."""
    return Path(path).stem


def read_points(path: str | Path) -> PointTable:
    """Read a point-labels CSV such as oidv7-val-annotations-point-labels.csv.

    Args:
        path: a file with the columns ImageId, X, Y, Label and EstimatedYesNo (yes, no or unsure), in any order, and
            perhaps TextLabel; rows in any order. Rows without Label take their TextLabel as the class.

    Raises:
        UsageError: the file cannot be read, lacks a column or has no usable point.
    """
    images, labels = _Codes(), _Codes()
    text: dict[str, str] = {}
    parts: list[tuple[NDArray, ...]] = []
    try:
        for block in _blocks(Path(path)):
            image, label = images.of(block["ImageId"]), labels.of(_class_of(block, text))
            x, y = (block[axis].to_numpy(zero_copy_only=False) for axis in "XY")
            answer = _answers(block["EstimatedYesNo"], path)
            if not (((x >= 0) & (x <= 1)).all() and ((y >= 0) & (y <= 1)).all()):
                raise UsageError(f"{path}: X and Y must be shares of the photo's sides, 0 to 1")
            use = answer >= 0
            parts.append((image[use], label[use], x[use], y[use], answer[use].astype(bool)))
    except (OSError, csv.Error, pa.ArrowException) as error:
        raise UsageError(f"cannot read the points {path}: {reason(error)}") from error
    if not any(len(part[0]) for part in parts):
        raise UsageError(f"{path} has no answered point")
    image, label, x, y, positive = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    parts.clear()
    return _grouped(images.names, labels.names, text, (image, label, x, y, positive))


def _grouped(
    image_ids: list[str], labels: list[str], text: dict[str, str], columns: tuple[NDArray, ...]
) -> PointTable:
    """Sort by image and class, and leave out classes that nobody saw in the image."""
    image, label, x, y, positive = columns
    # both in the order of their names, so that the order of the rows cannot change any result
    image_ids, image_rank = _sorted(image_ids)
    labels, label_rank = _sorted(labels)
    pair = image_rank[image] * len(labels) + label_rank[label]
    order = np.argsort(pair, kind="stable")
    pair, positive = pair[order], positive[order]
    begins = np.flatnonzero(np.diff(pair, prepend=-1))
    present = np.logical_or.reduceat(positive, begins)
    kept = np.repeat(present, np.diff(begins, append=len(pair)))
    order, pair, positive = order[kept], pair[kept], positive[kept]
    if not len(pair):
        raise UsageError("no point is answered 'yes': nothing is known to be in the photos")
    used, counts = np.unique(pair // len(labels), return_counts=True)
    return PointTable(
        image_ids=tuple(image_ids[i] for i in used),
        labels=tuple(labels),
        text=text,
        starts=np.concatenate([[0], np.cumsum(counts)]),
        class_code=(pair % len(labels)).astype(np.int32),
        x=x[order],
        y=y[order],
        positive=positive,
    )


def _sorted(names: list[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The names in order, and the place of each there."""
    order = np.argsort(np.array(names))
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return [names[i] for i in order], rank


class _Codes:
    """Numbers strings in the order in which they are first seen."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._index: dict[str, int] = {}

    def of(self, column: pa.DictionaryArray) -> NDArray[np.int32]:
        """The numbers of one block's strings; only its distinct strings become Python objects."""
        local = column.dictionary.to_pylist()
        for name in local:
            if name not in self._index:
                self._index[name] = len(self.names)
                self.names.append(name)
        table = np.array([self._index[name] for name in local], np.int32)
        return table[column.indices.to_numpy(zero_copy_only=False)]


def _blocks(path: Path) -> Iterator[pa.RecordBatch]:
    with open_text(path, newline="") as file:
        names = next(csv.reader(file), [])
    missing = [name for name in COLUMNS if name not in names and name != "TextLabel"]
    if missing:
        raise UsageError(f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    wanted = {name: kind for name, kind in COLUMNS.items() if name in names}
    convert = pa_csv.ConvertOptions(column_types=wanted, include_columns=list(wanted))
    with open_binary(path) as (data, encoding):
        read = pa_csv.ReadOptions(block_size=BLOCK_BYTES, encoding=encoding.replace("utf-8-sig", "utf-8"))
        with pa_csv.open_csv(data, read, convert_options=convert) as reader:
            yield from reader


def _class_of(block: pa.RecordBatch, text: dict[str, str]) -> pa.DictionaryArray:
    """The block's class labels; fills `text` with the names that stand beside them."""
    if "TextLabel" not in block.schema.names:
        return block["Label"]
    label, name = block["Label"].cast(pa.string()), block["TextLabel"].cast(pa.string())
    label = pc.if_else(pc.equal(label, ""), name, label)
    pairs = pa.table({"label": label, "name": name}).group_by(["label", "name"]).aggregate([])
    for row in pairs.to_pylist():
        if row["name"]:
            text.setdefault(row["label"], row["name"])
    return label.dictionary_encode()


def _answers(column: pa.DictionaryArray, path: str | Path) -> NDArray[np.int8]:
    """1 for yes, 0 for no, -1 for unsure."""
    words = column.dictionary.to_pylist()
    unknown = [word for word in words if word not in ANSWERS]
    if unknown:
        raise UsageError(f"{path}: EstimatedYesNo is yes, no or unsure, not {shorten(repr(unknown[0]))}")
    return np.array([ANSWERS[word] for word in words], np.int8)[column.indices.to_numpy(zero_copy_only=False)]


def read_class_names(path: str | Path) -> dict[str, str]:
    """Label to name from a class-descriptions CSV: two columns, with or without the line LabelName,DisplayName.

    Empty lines and lines that begin with "#" are passed over.

    Raises:
        UsageError: the file cannot be read or has a line with fewer columns or an empty one.
    """
    names: dict[str, str] = {}
    try:
        with open_text(path, newline="") as file:
            rows = csv.reader(file, strict=True)  # else an open quote takes in the rows behind it
            for row in rows:
                row = [cell.strip() for cell in row]
                if not any(row) or row[0].startswith("#"):
                    continue
                if len(row) < 2 or not (row[0] and row[1]):
                    raise UsageError(f"{path}, line {rows.line_num}: expected a label and a name")
                if names or row[0] != "LabelName":
                    names[row[0]] = row[1]
    except csv.Error as error:
        raise UsageError(f"cannot read the class names {path}: {error}") from error
    return names


def class_names(table: PointTable, points: str | Path, names: str | Path | None = None) -> dict[str, str]:
    """The name of every class of the table.

    Args:
        table: the points.
        points: their file; without `names`, `CLASS_NAME_FILES` are looked for beside it.
        names: a class-descriptions CSV; None: as found, and else the names in the points file itself.

    Raises:
        UsageError: a class has no name.
    """
    found = [Path(points).parent / file for file in CLASS_NAME_FILES]
    files = [names] if names is not None else [file for file in found if file.is_file()][:1]
    known = dict(table.text)
    for file in files:
        known |= read_class_names(file)
    used = {table.labels[code] for code in np.unique(table.class_code)}
    nameless = sorted(used - known.keys())
    if nameless:
        raise UsageError(
            f"no name for class {nameless[0]} (and {len(nameless) - 1} more): give --class-names "
            "oidv7-class-descriptions.csv"
        )
    return {label: known[label] for label in used}
