"""How long it takes to list the photos of a run of many shards, with the index of their footers and without.

    python benchmarks/run_index.py --shards 39000
    python benchmarks/run_index.py --shards 2000 --out s3://bucket/run

Shards are tiny (one photo with one mask), so that what is measured is opening them. Requests are those to the store.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from shared_run import DIMENSION, JOB, CountingStore
from tqdm import trange

from gem_label.labeling import label_maskset
from gem_label.masks import MaskSet, encode_mask
from gem_label.photos.photo import Photo
from gem_label.runs.checking import checked_table
from gem_label.runs.chunks import Chunk
from gem_label.runs.files import INDEX
from gem_label.runs.index import update_index
from gem_label.runs.listing import create_part
from gem_label.runs.manifest import new_manifest
from gem_label.runs.schema import PhotoRecord
from gem_label.runs.shared import SharedRun
from gem_label.runs.stored import StoredRun
from gem_label.stores import Store, open_store

PART = 65_536


def make_run(store: Store, shards: int) -> SharedRun:
    """A run whose chunks have one photo each, all labeled."""
    manifest = new_manifest(
        settings={}, vocabulary=JOB.vocabulary, embedding_dim=DIMENSION, logit_scale=JOB.logit_scale
    )
    run = SharedRun.create_or_join(store, manifest, photos_per_shard=1)
    listing = [Photo(f"/photos/{i:07d}.jpg", f"{i:07d}", i + 1) for i in range(shards)]
    for start in range(0, shards, PART):
        create_part(store, start // PART, listing[start : start + PART])
    mask, one = np.ones((16, 16), bool), np.ones(1, np.float32)
    vectors = np.eye(1, DIMENSION, dtype=np.float32)
    masks = MaskSet(16, 16, (encode_mask(mask),), one, one, np.zeros((1, 2), np.float32), vectors, vectors)
    labels = label_maskset(masks, JOB.text, JOB.vocabulary, JOB.logit_scale, JOB.settings)
    rows = checked_table(PhotoRecord(1, "", "", 16, 16, 1), masks, labels, DIMENSION)  # nobody reads them
    for i in trange(shards, desc="making a run", unit="shard"):
        photo = PhotoRecord(i + 1, listing[i].path, listing[i].image_id, 16, 16, 1)
        run.commit(Chunk(i, (listing[i],)), [(photo, rows)], [])
    return run


def measure(store: Store, shards: int, what: str) -> None:
    """List all photos, and print how long that takes and what the store is asked for."""
    counting = CountingStore(store)
    started, cpu = time.perf_counter(), time.process_time()
    run = StoredRun(counting)
    opened = time.perf_counter() - started
    found = sum(1 for _ in run.photos())
    assert found == shards
    print(
        f"{what}: opened in {opened:.2f} s, {found} photos listed in {time.perf_counter() - started:.1f} s "
        f"({time.process_time() - cpu:.1f} s of CPU), requests {dict(counting.requests)}"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=39_000)
    parser.add_argument("--out", help="the run, a new place; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(arguments.out or Path(folder) / "run")
        run = make_run(store, arguments.shards)
        measure(store, arguments.shards, "without index")
        started = time.perf_counter()
        update_index(store, "", run.expected.run_id, run.committed(), run.open_shard)
        print(f"indexed in {time.perf_counter() - started:.1f} s")
        measure(store, arguments.shards, "with index")
        size = sum(size for _, size in store.sizes(f"{INDEX}/"))
        print(f"the index takes {size / arguments.shards:.0f} bytes a photo")


if __name__ == "__main__":
    main()
