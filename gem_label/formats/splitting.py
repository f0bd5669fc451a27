"""Annotations in several files of so many photos each, for tools that hold a whole file in memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain, count, islice
from pathlib import Path

from gem_label.checks import COUNT, check_number
from gem_label.errors import GemLabelError, UsageError
from gem_label.formats.annotations import AnnotatedPhoto, Annotations, WriteReport
from gem_label.formats.drawing import WriteSettings
from gem_label.formats.writing import FORMATS, check_target, write_annotations
from gem_label.progress import Progress


def write_in_parts(
    annotations: Annotations,
    out: str | Path,
    photos_per_file: int,
    format: str = "coco",
    settings: WriteSettings | None = None,
) -> Generator[Progress, None, WriteReport]:
    """Write annotated photos as several files: of "labels.json" they are "labels-000001.json" and so on.

    Ids are those that one file would have, so they are unique over the files. Files of an earlier export with higher
    numbers are deleted.

    Args:
        annotations: what to write; photos and masks have ids, as those of runs and datasets do.
        out: the name that the files' names are made of.
        photos_per_file: how many photos a file has; the last one has what is left.
        format: one of `FORMATS` that is a file.
        settings: how masks are written; None: as the format does by itself.

    Yields:
        Progress, after each photo; the generator returns the report on all files.

    Raises:
        UsageError: unknown format, or one that is a folder; `photos_per_file` is below 1.
        GemLabelError: a mask cannot be drawn, or a file cannot be written.
    """
    check_number("photos_per_file", photos_per_file, COUNT)
    out = check_target(out, format)
    if FORMATS[format].is_folder:
        raise UsageError(f"{FORMATS[format].title} is not split into files: leave out --photos-per-file")
    total = WriteReport(classes=len(annotations.classes))
    photos = iter(annotations.photos)
    number, first = 1, next(photos, None)
    while first is not None or number == 1:
        part = replace(annotations, photos=_part(first, photos, photos_per_file), count=None)
        work = write_annotations(part, _part_path(out, number), format, settings)
        before = total.photos
        with closing(work):
            for step in _steps(work, total):
                done = before + step.done
                yield Progress(done, max(annotations.count or 0, done), f"file {number}: {step.text}")
        number, first = number + 1, next(photos, None)
    _delete_from(out, number)
    return total


def _steps(
    work: Generator[Progress, None, WriteReport], total: WriteReport
) -> Generator[Progress, None, None]:
    """Yield the progress of writing one file, and add its report to that on all."""
    _add(total, (yield from work))


def _part(
    first: AnnotatedPhoto | None, rest: Iterator[AnnotatedPhoto], size: int
) -> Iterator[AnnotatedPhoto]:
    return iter(()) if first is None else chain([first], islice(rest, size - 1))


def _part_path(out: Path, number: int) -> Path:
    return out.with_name(f"{out.stem}-{number:06d}{out.suffix}")


def _delete_from(out: Path, number: int) -> None:
    """Delete the files of an earlier export that had more of them."""
    for each in count(number):
        path = _part_path(out, each)
        if not path.is_file():
            return
        try:
            path.unlink()
        except OSError as error:
            raise GemLabelError(f"cannot delete {path}, of an earlier export: {error.strerror}") from error


def _add(total: WriteReport, part: WriteReport) -> None:
    """Add the report on one file to that on all."""
    total.photos += part.photos
    total.masks += part.masks
    total.left_out += part.left_out
    total.altered += part.altered
    if part.outlines:
        total.outlines += part.outlines
        total.mean_iou += (part.mean_iou - total.mean_iou) * part.outlines / total.outlines
        total.lowest_iou = min(total.lowest_iou, part.lowest_iou)
