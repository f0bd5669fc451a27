"""One push at work: compare each sample with the run, write what differs as MongoDB documents, in bulk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gem_label.errors import GemLabelError
from gem_label.review.database import load_fiftyone
from gem_label.review.pushing.merge import MaskStorage, Merged, Proposal, merge_detections
from gem_label.review.pushing.proposals import PhotoProposals
from gem_label.review.storage.decision_log import deleted_mask_ids
from gem_label.review.storage.detections import Document
from gem_label.review.storage.fields import less_likely_field
from gem_label.review.storage.internals import samples_of
from gem_label.review.storage.less_likely import declare_less_likely
from gem_label.review.storage.mask_bytes import crop_masks, serialize_crop
from gem_label.runs import PhotoRecord, Run

DATABASE_LIMIT = 8 << 20
"""Bytes of masks per photo; MongoDB refuses documents above 16 MB, and further fields need room too."""

MASK_FOLDER = "fiftyone_masks"
"""In the run directory: masks that are not in the database."""

_ATTEMPTS = 5
_COUNTS = (
    "photos", "added", "updated", "unchanged", "detections", "less_likely", "decided", "masks_in_database",
    "masks_on_disk",
)  # fmt: skip


@dataclass(slots=True)
class PushReport:
    """What a push did.

    Attributes:
        dataset: name of the dataset.
        field: name of the `Detections` field.
        photos: photos of the run.
        added: samples that were not in the dataset.
        updated: samples that were there and changed.
        unchanged: samples that were there and up to date.
        detections: detections in the field, over the photos of the run.
        less_likely: detections in the field of less likely labels, over the photos of the run.
        decided: detections that stayed as reviewers left them.
        masks_in_database: masks written into documents by this push.
        masks_on_disk: masks written as files by this push.
        seconds: how long it took.
    """

    dataset: str
    field: str
    photos: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    detections: int = 0
    less_likely: int = 0
    decided: int = 0
    masks_in_database: int = 0
    masks_on_disk: int = 0
    seconds: float = 0.0

    def add(self, part: PushReport) -> None:
        """Count another part of the same push in."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(part, name))

    def __str__(self) -> str:
        """One line for the terminal."""
        hidden = f", {self.less_likely} less likely ones hidden" if self.less_likely else ""
        kept = f", {self.decided} left as reviewers decided" if self.decided else ""
        return (
            f"{self.dataset}: {self.photos} photos ({self.added} added, {self.updated} updated, "
            f"{self.unchanged} unchanged) with {self.detections} masks in field {self.field!r}{hidden}{kept}; "
            f"{self.seconds:.1f} s"
        )


def _reason(error: Exception) -> str:
    """What MongoDB said, without the refused documents."""
    details = getattr(error, "details", None) or {}
    refused = details.get("writeErrors") or [{}]
    return str(refused[0].get("errmsg") or details.get("errmsg") or error)[:200]


@dataclass(frozen=True, slots=True)
class _Update:
    """What one sample shall become; `values` is empty when it is up to date."""

    path: str
    key: Document
    values: Document
    merged: Merged


