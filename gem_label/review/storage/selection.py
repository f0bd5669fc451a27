"""Which masks are meant: MongoDB expressions for the masks of a view, a class, a range of scores, a state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gem_label.errors import UsageError
from gem_label.phrases import as_words
from gem_label.review.storage.detections import Document
from gem_label.review.storage.internals import aggregate_view, is_patches, samples_name, samples_of

Expression = dict[str, Any]

STATES = ("undecided", "accepted", "rejected", "renamed")
TAGS: Expression = {"$ifNull": ["$$mask.tags", []]}
_RENAMED = [
    {"$gt": ["$$mask.proposed_label", None]},
    {"$ne": ["$$mask.label", "$$mask.proposed_label"]},
]
STATE: Expression = {
    "$switch": {
        "branches": [
            {"case": {"$in": ["rejected", TAGS]}, "then": "rejected"},
            {"case": {"$in": ["accepted", TAGS]}, "then": "accepted"},
            {"case": {"$and": _RENAMED}, "then": "renamed"},
        ],
        "default": "undecided",
    }
}
"""The state of `$$mask`, one of `STATES`; a mask is decided (`merge.is_decided`) when it is not undecided."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which masks of a field are meant: those that meet every condition that is given.

    A str in place of a list is text with commas between, see `as_words`.

    Attributes:
        view: only masks that this FiftyOne view shows (a view of samples, or of patches of the field).
        ids: only detections with these ids.
        samples: only masks of the samples with these ids; the database finds a sample by its id at once, but has to
            look through all of them for a detection.
        labels: only masks with one of these labels.
        min_score: only masks with at least this score, in [0, 1].
        below_score: only masks with a lower score than this, in [0, 1].
        states: only masks in one of these `STATES`.
        runner_ups: only masks whose second-best word is one of these.
        max_margin: only masks with at most this margin between their two best words, in [0, 1].
        reaching: label -> threshold: only masks of these labels with at least that score.
        falling: label -> threshold: only masks of these labels with a lower score.
        decided_by: only masks whose last decision is by one of these people.
    """

    view: Any = None
    ids: str | Sequence[str] | None = None
    samples: str | Sequence[str] | None = None
    labels: str | Sequence[str] | None = None
    min_score: float | None = None
    below_score: float | None = None
    states: str | Sequence[str] | None = None
    runner_ups: str | Sequence[str] | None = None
    max_margin: float | None = None
    reaching: Mapping[str, float] | None = None
    falling: Mapping[str, float] | None = None
    decided_by: str | Sequence[str] | None = None

    @property
    def condition(self) -> Expression:
        """The conditions on a single mask, an expression on `$$mask`; `view` is not part of it."""
        from bson import ObjectId

        score = {"$ifNull": ["$$mask.confidence", 0.0]}
        parts: list[Expression] = []
        if self.ids is not None:
            parts.append({"$in": ["$$mask._id", [ObjectId(each) for each in as_words(self.ids)]]})
        given = {"label": self.labels, "runner_up": self.runner_ups, "decided_by": self.decided_by}
        for attribute, words in given.items():
            if words is not None:
                parts.append({"$in": [f"$$mask.{attribute}", {"$literal": list(as_words(words))}]})
        if self.max_margin is not None:
            parts += [{"$lte": ["$$mask.margin", self.max_margin]}, {"$gt": ["$$mask.margin", None]}]
        if self.min_score is not None:
            parts.append({"$gte": [score, self.min_score]})
        if self.below_score is not None:
            parts.append({"$lt": [score, self.below_score]})
        if self.states is not None:
            parts.append({"$in": [STATE, list(as_words(self.states))]})
        for operator, thresholds in (("$gte", self.reaching), ("$lt", self.falling)):
            if thresholds is not None:
                sides = [
                    {"$and": [{"$eq": ["$$mask.label", {"$literal": label}]}, {operator: [score, threshold]}]}
                    for label, threshold in thresholds.items()
                ]
                parts.append({"$or": sides})
        return {"$and": parts}


def aggregate_masks(
    dataset: Any, field: str, selection: Selection, stages: Sequence[Expression]
) -> Iterator[Document]:
    """Run an aggregation over the masks that are meant.

    Args:
        dataset: the FiftyOne dataset.
        field: its field of detections.
        selection: which masks.
        stages: take documents of `_id`, a sample's id, and `masks`, its masks that are meant (at least one), as
            they are in the dataset now.

    Returns:
        The documents that the stages give, as the database sends them.

    Raises:
        UsageError: the view shows patches of another field.
    """
    from bson import ObjectId

    view = selection.view
    in_samples: list[Expression] = []
    if selection.samples is not None:
        in_samples = [{"$match": {"_id": {"$in": [ObjectId(each) for each in as_words(selection.samples)]}}}]
    chosen: list[Expression] = [
        {"$project": {"masks": {"$filter": {"input": "$masks", "as": "mask", "cond": selection.condition}}}},
        {"$match": {"masks": {"$ne": []}}},
        *stages,
    ]
    if view is not None and view not in (dataset, dataset.view()):
        return aggregate_view(view, [*_masks_in_view(dataset, field, view), *in_samples, *chosen])
    pipeline: list[Expression] = [{"$project": {"masks": {"$ifNull": [f"${field}.detections", []]}}}, *chosen]
    if selection.ids is not None:
        ids = [ObjectId(each) for each in as_words(selection.ids)]
        pipeline.insert(0, {"$match": {f"{field}.detections._id": {"$in": ids}}})
    return samples_of(dataset).aggregate([*in_samples, *pipeline], allowDiskUse=True)


def _masks_in_view(dataset: Any, field: str, view: Any) -> list[Expression]:
    """Stages after a view's own that give the masks it shows.

    Views of patches hold copies, and others may leave attributes out: the masks come from the dataset itself.
    """
    if is_patches(view):
        shown = getattr(view, "patches_field", None)
        if shown != field:
            raise UsageError(f"the view shows patches of {shown!r}, not of {field!r}: choose that field")
        ids: Expression = {"$group": {"_id": "$_sample_id", "ids": {"$push": f"${field}._id"}}}
    else:
        ids = {"$project": {"ids": {"$ifNull": [f"${field}.detections._id", []]}}}
    shown_masks = {"$filter": {"input": "$masks", "as": "mask", "cond": {"$in": ["$$mask._id", "$ids"]}}}
    return [
        ids,
        {
            "$lookup": {
                "from": samples_name(dataset),
                "localField": "_id",
                "foreignField": "_id",
                "pipeline": [{"$project": {"masks": f"${field}.detections"}}],
                "as": "sample",
            }
        },
        {"$set": {"masks": {"$ifNull": [{"$first": "$sample.masks"}, []]}}},
        {"$project": {"masks": shown_masks}},
    ]
