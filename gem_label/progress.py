"""Long work that tells how far it is: generators of `Progress` that return their result."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")


class Progress(NamedTuple):
    """How far some work is: `done` of `total`, and a few words for the person who waits."""

    done: int
    total: int
    text: str

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.done / self.total if self.total else 1.0


def finish(work: Generator[Any, None, Result]) -> Result:
    """Do all of the work and give its result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value
