"""Classes of labels and of annotations, joined by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from gem_label.errors import UsageError
from gem_label.tables import first_names

SHOWN_NAMES = 5
"""Names in a note before it says "..."."""


def normal(name: str) -> str:
    """A class name without case and outer spaces: what classes are joined by."""
    return name.strip().casefold()


def class_index(classes: Iterable[str], source: str) -> dict[str, int]:
    """Index of each class by its `normal` name.

    Raises:
        UsageError: two classes differ only by case or spaces.
    """
    index: dict[str, int] = {}
    for name in classes:
        if normal(name) in index:
            raise UsageError(f"{source} has two classes that are the same word: {name!r}")
        index[normal(name)] = len(index)
    return index


def class_notes(
    classes: Sequence[str],
    index: Mapping[str, int],
    annotated: Iterable[str],
    labels: Iterable[str],
    source: str,
) -> list[str]:
    """Notes on what is not compared, and on words that the annotations do not know.

    Args:
        classes: of the labels.
        index: their `class_index`.
        annotated: classes of the annotations.
        labels: the class of each annotation.
        source: what notes call the annotations.
    """
    unasked = Counter(label for label in labels if label and normal(label) not in index)
    notes = []
    if unasked:
        names = first_names([name for name, _ in unasked.most_common()], SHOWN_NAMES)
        notes.append(
            f"{unasked.total()} annotations of {len(unasked)} classes that were not asked for are left out: {names}"
        )
    known = {normal(name) for name in annotated}
    unknown = [name for name in classes if normal(name) not in known]
    if unknown:
        notes.append(
            f"{len(unknown)} of {len(classes)} classes are no category of {source}, so that each of their labels "
            f"counts as wrong: {first_names(unknown, SHOWN_NAMES)}"
        )
    return notes
