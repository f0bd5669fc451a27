"""docs/formats.md, "What each format keeps": every cell of the table, through a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from format_factory import blobs, by_name, encode, iou

from gem_label.formats.annotations import STATES, AnnotatedMask, AnnotatedPhoto, Annotations
from gem_label.formats.drawing import WriteSettings
from gem_label.formats.reading import read_annotations
from gem_label.formats.writing import FORMATS, write_annotations
from gem_label.formats.yolo.side_file import SIDE_FILE
from gem_label.progress import finish

LABELS = ("cat", "traffic light", "dog, small", "Füße")
POLYGON = WriteSettings(segmentation="polygon")
OUTLINE = WriteSettings(segmentation="polygon", tolerance=1.0)
WITHOUT_SIDE_FILE = "`yolo` without its side file"


def documented() -> dict[str, dict[str, str]]:
    """The table as it stands: row -> column -> cell."""
    text = (Path(__file__).parents[1] / "docs/formats.md").read_text()
    lines = text.split("## What each format keeps")[1].split("\n## ")[0].splitlines()
    header, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"
    ]
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


TABLE = documented()


def given() -> Annotations:
    """Two photos with a mask of each state, one of them a crowd; a photo and a class without masks."""
    rng = np.random.default_rng(0)
    photos = []
    for i in range(2):
        height, width = 60 + 30 * i, 90
        masks = [
            AnnotatedMask(
                label,
                encode(blobs(rng, height, width, 1 + j)),
                mask_id=f"photo {i}#{j}",
                id=100 * i + j,
                score=float(rng.random()),
                margin=float(rng.random()),
                state=STATES[j],
                crowd=j == 1,
            )
            for j, label in enumerate(LABELS)
        ]
        photos.append(AnnotatedPhoto(f"street {i}.jpg", (height, width), masks, id=i + 1))
    photos.append(AnnotatedPhoto("empty.jpg", (50, 70), id=3))
    return Annotations(photos, (*LABELS, "unicorn"), count=3)


def through(row: str, folder: Path, settings: WriteSettings | None = None) -> Annotations:
    """What comes back through the format of a row."""
    format = row.split("`")[1]
    out = folder / f"file{FORMATS[format].suffix}"
    finish(write_annotations(given(), out, format, settings))
    if row == WITHOUT_SIDE_FILE:
        (out / SIDE_FILE).unlink()
    return read_annotations(out)


def kept(before: Annotations, after: Annotations) -> dict[str, str]:
    """The row of the table that what came back is worth."""
    old = by_name(before)
    # where only label files are left, photos have no suffix
    new = {name: photo for name in old for photo in after.photos if photo.name in (name, Path(name).stem)}
    pairs = [
        (a, b, old[name].size or (0, 0))
        for name, photo in new.items()
        for b in photo.masks
        for a in old[name].masks
        if a.label == b.label  # a photo has each label once
    ]
    all_masks = [mask for photo in old.values() for mask in photo.masks]
    missing = [mask for mask in all_masks if not any(a is mask for a, _, _ in pairs)]
    ious = [iou(a, b, size) for a, b, size in pairs]
    states = "yes" if not missing else "without rejected"
    assert all(mask.state == "rejected" for mask in missing)
    with_masks = {name: photo for name, photo in new.items() if old[name].masks}
    return {
        "mask": "exact" if min(ious) == 1 else "outline" if min(ious) > 0.85 else "no",
        "mask id": every(pairs, lambda mask: mask.mask_id),
        "label": "yes" if sum(len(photo.masks) for photo in new.values()) == len(pairs) else "no",
        "score": every(pairs, lambda mask: mask.score),
        "margin": every(pairs, lambda mask: mask.margin),
        "review state": every(pairs, lambda mask: mask.state, states),
        "photos without masks": "yes" if "empty.jpg" in new else "no",
        "classes without masks": "yes" if after.classes == before.classes else "no",
        "photo sizes": sizes(old, new)
        if sizes(old, new) != "some" or sizes(old, with_masks) != "yes"
        else "with masks",
        "crowd": "yes" if all(a.crowd == b.crowd for a, b, _ in pairs) else "no",
    }


def every(
    pairs: list[tuple[AnnotatedMask, AnnotatedMask, tuple[int, int]]],
    value: Callable[[AnnotatedMask], float | str | None],
    yes: str = "yes",
) -> str:
    """ "yes" where all masks have the value that they had, "no" where none has one."""
    values = [(value(a), value(b)) for a, b, _ in pairs]
    if all(b is None for _, b in values):
        return "no"
    same = [b == (pytest.approx(a, abs=1e-6) if isinstance(a, float) else a) for a, b in values]
    return yes if all(same) else "some"


def sizes(old: Mapping[str, AnnotatedPhoto], new: Mapping[str, AnnotatedPhoto]) -> str:
    if all(photo.size is None for photo in new.values()):
        return "no"
    return "yes" if all(photo.size == old[name].size for name, photo in new.items()) else "some"


def test_the_table_has_all_formats() -> None:
    assert {row.split("`")[1] for row in TABLE} == set(FORMATS)


@pytest.mark.parametrize("row", TABLE)
def test_formats_keep_what_the_table_says(tmp_path: Path, row: str) -> None:
    assert kept(given(), through(row, tmp_path)) == TABLE[row]


@pytest.mark.parametrize("settings", [POLYGON, OUTLINE], ids=["exact", "outline"])
@pytest.mark.parametrize("row", ["`coco`", "`lvis`", "`label-studio`"])
def test_polygons_keep_the_rest_of_the_row(tmp_path: Path, row: str, settings: WriteSettings) -> None:
    mask = "exact" if settings is POLYGON else "outline"
    assert kept(given(), through(row, tmp_path, settings)) == TABLE[row] | {"mask": mask}


@pytest.mark.parametrize("format", ["cvat", "label-studio"])
def test_files_for_people_declare_all_classes(tmp_path: Path, format: str) -> None:
    through(f"`{format}`", tmp_path)
    text = (tmp_path / ("file.xml" if format == "cvat" else "file.config.xml")).read_text()
    assert all(f">{name}<" in text or f'value="{name}"' in text for name in (*LABELS, "unicorn"))
