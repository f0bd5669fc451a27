"""What other tools read in the files that gem-label writes: every mask, compared with the one that was written.

    python benchmarks/readers.py --data shared/data/coco16 --env ~/.cache/gem-label-readers
    python benchmarks/readers.py --run RUN --env ~/.cache/gem-label-readers --only lvis cvat

Writes the masks in every format, reads each file with other tools (`other_tools/`), and prints a Markdown table. Each
tool has a virtual environment of its own below the folder of --env, where pip installs it the first time. The
environments see the packages of the Python that runs this script, so that PyTorch is not installed again; what a tool
pins otherwise is installed beside it. Delete the folder to try the newest versions.

A mask that was read belongs to the written one of its photo and label that it overlaps most, else to one with
another label. IoU is of the two; masks that no written one is left for count as 0. Masks without a mask id, a state
or a score get one, so that there is something to keep. A tool that cannot be installed, or fails, is a row with the
reason.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from tool_environments import TOOLS, Tool, ToolError, python_of, run, version_of

from gem_label.errors import GemLabelError
from gem_label.formats.annotations import AnnotatedMask, AnnotatedPhoto, Annotations, WriteReport
from gem_label.formats.drawing import WriteSettings, draw_masks
from gem_label.formats.label_studio.regions import region_id
from gem_label.formats.reading import read_annotations
from gem_label.formats.writing import FORMATS, write_annotations
from gem_label.progress import finish
from gem_label.runs import open_run
from gem_label.runs.export import run_annotations

OURS = "gem-label"


@dataclass(frozen=True)
class Case:
    """A file to write.

    Attributes:
        title: in the table.
        format: of `FORMATS`.
        settings: of the writer.
    """

    title: str
    format: str
    settings: WriteSettings


@dataclass(frozen=True)
class Mask:
    """A mask that was written or read: its label, the ids that it may have, and compressed run lengths."""

    label: str
    ids: frozenset[str]
    rle: dict[str, Any]


Masks = dict[str, list[Mask]]
"""By the photo's name without folder and suffix, which some tools drop."""

POLYGON = WriteSettings(segmentation="polygon")
COPIES = WriteSettings(photos="copy")  # ultralytics repairs photos in the folder

CASES = (
    Case("COCO, run lengths", "coco", WriteSettings()),
    Case("COCO, exact polygons", "coco", POLYGON),
    Case("COCO, polygons within 1 px", "coco", replace(POLYGON, tolerance=1.0)),
    Case("LVIS", "lvis", WriteSettings()),
    Case("CVAT", "cvat", WriteSettings()),
    Case("Label Studio, brush", "label-studio", WriteSettings()),
    Case("Label Studio, polygons", "label-studio", POLYGON),
    Case("YOLO, polygons within 1 px", "yolo", COPIES),
    Case("CSV", "csv", WriteSettings()),
    Case("parquet", "parquet", WriteSettings()),
)

SOURCE = Case("COCO's own file", "coco", WriteSettings())
"""What tools read in a file that gem-label did not write, to compare with."""


