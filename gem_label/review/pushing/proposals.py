"""What a run proposes for each photo, read from its columns without making arrays photo by photo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gem_label.labeling import Thresholds
from gem_label.review.pushing.merge import Proposal
from gem_label.review.storage.detections import relative_box
from gem_label.runs import PhotoRecord, Run
from gem_label.runs.schema import fixed_rows

PHOTOS_AT_ONCE = 256
_COLUMNS = ("mask_id", "rle_counts", "bbox", "label", "score", "margin", "top_labels", "kept", "selected")


@dataclass(frozen=True, slots=True)
class PhotoProposals:
    """A photo of a run and its masks that belong into a dataset."""

    photo: PhotoRecord
    proposals: list[Proposal]


def run_proposals(
    run: Run, min_score: Thresholds | None = None, hidden_from: float | None = None
) -> Iterator[list[PhotoProposals]]:
    """The finished photos of a run with their masks, some hundred photos at a time; empty masks are left out.

    Args:
        run: the run.
        min_score: the masks that reach it are likely; None: the masks that the run keeps.
        hidden_from: less likely masks with at least this score come too; None: none does.

    Raises:
        UsageError: a threshold for a class that the run does not have.
    """
    classes = run.vocabulary.classes
    thresholds = None if min_score is None else min_score.by_class(classes)
    floor = np.float32(np.inf if hidden_from is None else hidden_from)
    for photos, table in run.groups(_COLUMNS):
        likely = _likely(table, classes, thresholds)
        wanted = likely | (_selected(table) & (_scores(table) >= floor))
        start = 0
        for first in range(0, len(photos), PHOTOS_AT_ONCE):
            some = photos[first : first + PHOTOS_AT_ONCE]
            rows = slice(start, start + sum(photo.masks for photo in some))
            start = rows.stop
            part = table.slice(rows.start, rows.stop - rows.start)
            yield _proposals(some, part, likely[rows], wanted[rows])


def _selected(table: pa.Table) -> NDArray[np.bool_]:
    """Masks with a label that repeat no better one; runs of format 1 only know those they keep."""
    return table["selected" if "selected" in table.column_names else "kept"].to_numpy()


def _scores(table: pa.Table) -> NDArray[np.float32]:
    return table["score"].to_numpy()


def _likely(
    table: pa.Table, classes: Sequence[str], thresholds: NDArray[np.float32] | None
) -> NDArray[np.bool_]:
    """The masks that reach their class's threshold; None: those that the run keeps."""
    if thresholds is None:
        return table["kept"].to_numpy()
    index = pc.index_in(table["label"].combine_chunks(), value_set=pa.array(classes, pa.string())).fill_null(
        0
    )
    return _selected(table) & (_scores(table) >= thresholds[index.to_numpy(zero_copy_only=False)])


def _proposals(
    photos: list[PhotoRecord], table: pa.Table, likely: NDArray[np.bool_], wanted: NDArray[np.bool_]
) -> list[PhotoProposals]:
    starts = np.cumsum([0, *(photo.masks for photo in photos)])
    boxes = fixed_rows(table["bbox"]).astype(np.int64) if len(table) else np.zeros((0, 4), np.int64)
    rows = np.flatnonzero(wanted & table["label"].is_valid().to_numpy() & (boxes[:, 2] > 0))
    owner = np.searchsorted(starts, rows, side="right") - 1
    chosen = table.take(pa.array(rows))
    scores, margins = (chosen[name].to_pylist() for name in ("score", "margin"))
    found = [PhotoProposals(photo, []) for photo in photos]
    for row, mask_id, counts, label, score, margin, runner_up, of, box, is_likely in zip(
        (rows - starts[owner]).tolist(),
        chosen["mask_id"].to_pylist(),
        chosen["rle_counts"].to_pylist(),
        chosen["label"].to_pylist(),
        scores,
        margins,
        _second(chosen["top_labels"]),
        owner.tolist(),
        boxes[rows].tolist(),
        likely[rows].tolist(),
        strict=True,
    ):
        photo = photos[of]
        x, y, width, height = box
        relative = relative_box((x, y, width, height), photo.width, photo.height)
        found[of].proposals.append(
            Proposal(
                row,
                mask_id,
                label,
                score,
                margin,
                runner_up,
                tuple(box),
                relative,
                counts.encode("ascii"),
                is_likely,
            )
        )
    return found


def _second(column: pa.ChunkedArray) -> list[str | None]:
    """The second entry of each list, None where there is none."""
    lists: pa.ListArray = column.combine_chunks()
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    places = np.cumsum(np.r_[0, lengths])[:-1].astype(np.int64) + 1
    return lists.flatten().take(pa.array(places, mask=lengths < 2)).to_pylist()
