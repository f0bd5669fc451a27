"""`MaskLabels`: what the masks of one or several photos are called, how surely, and which are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class MaskLabels:
    """The labels of N masks.

    Attributes:
        classes: the C class names that the indices point into.
        top_classes: (N, k) int32 class indices, best first; -1 where fewer than k classes took part.
        top_scores: (N, k) float32 their scores in [0, 1], estimates of the probability that a label with this class
            is right; 0 beside a -1.
        background: (N,) bool, a background word won (or no class took part): the mask has no label.
        margin: (N,) float32 in [0, 1], best minus second-best probability inside the mask, background and negative
            words included.
        kept: (N,) bool, selected and at least at the threshold: what exports and push take.
        selected: (N,) bool, has a label and repeats no better mask, whatever its score: what a lower threshold
            would keep.
    """

    classes: tuple[str, ...]
    top_classes: NDArray[np.int32]
    top_scores: NDArray[np.float32]
    background: NDArray[np.bool_]
    margin: NDArray[np.float32]
    kept: NDArray[np.bool_] = field(repr=False)
    selected: NDArray[np.bool_] = field(repr=False)

    def __len__(self) -> int:
        return len(self.margin)

    def __getitem__(
        self, index: NDArray[np.bool_] | NDArray[np.integer] | Sequence[int] | slice
    ) -> MaskLabels:
        """The labels of the chosen masks, by a boolean mask of length N, by indices or by a slice."""
        rows: Any = index if isinstance(index, slice) else np.asarray(index)
        if not isinstance(rows, slice) and rows.dtype != np.bool_:
            rows = rows.astype(np.int64)
        return replace(
            self,
            top_classes=self.top_classes[rows],
            top_scores=self.top_scores[rows],
            background=self.background[rows],
            margin=self.margin[rows],
            kept=self.kept[rows],
            selected=self.selected[rows],
        )

    @property
    def label_index(self) -> NDArray[np.int32]:
        """(N,) index of each mask's class, -1 where background won."""
        return np.where(self.background, -1, self.top_classes[:, 0]).astype(np.int32)

    @property
    def score(self) -> NDArray[np.float32]:
        """(N,) score of each mask's best class (also where background won)."""
        return self.top_scores[:, 0]

    @property
    def names(self) -> list[str | None]:
        """N labels, None where background won."""
        return [None if i < 0 else self.classes[i] for i in self.label_index]


def join_labels(parts: Sequence[MaskLabels]) -> MaskLabels:
    """The labels of several lots of masks with the same classes as one."""
    if len(parts) == 1:
        return parts[0]
    return MaskLabels(
        parts[0].classes,
        np.concatenate([part.top_classes for part in parts]),
        np.concatenate([part.top_scores for part in parts]),
        np.concatenate([part.background for part in parts]),
        np.concatenate([part.margin for part in parts]),
        np.concatenate([part.kept for part in parts]),
        np.concatenate([part.selected for part in parts]),
    )
