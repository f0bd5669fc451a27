"""The masks of a dataset that reviewers decided about, as annotations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gem_label.errors import UsageError
from gem_label.formats.annotations import AnnotatedPhoto, Annotations
from gem_label.review.exchange.export import dataset_annotations
from gem_label.review.storage.fields import has_less_likely, less_likely_field, main_field
from gem_label.review.storage.selection import Selection

DECIDED = ("accepted", "renamed", "rejected")


def decided_annotations(dataset: Any, field: str) -> Annotations:
    """The decided masks of a field of labels and of its less likely labels, with their `state`.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.

    Raises:
        UsageError: no such field, or nobody decided about a mask.
        GemLabelError: while photos are read, as for `dataset_annotations`.
    """
    field = main_field(dataset, field)
    fields = [field, less_likely_field(field)] if has_less_likely(dataset, field) else [field]
    found = [dataset_annotations(dataset, name, Selection(states=list(DECIDED))) for name in fields]
    photos: dict[str, AnnotatedPhoto] = {}
    for photo in _with_masks(found):
        before = photos.get(photo.name)
        photos[photo.name] = photo if before is None else replace(before, masks=(*before.masks, *photo.masks))
    if not photos:
        raise UsageError(f"nobody decided about a mask in field {field!r} of {dataset.name!r} yet")
    classes = tuple(dict.fromkeys(name for each in found for name in each.classes))
    return Annotations(list(photos.values()), classes, count=len(photos), folder=found[0].folder)


def _with_masks(annotations: list[Annotations]) -> Iterator[AnnotatedPhoto]:
    return (photo for each in annotations for photo in each.photos if photo.masks)
