"""COCO instance annotations of a run.

The file is ground truth for pycocotools as it stands; its annotations have scores and serve as results.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import GemLabelError, UsageError
from gem_label.labeling import MaskLabels, Thresholds
from gem_label.masks import MaskSet
from gem_label.runs import PhotoRecord, Run, RunPhoto
from gem_label.runs.files import write_atomic

MASKS_PER_PHOTO = 100_000
"""Room for annotation ids of one photo: mask k of photo n is annotation n * 100 000 + k + 1."""


@dataclass(frozen=True, slots=True)
class CocoCounts:
    """What a COCO file holds."""

    images: int
    annotations: int
    categories: int


def export_coco(
    run: Run,
    out: str | Path,
    segmentation: Literal["rle", "polygon"] = "rle",
    min_score: float | str | Thresholds | None = None,
) -> CocoCounts:
    """Write the kept masks of a run as COCO instance annotations.

    Image ids are the photos' numbers in the run and annotation ids follow from photo and mask, so both stay
    the same when the run grows, is labelled anew or is exported with another threshold. Categories have the
    ids 1..C in the order of the vocabulary. `file_name` is relative to the innermost folder that holds all
    photos of the run (`info.photo_folder`). Beside COCO's keys an annotation has `score`, `margin` and
    `mask_id`. Photos without masks are listed too. Memory does not grow with the run, and `out` appears only
    when it is whole.

    Args:
        run: an open run.
        out: the JSON file.
        segmentation: "rle", the run's masks as they are (compressed, as text); "polygon", exact outlines
            along pixel borders, where parts with holes are cut into parts without.
        min_score: the selected masks with at least this score, in [0, 1], also those below the run's own
            threshold; see `Thresholds.of`. None: all that are kept.

    Raises:
        UsageError: unknown segmentation, or `min_score` is not a probability.
        GemLabelError: `out` cannot be written.
    """
    if segmentation not in ("rle", "polygon"):
        raise UsageError(f"segmentation is 'rle' or 'polygon', not {segmentation!r}")
    least = None if min_score is None else Thresholds.of(min_score).by_class(run.vocabulary.classes)
    out = Path(out)
    if out.is_dir():
        raise UsageError(f"{out} is a folder: give a file name, for example {out / 'annotations.json'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # annotations wait in a second file: one pass over the run gives a file that fits together
        with tempfile.TemporaryFile(dir=out.parent) as waiting:
            counts: list[CocoCounts] = []
            write_atomic(out, lambda file: counts.append(_write(file, waiting, run, segmentation, least)))
    except OSError as error:
        raise GemLabelError(f"cannot write {out}: {error.strerror or error}") from error
    return counts[0]


def _write(
    file: IO[bytes], waiting: IO[bytes], run: Run, segmentation: str, least: NDArray[np.float32] | None
) -> CocoCounts:
    folder = photo_folder(run.listing())
    info = {
        "description": f"Masks and labels of the gem-label run {run.path.resolve().name}",
        "version": run.manifest.get("versions", {}).get("gem-label", ""),
        "date_created": run.manifest.get("created", ""),
        "photo_folder": folder,
    }
    categories = [
        {"id": i, "name": name, "supercategory": ""} for i, name in enumerate(run.vocabulary.classes, 1)
    ]
    file.write(b'{"info": ' + _json(info) + b',\n"licenses": [],\n"categories": ' + _json(categories))
    file.write(b',\n"images": [')
    images = annotations = 0
    for photo, masks, labels in run.photo_masks(embeddings=False):
        image = {
            "id": photo.number,
            "file_name": Path(os.path.relpath(photo.image, folder)).as_posix(),
            "width": photo.width,
            "height": photo.height,
        }
        file.write((b",\n" if images else b"\n") + _json(image))
        images += 1
        for annotation in photo_annotations(photo, masks, labels, segmentation, least):
            waiting.write((b",\n" if annotations else b"\n") + _json(annotation))
            annotations += 1
    file.write(b'],\n"annotations": [')
    waiting.seek(0)
    shutil.copyfileobj(waiting, file, 1 << 20)
    file.write(b"]}\n")
    return CocoCounts(images, annotations, len(categories))


def photo_annotations(
    photo: PhotoRecord,
    masks: MaskSet,
    labels: MaskLabels,
    segmentation: str,
    least: NDArray[np.float32] | None = None,
) -> Iterator[dict[str, Any]]:
    """The annotations of one photo's masks; bbox (x, y, width, height) and area in pixels.

    Args:
        photo: which.
        masks: N masks.
        labels: their labels.
        segmentation: "rle" or "polygon".
        least: (C,) the least score of each class; None: the masks that are kept.
    """
    if len(masks) > MASKS_PER_PHOTO:
        raise GemLabelError(f"{photo.image} has {len(masks)} masks; ids leave room for {MASKS_PER_PHOTO}")
    names, scores = labels.label_index, labels.score
    boxes, areas, rles = masks.boxes, masks.areas, masks.rles
    chosen = labels.kept if least is None else labels.selected & (scores >= least[names])
    for i in np.flatnonzero(chosen & (names >= 0) & (areas > 0)).tolist():
        if segmentation == "rle":
            shape: Any = {"size": rles[i]["size"], "counts": rles[i]["counts"].decode("ascii")}
        else:
            shape = _polygons(masks, i)
        yield {
            "id": photo.number * MASKS_PER_PHOTO + i + 1,
            "image_id": photo.number,
            "category_id": int(names[i]) + 1,
            "segmentation": shape,
            "bbox": [float(v) for v in boxes[i]],
            "area": int(areas[i]),
            "iscrowd": 0,
            "score": round(float(scores[i]), 6),
            "margin": round(float(labels.margin[i]), 6),
            "mask_id": f"{photo.image_id}#{i}",
        }


def _polygons(masks: MaskSet, index: int) -> list[list[int]]:
    from gem_label.formats.polygons import mask_polygons  # OpenCV only where polygons are asked for

    x, y, width, height = masks.boxes[index].astype(int).tolist()
    inside = masks.decode(index)[y : y + height, x : x + width]
    return [(polygon + np.array([x, y])).ravel().tolist() for polygon in mask_polygons(inside)]


def photo_folder(photos: Iterable[RunPhoto]) -> str:
    """The innermost folder that holds all photos of a run ("" when there is no photo)."""
    folder = ""
    for photo in photos:
        parent = os.path.dirname(photo.path)
        if not folder:
            folder = parent
        elif parent != folder:
            folder = os.path.commonpath([folder, parent])
    return folder


def _json(value: Any) -> bytes:
    # file names that are not UTF-8 come as lone surrogates, which only escapes can carry
    return json.dumps(value).encode("ascii")
