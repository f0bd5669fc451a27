"""The photos of a FiftyOne dataset, by its name."""

from __future__ import annotations

from typing import Any

from gem_label.errors import UsageError
from gem_label.review.database import load_fiftyone


def dataset_paths(name: str) -> list[str] | None:
    """The absolute paths of a dataset's photos, in order.

    Args:
        name: of the dataset.

    Returns:
        The paths, each once; None where there is no such dataset.

    Raises:
        UsageError: it has no photo, or holds something else than images.
        GemLabelError: FiftyOne or its database does not work.
    """
    fo = load_fiftyone()
    if not fo.dataset_exists(name):
        return None
    paths = photo_paths(fo.load_dataset(name))
    if not paths:
        raise UsageError(f"dataset {name!r} has no photos")
    return paths


def photo_paths(dataset: Any) -> list[str]:
    """The absolute paths of a dataset's photos, each once, in order.

    Raises:
        UsageError: it holds something else than images.
    """
    if dataset.media_type not in (None, "image"):
        raise UsageError(f"dataset {dataset.name!r} holds {dataset.media_type}s: only images can be labeled")
    return sorted(dataset.distinct("filepath"))
