"""Writing a run so that a kill at any moment loses at most the photos in flight.

A finished photo is one file in masks/pending, put there by a rename; every `photos_per_shard` of them, and at
the end, are gathered into a shard, put there by a rename, and only then deleted. A photo that a kill leaves
in both counts once: readers prefer the shard, and the next writer deletes the pending file.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from gem_label.atomic import delete_leftovers, is_leftover, make_folder, write_atomic
from gem_label.checks import COUNT, check_number
from gem_label.errors import GemLabelError, UsageError
from gem_label.labeling import LabelSettings, MaskLabels, Vocabulary
from gem_label.learning.learned import Learned
from gem_label.masks import MaskSet
from gem_label.photos.photo import Photo
from gem_label.runs.checking import RowError, checked_table
from gem_label.runs.checksums import array_bytes
from gem_label.runs.files import (
    FAILURES,
    IMAGES,
    INDEX,
    LEARNED,
    MANIFEST,
    MASKS,
    PATCHES,
    PENDING,
    RELABEL_READY,
    RunLock,
    commit_relabel,
    explain_removal,
    pending_number,
    pending_paths,
    read_manifest,
    shard_name,
    shard_number,
    shard_paths,
    shard_sizes,
    write_manifest,
)
from gem_label.runs.index import update_index
from gem_label.runs.jsonl import append_jsonl, repair_jsonl, write_jsonl
from gem_label.runs.learned_file import write_learned
from gem_label.runs.listing import FAILURE_FIELDS, LISTING_REMEDY, number_photos
from gem_label.runs.manifest import check_same_settings, has_mask_tokens, new_manifest, now
from gem_label.runs.reader import Run
from gem_label.runs.schema import PhotoRecord, make_record
from gem_label.runs.shard_writer import ShardWriter
from gem_label.runs.shards import ShardFile
from gem_label.stores.local import LocalStore

PHOTOS_PER_SHARD = 256


def _is_whole(path: Path) -> bool:
    """Whether all of a pending file can be read."""
    try:
        with closing(ShardFile(path)) as file:
            for _ in file.groups():
                pass
    except GemLabelError:
        return False
    return True


class RunWriter:
    """The one writer of a run directory; a context manager that finishes the run on leaving.

    Attributes:
        path: the run directory.
        counts: photos, masks, kept, per class: of everything finished so far, over all sessions.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], lock: RunLock, photos_per_shard: int) -> None:
        self.path = path
        self.manifest = manifest
        self.photos_per_shard = photos_per_shard
        self.embedding_dim = int(manifest["embedding_dim"])
        self._classes: list[str] = list(manifest["vocabulary"]["classes"])
        self._lock = lock
        self._masks = path / MASKS
        self._pending_folder = self._masks / PENDING
        self._numbers: dict[str, Photo] = {}
        self._done: set[int] = set()
        self._failed: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.kept_by_class: Counter[str] = Counter()
        self._pending: set[int] = set()

    @classmethod
    def create_or_resume(
        cls,
        path: str | Path,
        *,
        settings: Mapping[str, Any],
        vocabulary: Vocabulary,
        embedding_dim: int,
        logit_scale: float,
        label_settings: LabelSettings | None = None,
        weights: Mapping[str, Any] | None = None,
        words_per_image: str | None = None,
        photos_per_shard: int = PHOTOS_PER_SHARD,
        learned: Learned | None = None,
    ) -> RunWriter:
        """Start a run, or go on with one that was made with the same settings.

        Args:
            path: the run directory; made when it is not there.
            settings: what decides over masks and embeddings, as JSON (models, proposals, dense features).
            vocabulary: the words.
            embedding_dim: d.
            logit_scale: the CLIP model's scale.
            label_settings: thresholds; None: the defaults.
            weights: names and sha256 of the weights, as JSON.
            words_per_image: digest of the table of words per photo, or None.
            photos_per_shard: how many finished photos are gathered into a parquet file.
            learned: what labels rest on besides the words, or None.

        Raises:
            UsageError: the run has other settings; the message names the difference. A number is out of range.
            GemLabelError: another process is writing the run, or the folder holds something else.
        """
        path = Path(path)
        check_number("photos_per_shard", photos_per_shard, COUNT)
        wanted = new_manifest(
            settings=settings,
            vocabulary=vocabulary,
            embedding_dim=embedding_dim,
            logit_scale=logit_scale,
            label_settings=label_settings,
            weights=weights,
            words_per_image=words_per_image,
            learned=learned,
        )
        try:
            make_folder(path)
            lock = RunLock(path)
        except OSError as error:
            raise GemLabelError(f"cannot write the run {path}: {error.strerror}") from error
        try:
            commit_relabel(path)
            if (path / MANIFEST).exists():
                manifest = read_manifest(path)
                if "shared" in manifest:
                    raise UsageError(
                        f"{path} is written by several processes: give --shard, or another --out"
                    )
                check_same_settings(path, manifest, wanted)
            elif any(
                e.name not in (".lock", LEARNED) and not is_leftover(e.name, [MANIFEST, LEARNED])
                for e in path.iterdir()
            ):
                raise UsageError(f"{path} holds other files: give an empty or a new folder with --out")
            else:
                manifest = wanted
                if learned is not None:
                    write_learned(path / LEARNED, learned)
            writer = cls(path, manifest, lock, photos_per_shard)
            writer._start()
        except BaseException:
            lock.close()
            raise
        return writer

    def _start(self) -> None:
        """Clean up after a kill, and learn what is done."""
        if not (self.path / MANIFEST).exists():  # first of all: it says that this folder is a run
            self._write_manifest(finished=False)
        make_folder(self._pending_folder)
        # of the run's own folder only what the run writes: an export may be writing its file there
        delete_leftovers(self.path, of=[MANIFEST, IMAGES, FAILURES, LEARNED, RELABEL_READY, "relabel"])
        for folder in (self._masks, self._pending_folder, self.path / PATCHES, self.path / INDEX):
            delete_leftovers(folder)
        for path in pending_paths(self._masks):
            if not _is_whole(path):  # a power cut: the photo is labeled again
                path.unlink()
        for number in repair_jsonl(self.path / FAILURES, FAILURE_FIELDS):
            note = f"{self.path / FAILURES}, line {number} was cut or damaged: its photo is tried again"
            print(f"note: {note}", file=sys.stderr)
        run = Run(self.path)
        self._numbers = {photo.path: photo for photo in run.listing()}
        listed = {photo.number: photo for photo in self._numbers.values()}
        for photos, table in run.groups(["label", "kept"], listed=False):
            self._count(photos, pc.filter(table["label"], table["kept"]).to_pylist())
            for photo in photos:
                listed.setdefault(photo.number, Photo(photo.image, photo.image_id, photo.number))
                if listed[photo.number].path != photo.image:
                    raise GemLabelError(
                        f"{self.path / IMAGES} has {listed[photo.number].path} as photo {photo.number}, whose masks "
                        f"are of {photo.image}: {LISTING_REMEDY}"
                    )
        if len(listed) > len(self._numbers):  # lines were lost
            self._numbers = {listed[number].path: listed[number] for number in sorted(listed)}
            self._write_listing()
        self._failed = {failure.image for failure in run.failures()}
        self._pending = {pending_number(path) for path in pending_paths(self._masks)}
        for path in shard_paths(self._masks) if self._pending else []:
            shard = ShardFile(path)
            shard.close()
            for number in self._pending & {photo.number for photo in shard.photos}:
                # a kill came between the shard's rename and this
                (self._pending_folder / f"{number}.parquet").unlink()
                self._pending.discard(number)
        self._write_manifest(finished=False)

    def _count(self, photos: Iterable[PhotoRecord], kept: list[str]) -> None:
        for photo in photos:
            self._done.add(photo.number)
            self.counts.update(photos=1, masks=photo.masks)
        self.counts.update(kept=len(kept))
        self.kept_by_class.update(kept)

    def _write_manifest(self, finished: bool) -> None:
        counts = {
            "listed": len(self._numbers),
            "photos": self.counts["photos"],
            "failed": len(self._failed),
            "masks": self.counts["masks"],
            "kept": self.counts["kept"],
            "kept_by_class": {name: self.kept_by_class[name] for name in self._classes},
        }
        self.manifest = self.manifest | {"counts": counts, "updated": now(), "finished": finished}
        with explain_removal(self.path):
            write_manifest(self.path, self.manifest)

    def register(self, photos: Iterable[Photo]) -> list[Photo]:
        """Add photos to the run's listing and say which are to do, in order.

        Photos that are already listed keep number and id; finished ones are left out, failed ones come last.
        """
        given = {photo.path: photo for photo in photos}
        new = [photo for path, photo in given.items() if path not in self._numbers]
        last = max((photo.number for photo in self._numbers.values()), default=0)
        taken = {photo.image_id for photo in self._numbers.values()}
        self._numbers |= {photo.path: photo for photo in number_photos(new, last, taken)}
        listed = [self._numbers[path] for path in given]
        if new:
            self._write_listing()
            self._write_manifest(finished=False)
        todo = [photo for photo in listed if photo.number not in self._done]
        return sorted(
            todo, key=lambda photo: photo.path in self._failed
        )  # stable: what failed before comes last

    def _write_listing(self) -> None:
        rows = ({"number": p.number, "image": p.path, "image_id": p.image_id} for p in self._numbers.values())
        write_jsonl(self.path / IMAGES, rows)

    def write(
        self,
        photo: Photo,
        masks: MaskSet,
        labels: MaskLabels,
        image_embedding: NDArray[np.floating] | None = None,
        patches: NDArray[np.floating] | None = None,
    ) -> None:
        """Store one finished photo; when this returns, no kill can lose it.

        Args:
            photo: as `register` gave it.
            masks: N masks with embeddings (N, d).
            labels: their labels.
            image_embedding: (d,) class-token embedding of the photo.
            patches: (h, w, d) patch features, stored as float16 in RUN/patches.
        """
        record = make_record(photo, masks, image_embedding)
        try:
            table = checked_table(record, masks, labels, self.embedding_dim)
        except RowError as error:
            self.fail(photo, "label", f"the models gave {error}")
            return
        if patches is not None:
            with explain_removal(self.path):
                make_folder(self.path / PATCHES)
            content = array_bytes(np.asarray(patches, np.float16))
            write_atomic(self.path / PATCHES / f"{photo.number}.npy", lambda file: file.write(content))
        self._write_shard(self._pending_folder / f"{photo.number}.parquet", [(record, table)])
        self._pending.add(photo.number)
        self._count(
            [record], [str(name) for name, keep in zip(labels.names, labels.kept, strict=True) if keep]
        )
        self._failed.discard(photo.path)
        if len(self._pending) >= self.photos_per_shard:
            self._compact()

    def _write_shard(self, path: Path, rows: Iterable[tuple[PhotoRecord, Any]]) -> None:
        def write(file: Any) -> None:
            with ShardWriter(
                file,
                self.embedding_dim,
                run_id=self.manifest.get("id"),
                mask_tokens=has_mask_tokens(self.manifest),
            ) as writer:
                for record, table in rows:
                    writer.add([record], table)

        with explain_removal(self.path):
            write_atomic(path, write)

    def _compact(self) -> None:
        """Gather the pending photos into one shard, a photo at a time."""
        if not self._pending:
            return
        paths = [self._pending_folder / f"{number}.parquet" for number in sorted(self._pending)]

        def rows() -> Iterable[tuple[PhotoRecord, Any]]:
            for path in paths:
                file = ShardFile(path)
                yield from ((photos[0], table) for photos, table in file.groups())
                file.close()

        shards = shard_paths(self._masks)
        number = shard_number(shards[-1]) + 1 if shards else 0
        self._write_shard(self._masks / shard_name(number), rows())
        for path in paths:
            path.unlink()
        self._pending.clear()
        self._write_manifest(finished=False)

    def _open_shard(self, number: int) -> ShardFile:
        return ShardFile(self._masks / shard_name(number))

    def fail(self, photo: Photo, stage: str, error: str) -> None:
        """Record a photo that could not be labeled; a later session tries it again."""
        row = {
            "image": photo.path,
            "image_id": photo.image_id,
            "stage": stage,
            "error": " ".join(error.split()),
        }
        with explain_removal(self.path):
            append_jsonl(self.path / FAILURES, row)
        self._failed.add(photo.path)

    def close(self, finished: bool = True) -> None:
        """Gather what is pending, tidy failures.jsonl, write the final manifest, give the lock back.

        Args:
            finished: every photo was tried; False after an interruption.
        """
        try:
            self._compact()
            if (self.path / FAILURES).exists():
                failures = Run(self.path).failures()
                write_jsonl(
                    self.path / FAILURES,
                    ({name: getattr(failure, name) for name in FAILURE_FIELDS} for failure in failures),
                )
            update_index(
                LocalStore(self.path), "", self.manifest.get("id"), shard_sizes(self._masks), self._open_shard
            )
            self._write_manifest(finished)
        finally:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close(finished=kind is None)
        except (OSError, GemLabelError):
            # after an error that one is to be told; the next session gathers what is pending
            if error is None:
                raise
