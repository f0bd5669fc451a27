"""What an annotation file says about its photos, before any of it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gem_label.geometry import Shape

Draw = Callable[[int, int], Shape]
"""Height and width of the photo in pixels -> the shape."""


@dataclass(frozen=True, slots=True)
class FileMask:
    """A mask of an annotation file.

    Attributes:
        name: as a report names it: "annotation 7".
        label: its class.
        mask_id: as the run has it; None where a person drew it.
        draw: makes the shape.
        box: x, y, width, height in pixels where the file has an upright box and nothing else.
        sized: the shape says itself of what size its photo is.
    """

    name: str
    label: str
    mask_id: str | None
    draw: Draw
    box: tuple[float, float, float, float] | None = None
    sized: bool = False


@dataclass(frozen=True, slots=True)
class FilePhoto:
    """A photo of an annotation file: name as it stands there, (height, width) in pixels or None, masks."""

    name: str
    size: tuple[int, int] | None
    masks: list[FileMask] = field(default_factory=list)


def unusable(problem: str) -> Draw:
    """A shape that is none."""
    return lambda height, width: Shape(None, (problem,))


def is_text(value: Any) -> bool:
    """Whether a value is text that a database takes: not empty, no halves of surrogate pairs."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def brief(value: Any) -> str:
    """A value of a file, for a message of one line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
