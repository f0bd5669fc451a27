"""A run in an object store, open for reading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gem_label.atomic import make_folder, replacing
from gem_label.errors import GemLabelError, UsageError
from gem_label.learning.learned import Learned
from gem_label.photos.photo import Photo
from gem_label.runs.checksums import read_array
from gem_label.runs.files import LEARNED, PATCHES
from gem_label.runs.learned_file import parse_learned
from gem_label.runs.reader import Run
from gem_label.runs.shards import PhotoLists, ShardFile
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
    def store(self) -> Store:
        """Where it is."""
        return self._shared.store

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

    @property
    def _learned_place(self) -> str:
        return f"{self.place}/{self._shared.folder}{LEARNED}"

    def _read_learned(self) -> Learned:
        try:
            content = self._shared.store.read(self._shared.folder + LEARNED)
        except FileNotFoundError as error:
            raise UsageError(f"{self._learned_place} is not there") from error
        return parse_learned(content.decode(errors="replace"), self._learned_place)

    def listing_parts(self) -> Iterator[list[Photo]]:
        """Yield the parts of the listing."""
        return self._shared.parts()

    @contextmanager
    def shards(self, listed: bool = True) -> Iterator[Iterator[ShardFile]]:
        """The shards, see `Run.shards`."""
        yield self._shared.shards()

    @contextmanager
    def photo_lists(self) -> Iterator[Iterator[PhotoLists]]:
        """What the footers of the shards list, see `Run.photo_lists`."""
        yield self._shared.photo_lists()

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
            make_folder(folder / PATCHES)
            with replacing(folder / name) as file:
                file.write(self._shared.store.read(name))
