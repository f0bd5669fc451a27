"""Push a run into a persistent FiftyOne dataset, and again after every relabel.

Samples and fields are made through FiftyOne. Detections are written as MongoDB documents in the form that FiftyOne
gives them, because going through its label objects is a hundred times slower than the database.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from gem_label.errors import GemLabelError, UsageError
from gem_label.export.crops import crop_mask
from gem_label.labeling import MaskLabels
from gem_label.masks import MaskSet
from gem_label.review.database import load_fiftyone
from gem_label.review.decision_log import deleted_mask_ids
from gem_label.review.merge import (
    Document,
    MaskStorage,
    Merged,
    Proposal,
    merge_detections,
    photo_proposals,
)
from gem_label.runs import PhotoRecord, Run

DATABASE_LIMIT = 8 << 20
"""Bytes of masks per photo; MongoDB refuses documents above 16 MB, and further fields need room too."""

MASK_FOLDER = "fiftyone_masks"
"""In the run directory: masks that are not in the database."""

_PHOTOS_PER_BATCH, _MASKS_PER_BATCH, _ATTEMPTS = 256, 4096, 5

RunPhotoMasks = tuple[PhotoRecord, MaskSet, MaskLabels]


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
    decided: int = 0
    masks_in_database: int = 0
    masks_on_disk: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """One line for the terminal."""
        kept = f", {self.decided} left as reviewers decided" if self.decided else ""
        return (
            f"{self.dataset}: {self.photos} photos ({self.added} added, {self.updated} updated, "
            f"{self.unchanged} unchanged) with {self.detections} masks in field {self.field!r}{kept}; "
            f"{self.seconds:.1f} s"
        )


def push_run(
    run: Run,
    dataset_name: str,
    field: str = "gem_label",
    mask_storage: MaskStorage = "auto",
    overwrite: bool = False,
    database_limit: int = DATABASE_LIMIT,
    progress: bool = False,
    add_missing: bool = True,
) -> PushReport:
    """Make or update a persistent dataset with the photos and kept masks of a run.

    Samples are matched by file path; photos without masks and photos whose file is gone get one too, samples of
    other origin are left alone. A detection carries `label`, `confidence` (score), `margin`, `runner_up` (the
    second-best class), `mask_id`, `proposed_label` (what the run said, to tell a reviewer's change) and its mask.
    Pushing twice changes nothing; pushing after a relabel updates labels and keeps what reviewers did (see
    `merge_detections`). Push different runs over the same photos into different fields: mask ids repeat from run
    to run.

    Args:
        run: an open run.
        dataset_name: the dataset; made when there is none.
        field: the sample field, a `Detections`; made when there is none.
        mask_storage: "database"; "disk" (PNG files in RUN/fiftyone_masks, `mask_path`); "auto": the database, but
            disk for photos with more than `database_limit` of masks.
        overwrite: give decided detections the run's label too.
        database_limit: bytes of masks that one photo may have in the database with "auto".
        progress: show a bar on stderr.
        add_missing: make samples for photos of the run that the dataset does not have.

    Raises:
        UsageError: unknown storage, or dataset or field are of another kind.
        GemLabelError: FiftyOne or its database is missing, or a write failed.
    """
    if mask_storage not in ("auto", "database", "disk"):
        raise UsageError(f"mask_storage is 'auto', 'database' or 'disk', not {mask_storage!r}")
    start = time.monotonic()
    dataset = _open_dataset(dataset_name, field, run.vocabulary.classes)
    report = PushReport(dataset_name, field)
    with (
        ThreadPoolExecutor(os.cpu_count()) as threads,  # zlib and PNG encoding let go of the interpreter
        tqdm(total=run.manifest["counts"]["photos"], unit="photo", desc="push", disable=not progress) as bar,
    ):
        push = _Push(
            run, dataset, field, mask_storage, database_limit, overwrite, add_missing, threads, report
        )
        for batch in _batches(run.photo_masks(embeddings=False)):
            push.batch(batch)
            bar.update(len(batch))
    pushed = {
        "run": str(run.path.resolve()),
        "run_updated": run.manifest.get("updated"),
        "pushed": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    dataset.info["gem_label"] = {**dataset.info.get("gem_label", {}), field: pushed}
    dataset.save()
    dataset.reload()  # samples that this process holds show the new detections
    report.seconds = time.monotonic() - start
    return report


def _open_dataset(name: str, field: str, classes: Iterable[str]) -> Any:
    """The persistent dataset with its field and the field's attributes declared."""
    fo = load_fiftyone()
    try:
        dataset = fo.load_dataset(name) if fo.dataset_exists(name) else fo.Dataset(name, persistent=True)
        if dataset.media_type not in (None, "image"):
            raise UsageError(
                f"dataset {name!r} holds {dataset.media_type}s: masks go into a dataset of images"
            )
        present = dataset.get_field(field)
        if present is None:
            dataset.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
        elif getattr(present, "document_type", None) is not fo.Detections:
            raise UsageError(f"field {field!r} of dataset {name!r} is not a Detections: give another --field")
        for attribute, kind in (
            ("margin", fo.FloatField),
            ("mask_id", fo.StringField),
            ("proposed_label", fo.StringField),
            ("runner_up", fo.StringField),
        ):
            dataset.add_sample_field(f"{field}.detections.{attribute}", kind)
    except ValueError as error:
        raise UsageError(f"cannot use dataset {name!r}, field {field!r}: {error}") from error
    dataset.persistent = True
    if dataset.app_config.color_scheme is None:  # masks of one field in one colour tell nothing
        dataset.app_config.color_scheme = fo.ColorScheme(color_by="value")
    dataset.classes[field] = list(classes)
    dataset.save()
    return dataset


def _batches(photos: Iterable[RunPhotoMasks]) -> Iterator[list[RunPhotoMasks]]:
    """Photos in groups that fit into memory however many masks they have."""
    batch: list[RunPhotoMasks] = []
    masks = 0
    for item in photos:
        batch.append(item)
        masks += len(item[1])
        if len(batch) >= _PHOTOS_PER_BATCH or masks >= _MASKS_PER_BATCH:
            yield batch
            batch, masks = [], 0
    if batch:
        yield batch


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
    detections: int
    decided: int


class _Push:
    """One push under way."""

    def __init__(
        self,
        run: Run,
        dataset: Any,
        field: str,
        storage: MaskStorage,
        database_limit: int,
        overwrite: bool,
        add_missing: bool,
        threads: Executor,
        report: PushReport,
    ) -> None:
        self.fo = load_fiftyone()
        self.run, self.dataset, self.field = run, dataset, field
        self.storage, self.database_limit, self.overwrite = storage, database_limit, overwrite
        self.add_missing, self.threads, self.report = add_missing, threads, report
        # FiftyOne has no public name for the collection of a dataset's samples
        self.collection = dataset._sample_collection
        template = self.fo.Detection(tags=[]).to_mongo().to_dict()
        self.template = {key: value for key, value in template.items() if key != "_id"}

    def batch(self, photos: list[RunPhotoMasks]) -> None:
        """Bring the samples of some photos up to date."""
        paths = [photo.image for photo, _, _ in photos]
        there = {doc["filepath"] for doc in self.collection.find({"filepath": {"$in": paths}}, ["filepath"])}
        if not self.add_missing:
            photos = [item for item in photos if item[0].image in there]
        added = [photo for photo, _, _ in photos if photo.image not in there]
        if added:
            self.dataset.add_samples([self._sample(p) for p in added], validate=False, progress=False)
        updated = len(self._write(photos) - {photo.image for photo in added})
        self.report.photos += len(photos)
        self.report.added += len(added)
        self.report.updated += updated
        self.report.unchanged += len(photos) - len(added) - updated

    def _metadata(self, photo: PhotoRecord) -> Any:
        return self.fo.ImageMetadata(width=photo.width, height=photo.height)

    def _sample(self, photo: PhotoRecord) -> Any:
        return self.fo.Sample(filepath=photo.image, metadata=self._metadata(photo))

    def _write(self, photos: list[RunPhotoMasks]) -> set[str]:
        """Write detections; returns the paths of the samples that changed."""
        from pymongo import UpdateOne
        from pymongo.errors import PyMongoError

        of_path = {item[0].image: item for item in photos}
        wanted = ["filepath", "metadata", "last_modified_at", self.field]
        changed: set[str] = set()
        for _ in range(_ATTEMPTS):
            try:
                docs = list(self.collection.find({"filepath": {"$in": list(of_path)}}, wanted))
                deleted = deleted_mask_ids(self.dataset, self.field, [doc["_id"] for doc in docs])
                updates = [self._update(doc, deleted, *of_path[doc["filepath"]]) for doc in docs]
                writes = [
                    UpdateOne(update.key, {"$set": update.values}) for update in updates if update.values
                ]
                matched = self.collection.bulk_write(writes, ordered=False).matched_count if writes else 0
            except PyMongoError as error:
                raise GemLabelError(
                    f"FiftyOne's database did not take the masks ({_reason(error)}): if a sample is too large, "
                    "push with masks on disk"
                ) from error
            changed |= {update.path for update in updates if update.values}
            if matched == len(writes):
                self.report.detections += sum(update.detections for update in updates)
                self.report.decided += sum(update.decided for update in updates)
                return changed
        raise GemLabelError(f"dataset {self.dataset.name!r} is being changed all the time: push again later")

    def _update(
        self,
        doc: Document,
        deleted: Mapping[Any, set[str]],
        photo: PhotoRecord,
        masks: MaskSet,
        labels: MaskLabels,
    ) -> _Update:
        """Compare a sample with the run."""
        existing = (doc.get(self.field) or {}).get("detections") or []
        proposals = list(photo_proposals(photo.image_id, masks, labels))
        gone = deleted.get(doc["_id"], set())
        merged = merge_detections(existing, proposals, self.template, self.storage, self.overwrite, gone)
        self._add_masks(merged, photo, masks)
        values: Document = {}
        if doc.get(self.field) is None or merged.detections != existing:
            values[self.field] = {"_cls": "Detections", "detections": merged.detections}
        if not doc.get("metadata"):
            values["metadata"] = self._metadata(photo).to_mongo().to_dict()
        if values:
            values["last_modified_at"] = datetime.now(UTC)
        # a reviewer who saves the sample meanwhile wins: then this key matches nothing, and it is read again
        key = {"_id": doc["_id"], "last_modified_at": doc.get("last_modified_at")}
        return _Update(doc["filepath"], key, values, len(merged.detections), merged.decided)

    def _add_masks(self, merged: Merged, photo: PhotoRecord, masks: MaskSet) -> None:
        """Fill in the boxes and masks that are missing, in the database or on disk."""
        from bson import ObjectId
        from fiftyone.core.utils import serialize_numpy_array

        needed = list(merged.masks_needed.values())

        def crop(proposal: Proposal) -> NDArray[np.bool_]:
            return crop_mask(masks.counts[proposal.index], masks.height, proposal.box)

        def write(proposal: Proposal) -> str:
            return self._write_png(photo, proposal.index, crop(proposal))

        contents: list[Any] = []
        on_disk = self.storage == "disk"
        if not on_disk:
            contents = list(self.threads.map(lambda p: serialize_numpy_array(crop(p)), needed))
            present = sum(len(detection.get("mask") or b"") for detection in merged.detections)
            on_disk = self.storage == "auto" and present + sum(map(len, contents)) > self.database_limit
        if on_disk:
            contents = list(self.threads.map(write, needed))
            self.report.masks_on_disk += len(contents)
        else:
            self.report.masks_in_database += len(contents)
        for position, proposal, content in zip(merged.masks_needed, needed, contents, strict=True):
            detection = merged.detections[position]
            detection.pop("mask", None)
            detection.pop("mask_path", None)
            detection.setdefault("_id", ObjectId())
            detection["bounding_box"] = list(proposal.bounding_box)
            detection["mask_path" if on_disk else "mask"] = content

    def _write_png(self, photo: PhotoRecord, index: int, mask: NDArray[np.bool_]) -> str:
        """Store one mask as a grey PNG, 255 where the mask is; returns its absolute path."""
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
