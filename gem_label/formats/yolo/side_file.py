"""What YOLO's files have no place for: names of photos, exact masks, mask ids, scores and states, as lines of JSON.

Label files are edited by other tools: lines go, come and change places. A line belongs to an entry of the side file
where its polygon has nearly the same box and area as the one that was written; otherwise nobody knows which mask it
is. It stands for the exact mask only where it is the polygon that was written, so that no edit is lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError
from gem_label.formats.annotations import STATES, AnnotatedPhoto, Draw, Size, is_text
from gem_label.formats.drawing import DrawnMask
from gem_label.geometry import Shape, is_number, is_whole, read_segmentation
from gem_label.text_files import open_text

SIDE_FILE = "gem_label.jsonl"

Polygon = NDArray[np.float64]
"""(N, 2) x, y as parts of the photo's width and height."""

ROUNDING = 1e-4
"""Of coordinates, by tools that write label files again."""

_SAME = 0.01
"""Of a polygon's sides and area, by which it may differ besides."""

_MOST_ALIKE = 50
"""Entries that are looked at for a line, where more are alike."""

_UNTOUCHED = 0.2
"""Pixels by which the sums over a polygon's points differ at most where nobody moved a point."""


@dataclass(frozen=True, slots=True)
class Noted:
    """What the side file has of a label file.

    Attributes:
        photo: the photo's name.
        size: height and width in pixels.
        line: JSON, whose "masks" are what is known of each line that was written.
    """

    photo: str
    size: Size | None
    line: str

    def entries(self) -> list[Mapping[str, Any]]:
        """What is known of each line that was written."""
        return [each for each in json.loads(self.line)["masks"] if isinstance(each, dict)]


@dataclass(frozen=True, slots=True)
class WrittenMask:
    """A mask that a label file has as a polygon; called, it is drawn.

    Attributes:
        counts: the exact mask as compressed COCO run lengths.
        size: height and width of its photo in pixels.
        outline: the polygon, for photos of other sizes.
    """

    counts: str
    size: Size
    outline: Draw

    def __call__(self, height: int, width: int) -> Shape:
        """The shape over a photo of this many pixels."""
        if (height, width) == self.size:
            exact = read_segmentation({"size": [height, width], "counts": self.counts}, height, width)
            if exact.rle is not None:
                return exact
        return self.outline(height, width)


def side_line(labels: str, photo: AnnotatedPhoto, rows: Sequence[tuple[DrawnMask, Polygon]]) -> str:
    """The line of a label file.

    Args:
        labels: path of the label file below the folder, with "/".
        photo: what it is of.
        rows: its masks with their polygons as they are written there.
    """
    masks = []
    for drawn, polygon in rows:
        mask = drawn.mask
        known = {
            "mask_id": mask.mask_id,
            "id": mask.id,
            "score": mask.score,
            "margin": mask.margin,
            "state": mask.state,
        }
        x0, y0, x1, y1, area = measures(polygon).tolist()
        about = {
            "label": mask.label,
            "box": [x0, y0, x1, y1],
            "area": area,
            "points": len(polygon),
            "sums": _sums(polygon).tolist(),
            "rle_counts": drawn.text_rle["counts"],
        }
        masks.append({key: value for key, value in known.items() if value is not None} | about)
    return json.dumps({"labels": labels, "photo": photo.name, "size": photo.size, "masks": masks}) + "\n"


def read_side_file(folder: Path) -> dict[str, Noted]:
    """What is known of the label files of a folder, by their paths below it; nothing where there is no side file.

    Raises:
        UsageError: it is broken.
    """
    path, noted = folder / SIDE_FILE, {}
    if not path.is_file():
        return {}
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                labels, photo, size = row["labels"], row["photo"], row["size"]
                if not isinstance(labels, str) or not is_text(photo) or not isinstance(row["masks"], list):
                    raise TypeError
                known = isinstance(size, list) and len(size) == 2 and all(is_whole(v) and v > 0 for v in size)
            except (ValueError, TypeError, KeyError, RecursionError):
                message = (
                    f"cannot read {path}, line {number}: without that file, labels are read without mask ids"
                )
                raise UsageError(message) from None
            noted[labels] = Noted(photo, (size[0], size[1]) if known else None, line)
    return noted


