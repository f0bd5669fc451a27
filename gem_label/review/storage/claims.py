"""Who has which masks before them: several people review one dataset, and no mask is shown to two of them.

`gem_label.claims` has one document a mask: whose it is, and until when. A claim that nobody renews ends by itself, so
that the masks of a closed tab or a lost connection go back. The database's clock counts, whatever machine asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from gem_label.review.storage.internals import database, dataset_id
from gem_label.review.storage.selection import Expression

CLAIMS = "gem_label.claims"
LEASE = timedelta(minutes=3)
"""After so long without renewal a mask goes back."""

_DUPLICATE_KEY = 11000


def claim_masks(dataset: Any, label_ids: Iterable[str], holder: str, lease: timedelta = LEASE) -> set[str]:
    """Claim masks for somebody, or renew their claims.

    Args:
        dataset: the FiftyOne dataset.
        label_ids: ids of detections.
        holder: an id of who reviews, another one for every open panel.
        lease: how long the claims last unless they are renewed.

    Returns:
        The masks that the holder has now; the others are somebody else's.
    """
    from pymongo import UpdateOne
    from pymongo.errors import BulkWriteError

    keys = {_key(dataset, each): each for each in label_ids}
    if not keys:
        return set()
    claims = database()[CLAIMS]
    claims.create_index("until", expireAfterSeconds=0)  # the database drops claims that have ended
    claims.create_index([("dataset", 1), ("holder", 1)])
    me = {"$literal": holder}
    mine = {
        "$or": [
            {"$eq": ["$holder", me]},
            {"$lt": ["$until", "$$NOW"]},
            {"$eq": [{"$type": "$until"}, "missing"]},
        ]
    }
    until = {"$add": ["$$NOW", int(lease.total_seconds() * 1000)]}
    requests = []
    for key, each in keys.items():
        values = {"dataset": dataset_id(dataset), "mask": each, "holder": me, "until": until}
        change = {name: {"$cond": [mine, value, f"${name}"]} for name, value in values.items()}
        requests.append(UpdateOne({"_id": key}, [{"$set": change}], upsert=True))
    try:
        claims.bulk_write(requests, ordered=False)
    except BulkWriteError as error:
        # somebody else claimed a mask in the same moment, for the first time, and has it
        if any(each["code"] != _DUPLICATE_KEY for each in error.details["writeErrors"]):
            raise
    held = claims.find({"_id": {"$in": list(keys)}, "holder": holder}, ["mask"])
    return {claim["mask"] for claim in held}


def release_masks(dataset: Any, holder: str) -> None:
    """Give back all masks that a holder has claimed in a dataset."""
    database()[CLAIMS].delete_many({"dataset": dataset_id(dataset), "holder": holder})


def masks_of_others(dataset: Any, holder: str) -> set[str]:
    """The ids of detections that are somebody else's now."""
    query: Expression = {
        "dataset": dataset_id(dataset),
        "holder": {"$ne": holder},
        "$expr": {"$gte": ["$until", "$$NOW"]},
    }
    return {claim["mask"] for claim in database()[CLAIMS].find(query, ["mask"])}


def _key(dataset: Any, label_id: str) -> str:
    """Copies of a dataset have detections with the same ids."""
    return f"{dataset_id(dataset)} {label_id}"
