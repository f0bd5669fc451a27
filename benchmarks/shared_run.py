"""The scheduling and the store of a shared run, with models that do nothing.

    python benchmarks/shared_run.py --chunks 15625 --actors 2          # 1 M photos in chunks of 64
    python benchmarks/shared_run.py --chunks 200 --photos-per-chunk 64 --out s3://bucket/run

All photos of the listing are one small picture, so that what is measured is everything but reading and models. Prints
seconds, requests to the store for each chunk, and the driver's peak memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gem_label.engines.shared import Part, label_chunks
from gem_label.labeled_photo import EmbeddedPhoto, LabelJob
from gem_label.labeling import LabelSettings
from gem_label.masks import MaskSet, encode_mask
from gem_label.photos.photo import Photo
from gem_label.runs.listing import create_part
from gem_label.runs.manifest import new_manifest
from gem_label.runs.shared import SharedRun
from gem_label.stores import Store, open_store
from gem_label.vocabulary import Vocabulary

DIMENSION = 8
PART = 65_536
WORDS = Vocabulary.parse("left, right")
JOB = LabelJob(WORDS, np.eye(2, DIMENSION, dtype=np.float32), 10.0, LabelSettings())


class StubModels:
    """Two masks for every photo, at once."""

    def __init__(self, device: str = "cpu") -> None:
        self.settings: dict[str, Any] = {}
        self.weights: dict[str, Any] = {}

    def propose_masks(self, image: NDArray[np.uint8]) -> MaskSet:
        """Its left and its right half."""
        left = np.zeros(image.shape[:2], bool)
        left[:, : image.shape[1] // 2] = True
        ones, counts = np.ones(2, np.float32), (encode_mask(left), encode_mask(~left))
        height, width = image.shape[:2]
        return MaskSet(height, width, counts, ones, ones, np.zeros((2, 2), np.float32))

    def embed(self, image: NDArray[np.uint8], masks: MaskSet) -> EmbeddedPhoto:
        """The embeddings of both words."""
        embeddings = np.eye(2, DIMENSION, dtype=np.float32)
        return EmbeddedPhoto(
            masks.with_embeddings(embeddings), embeddings[0].astype(np.float16), embeddings[None]
        )


class CountingStore:
    """A store that counts what it is asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.requests: Counter[str] = Counter()

    @property
    def address(self) -> str:
        """Of the store."""
        return self._store.address

    def create(self, name: str, data: bytes) -> bool:
        """Count and do it."""
        self.requests["create"] += 1
        return self._store.create(name, data)

    def read(self, name: str) -> bytes:
        """Count and do it."""
        self.requests["read"] += 1
        return self._store.read(name)

    def read_version(self, name: str) -> tuple[bytes, str]:
        """Count and do it."""
        self.requests["read"] += 1
        return self._store.read_version(name)

    def replace(self, name: str, data: bytes, version: str) -> bool:
        """Count and do it."""
        self.requests["replace"] += 1
        return self._store.replace(name, data, version)

    def names(self, prefix: str) -> Iterator[str]:
        """Count and do it."""
        self.requests["list"] += 1
        return self._store.names(prefix)

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Count and do it."""
        self.requests["list"] += 1
        return self._store.sizes(prefix)

    def read_tagged(self, name: str) -> tuple[bytes, str]:
        """Count and do it."""
        self.requests["read"] += 1
        return self._store.read_tagged(name)

    def tags(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Count and do it."""
        self.requests["list"] += 1
        return self._store.tags(prefix)

    def delete(self, *names: str) -> None:
        """Count and do it."""
        self.requests["delete"] += 1
        self._store.delete(*names)

    def open(self, name: str) -> BinaryIO:
        """Count and do it."""
        self.requests["open"] += 1
        return self._store.open(name)

    def tidy(self) -> None:
        """Do it."""
        self._store.tidy()


def main() -> None:
    """Make a listing, label it, print what that took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chunks", type=int, default=1000)
    parser.add_argument("--photos-per-chunk", type=int, default=1)
    parser.add_argument("--actors", type=int, default=0, help="of Ray; 0: this process")
    parser.add_argument("--out", help="the run; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "photo.png"
        Image.new("RGB", (16, 16), "red").save(picture)
        measure(arguments, str(picture), arguments.out or f"{folder}/run")


def measure(arguments: argparse.Namespace, picture: str, out: str) -> None:
    """Label a run of these chunks and print what that took."""
    store = CountingStore(open_store(out))
    manifest = new_manifest(settings={}, vocabulary=WORDS, embedding_dim=DIMENSION, logit_scale=10.0)
    run = SharedRun.create_or_join(store, manifest, arguments.photos_per_chunk)
    photos = arguments.chunks * arguments.photos_per_chunk
    size = PART // arguments.photos_per_chunk * arguments.photos_per_chunk
    for part, first in enumerate(range(1, photos + 1, size)):
        last = min(photos, first + size - 1)
        create_part(store, part, [Photo(picture, str(number), number) for number in range(first, last + 1)])
    started = time.perf_counter()
    todo = list(Part(0, 1).of(run))
    listed = time.perf_counter()
    if arguments.actors:
        from gem_label.engines.ray_data import RayEngine

        report = RayEngine(StubModels, actors=(arguments.actors, arguments.actors)).run(
            run, todo, StubModels(), JOB
        )
    else:
        store.requests.clear()
        report = label_chunks(run, todo, StubModels(), JOB, workers=1)
        each = ", ".join(f"{count / len(todo):.2f} {name}" for name, count in sorted(store.requests.items()))
        print(f"requests for each chunk: {each}")
    labeled = time.perf_counter()
    counts = run.finish()
    finished = time.perf_counter()
    assert counts["photos"] == report.photos == photos
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(todo)} chunks, {photos} photos: chunks found in {listed - started:.1f} s")
    print(
        f"labeled in {labeled - listed:.1f} s, {1000 * (labeled - listed) / len(todo):.1f} ms for each chunk"
    )
    print(f"counted in {finished - labeled:.1f} s; peak memory of the driver {peak:.0f} MiB")


if __name__ == "__main__":
    main()