def main() -> None:
    """Parse the command line, write, read, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="a folder with instances.json and the photos in data/")
    source.add_argument("--run", type=Path, help="a run")
    parser.add_argument("--env", type=Path, required=True, help="folder for the tools' environments")
    parser.add_argument("--only", nargs="+", choices=list(FORMATS), help="formats: default: all")
    arguments = parser.parse_args()
    given = run_annotations(open_run(arguments.run)) if arguments.run else _of_folder(arguments.data)
    given = replace(given, photos=[_completed(photo, given.folder) for photo in given.photos])
    written, env = _written(given), arguments.env.expanduser().resolve()
    print(f"{sum(map(len, written.values()))} masks on {len(written)} photos\n")
    print("| file | tool | masks read | mean IoU | lowest IoU | labels equal | ids equal | remarks |")
    print("|---|---|--:|--:|--:|--:|--:|---|")
    for case in CASES:
        if not arguments.only or case.format in arguments.only:
            with tempfile.TemporaryDirectory() as scratch:
                file = Path(scratch, f"file{FORMATS[case.format].suffix}")
                finish(write_annotations(given, file, case.format, case.settings))
                _try_file(case, file, given.folder, written, env)
    if arguments.data and (not arguments.only or "coco" in arguments.only):
        _try_file(SOURCE, (arguments.data / "instances.json").resolve(), given.folder, written, env)


def _of_folder(folder: Path) -> Annotations:
    given = read_annotations(folder / "instances.json")
    return replace(given, folder=str((folder / "data").resolve()))


def _completed(photo: AnnotatedPhoto, folder: str) -> AnnotatedPhoto:
    """A photo with its path, and masks that have all that formats may keep."""
    stem = Path(photo.name).stem
    masks: list[AnnotatedMask] = []
    for number, mask in enumerate(photo.masks):
        masks.append(
            replace(
                mask,
                mask_id=mask.mask_id or f"{stem}#{number}",
                state=mask.state or "accepted",
                score=0.9 if mask.score is None else mask.score,
            )
        )
    return replace(photo, masks=masks, path=str(Path(folder, photo.name)))


def _written(given: Annotations) -> Masks:
    """The masks as they are before any format.

    Raises:
        GemLabelError: two photos have one name.
    """
    masks: Masks = {}
    for photo in given.photos:
        stem = Path(photo.name).stem
        if stem in masks:
            raise GemLabelError(f"two photos are called {stem}, which tools would mix up")
        masks[stem] = [
            Mask(each.mask.label, _ids(each.mask), each.rle) for each in draw_masks(photo, WriteReport())
        ]
    return masks


def _ids(mask: AnnotatedMask) -> frozenset[str]:
    known = [mask.id, mask.mask_id, region_id(mask.mask_id) if mask.mask_id else None]
    return frozenset(str(each) for each in known if each is not None)


def _try_file(case: Case, file: Path, photos: str, written: Masks, env: Path) -> None:
    """Read a file with every tool and print the rows."""
    found = [
        (Path(photo.name).stem, Mask(each.mask.label, _ids(each.mask), each.rle))
        for photo in read_annotations(file).photos
        for each in draw_masks(photo, WriteReport())
    ]
    _print_row(case, OURS, found, written, "masks from the side file" if case.format == "yolo" else "")
    for tool in TOOLS:
        if case.format not in tool.formats:
            continue
        name = tool.package
        try:
            python = python_of(tool, env)
            name = f"{name} {version_of(python, name)}"
            masks, remarks = _read(tool, python, case, file, photos)
        except ToolError as error:
            print(f"| {case.title} | {name} | none | | | | | {_one_line(error, file)} |", flush=True)
        else:
            _print_row(case, name, masks, written, "; ".join(remarks))


def _one_line(error: ToolError, file: Path) -> str:
    """An error for a cell of the table."""
    return str(error).replace(f"{file.parent}/", "").replace("|", "/")


def _read(
    tool: Tool, python: str, case: Case, file: Path, photos: str
) -> tuple[list[tuple[str, Mask]], list[str]]:
    """The masks that a tool finds in a file, each with its photo, and what it remarks."""
    with tempfile.TemporaryDirectory() as scratch:
        request, answer = Path(scratch, "request.json"), Path(scratch, "answer.json")
        request.write_text(json.dumps({"format": case.format, "file": str(file), "photos": photos}))
        # databases and settings of these tools are not the user's
        own = dict.fromkeys(("FIFTYONE_DATABASE_DIR", "YOLO_CONFIG_DIR", "MPLCONFIGDIR"), scratch)
        own["PYTHONPATH"] = str(Path(__file__).parent)
        environment = {k: v for k, v in os.environ.items() if k != "FIFTYONE_DATABASE_URI"}
        run([python, "-m", "other_tools", tool.package, str(request), str(answer)], environment | own)
        content = json.loads(answer.read_text())
    masks = [
        (Path(photo).stem, Mask(label, frozenset([own_id] if own_id else []), rle))
        for photo, label, own_id, rle in content["masks"]
    ]
    return masks, content["remarks"]


def _print_row(
    case: Case, tool: str, found: Sequence[tuple[str, Mask]], written: Masks, remarks: str
) -> None:
    pairs = list(_paired(found, written))
    ious = [iou for iou, _, _ in pairs] + [0.0] * (len(found) - len(pairs))
    labels = sum(read.label == own.label for _, read, own in pairs)
    ids = sum(bool(read.ids & own.ids) for _, read, own in pairs)
    kept = ids if any(mask.ids for _, mask in found) else ""
    numbers = f"{np.mean(ious):.3f} | {min(ious):.3f}" if ious else " | "
    print(f"| {case.title} | {tool} | {len(found)} | {numbers} | {labels} | {kept} | {remarks} |", flush=True)


def _paired(found: Iterable[tuple[str, Mask]], written: Masks) -> Iterator[tuple[float, Mask, Mask]]:
    """Yield the IoU, what was read and what was written, each mask once; equal labels and large overlaps first."""
    by_photo: dict[str, list[Mask]] = defaultdict(list)
    for photo, mask in found:
        by_photo[photo].append(mask)
    for photo, masks in by_photo.items():
        own = written.get(photo, [])
        if not own:
            continue
        ious = coco_mask.iou([m.rle for m in masks], [m.rle for m in own], [False] * len(own))
        order = [
            (masks[i].label == own[j].label, float(ious[i, j]), i, j)
            for i, j in zip(*np.nonzero(ious), strict=True)
        ]
        read, taken = set(), set()
        for _, iou, i, j in sorted(order, reverse=True):
            if i not in read and j not in taken:
                read.add(i)
                taken.add(j)
                yield iou, masks[i], own[j]


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"\n{time.monotonic() - started:.0f} s", file=sys.stderr)
