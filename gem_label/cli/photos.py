"""What commands that take photos share: the argument, what is said of it, and of photos that failed."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gem_label.photos.listing import Listing
    from gem_label.photos.photo import Photo

_REASONS = 3
"""Kinds of failures that a line names."""

# text, as "./name" is a path and "name" may be a dataset
Photos = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help="Photos, folders of them, a .txt, .csv or .parquet list of paths, a .zip, s3://BUCKET/FOLDER (or gs://, "
        "az://), or the name of a FiftyOne dataset.",
    ),
]


def find_photos(paths: Sequence[str]) -> list[Photo]:
    """The photos of `list_arguments`; what else is to be said of them goes to stderr."""
    found = list_arguments(paths)
    print_notes(found)
    return found.photos


def print_notes(found: Listing) -> None:
    """Say on stderr what was done to get at photos, and what is left out."""
    for note in found.notes():
        print(note, file=sys.stderr)


def list_arguments(paths: Sequence[str]) -> Listing:
    """What the arguments stand for: files, folders, lists, archives, addresses, and names of FiftyOne datasets.

    Raises:
        UsageError: see `gem_label.photos.listing.find_photos`.
        GemLabelError: likewise.
    """
    from gem_label.photos import listing

    def look_up(name: str) -> list[str] | None:
        from gem_label.review.storage.dataset_paths import (
            dataset_paths,  # FiftyOne: only for names of datasets
        )

        return dataset_paths(name)

    return listing.find_photos(paths, look_up)


def describe_failures(failures: Sequence[tuple[str, str]], tried: int, file: str | Path) -> str:
    """One line about photos that could not be labeled: the reason of a single one, else the most frequent reasons.

    Args:
        failures: path and reason of each, at least one.
        tried: how many photos were tried.
        file: where all reasons are.

    Example:
        describe_failures([("/p/a.jpg", "empty: the file has no bytes")], 9, Path("RUN/failures.jsonl"))
    """
    if len(failures) == 1:
        path, reason = failures[0]
        return f"{path} could not be labeled: {reason} (see {file})"
    # what differs from photo to photo in one kind of failure is numbers: bytes, sizes
    kinds = Counter(re.sub(r"\d+", "N", reason) for _, reason in failures).most_common()
    reasons = "; ".join(f"{count} {kind}" for kind, count in kinds[:_REASONS])
    others = sum(count for _, count in kinds[_REASONS:])
    rest = f"; {others} for other reasons" if others else ""
    return f"{len(failures)} of {tried} photos could not be labeled: {reasons}{rest} (see {file})"
