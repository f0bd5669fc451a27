"""Text embeddings on disk, so that a long list of words is encoded once for a model and not at every start.

Only a cache: when something is wrong with its files, words are encoded again without a message.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gem_label.atomic import DAY, delete_leftovers, replacing
from gem_label.weights import cache_folder

FOLDER, LOCK = "text-embeddings", ".lock"
MOST_PHRASES = 65_536  # of a file; the oldest make room


class TextCache:
    """The file with the embeddings of one text tower.

    Args:
        weights_sha256: of the model's weight file.
        templates: the prompts whose embeddings are averaged.
        device: type of the device, such as "cuda": another one rounds differently.
        probe: (d,) float32, the embedding of any phrase that is always the same. It differs where anything else makes
            a difference: another activation for the same weights, another version of torch, another processor.
    """

    def __init__(
        self, weights_sha256: str, templates: Sequence[str], device: str, probe: NDArray[np.float32]
    ) -> None:
        key = json.dumps([weights_sha256, list(templates), device, probe.astype("<f4").tobytes().hex()])
        self.name = f"{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.npz"
        self.dim = len(probe)

    def read(self) -> dict[str, NDArray[np.float32]]:
        """Phrases and their (d,) embeddings; none where there is no file, or none that is whole."""
        try:
            with np.load(self._folder() / self.name, allow_pickle=False) as arrays:
                text, offsets, vectors = arrays["text"], arrays["offsets"], arrays["vectors"]
            if vectors.dtype != np.float32 or vectors.shape != (len(offsets) - 1, self.dim):
                return {}
            joined, ends = text.tobytes(), offsets.tolist()
            phrases = [joined[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(ends)]
            return dict(zip(phrases, vectors, strict=True))
        except Exception:  # zipfile, numpy and the system each have their own for a damaged or absent file
            return {}

    def add(self, embeddings: Mapping[str, NDArray[np.float32]]) -> None:
        """Put embeddings (d,) of phrases into the file.

        The file is replaced as a whole, by one process at a time, so that no phrase is lost.
        """
        # RuntimeError is what Path.expanduser raises for a user without a home
        with suppress(OSError, RuntimeError):
            folder = self._folder()
            folder.mkdir(parents=True, exist_ok=True)
            delete_leftovers(folder, age=DAY)
            with open(folder / LOCK, "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed, by a kill too
                self._replace(folder, {**self.read(), **embeddings})

    def _replace(self, folder: Path, embeddings: Mapping[str, NDArray[np.float32]]) -> None:
        """Write the file beside the old one and put it in its place."""
        phrases = list(embeddings)[-MOST_PHRASES:]
        encoded = [phrase.encode("utf-8", "surrogatepass") for phrase in phrases]
        with replacing(folder / self.name) as file:
            np.savez(
                file,
                text=np.frombuffer(b"".join(encoded), np.uint8),
                offsets=np.cumsum([0, *map(len, encoded)], dtype=np.int64),
                vectors=np.stack([embeddings[phrase] for phrase in phrases]).astype(np.float32),
            )

    def _folder(self) -> Path:
        return cache_folder() / FOLDER
