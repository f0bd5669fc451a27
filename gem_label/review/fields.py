"""Which fields of a dataset hold masks, and which run they came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gem_label.errors import GemLabelError, UsageError
from gem_label.review.database import load_fiftyone
from gem_label.runs import Run, open_run


def pushed_fields(dataset: Any) -> dict[str, dict[str, str]]:
    """The fields that runs were pushed into: name -> run, run_updated, pushed."""
    return {
        field: push
        for field, push in (dataset.info.get("gem_label") or {}).items()
        if dataset.has_field(field)
    }


def mask_fields(dataset: Any) -> list[str]:
    """The `Detections` fields of a dataset, those that a run was pushed into first."""
    fo = load_fiftyone()
    fields = dataset.get_field_schema(ftype=fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    pushed = pushed_fields(dataset)
    return sorted(fields, key=lambda name: name not in pushed)


def check_mask_field(dataset: Any, field: str) -> None:
    """Make sure that a field holds detections.

    Raises:
        UsageError: it does not exist, or holds something else.
    """
    fields = mask_fields(dataset)
    if field not in fields:
        there = ", ".join(map(repr, fields)) or "none yet: label the dataset first"
        raise UsageError(f"dataset {dataset.name!r} has no field {field!r} of detections (there is {there})")


def run_of(dataset: Any, field: str) -> Run:
    """The run that was pushed into a field.

    Raises:
        UsageError: there is no such field.
        GemLabelError: the field is from elsewhere, or its run is not on this machine any more.
    """
    check_mask_field(dataset, field)
    push = pushed_fields(dataset).get(field)
    if push is None:
        raise GemLabelError(f"field {field!r} did not come from a run: label the dataset into a field first")
    if not (Path(push["run"]) / "manifest.json").is_file():
        raise GemLabelError(
            f"the run of field {field!r} is not at {push['run']} any more: bring it back or label again"
        )
    return open_run(push["run"])


def check_field_name(dataset: Any, field: str) -> None:
    """Make sure that a field of this name can take masks.

    Raises:
        UsageError: the name is none for a field, or the field holds something else.
    """
    if not field.isidentifier() or field.startswith("_"):
        raise UsageError(f"{field!r} is no name for a field: use letters, digits and _")
    if dataset.has_field(field) and field not in mask_fields(dataset):
        raise UsageError(f"field {field!r} holds something else: give another name")
