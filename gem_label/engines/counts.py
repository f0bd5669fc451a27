"""What an engine has done so far."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """What an engine did in this session.

    Attributes:
        photos: how many photos were labeled.
        failed: how many could not be labeled; the reasons are in the run.
        masks: masks of the labeled photos.
        kept: those that carry a label.

    Example:
        >>> LabelCounts(photos=1, masks=40, kept=3) + LabelCounts(failed=1)
        LabelCounts(photos=1, failed=1, masks=40, kept=3)
    """

    photos: int = 0
    failed: int = 0
    masks: int = 0
    kept: int = 0

    def __add__(self, other: LabelCounts) -> LabelCounts:
        return LabelCounts(
            self.photos + other.photos,
            self.failed + other.failed,
            self.masks + other.masks,
            self.kept + other.kept,
        )
