"""COCO and CVAT files of the masks of a dataset as reviewers left them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from gem_label.errors import GemLabelError, UsageError
from gem_label.review.exchange import cvat
from gem_label.review.progress import Progress
from gem_label.review.storage.detections import Document
from gem_label.review.storage.documents import Box, encode_crop, find_sizes, pixel_box, read_crop
from gem_label.review.storage.fields import check_mask_field
from gem_label.review.storage.internals import is_patches
from gem_label.review.storage.selection import Selection, aggregate_masks

Format = Literal["rle", "polygon", "cvat"]
FORMATS: tuple[Format, ...] = ("rle", "polygon", "cvat")

# photos come with their masks, those without any too
_Photos = Generator[tuple[cvat.Photo, list[cvat.Mask]], None, None]


@dataclass(frozen=True, slots=True)
class ExportCounts:
    """What an export wrote.

    Attributes:
        images: photos, those without masks too.
        annotations: masks that are in the file.
        categories: distinct labels that the file declares.
        unlabeled: masks that were left out because they have no label.
        empty: masks that were left out because no pixel of the photo is set.
    """

    images: int
    annotations: int
    categories: int
    unlabeled: int = 0
    empty: int = 0


def export_masks(
    dataset: Any, field: str, out: str | Path, format: Format = "rle", selection: Selection | None = None
) -> Generator[Progress, None, ExportCounts]:
    """Write masks of a dataset, with their mask ids, so that corrections find their way back.

    "rle" and "polygon" are COCO instances, both exact (see `gem_label.export.coco`); an annotation has `score` and
    `mask_id`, the latter in `attributes` too, where tools look for it. "cvat" is the XML of "CVAT for images 1.1",
    masks with the attribute `mask_id`. File names are relative to the innermost folder that holds all photos. `out`
    appears only when it is whole. Sizes of photos that the dataset does not know are read from the files and stored.
    XML has no control characters: labels and names have U+FFFD in their place there.

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
        GemLabelError: the file cannot be written, or a mask cannot (its file or its photo's size cannot be read).
    """
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}: {', '.join(FORMATS)}")
    check_mask_field(dataset, field)
    out = Path(out).expanduser()
    if out.is_dir():
        raise UsageError(f"{out} is a folder: give a file name, for example {out / 'annotations.json'}")
    selection = selection or Selection(states=["undecided", "accepted", "renamed"])
    samples = dataset if selection.view is None else selection.view
    if is_patches(samples):
        samples = dataset.select(samples.distinct("sample_id"))
    folder, photos = _list_photos(dataset, samples)
    found = aggregate_masks(dataset, field, selection, [
        {"$unwind": "$masks"}, {"$group": {"_id": "$masks.label"}}])  # fmt: skip
    labels = sorted(row["_id"] for row in found if is_label(row["_id"]))
    part = out.with_name(f".{out.name}.part")
    count = 0
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "w", encoding="utf-8") as file:
            masks = _Masks(dataset, field, selection, photos, labels)
            stream = masks.stream()
            if format == "cvat":
                names = list(dict.fromkeys(map(_xml_text, labels)))
                written = cvat.write(file, _for_xml(stream), names, _xml_text(out.stem))
            else:
                written = _write_coco(
                    file, stream, list(photos.values()), labels, folder, _segmentation(format)
                )
            for done, (_, of_photo) in enumerate(written, 1):
                count += len(of_photo)
                yield Progress(done, len(photos), f"{count} masks written")
        os.replace(part, out)
    except OSError as error:
        raise GemLabelError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return ExportCounts(len(photos), count, len(labels), masks.unlabeled, masks.empty)


def is_label(value: Any) -> bool:
    """Whether a detection's label names a class."""
    return isinstance(value, str) and value != ""


def _list_photos(dataset: Any, samples: Any) -> tuple[str, dict[Any, cvat.Photo]]:
    """The innermost folder of all photos, and the photos by their sample's id."""
    names = ["_id", "filepath", "metadata.width", "metadata.height"]
    rows = list(zip(*samples.values(names), strict=True))
    sizes = find_sizes(dataset, [row[0] for row in rows if not (row[2] and row[3])])
    folder = os.path.commonpath([os.path.dirname(path) for _, path, _, _ in rows]) if rows else ""
    photos = {}
    for number, (identifier, path, width, height) in enumerate(rows, 1):
        name = Path(os.path.relpath(path, folder)).as_posix()
        size = sizes.get(identifier, (width or 0, height or 0))
        photos[identifier] = cvat.Photo(number, name, *size)
    return folder, photos


class _Masks:
    """The masks of an export, photo by photo; counts those that are left out."""

    def __init__(
        self,
        dataset: Any,
        field: str,
        selection: Selection,
        photos: dict[Any, cvat.Photo],
        labels: Sequence[str],
    ) -> None:
        self.dataset, self.field, self.selection = dataset, field, selection
        self.photos, self.labels = photos, frozenset(labels)
        self.unlabeled = self.empty = 0

    def stream(self) -> _Photos:
        """Every photo once, with the masks that can be written.

        Raises:
            GemLabelError: a mask cannot be read, its photo's size is not known, or it got a new label meanwhile.
        """
        without = dict(self.photos)
        for document in aggregate_masks(self.dataset, self.field, self.selection, []):
            photo = without.pop(document["_id"], None)
            if photo is not None:
                masks = [self._mask(detection, photo) for detection in document["masks"]]
                yield photo, [mask for mask in masks if mask is not None]
        for photo in without.values():
            yield photo, []

    def _mask(self, detection: Document, photo: cvat.Photo) -> cvat.Mask | None:
        label, mask_id = detection.get("label"), detection.get("mask_id")
        if not is_label(label):
            self.unlabeled += 1
            return None
        name = mask_id or f"{label!r} ({detection.get('_id')})"
        if label not in self.labels:
            raise GemLabelError(f"mask {name} was renamed during the export: export again")
        if not (photo.width and photo.height):
            raise GemLabelError(
                f"cannot write mask {name}: the size of {photo.name} is not known and the photo cannot be read"
            )
        try:
            box = pixel_box(detection, photo.width, photo.height)
        except (ValueError, TypeError, OverflowError) as error:
            raise GemLabelError(f"cannot write mask {name} of {photo.name}: its box is no box") from error
        crop = read_crop(detection, box)
        if not crop.any():
            self.empty += 1
            return None
        score = detection.get("confidence")
        return cvat.Mask(label, mask_id, box, crop, score if score is None or isfinite(score) else None)


_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _xml_text(text: str) -> str:
    """The same text with U+FFFD for what XML 1.0 cannot hold."""
    return _NOT_IN_XML.sub("\ufffd", text)


def _for_xml(photos: _Photos) -> _Photos:
    """The same photos and masks, with names, labels and mask ids that XML can hold."""
    for photo, masks in photos:
        yield (
            replace(photo, name=_xml_text(photo.name)),
            [replace(m, label=_xml_text(m.label), mask_id=m.mask_id and _xml_text(m.mask_id)) for m in masks],
        )


def _segmentation(format: Format) -> Callable[[cvat.Mask, cvat.Photo], Any]:
    def rle(mask: cvat.Mask, photo: cvat.Photo) -> Any:
        encoded = encode_crop(mask.crop, mask.box, photo.height, photo.width)
        return {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}

    def polygons(mask: cvat.Mask, photo: cvat.Photo) -> Any:
        from gem_label.formats.polygons import mask_polygons  # OpenCV only where polygons are asked for

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
