"""The log's entries, one or more per decision and sample: applied to the samples, and checked against them.

Attributes of an entry besides `decision`, `sample`, `dataset` and `field`:

- `ids`, `before`: the masks that a decision changes, as they were; whole ones where more than label, tags and stamps
  changes.
- `after`: whole masks as the decision writes them, replaced and added; decisions about labels and tags have none.
- `added`: the `_id`s of masks that the decision adds.
- `group`: parallel to `ids`; masks of one group change together or not at all. Every mask for itself where missing.
- `removed`: mask ids that a later push must not bring back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gem_label.review.storage.decision_log import Decision, collections
from gem_label.review.storage.fields import less_likely_field, main_field
from gem_label.review.storage.internals import samples_name
from gem_label.review.storage.selection import Expression

_ARRAYS = ("ids", "before", "after", "added", "group")


def apply_log(dataset: Any, decision: str, detections: Mapping[str, Expression]) -> None:
    """Give the samples that a decision is about new detections.

    The database computes each sample's from what the sample has at that moment, so nothing that is written in
    between is lost; `detections` must leave alone what is not as the log says.

    Args:
        dataset: the FiftyOne dataset.
        decision: its id in the log.
        detections: field -> an expression on the sample's document and on `$$ids`, `$$before`, `$$after`, `$$added`
            and `$$group` of the log's entry.
    """
    _, log = collections()
    values: Expression = {"last_modified_at": "$$NOW"}
    for field, expression in detections.items():
        values |= {f"{field}._cls": "Detections", f"{field}.detections": expression}
    log.aggregate(
        [
            {"$match": {"decision": decision}},
            {"$project": {"_id": "$sample", **dict.fromkeys(_ARRAYS, 1)}},
            {
                "$merge": {
                    "into": samples_name(dataset),
                    "on": "_id",
                    "let": {name: {"$ifNull": [f"${name}", []]} for name in _ARRAYS},
                    "whenMatched": [{"$set": values}],
                    "whenNotMatched": "discard",
                }
            },
        ]
    )


def both_fields(dataset: Any, field: str) -> list[str]:
    """A field and the other one that its masks may move to: of labels and of less likely labels."""
    main = main_field(dataset, field)
    return [field, less_likely_field(field) if main == field else main]


def drop_missed(dataset: Any, decision: Decision) -> list[Any]:
    """Take out of the log what a decision did not change, because somebody else changed it first.

    Args:
        dataset: the FiftyOne dataset.
        decision: a decision that was recorded and applied.

    Returns:
        The `_id`s of these masks.
    """
    _, log = collections()
    here, other = both_fields(dataset, decision.field)
    stamp = {name: f"$$mask.{name}" for name in ("_id", "decision")}
    now = {
        name: {"$map": {"input": {"$ifNull": [f"${field}.detections", []]}, "as": "mask", "in": stamp}}
        for name, field in (("here", here), ("other", other))
    }
    old = {"$map": {"input": "$before", "as": "mask", "in": stamp}}
    rows = log.aggregate(
        [
            {"$match": {"decision": decision.id}},
            {"$lookup": {"from": samples_name(dataset), "localField": "sample", "foreignField": "_id",
                         "pipeline": [{"$project": now}], "as": "now"}},
            {"$project": {"old": old, "after": "$after._id", "added": 1, "group": 1, "now": {"$first": "$now"}}},
        ]
    )  # fmt: skip
    missed: list[Any] = []
    for row in list(rows):
        lost = _missed(row, decision)
        if lost:
            missed += lost
            _drop(row["_id"], set(lost), decision)
    return missed


def _missed(row: Mapping[str, Any], decision: Decision) -> list[Any]:
    """Of one entry, the `_id`s of masks that a decision did not change or add."""
    now = row.get("now")
    if now is None:  # the sample is gone
        return [*(old["_id"] for old in row["old"]), *row["added"]]
    stamps = {mask["_id"]: mask.get("decision") for mask in (*now["here"], *now["other"])}
    if decision.action == "delete":
        return [old["_id"] for old in row["old"] if old["_id"] in stamps]
    if "after" not in row:
        stamps = {mask["_id"]: mask.get("decision") for mask in now["here"]}
        return [old["_id"] for old in row["old"] if stamps.get(old["_id"]) != decision.id]
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for old, number in zip(row["old"], row["group"], strict=True):
        groups.setdefault(number, []).append(old)
    replaced = set(row["after"])
    return [
        old["_id"]
        for group in groups.values()
        if not _is_done(group, replaced, stamps, decision.id)
        for old in group
    ]


def _is_done(
    group: Sequence[Mapping[str, Any]], replaced: set[Any], stamps: Mapping[Any, Any], decision: str
) -> bool:
    """Whether a group of masks was changed, judged by the decisions that its masks carry now."""
    stay = [old for old in group if old["_id"] in replaced]
    if any(old["_id"] in stamps for old in group if old["_id"] not in replaced):
        return False
    if len(stay) == len(group):
        return all(stamps.get(old["_id"]) == decision for old in stay)
    # others of the group are gone: when in doubt (decided again at once), they can still be brought back
    return all(stamps.get(old["_id"], decision) != old.get("decision") for old in stay)


def _drop(entry_id: Any, lost: set[Any], decision: Decision) -> None:
    """Take some masks out of an entry; an entry without any goes."""
    _, log = collections()
    entry = log.find_one({"_id": entry_id})
    stay = [i for i, each in enumerate(entry["ids"]) if each not in lost]
    values: dict[str, Any] = {name: [entry[name][i] for i in stay] for name in ("ids", "before")}
    values["added"] = [each for each in entry["added"] if each not in lost]
    kept = {*values["ids"], *values["added"]}
    if not kept:
        log.delete_one({"_id": entry_id})
        return
    if "after" in entry:
        values["group"] = [entry["group"][i] for i in stay]
        values["after"] = [mask for mask in entry["after"] if mask["_id"] in kept]
    written = {mask["_id"] for mask in values.get("after", ())}
    if decision.action == "delete" or "after" in entry:
        values["removed"] = removed_ids([mask for mask in values["before"] if mask["_id"] not in written])
    log.update_one({"_id": entry_id}, {"$set": values})


def removed_ids(masks: Sequence[Mapping[str, Any]]) -> list[str]:
    """The mask ids of masks that go; those that somebody drew have none."""
    return [mask["mask_id"] for mask in masks if mask.get("mask_id") is not None]


def count_logged(decision: Decision) -> Decision:
    """The decision with `masks` as the log has them."""
    _, log = collections()
    size = {"$add": [{"$size": "$ids"}, {"$size": "$added"}]}
    count = {"$group": {"_id": None, "masks": {"$sum": size}}}
    rows = log.aggregate([{"$match": {"decision": decision.id}}, count])
    return replace(decision, masks=sum(row["masks"] for row in rows))
