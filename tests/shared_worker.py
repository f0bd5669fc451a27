"""A process that labels its part of a shared run: `python shared_worker.py FOLDER RUN i n SECONDS`."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
from numpy.typing import NDArray
from test_engines import JOB, ColorModels

from gem_label.engines.shared import Part, label_chunks
from gem_label.masks import MaskSet
from gem_label.photos.listing import list_images
from gem_label.runs.manifest import new_manifest
from gem_label.runs.shared import SharedRun
from gem_label.stores import open_store

CHUNK = 4


class DeadlyColors(ColorModels):
    """`ColorModels` that end their process at photos with a fuchsia corner, and hang at those with an aqua one."""

    def propose_masks(self, image: NDArray[np.uint8]) -> MaskSet:
        if image[0, 0].tolist() == [255, 0, 255]:
            os._exit(9)
        if image[0, 0].tolist() == [0, 255, 255]:
            time.sleep(3600)
        return super().propose_masks(image)


def join(place: str) -> SharedRun:
    """Start or join the run at a place."""
    wanted = new_manifest(
        settings={}, vocabulary=JOB.vocabulary, embedding_dim=3, logit_scale=JOB.logit_scale
    )
    return SharedRun.create_or_join(open_store(place), wanted, CHUNK)


def work(folder: str, place: str, index: int, parts: int, photo_timeout: float = 600.0) -> None:
    """Label every parts-th chunk."""
    run = join(place)
    run.add_photos(list_images([folder]))
    label_chunks(
        run,
        Part(index, parts).of(run),
        DeadlyColors(),
        JOB,
        workers=2,
        progress=False,
        photo_timeout=photo_timeout,
    )


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
