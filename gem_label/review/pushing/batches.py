"""One push at work: compare each sample with the run, write what differs as MongoDB documents, in bulk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import GemLabelError
from gem_label.review.database import load_fiftyone
from gem_label.review.pushing.mask_files import write_mask_file
from gem_label.review.pushing.merge import MaskStorage, Merged, Proposal, merge_detections
from gem_label.review.pushing.proposals import PhotoProposals
from gem_label.review.pushing.report import PushReport
from gem_label.review.storage.decision_log import deleted_mask_ids, now
from gem_label.review.storage.detections import Document, detections_of
from gem_label.review.storage.fields import less_likely_field
from gem_label.review.storage.internals import add_samples_once, samples_of
from gem_label.review.storage.less_likely import declare_less_likely
from gem_label.review.storage.mask_bytes import crop_masks, serialize_crop
from gem_label.runs import PhotoRecord, Run

DATABASE_LIMIT = 8 << 20
"""Bytes of masks per photo; MongoDB refuses documents above 16 MB, and further fields need room too."""

_ATTEMPTS = 5
_TOO_LARGE = {10334, 17419, 17420}
"""MongoDB's codes for a document above 16 MB."""


def _is_too_large(error: Exception) -> bool:
    """Whether MongoDB refused a document for its size."""
    from pymongo.errors import DocumentTooLarge

    details = getattr(error, "details", None) or {}
    codes = {each.get("code") for each in details.get("writeErrors") or [details]}
    return isinstance(error, DocumentTooLarge) or bool(codes & _TOO_LARGE)


