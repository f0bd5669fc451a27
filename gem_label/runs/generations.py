"""Generations of a run in an object store: new labels beside the old ones, and a manifest that points to one of them.

    s3://bucket/run/masks/, index/, learned.json                    as it was labeled
    s3://bucket/run/generations/ID/masks/, index/, learned.json     as it was relabeled; ID is `id` in the manifest

The manifest is replaced on the condition that it is the one that was read, so that of two who relabel a run at a time
one succeeds, and a reader sees the old labels or the new ones. What is left of the old is deleted after that.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, BinaryIO

from gem_label.errors import GemLabelError
from gem_label.runs.files import GENERATIONS, INDEX, LEARNED, MANIFEST, MASKS, encode_manifest, parse_manifest
from gem_label.stores import Store


def generation_folder(manifest: Mapping[str, Any]) -> str:
    """The folder of the masks, the index and learned.json in the store: "" or one with a "/" at its end."""
    generation = manifest.get("generation")
    return f"{GENERATIONS}/{generation}/" if isinstance(generation, str) else ""


def replace_manifest(store: Store, manifest: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Put a new manifest in the place of one that was read, whatever else than labels has changed in it since.

    Args:
        store: of the run.
        manifest: as it was read.
        new: what takes its place.

    Raises:
        GemLabelError: the run was relabeled or removed meanwhile.
    """
    while True:
        version = current_version(store, manifest)
        if store.replace(MANIFEST, encode_manifest(new), version):
            return


def current_version(store: Store, manifest: Mapping[str, Any]) -> str:
    """The version of the manifest in the store, for `Store.replace`.

    Args:
        store: of the run.
        manifest: as it was read.

    Raises:
        GemLabelError: the run was relabeled or removed since then.
    """
    try:
        content, version = store.read_version(MANIFEST)
    except FileNotFoundError:
        raise GemLabelError(f"{store.address} was removed while it was used") from None
    found = parse_manifest(content, f"{store.address}/{MANIFEST}")
    if any(found.get(key) != manifest.get(key) for key in ("id", "created")):
        raise GemLabelError(f"{store.address} was relabeled since it was opened: try again")
    return version


class NewGeneration:
    """A generation that is being written.

    Attributes:
        folder: of the generation in the store, with a "/" at its end.
    """

    def __init__(self, store: Store, manifest: Mapping[str, Any], run_id: str) -> None:
        """Begin a generation.

        Args:
            store: of the run.
            manifest: of the run as it was opened.
            run_id: of the generation, new.

        Raises:
            GemLabelError: the run was relabeled since it was opened.
        """
        self._store, self._run_id = store, run_id
        self._version = current_version(store, manifest)
        self.folder = f"{GENERATIONS}/{run_id}/"

    def write_shard(self, name: str, write: Callable[[BinaryIO], None]) -> None:
        """Write a shard under its name; `write` gets a file."""
        content = io.BytesIO()
        write(content)
        self._store.create(f"{self.folder}{MASKS}/{name}", content.getvalue())

    def commit(self, manifest: Mapping[str, Any]) -> None:
        """Let the run have this generation, and delete the files of all others.

        Args:
            manifest: of the run with this generation; `id` is that of the generation.

        Raises:
            GemLabelError: the run was changed meanwhile; it has the labels of whoever did that.
        """
        # listed first: who begins another generation after this is committed must keep its files, and who has begun
        # one before cannot commit it any more
        others = [
            name
            for prefix in (f"{MASKS}/", f"{INDEX}/", f"{GENERATIONS}/")
            for name in self._store.names(prefix)
            if not name.startswith(self.folder)
        ]
        new = {**manifest, "generation": self._run_id}
        try:
            replaced = self._store.replace(MANIFEST, encode_manifest(new), self._version)
        except GemLabelError:
            if not self._is_committed():  # else only the reply was lost
                raise
            replaced = True
        if not replaced and not self._is_committed():
            self.discard()
            raise GemLabelError(f"{self._store.address} was changed while it was relabeled: try again")
        with suppress(GemLabelError):  # what stays is deleted after the next relabel
            self._store.delete(*others, LEARNED)

    def _is_committed(self) -> bool:
        """Whether this generation is the run's."""
        content = self._store.read(MANIFEST)
        return parse_manifest(content, f"{self._store.address}/{MANIFEST}").get("id") == self._run_id

    def discard(self) -> None:
        """Delete what is written."""
        self._store.delete(*self._store.names(self.folder))
