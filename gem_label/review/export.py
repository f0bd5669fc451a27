"""COCO and CVAT files of the masks of a dataset as reviewers left them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from gem_label.errors import GemLabelError, UsageError
from gem_label.review import cvat
from gem_label.review.documents import Box, encode_crop, pixel_box, read_crop
from gem_label.review.fields import check_mask_field
from gem_label.review.merge import Document
from gem_label.review.progress import Progress
from gem_label.review.selection import Selection, aggregate_masks

Format = Literal["rle", "polygon", "cvat"]
FORMATS: tuple[Format, ...] = ("rle", "polygon", "cvat")

# photos come with their masks, those without any too
_Photos = Generator[tuple[cvat.Photo, list[cvat.Mask]], None, None]


@dataclass(frozen=True, slots=True)
class ExportCounts:
    """What an export wrote: photos (those without masks too), masks, and distinct labels."""

    images: int
    annotations: int
    categories: int


def export_masks(
    dataset: Any, field: str, out: str | Path, format: Format = "rle", selection: Selection | None = None
) -> Generator[Progress, None, ExportCounts]:
    """Write masks of a dataset, with their mask ids, so that corrections find their way back.

    "rle" and "polygon" are COCO instances, both exact (see `gem_label.export.coco`); an annotation has `score` and
    `mask_id`, the latter in `attributes` too, where tools look for it. "cvat" is the XML of "CVAT for images 1.1",
    masks with the attribute `mask_id`. File names are relative to the innermost folder that holds all photos. `out`
    appears only when it is whole.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        out: the file.
        format: as above.
        selection: which masks, and with a view, which photos; None: all but rejected masks, of all photos.

    Yields:
        Progress; the generator returns the counts.

    Raises:
        UsageError: unknown format or field.
        GemLabelError: the file cannot be written.
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}: {', '.join(FORMATS)}")
    check_mask_field(dataset, field)
    out = Path(out).expanduser()
    if out.is_dir():
        raise UsageError(f"{out} is a folder: give a file name, for example {out / 'annotations.json'}")
    selection = selection or Selection(states=["undecided", "accepted", "renamed"])
    samples = dataset if selection.view is None else selection.view
    if getattr(samples, "_is_patches", False):
        samples = dataset.select(samples.distinct("sample_id"))
    folder, photos = _list_photos(samples)
    labels = sorted(row["_id"] for row in aggregate_masks(dataset, field, selection, [
        {"$unwind": "$masks"}, {"$group": {"_id": "$masks.label"}}]))  # fmt: skip
    part = out.with_name(f".{out.name}.part")
    masks = 0
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "w", encoding="utf-8") as file:
            stream = _photo_masks(dataset, field, selection, photos)
            if format == "cvat":
                written = cvat.write(file, stream, labels, out.stem)
            else:
                written = _write_coco(
                    file, stream, list(photos.values()), labels, folder, _segmentation(format)
                )
            for done, (_, of_photo) in enumerate(written, 1):
                masks += len(of_photo)
                yield Progress(done, len(photos), f"{masks} masks written")
        os.replace(part, out)
    except OSError as error:
        raise GemLabelError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return ExportCounts(len(photos), masks, len(labels))


def _list_photos(samples: Any) -> tuple[str, dict[Any, cvat.Photo]]:
    """The innermost folder of all photos, and the photos by their sample's id."""
    ids, paths, widths, heights = samples.values(["_id", "filepath", "metadata.width", "metadata.height"])
    folder = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    photos = {}
    for number, (identifier, path, width, height) in enumerate(
        zip(ids, paths, widths, heights, strict=True), 1
    ):
        name = Path(os.path.relpath(path, folder)).as_posix()
        photos[identifier] = cvat.Photo(number, name, width or 0, height or 0)
    return folder, photos


def _photo_masks(dataset: Any, field: str, selection: Selection, photos: dict[Any, cvat.Photo]) -> _Photos:
    without = dict(photos)
    for document in aggregate_masks(dataset, field, selection, []):
        photo = without.pop(document["_id"], None)
        if photo is not None:
            yield photo, [_mask(detection, photo) for detection in document["masks"]]
    for photo in without.values():
        yield photo, []


def _mask(detection: Document, photo: cvat.Photo) -> cvat.Mask:
    box = pixel_box(detection, photo.width, photo.height)
    return cvat.Mask(
        detection["label"],
        detection.get("mask_id"),
        box,
        read_crop(detection, box),
        detection.get("confidence"),
    )


def _segmentation(format: Format) -> Callable[[cvat.Mask, cvat.Photo], Any]:
    def rle(mask: cvat.Mask, photo: cvat.Photo) -> Any:
        encoded = encode_crop(mask.crop, mask.box, photo.height, photo.width)
        return {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}

    def polygons(mask: cvat.Mask, photo: cvat.Photo) -> Any:
        from gem_label.export.polygons import mask_polygons  # OpenCV only where polygons are asked for

        corner = np.array(mask.box[:2])
        return [(polygon + corner).ravel().tolist() for polygon in mask_polygons(mask.crop)]

    return rle if format == "rle" else polygons


def _tight_box(crop: NDArray[np.bool_], box: Box) -> list[float]:
    """x, y, width, height in pixels of what is set in a crop."""
    rle = coco_mask.encode(np.asfortranarray(crop, np.uint8))
    x, y, width, height = coco_mask.toBbox(rle).tolist()
    return [x + box[0], y + box[1], width, height]


def _write_coco(
    file: IO[str],
    photos: _Photos,
    listed: Sequence[cvat.Photo],
    labels: Sequence[str],
    folder: str,
    segmentation: Callable[[cvat.Mask, cvat.Photo], Any],
) -> Iterator[tuple[cvat.Photo, list[cvat.Mask]]]:
    """Write COCO instances; yields each photo when it is written."""
    category = {name: i for i, name in enumerate(labels, 1)}
    head = {
        "info": {"description": "Reviewed masks", "photo_folder": folder},
        "licenses": [],
        "categories": [{"id": i, "name": name, "supercategory": ""} for name, i in category.items()],
        "images": [{"id": p.id, "file_name": p.name, "width": p.width, "height": p.height} for p in listed],
    }
    file.write(json.dumps(head)[:-1] + ', "annotations": [')
    number = 0
    for photo, masks in photos:
        for mask in masks:
            if not mask.crop.any():
                continue
            number += 1
            annotation = {
                "id": number,
                "image_id": photo.id,
                "category_id": category[mask.label],
                "segmentation": segmentation(mask, photo),
                "bbox": _tight_box(mask.crop, mask.box),
                "area": int(mask.crop.sum()),
                "iscrowd": 0,
                "mask_id": mask.mask_id,
                "attributes": {"mask_id": mask.mask_id or ""},
            }
            if mask.score is not None:
                annotation["score"] = round(mask.score, 6)
            file.write((",\n" if number > 1 else "\n") + json.dumps(annotation))
        yield photo, masks
    file.write("]}\n")