class Push:
    """One push at work."""

    def __init__(
        self,
        run: Run,
        dataset: Any,
        field: str,
        storage: MaskStorage,
        database_limit: int,
        overwrite: bool,
        add_missing: bool,
    ) -> None:
        from bson import ObjectId

        self.fo = load_fiftyone()
        self.run, self.dataset, self.field, self.hidden = run, dataset, field, less_likely_field(field)
        self.storage, self.database_limit, self.overwrite = storage, database_limit, overwrite
        self.add_missing, self.changing = (
            add_missing,
            Lock(),
        )  # FiftyOne's datasets are not made for several threads
        # FiftyOne has no public name for the collection of a dataset's samples
        self.collection = samples_of(dataset)
        template = self.fo.Detection(tags=[]).to_mongo().to_dict()
        self.template = {key: value for key, value in template.items() if key != "_id"}
        self.metadata = self.fo.ImageMetadata().to_mongo().to_dict()
        self.new_id = ObjectId

    def batch(self, photos: list[PhotoProposals]) -> PushReport:
        """Bring the samples of some photos up to date; what was done with them. Several threads may call this."""
        report = PushReport(self.dataset.name, self.field)
        of_path = {item.photo.image: item for item in photos}
        documents = self._find(of_path)
        added: set[str] = set()
        missing = of_path.keys() - {document["filepath"] for document in documents}
        if missing:
            if self.add_missing:
                self._add_samples([item.photo for path, item in of_path.items() if path in missing])
                documents += self._find(missing)
                added = missing
            else:
                of_path = {path: item for path, item in of_path.items() if path not in missing}
        report.updated = len(self._write(of_path, documents, report) - added)
        report.photos, report.added = len(of_path), len(added)
        report.unchanged = len(of_path) - len(added) - report.updated
        return report

    def _find(self, paths: Iterable[str]) -> list[Document]:
        """What the database has of some photos."""
        wanted = ["filepath", "metadata", "last_modified_at", self.field, self.hidden]
        return list(self.collection.find({"filepath": {"$in": list(paths)}}, wanted))

    def _add_samples(self, photos: list[PhotoRecord]) -> None:
        samples = [
            self.fo.Sample(
                filepath=photo.image, metadata=self.fo.ImageMetadata(width=photo.width, height=photo.height)
            )
            for photo in photos
        ]
        with self.changing:
            self.dataset.add_samples(samples, validate=False, progress=False)

    def _write(
        self, of_path: Mapping[str, PhotoProposals], documents: list[Document], report: PushReport
    ) -> set[str]:
        """Write detections; returns the paths of the samples that changed."""
        from pymongo import UpdateOne
        from pymongo.errors import PyMongoError

        changed: set[str] = set()
        for _ in range(_ATTEMPTS):
            try:
                deleted = deleted_mask_ids(
                    self.dataset, [self.field, self.hidden], [each["_id"] for each in documents]
                )
                merged = [self._merge(each, deleted, of_path[each["filepath"]]) for each in documents]
                photos = [of_path[each["filepath"]].photo for each in documents]
                self._add_masks(list(zip(merged, photos, strict=True)), report)
                if not all(all(each.likely) for each in merged):
                    with self.changing:
                        declare_less_likely(self.dataset, self.field)
                updates = [self._update(*parts) for parts in zip(documents, merged, photos, strict=True)]
                writes = [
                    UpdateOne(update.key, {"$set": update.values}) for update in updates if update.values
                ]
                matched = self.collection.bulk_write(writes, ordered=False).matched_count if writes else 0
                changed |= {update.path for update in updates if update.values}
                if matched == len(writes):
                    for update in updates:
                        likely = sum(update.merged.likely)
                        report.detections += likely
                        report.less_likely += len(update.merged.likely) - likely
                        report.decided += update.merged.decided
                    return changed
                documents = self._find(of_path)  # somebody changed a sample meanwhile
            except PyMongoError as error:
                raise GemLabelError(
                    f"FiftyOne's database did not take the masks ({_reason(error)}): if a sample is too large, "
                    "push with masks on disk"
                ) from error
        raise GemLabelError(f"dataset {self.dataset.name!r} is being changed all the time: push again later")

    def _merge(self, doc: Document, deleted: Mapping[Any, set[str]], item: PhotoProposals) -> Merged:
        """The detections that a sample shall have; boxes and masks of new ones are still missing."""
        existing, hidden = (_detections(doc, name) for name in (self.field, self.hidden))
        gone = deleted.get(doc["_id"], set())
        merged = merge_detections(
            existing, item.proposals, self.template, self.storage, self.overwrite, gone, hidden
        )
        taken: set[Any] = set()
        for i, detection in enumerate(merged.detections):
            if detection.get("_id") in taken:  # a copy that kept its original's id: decisions go by it
                merged.detections[i] = {**detection, "_id": self.new_id()}
            elif "_id" in detection:
                taken.add(detection["_id"])
        return merged

    def _update(self, doc: Document, merged: Merged, photo: PhotoRecord) -> _Update:
        """Compare a sample with what it shall be."""
        values: Document = {}
        for name, likely in ((self.field, True), (self.hidden, False)):
            wanted = merged.of(likely)
            if wanted != _detections(doc, name) or (likely and doc.get(name) is None):
                values[name] = {"_cls": "Detections", "detections": wanted}
        metadata = doc.get("metadata") or {}
        if not (metadata.get("width") and metadata.get("height")):
            size = {"width": photo.width, "height": photo.height}
            values["metadata"] = {**self.metadata, **metadata, **size}
        if values:
            values["last_modified_at"] = datetime.now(UTC)
        # a reviewer who saves the sample meanwhile wins: then this key matches nothing, and it is read again
        key = {"_id": doc["_id"], "last_modified_at": doc.get("last_modified_at")}
        return _Update(doc["filepath"], key, values, merged)

    def _add_masks(self, parts: list[tuple[Merged, PhotoRecord]], report: PushReport) -> None:
        """Fill in the boxes and masks that are missing, in the database or on disk, for all photos of a batch."""
        needed = [(proposal, photo) for merged, photo in parts for proposal in merged.masks_needed.values()]
        if not needed:
            return
        contents: Iterator[bytes] = iter(())
        if self.storage != "disk":
            contents = map(serialize_crop, _crops(needed))
        for merged, photo in parts:
            of_photo = merged.masks_needed
            masks: list[Any] = [] if self.storage == "disk" else [next(contents) for _ in of_photo]
            present = 0
            if len(of_photo) < len(merged.detections):
                present = sum(len(detection.get("mask") or b"") for detection in merged.detections)
            full = self.storage == "auto" and present + sum(map(len, masks)) > self.database_limit
            if of_photo and (full or self.storage == "disk"):
                crops = _crops([(proposal, photo) for proposal in of_photo.values()])
                masks = [
                    self._write_png(photo, p.index, c) for p, c in zip(of_photo.values(), crops, strict=True)
                ]
                report.masks_on_disk += len(masks)
            else:
                report.masks_in_database += len(masks)
            place = "mask_path" if full or self.storage == "disk" else "mask"
            for (position, proposal), mask in zip(of_photo.items(), masks, strict=True):
                detection = merged.detections[position]
                if "_id" not in detection:
                    detection["_id"] = self.new_id()
                else:
                    detection.pop("mask", None)
                    detection.pop("mask_path", None)
                detection["bounding_box"] = list(proposal.bounding_box)
                detection[place] = mask

    def _write_png(self, photo: PhotoRecord, index: int, mask: NDArray[np.bool_]) -> str:
        """Store one mask as a gray PNG, 255 where the mask is; returns its absolute path."""
        folder = self.run.path.resolve() / MASK_FOLDER / str(photo.number)
        path = folder / f"{index}.png"
        temporary = folder / f".{index}.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(temporary, format="PNG")
            os.replace(temporary, path)
        except OSError as error:
            raise GemLabelError(f"cannot write the mask {path}: {error.strerror}") from error
        return str(path)


def _detections(document: Document, field: str) -> list[Document]:
    """A field's detections in a sample's document."""
    return (document.get(field) or {}).get("detections") or []


def _crops(masks: list[tuple[Proposal, PhotoRecord]]) -> Iterator[NDArray[np.bool_]]:
    """The masks inside their boxes."""
    counts = [proposal.counts for proposal, _ in masks]
    heights = np.array([photo.height for _, photo in masks], np.int64)
    return crop_masks(counts, heights, np.array([proposal.box for proposal, _ in masks], np.int64))