@dataclass(frozen=True, slots=True)
class _Update:
    """What one sample shall become; `values` is empty when it is up to date."""

    path: str
    key: Document
    values: Document
    merged: Merged
    on_disk: bool


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
                added = self._add_samples([item.photo for path, item in of_path.items() if path in missing])
                documents += self._find(missing)
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

    def _add_samples(self, photos: list[PhotoRecord]) -> set[str]:
        """Make samples for photos; the paths of those that no other push made at the same time."""
        samples = [
            self.fo.Sample(
                filepath=photo.image, metadata=self.fo.ImageMetadata(width=photo.width, height=photo.height)
            )
            for photo in photos
        ]
        with self.changing:
            return add_samples_once(self.dataset, samples)

    def _write(
        self, of_path: Mapping[str, PhotoProposals], documents: list[Document], report: PushReport
    ) -> set[str]:
        """Write detections; returns the paths of the samples that changed."""
        from pymongo.errors import PyMongoError

        done: dict[Any, _Update] = {}  # sample id -> what was written
        for _ in range(_ATTEMPTS):
            try:
                updates = self._updates(of_path, documents)
                written = self._write_updates([each for each in updates if each.values])
                done |= {each.key["_id"]: each for each in written}
                if len(written) == sum(bool(each.values) for each in updates):
                    _count(report, updates, list(done.values()))
                    return {each.path for each in done.values()}
                documents = self._find(of_path)  # somebody changed a sample meanwhile
            except PyMongoError as error:
                if _is_too_large(error):
                    raise GemLabelError(
                        "a photo has more masks than a document of FiftyOne's database holds: push with masks on disk"
                    ) from error
                raise
        raise GemLabelError(f"dataset {self.dataset.name!r} is being changed all the time: push again later")

    def _updates(self, of_path: Mapping[str, PhotoProposals], documents: list[Document]) -> list[_Update]:
        """What each sample shall become."""
        samples = [each["_id"] for each in documents]
        deleted = deleted_mask_ids(self.dataset, [self.field, self.hidden], samples)
        merged = [self._merge(each, deleted, of_path[each["filepath"]]) for each in documents]
        photos = [of_path[each["filepath"]].photo for each in documents]
        on_disk = self._add_masks(list(zip(merged, photos, strict=True)))
        if not all(all(each.likely) for each in merged):
            with self.changing:
                declare_less_likely(self.dataset, self.field)
        return [self._update(*parts) for parts in zip(documents, merged, photos, on_disk, strict=True)]

    def _write_updates(self, updates: list[_Update]) -> list[_Update]:
        """Write to the samples that are as they were read; returns what was written."""
        from pymongo import UpdateOne

        if not updates:
            return []
        writes = [UpdateOne(update.key, {"$set": update.values}) for update in updates]
        if self.collection.bulk_write(writes, ordered=False).matched_count == len(writes):
            return updates
        ours = [
            {"_id": each.key["_id"], "last_modified_at": each.values["last_modified_at"]} for each in updates
        ]
        written = {document["_id"] for document in self.collection.find({"$or": ours}, ["_id"])}
        return [each for each in updates if each.key["_id"] in written]

    def _merge(self, doc: Document, deleted: Mapping[Any, set[str]], item: PhotoProposals) -> Merged:
        """The detections that a sample shall have; boxes and masks of new ones are still missing."""
        existing, hidden = (detections_of(doc, name) for name in (self.field, self.hidden))
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

    def _update(self, doc: Document, merged: Merged, photo: PhotoRecord, on_disk: bool) -> _Update:
        """Compare a sample with what it shall be."""
        values: Document = {}
        for name, likely in ((self.field, True), (self.hidden, False)):
            wanted = merged.of(likely)
            if wanted != detections_of(doc, name) or (likely and doc.get(name) is None):
                values[name] = {"_cls": "Detections", "detections": wanted}
        metadata = doc.get("metadata") or {}
        if not (metadata.get("width") and metadata.get("height")):
            size = {"width": photo.width, "height": photo.height}
            values["metadata"] = {**self.metadata, **metadata, **size}
        if values:
            values["last_modified_at"] = now()
        # a reviewer who saves the sample meanwhile wins: then this key matches nothing, and it is read again
        same = [_is_as_read(doc, name) for name in (self.field, self.hidden)]
        key = {
            "_id": doc["_id"],
            "filepath": doc["filepath"],
            "last_modified_at": doc.get("last_modified_at"),
            "$expr": {"$and": [each for part in same for each in part]},
        }
        return _Update(doc["filepath"], key, values, merged, on_disk)

    def _add_masks(self, parts: list[tuple[Merged, PhotoRecord]]) -> list[bool]:
        """Fill in the boxes and masks that are missing; for each photo of a batch, whether they are on disk."""
        needed = [(proposal, photo) for merged, photo in parts for proposal in merged.masks_needed.values()]
        if not needed:
            return [False] * len(parts)
        places: list[bool] = []
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
            on_disk = bool(of_photo) and (full or self.storage == "disk")
            places.append(on_disk)
            if on_disk:
                crops = _crops([(proposal, photo) for proposal in of_photo.values()])
                masks = [
                    write_mask_file(self.run.path, photo.number, proposal.index, crop)
                    for proposal, crop in zip(of_photo.values(), crops, strict=True)
                ]
            place = "mask_path" if on_disk else "mask"
            for (position, proposal), mask in zip(of_photo.items(), masks, strict=True):
                detection = merged.detections[position]
                if "_id" not in detection:
                    detection["_id"] = self.new_id()
                else:
                    detection.pop("mask", None)
                    detection.pop("mask_path", None)
                detection["bounding_box"] = list(proposal.bounding_box)
                detection[place] = mask
        return places


def _count(report: PushReport, updates: list[_Update], done: list[_Update]) -> None:
    """Count what samples have now, and the masks that were written."""
    for update in updates:
        likely = sum(update.merged.likely)
        report.detections += likely
        report.less_likely += len(update.merged.likely) - likely
        report.decided += update.merged.decided
    for update in done:
        masks = len(update.merged.masks_needed)
        report.masks_on_disk += masks * update.on_disk
        report.masks_in_database += masks * (not update.on_disk)


def _is_as_read(document: Document, field: str) -> list[Document]:
    """Conditions on a sample: its detections are those of a document in all that a person changes of them.

    Not everything that writes to FiftyOne's database touches `last_modified_at`, and two writes may have the same.
    """
    masks = detections_of(document, field)
    return [
        {"$eq": [{"$ifNull": [f"${field}.detections.{name}", []]},
                 {"$literal": [mask[name] for mask in masks if name in mask]}]}
        for name in ("_id", "label", "tags", "bounding_box", "decision")
    ]  # fmt: skip


def _crops(masks: list[tuple[Proposal, PhotoRecord]]) -> Iterator[NDArray[np.bool_]]:
    """The masks inside their boxes."""
    counts = [proposal.counts for proposal, _ in masks]
    heights = np.array([photo.height for _, photo in masks], np.int64)
    return crop_masks(counts, heights, np.array([proposal.box for proposal, _ in masks], np.int64))
