"""Which images of a run to look at: some at random, to judge the whole, and those that most likely have mistakes."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gem_label.runs.reader import Run

Reason = Literal["all", "random", "lowest score", "two classes close"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Chosen images.

    Attributes:
        reasons: why each image was chosen, by its number in the run.
        total: how many images the run has.
    """

    reasons: dict[int, Reason]
    total: int

    def __str__(self) -> str:
        if len(self.reasons) == self.total:
            return f"all {self.total} images"
        counts = {
            reason: sum(1 for each in self.reasons.values() if each == reason)
            for reason in ("random", "lowest score", "two classes close")
        }
        return (
            f"{len(self.reasons)} of {self.total} images: {counts['random']} at random, {counts['lowest score']} "
            f"with the lowest scores, {counts['two classes close']} where two classes are close"
        )


def choose_images(run: Run, count: int) -> Choice:
    """Choose images of a run: half at random, a quarter by their lowest score, a quarter by their smallest margin.

    The same run gives the same images. Memory grows with `count`, not with the run.

    Args:
        run: finished or not.
        count: how many, 1 or more; a run with no more images gives all of them.
    """
    total = 0

    def seen() -> Iterator[tuple[int, float, float]]:
        """Each image's number with the lowest score and the smallest margin of its kept masks, 2 for none."""
        nonlocal total
        for photos, table in run.groups(["score", "margin", "kept"]):
            total += len(photos)
            kept = table["kept"].to_numpy()
            starts = np.cumsum([0, *(photo.masks for photo in photos)])[:-1]
            lowest, closest = (
                np.minimum.reduceat(np.append(np.where(kept, table[name].to_numpy(), 2.0), 2.0), starts)
                for name in ("score", "margin")
            )
            for photo, score, margin in zip(photos, lowest.tolist(), closest.tolist(), strict=True):
                yield (photo.number, score, margin) if photo.masks else (photo.number, 2.0, 2.0)

    random, scores, margins = _Smallest(count), _Smallest(count), _Smallest(count)
    for number, score, margin in seen():
        random.add(zlib.crc32(str(number).encode()), number)
        if score <= 1:
            scores.add(score, number)
            margins.add(margin, number)
    if total <= count:
        return Choice(dict.fromkeys(sorted(random.numbers()), "all"), total)
    reasons: dict[int, Reason] = {}
    quarter = count // 4
    parts: list[tuple[Reason, list[int], int]] = [
        ("random", random.numbers(), count - 2 * quarter),
        ("lowest score", scores.numbers(), quarter),
        ("two classes close", margins.numbers(), quarter),
        ("random", random.numbers(), count),  # where there are too few of the others
    ]
    for reason, numbers, wanted in parts:
        new = [number for number in numbers if number not in reasons]
        reasons |= dict.fromkeys(new[: min(wanted, count - len(reasons))], reason)
    return Choice(reasons, total)


class _Smallest:
    """The `count` numbers with the smallest keys."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._heap: list[tuple[float, int]] = []

    def add(self, key: float, number: int) -> None:
        entry = (-key, -number)
        if len(self._heap) < self._count:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def numbers(self) -> list[int]:
        """The numbers, the smallest key first."""
        return [-number for _, number in sorted(self._heap, reverse=True)]
