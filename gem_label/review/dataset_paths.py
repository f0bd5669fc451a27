"""The photos of a FiftyOne dataset, by its name."""

from __future__ import annotations

import os

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
    dataset = fo.load_dataset(name)
    if dataset.media_type not in (None, "image"):
        raise UsageError(f"dataset {name!r} holds {dataset.media_type}s: only images can be labeled")
    paths = sorted({os.path.abspath(path) for path in dataset.distinct("filepath")})
    if not paths:
        raise UsageError(f"dataset {name!r} has no photos")
    return paths
