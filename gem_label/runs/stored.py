"""A run in an object store, open for reading."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import GemLabelError, UsageError
from gem_label.learning.learned import Learned
from gem_label.runs.checksums import read_array
from gem_label.runs.files import LEARNED, PATCHES
from gem_label.runs.listing import Failure, RunPhoto
from gem_label.runs.reader import Run
from gem_label.runs.shards import ShardFile
from gem_label.runs.shared import SharedRun
from gem_label.stores import Store


class StoredRun(Run):
    """A run in an object store, open for reading; made by `open_run`.

    Of a shard only what is asked for is fetched: the footer, and the columns of a row group.

    Raises:
        GemLabelError: there is no run, it is damaged or of another version, or the store does not answer.
    """

    def __init__(self, store: Store) -> None:
        self._shared = SharedRun.open(store)
        self.manifest = self._shared.manifest

    @property
    def path(self) -> Path:
        """There is none.

        Raises:
            UsageError: always, for work that needs a folder.
        """
        raise UsageError(
            f"{self.place} is in an object store, and this needs a run in a folder: copy it to one"
        )

    @property
    def place(self) -> str:
        """The run's address."""
        return self._shared.store.address

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
            learned = Learned.from_dict(json.loads(self._shared.store.read(LEARNED)))
        except (ValueError, FileNotFoundError, UsageError) as error:
            raise GemLabelError(f"{self.place}/{LEARNED} cannot be used: {error}") from error
        if learned.digest != digest:
            raise GemLabelError(f"{self.place}/{LEARNED} is not the one that labeled the run")
        return learned

    def listing_parts(self) -> Iterator[list[RunPhoto]]:
        """Yield the parts of the listing."""
        return self._shared.parts()

    def failures(self) -> list[Failure]:
        """The photos that failed and were not labeled since, each with its last reason."""
        return [Failure(**row) for row in self._shared.failures()]

    @contextmanager
    def shards(self, listed: bool = True) -> Iterator[Iterator[ShardFile]]:
        """The shards, see `Run.shards`."""
        yield self._shared.shards()

    def patches(self, number: int) -> NDArray[np.float16] | None:
        """(h, w, d) patch features of a photo by its number; None when the run did not keep them."""
        name = f"{PATCHES}/{number}.npy"
        try:
            return read_array(self._shared.store.read(name))
        except FileNotFoundError:
            return None
        except (ValueError, EOFError) as error:
            raise GemLabelError(f"{self.place}/{name} is damaged ({error})") from error

    def copy_patches(self, folder: Path) -> None:
        """Copy the patch features, where the run keeps any, into the folder of another run."""
        for name in self._shared.store.names(f"{PATCHES}/"):
            (folder / PATCHES).mkdir(exist_ok=True)
            (folder / name).write_bytes(self._shared.store.read(name))
