"""What a run proposes for each photo, read from its columns without making arrays photo by photo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gem_label.review.merge import Proposal
from gem_label.runs import PhotoRecord, Run
from gem_label.runs.schema import fixed_rows

PHOTOS_AT_ONCE = 256
_COLUMNS = ("mask_id", "rle_counts", "bbox", "label", "score", "margin", "top_labels", "kept")


@dataclass(frozen=True, slots=True)
class PhotoProposals:
    """A photo of a run and its kept masks."""

    photo: PhotoRecord
    proposals: list[Proposal]


def run_proposals(run: Run) -> Iterator[list[PhotoProposals]]:
    """The finished photos of a run with their kept masks, some hundred photos at a time; empty masks are left out."""
    for photos, table in run.groups(_COLUMNS):
        start = 0
        for first in range(0, len(photos), PHOTOS_AT_ONCE):
            some = photos[first : first + PHOTOS_AT_ONCE]
            rows = sum(photo.masks for photo in some)
            yield _proposals(some, table.slice(start, rows))
            start += rows


def _proposals(photos: list[PhotoRecord], table: pa.Table) -> list[PhotoProposals]:
    starts = np.cumsum([0, *(photo.masks for photo in photos)])
    boxes = fixed_rows(table["bbox"]).astype(np.int64) if len(table) else np.zeros((0, 4), np.int64)
    kept = table["kept"].to_numpy() & table["label"].is_valid().to_numpy() & (boxes[:, 2] > 0)
    rows = np.flatnonzero(kept)
    owner = np.searchsorted(starts, rows, side="right") - 1
    chosen = table.take(pa.array(rows))
    scores, margins = (chosen[name].to_pylist() for name in ("score", "margin"))
    found = [PhotoProposals(photo, []) for photo in photos]
    for row, mask_id, counts, label, score, margin, runner_up, of, box in zip(
        (rows - starts[owner]).tolist(),
        chosen["mask_id"].to_pylist(),
        chosen["rle_counts"].to_pylist(),
        chosen["label"].to_pylist(),
        scores,
        margins,
        _second(chosen["top_labels"]),
        owner.tolist(),
        boxes[rows].tolist(),
        strict=True,
    ):
        photo, (x, y, width, height) = photos[of], box
        relative = (x / photo.width, y / photo.height, width / photo.width, height / photo.height)
        found[of].proposals.append(
            Proposal(
                row, mask_id, label, score, margin, runner_up, tuple(box), relative, counts.encode("ascii")
            )
        )
    return found


def _second(column: pa.ChunkedArray) -> list[str | None]:
    """The second entry of each list, None where there is none."""
    lists: pa.ListArray = column.combine_chunks()
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    places = np.cumsum(np.r_[0, lengths])[:-1].astype(np.int64) + 1
    return lists.flatten().take(pa.array(places, mask=lengths < 2)).to_pylist()
