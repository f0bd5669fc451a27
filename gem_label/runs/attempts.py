"""Attempts at a chunk of a shared run: which photo ends its process is found out, and what is finished is kept.

    RUN/tries/000007-try-0             somebody has begun chunk 7
    RUN/tries/000007-try-1             somebody else has: the first one died, or is slow
    RUN/tries/000007-try-1-photo-450   from the second try on, the photo that is labeled now
    RUN/tries/000007-photo-449.parquet a photo that an attempt has finished

The first attempt labels several photos at a time. When it dies, nobody knows which of them did it, so that later
attempts label one photo at a time and announce it first. A photo that was announced last by `MAX_DEATHS` attempts
that did not end is recorded as failed. An attempt that ends with an error withdraws.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pyarrow as pa

from gem_label.errors import GemLabelError
from gem_label.photos.photo import Photo
from gem_label.runs.chunks import Chunk
from gem_label.runs.schema import PhotoRecord
from gem_label.runs.shards import ShardError, ShardFile
from gem_label.runs.shared import SharedRun

MAX_DEATHS = 2
MAX_ATTEMPTS = 20
_FOLDER = "tries/"
_TRY = re.compile(r".*-try-([0-9]+)(?:-photo-([0-9]+))?")
_FINISHED = re.compile(r".*/[0-9]+-photo-([0-9]+)\.parquet")


class Attempt:
    """One attempt at a chunk; made by `attempt_chunk`.

    Attributes:
        chunk: which.
        number: of the attempt, from 0.
        one_by_one: earlier attempts did not end: label one photo at a time, and announce each.
        rows: finished photos with their rows, by number.
        failures: photos that failed, by number.
    """

    def __init__(self, run: SharedRun, chunk: Chunk) -> None:
        self._run, self._store, self.chunk = run, run.store, chunk
        self._prefix = f"{_FOLDER}{chunk.number:06d}-"
        self.rows: dict[int, tuple[PhotoRecord, pa.Table]] = {}
        self.failures: dict[int, Mapping[str, str]] = {}
        names = self._names()
        self._saved: set[int] = set()
        for name in names:
            if finished := _FINISHED.fullmatch(name):
                self._load(name, int(finished[1]))
        self._deaths = self._count_deaths(names)
        self.number = next(i for i in count() if self._store.create(f"{self._prefix}try-{i}", b""))
        self.one_by_one = self.number > 0
        if self.number >= MAX_ATTEMPTS:
            raise GemLabelError(
                f"chunk {chunk.number} of {run.store.address} ended {MAX_ATTEMPTS} processes: mend what ends them, "
                f"then delete {self._prefix}* in the run"
            )

    def remaining(self) -> list[Photo]:
        """The photos to label now: those that no attempt has finished; those that end processes fail."""
        for photo in self.chunk.photos:
            if self._deaths[photo.number] >= MAX_DEATHS and photo.number not in self.rows | self.failures:
                reason = f"it ended its process {self._deaths[photo.number]} times"
                self.fail(photo, "process died", reason)
        return [photo for photo in self.chunk.photos if photo.number not in self.rows | self.failures]

    def announce(self, photo: Photo) -> None:
        """Say that a photo is labeled now."""
        self._store.create(f"{self._prefix}try-{self.number}-photo-{photo.number}", b"")

    def finish(self, record: PhotoRecord, table: pa.Table) -> None:
        """Take a photo that is labeled; while photos are labeled one by one, it is also stored."""
        self.rows[record.number] = record, table
        if self.one_by_one:
            self._save(record.number)

    def fail(self, photo: Photo, stage: str, error: str) -> None:
        """Take a photo that cannot be labeled, as `finish` does."""
        reason = " ".join(error.split())
        row = {"image": photo.path, "image_id": photo.image_id, "stage": stage, "error": reason}
        self.failures[photo.number] = row
        if self.one_by_one:
            self._save(photo.number)

    def commit(self) -> bool:
        """Write the chunk's shard and delete what attempts have left; see `SharedRun.commit`."""
        numbers = [photo.number for photo in self.chunk.photos]
        rows = (self.rows[number] for number in numbers if number in self.rows)
        failures = (self.failures[number] for number in numbers if number in self.failures)
        first = self._run.commit(self.chunk, rows, failures)
        self._store.delete(*self._names())
        return first

    def withdraw(self) -> None:
        """End without a shard: store what is finished, and do not count as an attempt that died."""
        for number in (self.rows.keys() | self.failures.keys()) - self._saved:
            self._save(number)
        for name in self._names():
            match = _TRY.fullmatch(name)
            if match and int(match[1]) == self.number:
                self._store.delete(name)

    def _names(self) -> list[str]:
        """What attempts at the chunk have left; chunks that nobody labels have nothing there."""
        return [name for name in self._store.names(_FOLDER) if name.startswith(self._prefix)]

    def _save(self, number: int) -> None:
        rows = [self.rows[number]] if number in self.rows else []
        failures = [self.failures[number]] if number in self.failures else []
        data = self._run.encode_shard(rows, failures)
        self._store.create(f"{self._prefix}photo-{number}.parquet", data)
        self._saved.add(number)

    def _load(self, name: str, number: int) -> None:
        try:
            content = self._store.read(name)
        except FileNotFoundError:  # the chunk is finished in this moment
            return
        try:
            self._take(number, ShardFile(Path(name), self._run.expected, io.BytesIO(content)))
        except ShardError:
            return  # damaged: the photo is labeled again

    def _take(self, number: int, file: ShardFile) -> None:
        for photos, table in file.groups():
            self.rows.update({photo.number: (photo, table) for photo in photos})
        if file.failures:
            self.failures[number] = file.failures[0]
        self._saved.add(number)
        file.close()

    def _count_deaths(self, names: list[str]) -> Counter[int]:
        """How many attempts announced each photo last, and did not finish it."""
        last: dict[int, int] = {}
        for name in names:
            match = _TRY.fullmatch(name)
            if match and match[2]:
                attempt, photo = int(match[1]), int(match[2])
                last[attempt] = max(photo, last.get(attempt, 0))
        return Counter(photo for photo in last.values() if photo not in self._saved)


@contextmanager
def attempt_chunk(run: SharedRun, chunk: Chunk) -> Iterator[Attempt]:
    """Begin an attempt at a chunk; it withdraws when the `with` block raises.

    Raises:
        GemLabelError: so many attempts have died that something else than a photo is wrong.
    """
    attempt = Attempt(run, chunk)
    try:
        yield attempt
    except BaseException:
        with suppress(GemLabelError):  # a store that does not answer: the attempt counts as died
            attempt.withdraw()
        raise
