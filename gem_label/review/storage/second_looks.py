"""Which decisions somebody has looked at a second time: they are not listed as likely mistakes again.

`gem_label.second_looks` has one document a mask, with the id of its last decision at that time. After a later
decision the mask may be listed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gem_label.review.storage.internals import database, dataset_id

SECOND_LOOKS = "gem_label.second_looks"


def record_second_looks(dataset: Any, decisions: Mapping[str, str | None]) -> None:
    """Store that decisions hold after a second look.

    Args:
        dataset: the FiftyOne dataset.
        decisions: id of the detection -> id of the last decision about it.
    """
    from pymongo import UpdateOne

    looks = database()[SECOND_LOOKS]
    looks.create_index([("dataset", 1), ("mask", 1)], unique=True)
    requests = [
        UpdateOne(
            {"dataset": dataset_id(dataset), "mask": mask}, {"$set": {"decision": decision}}, upsert=True
        )
        for mask, decision in decisions.items()
    ]
    if requests:
        looks.bulk_write(requests, ordered=False)
    known = set(looks.distinct("dataset"))
    gone = known - set(database().datasets.distinct("_id", {"_id": {"$in": list(known)}}))
    if gone:
        looks.delete_many({"dataset": {"$in": list(gone)}})


def forget_second_looks(dataset: Any, masks: Iterable[str]) -> None:
    """Take back what `record_second_looks` stored about some detections."""
    database()[SECOND_LOOKS].delete_many({"dataset": dataset_id(dataset), "mask": {"$in": list(masks)}})


def second_looks(dataset: Any) -> dict[str, str | None]:
    """Id of a detection -> the decision about it that somebody has looked at a second time."""
    found = database()[SECOND_LOOKS].find({"dataset": dataset_id(dataset)}, ["mask", "decision"])
    return {look["mask"]: look["decision"] for look in found}
