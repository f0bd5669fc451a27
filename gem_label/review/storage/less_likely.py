"""Less likely labels: those below the threshold, in a field of their own beside the labels' field, hidden at first.

The field `gem_label` holds what one works with; nothing that reads it needs to know about thresholds. The less likely
labels are in `gem_label_less_likely`, which the App does not draw unless asked to. A mask is in one of the two
fields, with the same ids in both. Accepting or renaming a less likely label moves it into the labels' field; a push
moves undecided masks to where their scores belong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gem_label.review.database import load_fiftyone
from gem_label.review.storage.decision_log import declare_attributes
from gem_label.review.storage.fields import declare_mask_field, less_likely_field, main_field
from gem_label.review.storage.internals import samples_of
from gem_label.review.storage.locking import schema_lock
from gem_label.review.storage.selection import STATE, Expression

HIDDEN_FLOOR = 0.1
"""Labels that are right less often than one time in ten are not worth a reviewer's look."""


def declare_less_likely(dataset: Any, field: str) -> None:
    """Make the field for the less likely labels of `field`, which the App does not draw at first."""
    fo = load_fiftyone()
    hidden = less_likely_field(field)
    if _is_declared(dataset, hidden):
        return
    with schema_lock(dataset.name):
        dataset.reload()  # another process may have made it
        if _is_declared(dataset, hidden):
            return
        # the field comes last: a process that is killed leaves none that the App draws
        dataset.classes[hidden] = list(dataset.classes.get(field, []))
        active = dataset.app_config.active_fields or fo.DatasetAppConfig.default_active_fields(dataset)
        active.paths = [path for path in dict.fromkeys([*active.paths, field]) if path != hidden]
        dataset.app_config.active_fields = active
        dataset.save()
        declare_mask_field(dataset, hidden)


def _is_declared(dataset: Any, field: str) -> bool:
    """Whether a field has all attributes that `declare_mask_field` makes, the last one too."""
    return dataset.get_field(f"{field}.detections.runner_up") is not None


def settle(dataset: Any, field: str, samples: Sequence[Any]) -> None:
    """Move accepted and renamed masks of some samples out of a field of less likely labels, if it is one.

    Args:
        dataset: the FiftyOne dataset.
        field: any field of detections.
        samples: ids of samples, as in the database.
    """
    main = main_field(dataset, field)
    if main != field:
        declare_attributes(dataset, main)
        move_masks(dataset, field, main, {"$in": [STATE, ["accepted", "renamed"]]}, samples)


def move_masks(dataset: Any, source: str, target: str, condition: Expression, samples: Sequence[Any]) -> None:
    """Move masks from one field into another as they are; each sample at once, so that no mask is lost or doubled.

    Args:
        dataset: the FiftyOne dataset.
        source: the field they leave.
        target: the field they come into; masks that it has by the same `_id` are not added again.
        condition: which masks, an expression on `$$mask`.
        samples: ids of samples, as in the database.
    """

    def masks_of(field: str) -> Expression:
        return {"$ifNull": [f"${field}.detections", []]}

    def chosen(condition: Expression) -> Expression:
        return {"$filter": {"input": masks_of(source), "as": "mask", "cond": condition}}

    present = {"$in": ["$$mask._id", {"$ifNull": [f"${target}.detections._id", []]}]}
    coming = chosen({"$and": [condition, {"$not": [present]}]})
    samples_of(dataset).update_many(
        {"_id": {"$in": list(samples)}, "$expr": {"$ne": [chosen(condition), []]}},
        [
            {
                "$set": {
                    f"{target}._cls": "Detections",
                    f"{target}.detections": {"$concatArrays": [masks_of(target), coming]},
                    f"{source}.detections": chosen({"$not": [condition]}),
                    "last_modified_at": "$$NOW",
                }
            }
        ],
    )
