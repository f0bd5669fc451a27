"""What queues and counts need to know of all masks of a field, as columns: 53 bytes a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class MaskTable:
    """The masks of a field, in the order of their samples' ids, as they stand in the samples.

    Attributes:
        samples: (P,) ids of all samples as 12 bytes, ascending.
        counts: (P,) masks per sample.
        ids: (N,) ids of the detections as 12 bytes.
        labels: (N,) index of the label in `names`, -1 for none.
        proposed: (N,) index of the label that the run proposed, -1 for none.
        runner_ups: (N,) index of the second-best class, -1 for none.
        margins: (N,) margin between the two best classes in [0, 1]; NaN where there is none.
        scores: (N,) score in [0, 1]; 0 where there is none.
        states: (N,) index of the state in `STATES`.
        decided_at: (N,) seconds since 1970 of the last decision; NaN where none has a time.
        names: labels and runners-up that occur or have occurred.
    """

    samples: NDArray[np.bytes_]
    counts: NDArray[np.int64]
    ids: NDArray[np.bytes_]
    labels: NDArray[np.int32]
    proposed: NDArray[np.int32]
    runner_ups: NDArray[np.int32]
    margins: NDArray[np.float64]
    scores: NDArray[np.float64]
    states: NDArray[np.uint8]
    decided_at: NDArray[np.float64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def code(self, name: str) -> int:
        """The index of a name; -2, which no mask has, for one that does not occur."""
        return self.names.index(name) if name in self.names else -2

    def take(self, order: NDArray[np.int64]) -> Self:
        """The samples at some places, in that order, with their masks."""
        rows = self.rows_of(order)
        columns = {name: getattr(self, name)[rows] for name in _MASK_COLUMNS}
        return replace(self, samples=self.samples[order], counts=self.counts[order], **columns)

    def rows_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of the masks of some samples, in the order of the samples."""
        counts = self.counts[places]
        starts = (np.cumsum(self.counts) - self.counts)[places]
        return np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))

    def with_rows(self, rows: NDArray[np.int64], new: Self) -> Self:
        """The same samples with other masks at some rows."""
        columns = {name: getattr(self, name).copy() for name in _MASK_COLUMNS}
        for name, column in columns.items():
            column[rows] = getattr(new, name)
        return replace(self, names=new.names, **columns)


_MASK_COLUMNS = tuple(
    each.name for each in fields(MaskTable) if each.name not in ("samples", "counts", "names")
)


def in_order(table: MaskTable) -> MaskTable:
    """The samples in the order of their ids; of one that was read twice, as it changed meanwhile, the latest."""
    order = np.argsort(table.samples, kind="stable")
    samples = table.samples[order]
    return table.take(order[np.append(samples[1:] != samples[:-1], np.ones(min(1, len(samples)), bool))])


def join_tables(parts: Sequence[MaskTable], names: tuple[str, ...]) -> MaskTable:
    """The samples of several tables, one after the other; `names` has the names of all."""
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("samples", "counts", *_MASK_COLUMNS)
    }
    return MaskTable(**columns, names=names)
