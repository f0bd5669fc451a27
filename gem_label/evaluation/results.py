"""Results of evaluations: files with all that is needed to know what was measured, and tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gem_label.runs.files import write_json
from gem_label.tables import columns, shorten

PACKAGES = ("gem-label", "torch", "open_clip_torch", "numpy")


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result with the versions that made it, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result | {"versions": {name: version(name) for name in PACKAGES}})


def percent(share: float | None) -> str:
    """A share in [0, 1] as the papers print it.

    Example:
        >>> percent(0.4621), percent(None)
        ('46.2', '-')
    """
    return "-" if share is None else f"{100 * share:.1f}"


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text; the first is aligned left, the others right. Long cells are shortened in the middle.

    Example:
        >>> print(text_table(["class", "IoU"], [["cat", "46.2"], ["traffic light", "7.0"]]))
        class           IoU
        cat            46.2
        traffic light   7.0
    """
    cells = [[*map(shorten, row)] for row in [header, *rows]]
    widths = [max(map(columns, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        (first, *others), spaces = (
            row,
            [width - columns(cell) for width, cell in zip(widths, row, strict=True)],
        )
        aligned = [f"{' ' * space}{cell}" for space, cell in zip(spaces[1:], others, strict=True)]
        lines.append("  ".join([first + " " * spaces[0], *aligned]).rstrip())
    return "\n".join(lines)
