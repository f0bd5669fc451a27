"""Detections as MongoDB documents: their masks as arrays and as COCO run lengths, and back."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from gem_label.errors import GemLabelError, UsageError
from gem_label.photos.reading import open_image, upright_size
from gem_label.review.storage.detections import Document, relative_box
from gem_label.review.storage.internals import deserialize_array, samples_of, serialize_array
from gem_label.rle import Box, crop_mask, encode_crop


def photo_sizes(
    dataset: Any, documents: Sequence[Document], store: bool = True
) -> dict[Any, tuple[int, int]]:
    """The sizes of the photos of some samples: those that the dataset knows, and the others by `find_sizes`.

    Args:
        dataset: the FiftyOne dataset.
        documents: the samples, each with `metadata`.
        store: see `find_sizes`.

    Returns:
        sample id -> width and height in pixels; photos that cannot be read are left out.
    """
    sizes = {}
    for document in documents:
        metadata = document.get("metadata") or {}
        if metadata.get("width") and metadata.get("height"):
            sizes[document["_id"]] = int(metadata["width"]), int(metadata["height"])
    missing = [document["_id"] for document in documents if document["_id"] not in sizes]
    return sizes | find_sizes(dataset, missing, store) if missing else sizes


def size_among(sizes: Mapping[Any, tuple[int, int]], document: Document) -> tuple[int, int]:
    """Width and height of a sample's photo in pixels, of `photo_sizes`.

    Raises:
        UsageError: they are not among them.
    """
    if document["_id"] not in sizes:
        raise UsageError(
            f"the size of {document['filepath']} is not known and the photo cannot be read: bring it back"
        )
    return sizes[document["_id"]]


def find_sizes(dataset: Any, samples: Sequence[Any], store: bool = True) -> dict[Any, tuple[int, int]]:
    """Read the sizes of photos from their files' headers, and store them on samples that have none.

    Args:
        dataset: the FiftyOne dataset.
        samples: ids of samples, as in the database.
        store: False: only read.

    Returns:
        sample id -> width and height in pixels, upright as the photo is shown; photos that cannot be read are left
        out.
    """
    found: dict[Any, tuple[int, int]] = {}
    collection = samples_of(dataset)
    for document in collection.find({"_id": {"$in": list(samples)}}, ["filepath", "metadata"]):
        metadata = _read_metadata(document["filepath"])
        if metadata is None:
            continue
        # only where nobody stored another size or photo meanwhile
        key = {name: document.get(name) for name in ("_id", "filepath", "metadata")}
        new = {**metadata, **{k: v for k, v in (document.get("metadata") or {}).items() if v}}
        values = {"metadata": {"$literal": new}, "last_modified_at": "$$NOW"}
        if not store or collection.update_one(key, [{"$set": values}]).matched_count:
            found[document["_id"]] = new["width"], new["height"]
        elif (now := collection.find_one({"_id": document["_id"]}, ["metadata"])) is not None:
            stored = now.get("metadata") or {}
            if stored.get("width") and stored.get("height"):
                found[document["_id"]] = int(stored["width"]), int(stored["height"])
    return found


def _read_metadata(path: str) -> Document | None:
    """A photo's FiftyOne metadata from its header; None when it cannot be read."""
    from fiftyone import ImageMetadata

    try:
        with open_image(path) as image:
            width, height = upright_size(image)
            channels = len(image.getbands())
            mime = image.get_format_mimetype()
        size = os.path.getsize(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    metadata = ImageMetadata(
        size_bytes=size, mime_type=mime, width=width, height=height, num_channels=channels
    )
    return metadata.to_mongo().to_dict()


def pixel_box(detection: Document, width: int, height: int) -> Box:
    """The x, y, width, height in pixels of a detection's relative box, inside a photo of this size.

    Raises:
        GemLabelError: the box is no list of four finite numbers.
    """
    try:
        x, y, w, h = detection.get("bounding_box") or (0.0, 0.0, 0.0, 0.0)
        left, top = min(max(round(x * width), 0), width), min(max(round(y * height), 0), height)
        right, bottom = round((x + w) * width), round((y + h) * height)
    except (ValueError, TypeError, OverflowError) as error:
        raise GemLabelError(f"the box of {_described(detection)} is no box") from error
    return left, top, max(0, min(right, width) - left), max(0, min(bottom, height) - top)


def read_crop(detection: Document, box: Box) -> NDArray[np.bool_]:
    """The mask inside its box, (box height, box width) booleans; a detection without a mask fills its box.

    A mask of another size than its box (drawn by hand) is stretched over it, as FiftyOne shows it.

    Raises:
        GemLabelError: the mask or its file cannot be read.
    """
    _, _, width, height = box
    path = detection.get("mask_path")
    try:
        if detection.get("mask"):
            mask = np.asarray(deserialize_array(detection["mask"])) > 0
        elif path:
            with Image.open(path) as image:
                mask = np.asarray(image.convert("L")) > 0
        else:
            return np.ones((height, width), bool)
        if mask.ndim != 2 or mask.size == 0:
            raise ValueError(f"it has the shape {mask.shape}")
    except (
        OSError,
        ValueError,
        SyntaxError,
        TypeError,
        EOFError,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        name = path or f"of {_described(detection)}"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise GemLabelError(f"cannot read the mask {name}: {' '.join(reason.split())[:200]}") from error
    if mask.shape == (height, width):
        return mask
    rows = (np.arange(height) * mask.shape[0]) // max(1, height)
    columns = (np.arange(width) * mask.shape[1]) // max(1, width)
    return mask[np.ix_(rows, columns)]


def _described(detection: Document) -> str:
    return f"detection {detection.get('_id')} ({detection.get('mask_id') or 'no mask id'})"


def detection_rle(detection: Document, width: int, height: int) -> dict[str, Any]:
    """A detection's mask as compressed COCO run lengths over a photo of this size."""
    box = pixel_box(detection, width, height)
    return encode_crop(read_crop(detection, box), box, height, width)


def with_mask(detection: Document, rle: dict[str, Any]) -> Document:
    """The same detection with another mask, given as compressed COCO run lengths; it goes into the database."""
    height, width = rle["size"]
    x, y, w, h = (int(side) for side in coco_mask.toBbox(rle))
    crop = crop_mask(rle["counts"], height, (x, y, w, h))
    box = list(relative_box((x, y, w, h), width, height))
    return {**detection, "bounding_box": box, "mask": serialize_array(crop), "mask_path": None}


def new_detection(label: str, rle: dict[str, Any]) -> Document:
    """A detection that no run proposed."""
    import fiftyone as fo
    from bson import ObjectId

    document = fo.Detection(label=label, tags=[]).to_mongo().to_dict()
    return with_mask({**document, "_id": ObjectId()}, rle)
