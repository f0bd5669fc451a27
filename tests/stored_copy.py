"""Runs of one process as runs of a store, for tests of what works on both."""

from __future__ import annotations

from gem_label.runs import Run
from gem_label.runs.checking import checked_table
from gem_label.runs.listing import create_part
from gem_label.runs.shared import SharedRun
from gem_label.runs.stored import StoredRun
from gem_label.stores import Store


def stored_copy(run: Run, store: Store, photos_per_shard: int = 4) -> StoredRun:
    """The same photos, masks and labels as a finished run in chunks.

    Args:
        run: without failures.
        store: an empty one.
        photos_per_shard: how many photos a chunk has.
    """
    manifest = {key: value for key, value in run.manifest.items() if key not in ("counts", "finished")}
    shared = SharedRun.create_or_join(store, manifest, photos_per_shard, run.learned)
    create_part(store, 0, list(run.listing()))
    masks = iter(run.photo_masks())
    for place in list(shared.places()):
        rows = []
        for _ in range(place.photos):
            photo, found, labels = next(masks)
            rows.append((photo, checked_table(photo, found, labels, run.embedding_dim)))
        shared.commit(shared.read_chunk(place), rows, [])
    shared.finish()
    return StoredRun(store)
