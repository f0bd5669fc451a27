"""FiftyOne views of masks: those that are meant, or some in a given order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gem_label.review.database import load_fiftyone
from gem_label.review.storage.selection import Selection


def masks_view(dataset: Any, field: str, selection: Selection) -> Any:
    """The photos with masks that are meant, and of their masks only those; `selection.view` does not count."""
    fo = load_fiftyone()
    return dataset.filter_labels(field, fo.ViewExpression(_rename_variable(selection.condition)))


def _rename_variable(expression: Any) -> Any:
    """Our `$$mask` is FiftyOne's `$$this`."""
    if isinstance(expression, dict):
        return {key: _rename_variable(value) for key, value in expression.items()}
    if isinstance(expression, list):
        return [_rename_variable(value) for value in expression]
    if isinstance(expression, str) and expression.startswith("$$mask"):
        return "$$this" + expression.removeprefix("$$mask")
    return expression


def patches_in_order(dataset: Any, field: str, masks: Sequence[tuple[str, str]]) -> Any:
    """A view of patches in a given order.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        masks: pairs of a sample's id and a detection's id.
    """
    samples, labels = [sample for sample, _ in masks], [label for _, label in masks]
    view = dataset.select(list(dict.fromkeys(samples))).select_labels(ids=labels, fields=field)
    return view.to_patches(field).select(labels, ordered=True)
