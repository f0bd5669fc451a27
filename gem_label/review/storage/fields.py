"""Which fields of a dataset hold masks, which run they came from, and how it was pushed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gem_label.errors import GemLabelError, UsageError
from gem_label.labeling import Thresholds
from gem_label.review.database import load_fiftyone
from gem_label.runs import Run, open_run

SUFFIX = "_less_likely"
"""Ends the name of a field of less likely labels."""


def pushed_fields(dataset: Any) -> dict[str, dict[str, Any]]:
    """The fields that runs were pushed into: name -> run, run_updated, pushed, min_score, hidden_from."""
    return {
        field: push
        for field, push in (dataset.info.get("gem_label") or {}).items()
        if dataset.has_field(field)
    }


def mask_fields(dataset: Any) -> list[str]:
    """The `Detections` fields of a dataset, those of a run first, those of less likely labels last."""
    fo = load_fiftyone()
    fields = dataset.get_field_schema(ftype=fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    pushed = pushed_fields(dataset)
    return sorted(fields, key=lambda name: (is_less_likely(dataset, name), name not in pushed))


def less_likely_field(field: str) -> str:
    """The field that holds the less likely labels of a field."""
    return field + SUFFIX


def main_field(dataset: Any, field: str) -> str:
    """The field that accepted labels of `field` are in: the field itself, unless it holds less likely labels."""
    main = field.removesuffix(SUFFIX)
    return main if main in pushed_fields(dataset) else field


def is_less_likely(dataset: Any, field: str) -> bool:
    """Whether a field holds the less likely labels of another one."""
    return main_field(dataset, field) != field


def label_fields(dataset: Any) -> list[str]:
    """The fields of masks without those of less likely labels; those that a run was pushed into first."""
    return [name for name in mask_fields(dataset) if not is_less_likely(dataset, name)]


def has_less_likely(dataset: Any, field: str) -> bool:
    """Whether a field has a field of less likely labels beside it."""
    other = less_likely_field(field)
    return dataset.has_field(other) and is_less_likely(dataset, other)


def declare_mask_field(dataset: Any, field: str) -> None:
    """Make a field of detections, unless it is there, and the attributes that detections of a run have.

    Raises:
        ValueError: FiftyOne takes no field of that name.
    """
    fo = load_fiftyone()
    if not dataset.has_field(field):
        dataset.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    for attribute, kind in (
        ("margin", fo.FloatField),
        ("mask_id", fo.StringField),
        ("proposed_label", fo.StringField),
        ("runner_up", fo.StringField),
    ):
        dataset.add_sample_field(f"{field}.detections.{attribute}", kind)


def push_record(
    run: Run, pushed: str, min_score: Thresholds | None, hidden_from: float | None
) -> dict[str, Any]:
    """What `pushed_fields` tells about a push at the time `pushed`."""
    return {
        "run": run.place,
        "run_updated": run.manifest.get("updated"),
        "pushed": pushed,
        "min_score": None if min_score is None else json.dumps(min_score.to_json()),
        "hidden_from": hidden_from,
    }


def thresholds_of_push(push: dict[str, Any], classes: Sequence[str]) -> Thresholds | None:
    """The thresholds that a push was asked for, without those of classes that are gone; None: the run's own."""
    text = push.get("min_score")
    return None if text is None else Thresholds.from_json(json.loads(text)).among(classes)


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
    """The run that was pushed into a field, or into the one whose less likely labels it holds.

    Raises:
        UsageError: there is no such field.
        GemLabelError: the field is from elsewhere, or its run is not on this machine any more.
    """
    check_mask_field(dataset, field)
    push = pushed_fields(dataset).get(main_field(dataset, field))
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
    if is_less_likely(dataset, field) or (dataset.has_field(field) and field not in mask_fields(dataset)):
        raise UsageError(f"field {field!r} holds something else: give another name")