def match_lines(
    noted: Sequence[Mapping[str, Any]], lines: Sequence[tuple[str, Polygon | None]]
) -> list[Mapping[str, Any]]:
    """What is known of each line of a label file: the entry whose polygon it has.

    Args:
        noted: M entries of the side file.
        lines: label and polygon of N lines; None where there is no polygon.

    Returns:
        N entries, each at most once; an empty one for lines that were drawn or changed since.
    """
    entries = [(entry, _noted_measures(entry)) for entry in noted]
    usable = [(entry, sides) for entry, sides in entries if sides is not None]
    if not usable:
        return [{} for _ in lines]
    known = np.stack([sides for _, sides in usable])
    pairs: list[tuple[float, bool, int, int, int]] = []
    for place, (label, polygon) in enumerate(lines):
        if polygon is None:
            continue
        off = np.abs(known - measures(polygon))
        width, height = known[:, 2] - known[:, 0], known[:, 3] - known[:, 1]
        allowed = np.stack([width, height, width, height, known[:, 4]], 1) * _SAME
        allowed += np.stack([np.ones(len(known))] * 4 + [width + height], 1) * ROUNDING
        near = np.flatnonzero((off <= allowed).all(1))
        far = off[near].max(1).round(6)
        # of polygons that are the same, the one with the same label, then the one at the same place
        nearest = near[np.lexsort((np.abs(near - place), far))[:_MOST_ALIKE]]
        pairs += [
            (round(float(off[j].max()), 6), label != usable[j][0].get("label"), abs(place - j), place, j)
            for j in nearest.tolist()
        ]
    found: list[Mapping[str, Any]] = [{} for _ in lines]
    lines_left, entries_left = set(range(len(lines))), set(range(len(usable)))
    for *_, place, j in sorted(pairs):
        if place in lines_left and j in entries_left:
            lines_left.remove(place)
            entries_left.remove(j)
            found[place] = usable[j][0]
    return found


def measures(polygon: Polygon) -> NDArray[np.float64]:
    """(5,) smallest x and y, largest x and y, and area of a polygon."""
    x, y = polygon.T
    area = abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
    return np.array([*polygon.min(0), *polygon.max(0), area])


def exact_mask(entry: Mapping[str, Any], size: Size, polygon: Polygon, outline: Draw) -> Draw:
    """The mask that a line stands for: the exact one where its polygon is the one that was written.

    Args:
        entry: what is known of the line.
        size: height and width of the photo, as the side file has them.
        polygon: of the line.
        outline: draws it.
    """
    sums, counts = entry.get("sums"), entry.get("rle_counts")
    if entry.get("points") != len(polygon) or not isinstance(counts, str) or not isinstance(sums, list):
        return outline
    if len(sums) != 5 or not all(map(is_number, sums)):
        return outline
    untouched = np.abs(_sums(polygon) - sums).max() * max(size) <= _UNTOUCHED
    return WrittenMask(counts, size, outline) if untouched else outline


def _sums(polygon: Polygon) -> NDArray[np.float64]:
    """(5,) sums of x, y, x^2, y^2 and xy over the points, whatever point is first: who moves one changes some."""
    x, y = polygon.T
    return np.array([x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])


def _noted_measures(entry: Mapping[str, Any]) -> NDArray[np.float64] | None:
    box = entry.get("box")
    values = [*box, entry.get("area")] if isinstance(box, list) else []
    return np.array(values, float) if len(values) == 5 and all(map(is_number, values)) else None


def known_fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `AnnotatedMask` that an entry has."""
    fields: dict[str, Any] = {}
    if is_text(entry.get("mask_id")):
        fields["mask_id"] = entry["mask_id"]
    if is_whole(entry.get("id")) or is_text(entry.get("id")):
        fields["id"] = entry["id"]
    fields |= {key: float(entry[key]) for key in ("score", "margin") if is_number(entry.get(key))}
    if entry.get("state") in STATES:
        fields["state"] = entry["state"]
    return fields
