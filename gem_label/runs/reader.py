"""Reading a run: photos, masks and labels, a row group at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gem_label.atomic import copy_file, sync_directory
from gem_label.errors import GemLabelError, UsageError
from gem_label.labeling import LabelSettings, MaskLabels, Vocabulary
from gem_label.learning.learned import Learned
from gem_label.masks import MaskSet
from gem_label.photos.photo import Photo
from gem_label.runs.checking import Expected
from gem_label.runs.checksums import read_array
from gem_label.runs.files import (
    FAILURES,
    IMAGES,
    LEARNED,
    MANIFEST,
    MASKS,
    PATCHES,
    current,
    damaged_manifest,
    pending_number,
    pending_paths,
    read_manifest,
    shard_number,
    shard_paths,
    shard_sizes,
)
from gem_label.runs.index import ShardIndex
from gem_label.runs.jsonl import read_jsonl
from gem_label.runs.learned_file import read_learned
from gem_label.runs.listing import (
    FAILURE_FIELDS,
    LISTING_FIELDS,
    LISTING_REMEDY,
    Failure,
    listed_photo,
    read_parts,
)
from gem_label.runs.manifest import has_mask_tokens
from gem_label.runs.schema import PhotoRecord, table_labels, table_masks
from gem_label.runs.seen_photos import SeenPhotos
from gem_label.runs.shards import OtherRunError, PhotoLists, ShardFile, update_failures
from gem_label.stores.local import LocalStore

T = TypeVar("T")
Lists = TypeVar("Lists", bound=PhotoLists)


class Run:
    """A run directory open for reading; made by `open_run`. May be read while another process writes it.

    Attributes:
        manifest: settings, weights, vocabulary, labeling, versions, counts, created, updated, finished.
    """

    manifest: dict[str, Any]

    def __init__(self, path: Path) -> None:
        self._path = path
        self.manifest = read_manifest(path)

    @property
    def path(self) -> Path:
        """The run directory."""
        return self._path

    @property
    def place(self) -> str:
        """The absolute path of the run directory; of a run in an object store its address."""
        return str(self.path.resolve())

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words that the masks are labeled with."""
        return self._read("vocabulary", lambda: Vocabulary.from_dict(self.manifest["vocabulary"]))

    @cached_property
    def label_settings(self) -> LabelSettings:
        """The thresholds that the masks are labeled with."""
        settings = self.manifest["labeling"]["settings"]
        return self._read("labeling.settings", lambda: LabelSettings.from_dict(settings))

    def _read(self, part: str, read: Callable[[], T]) -> T:
        """A part of the manifest, which people may have changed by hand."""
        try:
            return read()
        except (GemLabelError, KeyError, TypeError, ValueError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise damaged_manifest(
                f"{self.place}/{MANIFEST}", f"has {part} that cannot be used ({reason})"
            ) from error

    @cached_property
    def learned(self) -> Learned | None:
        """What the labels rest on besides the words; None where nothing was learned.

        Raises:
            GemLabelError: RUN/learned.json is not the one that labeled the run.
        """
        digest = self.manifest["labeling"].get("learned")
        if digest is None:
            return None
        try:
            learned = self._read_learned()
        except UsageError as error:
            raise GemLabelError(f"{error}; `gem-label relabel --learned none` labels without it") from error
        if learned.digest != digest:
            raise GemLabelError(
                f"{self._learned_place} is not the one that labeled the run: give --learned FILE, or --learned none"
            )
        return learned

    @property
    def _learned_place(self) -> str:
        return str(current(self.path, LEARNED))

    def _read_learned(self) -> Learned:
        return read_learned(self._learned_place)

    @property
    def clip_sha256(self) -> str | None:
        """sha256 of the weights of the CLIP model that made the embeddings; None where it is not known."""
        clip = self.manifest["weights"].get("clip")
        found = clip.get("sha256") if isinstance(clip, dict) else None
        return found if isinstance(found, str) else None

    @property
    def logit_scale(self) -> float:
        """The scale of the CLIP model that made the embeddings."""
        return float(self.manifest["labeling"]["logit_scale"])

    @property
    def embedding_dim(self) -> int:
        """d, the length of mask and text embeddings."""
        return int(self.manifest["embedding_dim"])

    @property
    def format(self) -> int:
        """The format of the run, see `gem_label.runs.files`."""
        return int(self.manifest["format"])

    @property
    def has_surrounds(self) -> bool:
        """Whether masks have embeddings of their surrounds; runs of format 1 have none."""
        return self.format > 1

    @property
    def has_mask_tokens(self) -> bool:
        """Whether masks have embeddings by class tokens of their own; see `gem_label.clip.mask_tokens`."""
        return has_mask_tokens(self.manifest)

    def listing(self) -> Iterator[Photo]:
        """Yield every photo that the run was asked to label, in order.

        Raises:
            GemLabelError: the listing is damaged; the message names the line.
        """
        if "shared" in self.manifest:
            for part in self.listing_parts():
                yield from part
            return
        path, last = self.path / IMAGES, 0
        for row in read_jsonl(path, LISTING_FIELDS, LISTING_REMEDY):
            if row["number"] <= last:
                raise GemLabelError(f"{path}: photo {row['number']} follows photo {last}: {LISTING_REMEDY}")
            last = row["number"]
            photo = listed_photo(row)
            if photo is None:
                raise GemLabelError(f"{path}: the path of photo {last} is not absolute: {LISTING_REMEDY}")
            yield photo

    def listing_parts(self) -> Iterator[list[Photo]]:
        """Yield the parts of the listing of a shared run."""
        return read_parts(LocalStore(self.path))

    def failures(self) -> list[Failure]:
        """The photos that failed and were not labeled since, each with its last reason.

        Raises:
            GemLabelError: a line before the last is damaged.
        """
        if "shared" in self.manifest:
            failed: dict[str, dict[str, str]] = {}
            with self.photo_lists() as shards:
                for shard in shards:
                    update_failures(failed, shard)
            return [Failure(**row) for row in failed.values()]
        remedy = "the same `gem-label label` drops that line and tries its photo again"
        rows = read_jsonl(self.path / FAILURES, FAILURE_FIELDS, remedy)
        last = {row["image"]: Failure(*(row[name] for name in FAILURE_FIELDS)) for row in rows}
        if last:
            for photo in self.photos():
                last.pop(photo.image, None)
        return list(last.values())

    @property
    def expected(self) -> Expected:
        """What the shards of this run have in common."""
        return Expected.of(self.manifest)

    @contextmanager
    def shards(self, listed: bool = True) -> Iterator[Iterator[ShardFile]]:
        """The files that hold finished photos: shards, then photos that are in no shard yet.

        Pending photos are opened before the shards are listed: when a writer gathers them into a shard
        meanwhile, they are in the listing, or still readable through the open file; photos found in both
        count once.

        Args:
            listed: refuse photos that are behind the end of the listing.

        Raises:
            GemLabelError: a file is damaged or of another run, two shards hold the same photo, or the run was
                relabeled or removed meanwhile.
        """
        masks = current(self.path, MASKS)
        with self._open_pending(masks) as pending:
            yield self._each_shard(masks, pending, listed, self._open)

    @contextmanager
    def photo_lists(self) -> Iterator[Iterator[PhotoLists]]:
        """What the footers of the same files list, from the index of the run where there is one; see `shards`."""
        masks = current(self.path, MASKS)
        with self._open_pending(masks) as pending:
            index = ShardIndex(LocalStore(masks.parent), "", self.expected.run_id, shard_sizes(masks))
            yield self._each_shard(
                masks, pending, True, lambda path: index.find(shard_number(path), path) or self._open(path)
            )

    @contextmanager
    def _open_pending(self, masks: Path) -> Iterator[dict[int, ShardFile]]:
        pending: dict[int, ShardFile] = {}
        try:
            for path in pending_paths(masks):
                try:
                    pending[pending_number(path)] = self._open(path)
                except FileNotFoundError:
                    continue  # in a shard by now
            yield pending
        finally:
            for file in pending.values():
                file.close()

    def _open(self, path: Path) -> ShardFile:
        try:
            return ShardFile(path, self.expected)
        except OtherRunError as error:
            if read_manifest(self.path).get("id") != self.manifest.get("id"):
                raise GemLabelError(
                    f"{self.path} was relabeled since it was opened: open it again"
                ) from error
            raise

    def _each_shard(
        self, masks: Path, pending: dict[int, ShardFile], listed: bool, open_shard: Callable[[Path], Lists]
    ) -> Iterator[Lists | ShardFile]:
        seen = SeenPhotos(self.path / IMAGES if listed else None)
        for path in shard_paths(masks):
            try:
                file = open_shard(path)
            except FileNotFoundError:
                done = "relabeled" if self.path.is_dir() else "removed"
                again = ": try again" if self.path.is_dir() else ""
                raise GemLabelError(f"{self.path} was {done} while it was read{again}") from None
            try:
                seen.add(file)
                for photo in file.photos:
                    if photo.number in pending:
                        pending.pop(photo.number).close()
                yield file
            finally:
                file.close()
        for number in sorted(pending):
            seen.add(pending[number])
            yield pending[number]

    def groups(
        self,
        columns: Sequence[str] | None = None,
        listed: bool = True,
        only: Container[int] | None = None,
    ) -> Iterator[tuple[list[PhotoRecord], pa.Table]]:
        """Yield (photos, their rows) a few thousand rows at a time: what everything else here is made of.

        Args:
            columns: only these columns (see `mask_schema`); None: all.
            listed: see `shards`.
            only: the numbers of photos; row groups without any of them are not read. None: all.
        """
        with self.shards(listed) as shards:
            for shard in shards:
                for group, photos in enumerate(shard.photos_by_group()):
                    if only is None or any(photo.number in only for photo in photos):
                        yield photos, shard.read_group(group, columns)

    def photos(self) -> Iterator[PhotoRecord]:
        """The finished photos, those without any mask too; their embeddings come with their masks only."""
        with self.photo_lists() as shards:
            for shard in shards:
                for photo in shard.photos:
                    yield photo if photo.embedding is None else replace(photo, embedding=None)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The mask rows as pyarrow tables of some thousand rows; a photo's rows are always in one table.

        Args:
            columns: only these columns (see `mask_schema`); None: all.
        """
        return (table for _, table in self.groups(columns) if len(table))

    def photo_masks(
        self, embeddings: bool = True, only: Container[int] | None = None
    ) -> Iterator[tuple[PhotoRecord, MaskSet, MaskLabels]]:
        """Each finished photo with its N masks (N may be 0) and their labels, all proposals, kept or not.

        Args:
            embeddings: read the masks' embeddings, (N, d) float32, too; without them reading is faster.
            only: the numbers of the photos that are wanted; None: all.
        """
        columns = None
        if not embeddings:
            columns = ["rle_counts", "predicted_iou", "stability", "point", "label", "margin", "top_labels"]
            columns += ["score", "top_scores", "kept", "overlap_with", "overlap_share", "selected"]
        classes = self.vocabulary.classes
        k = min(self.label_settings.top_k, len(classes))
        for photos, table in self.groups(columns, only=only):
            if only is not None:
                photos, table = _chosen(photos, table, only)
            start = 0
            for photo, masks in zip(photos, table_masks(table, photos), strict=True):
                rows = table.slice(start, photo.masks)
                start += photo.masks
                yield photo, masks, table_labels(rows, classes, k)

    def patches(self, number: int) -> NDArray[np.float16] | None:
        """(h, w, d) patch features of a photo by its number; None when the run did not keep them.

        Raises:
            GemLabelError: the file is damaged.
        """
        path = self.path / PATCHES / f"{number}.npy"
        try:
            return read_array(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise GemLabelError(
                f"{path} is damaged ({' '.join(str(error).split())[:200]}): `gem-label repair {self.path}` sets it "
                "aside; to have it again, label the photos into another --out"
            ) from error

    def copy_patches(self, folder: Path) -> None:
        """Copy the patch features, where the run keeps any, into the folder of another run."""
        if (self.path / PATCHES).is_dir():
            shutil.copytree(self.path / PATCHES, folder / PATCHES, copy_function=_link_or_copy)
            sync_directory(folder / PATCHES)


def _chosen(
    photos: list[PhotoRecord], table: pa.Table, only: Container[int]
) -> tuple[list[PhotoRecord], pa.Table]:
    """Those of some photos whose numbers are wanted, at least one, with their rows."""
    starts = accumulate((photo.masks for photo in photos), initial=0)
    wanted = [each for each in zip(photos, starts, strict=False) if each[0].number in only]
    tables = [table.slice(start, photo.masks) for photo, start in wanted]
    return [photo for photo, _ in wanted], pa.concat_tables(tables)


def _link_or_copy(source: str, target: str) -> None:
    """Patch features never change, so two runs can share the files."""
    try:
        os.link(source, target)
    except OSError:
        copy_file(Path(source), Path(target))
