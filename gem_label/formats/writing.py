"""Writing annotation files: the formats by their names."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gem_label.atomic import delete_leftovers
from gem_label.errors import GemLabelError, UsageError
from gem_label.formats.annotations import Annotations, WriteReport
from gem_label.formats.coco import write_coco, write_lvis
from gem_label.formats.cvat.writing import write_cvat
from gem_label.formats.drawing import WriteSettings
from gem_label.formats.label_studio.writing import CONFIG_SUFFIX, write_label_studio
from gem_label.formats.table.writing import write_csv, write_parquet
from gem_label.formats.yolo.writing import write_yolo
from gem_label.progress import Progress

Writer = Callable[[Annotations, Path, WriteSettings | None], Generator[int, None, WriteReport]]


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A format of annotation files.

    Attributes:
        title: what people call it.
        suffix: of its files; "" where it is a folder.
        write: its writer.
    """

    title: str
    suffix: str
    write: Writer

    @property
    def is_folder(self) -> bool:
        """Whether it is written as a folder."""
        return not self.suffix


FORMATS = {
    "coco": FileFormat("COCO instances (JSON)", ".json", write_coco),
    "lvis": FileFormat("COCO instances with LVIS's fields (JSON)", ".json", write_lvis),
    "cvat": FileFormat("CVAT for images 1.1 (XML)", ".xml", write_cvat),
    "label-studio": FileFormat("Label Studio (JSON)", ".json", write_label_studio),
    "yolo": FileFormat("YOLO segmentation (folder)", "", write_yolo),
    "csv": FileFormat("table (CSV)", ".csv", write_csv),
    "parquet": FileFormat("table (parquet)", ".parquet", write_parquet),
}
"""The formats by the name that users give."""


def write_annotations(
    annotations: Annotations, out: str | Path, format: str = "coco", settings: WriteSettings | None = None
) -> Generator[Progress, None, WriteReport]:
    """Write annotated photos in a format.

    Args:
        annotations: what to write.
        out: the file, or the folder; it appears when it is whole, and replaces what is there.
        format: one of `FORMATS`.
        settings: how masks are written; None: as the format does by itself.

    Yields:
        Progress, after each photo; the generator returns the report.

    Raises:
        UsageError: unknown format, or `out` is a folder where a file is meant or the reverse.
        GemLabelError: a mask cannot be drawn, or `out` cannot be written.

    Example:
        >>> from gem_label.formats.reading import read_annotations
        >>> from gem_label.progress import finish
        >>> report = finish(write_annotations(read_annotations("a.xml"), "a.json"))  # doctest: +SKIP
    """
    out = check_target(out, format)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        delete_leftovers(out.parent, of=[out.name, out.with_suffix(CONFIG_SUFFIX).name])
        work, done = FORMATS[format].write(annotations, out, settings), 0
        with closing(work):
            while True:
                try:
                    masks = next(work)
                except StopIteration as end:
                    return end.value
                done += 1
                yield Progress(done, max(annotations.count or 0, done), f"{masks} masks written")
    except OSError as error:
        raise GemLabelError(f"cannot write {out}: {error.strerror or error}") from error


def check_target(out: str | Path, format: str) -> Path:
    """Where a file of a format goes.

    Raises:
        UsageError: unknown format, or `out` is a folder where a file is meant or the reverse.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}: {', '.join(FORMATS)}")
    out, kind = Path(out).expanduser(), FORMATS[format]
    if not kind.is_folder and out.is_dir():
        raise UsageError(
            f"{out} is a folder: give a file name, for example {out / ('annotations' + kind.suffix)}"
        )
    if kind.is_folder and out.is_file():
        raise UsageError(f"{out} is a file: {kind.title} needs a folder")
    return out
