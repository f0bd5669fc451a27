"""Masks of a dataset that match a phrase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.review.storage.internals import samples_of
from gem_label.runs import Run, search_run


@dataclass(frozen=True, slots=True)
class FoundMask:
    """A mask that a search found: ids of its sample and detection, its label if any, and `SearchHit.similarity`."""

    sample_id: str
    label_id: str
    mask_id: str
    label: str | None
    similarity: float


def search_masks(
    dataset: Any, field: str, run: Run, embedding: NDArray[np.floating], top: int = 50
) -> list[FoundMask]:
    """The masks of a field that are most like a text.

    Masks that the run proposed but that are not in the dataset (not kept, or deleted by a reviewer) are passed
    over.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        run: the run that the field's masks came from.
        embedding: (d,) or (P, d) unit-length text embeddings by the CLIP of the run.
        top: how many masks.

    Returns:
        At most `top` masks, best first.
    """
    wanted = 4 * top  # about so many proposals are there for each mask that is kept
    while True:
        hits = search_run(run, embedding, wanted)
        present = _present(dataset, field, [(hit.image, hit.mask_id) for hit in hits])
        found = []
        for hit in hits:
            if (hit.image, hit.mask_id) in present:
                sample, detection, label = present[hit.image, hit.mask_id]
                found.append(FoundMask(sample, detection, hit.mask_id, label, hit.similarity))
        if len(found) >= top or len(hits) < wanted:
            return found[:top]
        wanted *= 4


def _present(
    dataset: Any, field: str, masks: list[tuple[str, str]]
) -> dict[tuple[str, str], tuple[str, str, str]]:
    """(photo, mask_id) -> ids of sample and detection and the label, for the masks that the dataset has."""
    images, ids = [image for image, _ in masks], [mask for _, mask in masks]
    of_interest = {
        "$filter": {"input": f"${field}.detections", "as": "mask", "cond": {"$in": ["$$mask.mask_id", ids]}}
    }
    rows = samples_of(dataset).aggregate(
        [
            {"$match": {"filepath": {"$in": list(dict.fromkeys(images))}}},
            {"$project": {"filepath": 1, "masks": of_interest}},
            {"$unwind": "$masks"},
            {"$project": {"filepath": 1, "masks._id": 1, "masks.mask_id": 1, "masks.label": 1}},
        ]
    )
    return {
        (row["filepath"], row["masks"]["mask_id"]): (
            str(row["_id"]),
            str(row["masks"]["_id"]),
            row["masks"].get("label"),
        )
        for row in rows
    }
