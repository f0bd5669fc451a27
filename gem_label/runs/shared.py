"""A run that several processes write, on one machine or on many, in a folder or in a bucket.

The listing is in parts that never change, and each part is cut into chunks of consecutive photos. Whoever labels a
chunk writes its masks, and which of its photos failed, as one shard under the chunk's number. The shard is created
whole or not at all, and by one process only: of two that label the same chunk the second finds the shard there and
leaves it. So nothing has to be locked, a process that dies loses at most the chunks that it had begun, and the store
alone says what remains to be done.

    RUN/manifest.json              with "shared": {"photos_per_shard": 64}
    RUN/listing/part-000000.jsonl  up to 65 536 photos: number, image, image_id
    RUN/masks/shard-000000.parquet chunk 0
    RUN/tries/000001-*             who has begun chunk 1, see `gem_label.runs.attempts`
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

from gem_label.checks import COUNT, check_number
from gem_label.errors import GemLabelError, UsageError
from gem_label.learning.learned import Learned
from gem_label.photos.photo import Photo
from gem_label.runs.checking import Expected
from gem_label.runs.chunks import Chunk, ChunkPlace, Progress
from gem_label.runs.counting import count_shards
from gem_label.runs.files import (
    FAILURES,
    LEARNED,
    MANIFEST,
    MASKS,
    encode_json,
    encode_manifest,
    parse_manifest,
    shard_name,
)
from gem_label.runs.generations import current_version, generation_folder, replace_manifest
from gem_label.runs.index import LEAST_SHARDS, IndexedShard, IndexWriter, ShardIndex
from gem_label.runs.jsonl import json_line
from gem_label.runs.listing import create_part, number_photos, read_parts
from gem_label.runs.manifest import check_same_settings, now
from gem_label.runs.schema import PhotoRecord
from gem_label.runs.seen_photos import SeenPhotos
from gem_label.runs.shard_writer import ShardWriter
from gem_label.runs.shards import ShardFile, update_failures
from gem_label.stores import Store, put

PHOTOS_PER_SHARD = 64
PHOTOS_PER_PART = 65_536
_SHARD = re.compile(r"masks/shard-([0-9]{6,})\.parquet")


class SharedRun:
    """A shared run, for writing.

    Attributes:
        store: where it is.
        manifest: as it was read.
        photos_per_shard: how many photos a chunk has at most.
        folder: of its shards in the store, "" or with a "/" at its end.
    """

    def __init__(self, store: Store, manifest: dict[str, Any]) -> None:
        self.store = store
        self.manifest = manifest
        self.photos_per_shard = int(manifest["shared"]["photos_per_shard"])
        self.folder = generation_folder(manifest)
        self._part: tuple[int, list[Photo]] = (-1, [])

    @classmethod
    def create_or_join(
        cls,
        store: Store,
        wanted: Mapping[str, Any],
        photos_per_shard: int = PHOTOS_PER_SHARD,
        learned: Learned | None = None,
    ) -> SharedRun:
        """Start a shared run, or join those who write it.

        Args:
            store: of the run.
            wanted: the manifest of this session, from `new_manifest`.
            photos_per_shard: how many photos a chunk has; of a run that is there already, what it was started with.
            learned: what labels rest on besides the words, or None.

        Raises:
            UsageError: the run was made with other settings, by one process, or the place holds something else.
            GemLabelError: the store cannot be read or written.
        """
        check_number("photos_per_shard", photos_per_shard, COUNT)
        manifest = _read_manifest(store)
        if manifest is None:
            others = [name for name in store.names("") if name not in (MANIFEST, LEARNED, ".store.lock")]
            if others and _read_manifest(store) is None:
                raise UsageError(
                    f"{store.address} holds other files: give an empty or a new place with --out"
                )
            counts = dict.fromkeys(("listed", "photos", "failed", "masks", "kept"), 0)
            manifest = {
                **wanted,
                "shared": {"photos_per_shard": photos_per_shard},
                "counts": counts | {"kept_by_class": dict.fromkeys(wanted["vocabulary"]["classes"], 0)},
                "updated": now(),
                "finished": False,
            }
            if learned is not None:  # before the manifest, which names it by its sum
                store.create(LEARNED, encode_json(learned.to_dict()))
            if not store.create(MANIFEST, encode_manifest(manifest)):
                manifest = _read_manifest(store) or manifest
        if "shared" not in manifest:
            raise UsageError(
                f"{store.address} is written by one process: leave out --shard and --engine ray, or give another "
                "--out"
            )
        check_same_settings(store.address, manifest, wanted)
        return cls(store, manifest)

    @classmethod
    def open(cls, store: Store) -> SharedRun:
        """A shared run that is there.

        Raises:
            GemLabelError: there is none, or the run is written by one process.
        """
        manifest = _read_manifest(store)
        if manifest is None:
            raise GemLabelError(
                f"{store.address} is not a run: no {MANIFEST} there; make one with `gem-label label`"
            )
        if "shared" not in manifest:
            raise GemLabelError(f"{store.address} is written by one process, which finishes it by itself")
        return cls(store, manifest)

    def check_reachable(self) -> None:
        """Make sure that this machine sees the run.

        Raises:
            GemLabelError: it does not.
        """
        found = _read_manifest(self.store)
        if found is None or found.get("created") != self.manifest["created"]:
            raise GemLabelError(
                f"{self.store.address} is not the run on every machine: give --out a folder that all share, "
                "or a bucket"
            )

    @property
    def expected(self) -> Expected:
        """What the shards of this run have in common."""
        return Expected.of(self.manifest)

    @property
    def embedding_dim(self) -> int:
        """d, the length of embeddings."""
        return int(self.manifest["embedding_dim"])

    # --- the listing ---------------------------------------------------------------------------------------------

    def parts(self, first: int = 0) -> Iterator[list[Photo]]:
        """Yield the photos of each part of the listing.

        Args:
            first: the number of the part to begin with.
        """
        return read_parts(self.store, first)

    def add_photos(self, photos: Sequence[Photo]) -> None:
        """Add photos to the listing, those that it does not have, as new parts.

        Several processes may do so at a time, with the same photos or with others.
        """
        known: set[str] = set()
        taken: set[str] = set()
        last = parts = 0
        while True:
            for part in self.parts(parts):
                known.update(photo.path for photo in part)
                taken.update(photo.image_id for photo in part)
                last, parts = part[-1].number, parts + 1
            new = [photo for photo in photos if photo.path not in known][:PHOTOS_PER_PART]
            if not new:
                return
            rows = number_photos(new, last, set(taken))
            # where somebody else is faster, that part is read in the next round
            create_part(self.store, parts, rows)

    def retry_failures(self) -> int:
        """List the photos that failed once more, as a new part; nothing happens while chunks are missing.

        Returns:
            How many photos are tried again.
        """
        if self.progress().missing:
            return 0
        failed = {row["image"]: row for row in self.failures()}
        last = parts = 0
        ids = {}
        for part in self.parts():
            ids.update({photo.path: photo for photo in part if photo.path in failed})
            last, parts = part[-1].number, parts + 1
        again = [Photo(photo.path, photo.image_id, last + i) for i, photo in enumerate(ids.values(), start=1)]
        if again:
            create_part(self.store, parts, again)
        return len(again)

    def places(self) -> Iterator[ChunkPlace]:
        """Yield where the photos of each chunk are, in order; memory holds one part of the listing."""
        numbers = count()
        for number, part in enumerate(self.parts()):
            self._part = number, part
            for start in range(0, len(part), self.photos_per_shard):
                size = min(self.photos_per_shard, len(part) - start)
                yield ChunkPlace(next(numbers), number, start, size)

    def read_chunk(self, place: ChunkPlace) -> Chunk:
        """The chunk at a place of the listing."""
        if self._part[0] != place.part:
            self._part = place.part, next(self.parts(place.part))
        photos = self._part[1][place.start : place.start + place.photos]
        return Chunk(place.number, tuple(photos))

    # --- shards --------------------------------------------------------------------------------------------------

    def committed(self) -> dict[int, int]:
        """The numbers of the chunks that have their shard, in order, and how many bytes it has."""
        files = self.store.sizes(f"{self.folder}{MASKS}/")
        found = ((_SHARD.fullmatch(name.removeprefix(self.folder)), size) for name, size in files)
        return dict(sorted((int(match[1]), size) for match, size in found if match))

    def is_committed(self, chunk: Chunk) -> bool:
        """Whether a chunk has its shard."""
        try:
            self.store.open(self._shard_path(chunk.number)).close()
        except FileNotFoundError:
            return False
        return True

    def commit(
        self,
        chunk: Chunk,
        rows: Iterable[tuple[PhotoRecord, pa.Table]],
        failures: Iterable[Mapping[str, str]],
    ) -> bool:
        """Write the shard of a chunk.

        Args:
            chunk: which.
            rows: its finished photos with the rows of their masks, from `checked_table`.
            failures: image, image_id, stage and error of the others.

        Returns:
            False: another process has written it; that one stays.
        """
        return self.store.create(self._shard_path(chunk.number), self.encode_shard(rows, failures))

    def encode_shard(
        self, rows: Iterable[tuple[PhotoRecord, pa.Table]], failures: Iterable[Mapping[str, str]]
    ) -> bytes:
        """The content of a shard; see `commit`."""
        content = io.BytesIO()
        with ShardWriter(
            content, self.embedding_dim, run_id=self.expected.run_id, mask_tokens=self.expected.mask_tokens
        ) as writer:
            for record, table in rows:
                writer.add([record], table)
            writer.add_failures(failures)
        return content.getvalue()

    def progress(self) -> Progress:
        """How far the run is."""
        done = self.committed()
        numbers = [place.number for place in self.places()]
        return Progress(len(numbers), tuple(number for number in numbers if number not in done))

    def shards(self, numbers: Iterable[int] | None = None) -> Iterator[ShardFile]:
        """Yield the shards, open, in order.

        Args:
            numbers: of the shards, in order; None: all that are there.

        Raises:
            ShardError: one is damaged or of another run, or two hold the same photo.
            GemLabelError: the run was relabeled since it was opened.
        """
        seen = SeenPhotos(None)
        for number in self._complete() if numbers is None else numbers:
            with closing(self._found_shard(number)) as shard:
                seen.add(shard)
                yield shard

    def photo_lists(self) -> Iterator[ShardFile | IndexedShard]:
        """Yield what the footers of the shards list, from the index where there is one; see `shards`."""
        seen, sizes = SeenPhotos(None), self._complete()
        index = ShardIndex(self.store, self.folder, self.expected.run_id, sizes)
        for number in sizes:
            found = index.find(number, self._path(number))
            with closing(self._found_shard(number) if found is None else found) as shard:
                seen.add(shard)
                yield shard

    def _complete(self) -> dict[int, int]:
        """What `committed` gives, of a run whose shards nobody was deleting at that time."""
        sizes = self.committed()
        current_version(self.store, self.manifest)
        return sizes

    def _shard_path(self, number: int) -> str:
        return f"{self.folder}{MASKS}/{shard_name(number)}"

    def _path(self, number: int) -> Path:
        return Path(self.store.address) / self._shard_path(number)

    def open_shard(self, number: int) -> ShardFile:
        """Open a shard.

        Raises:
            ShardError: it is damaged or of another run.
            FileNotFoundError: there is none of that number.
        """
        return ShardFile(self._path(number), self.expected, self.store.open(self._shard_path(number)))

    def _found_shard(self, number: int) -> ShardFile:
        """Open a shard that was there before."""
        try:
            return self.open_shard(number)
        except FileNotFoundError:
            raise GemLabelError(
                f"{self.store.address} was relabeled or removed while it was read: try again"
            ) from None

    def failures_of(self, chunks: Collection[int]) -> list[dict[str, str]]:
        """The photos of some chunks that failed: image, image_id, stage, error."""
        failures = []
        for number in sorted(chunks):
            with suppress(FileNotFoundError), closing(self.open_shard(number)) as shard:
                failures += shard.failures
        return failures

    def failures(self) -> list[dict[str, str]]:
        """The photos that failed and were not labeled since, each with its last reason."""
        failed: dict[str, dict[str, str]] = {}
        for shard in self.photo_lists():
            update_failures(failed, shard)
        return list(failed.values())

    def finish(self) -> dict[str, Any]:
        """Count what the run holds, and write that and failures.jsonl; can be repeated, by several processes too.

        Returns:
            The counts.

        Raises:
            GemLabelError: chunks are missing, or the run was relabeled meanwhile.
        """
        current_version(self.store, self.manifest)
        progress = self.progress()
        if progress.missing:
            raise GemLabelError(
                f"{self.store.address}: {len(progress.missing)} of {progress.chunks} chunks are missing, the first "
                f"is {progress.missing[0]}: the same `gem-label label` with any --shard labels them"
            )
        sizes = self.committed()
        index = IndexWriter(self.store, self.folder, self.expected.run_id)

        def indexed() -> Iterator[ShardFile]:
            for number, shard in zip(sizes, self.shards(sizes), strict=True):
                if len(sizes) >= LEAST_SHARDS:
                    index.add(number, sizes[number], shard)
                yield shard

        found = count_shards(indexed(), self.manifest["vocabulary"]["classes"])
        index.write()
        counts = {"listed": len({photo.path for part in self.parts() for photo in part}), **found.counts}
        put(self.store, FAILURES, b"".join(map(json_line, found.failed.values())))
        self.store.tidy()
        new = self.manifest | {"counts": counts, "updated": now(), "finished": True}
        replace_manifest(self.store, self.manifest, new)
        self.manifest = new
        return counts


def _read_manifest(store: Store) -> dict[str, Any] | None:
    try:
        content = store.read(MANIFEST)
    except FileNotFoundError:
        return None
    return parse_manifest(content, f"{store.address}/{MANIFEST}")
