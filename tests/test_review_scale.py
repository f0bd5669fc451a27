"""Requests of the review panel read the samples that they are about, not the whole dataset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db

from gem_label.review.storage.decision_log import collections
from gem_label.review.storage.fields import declare_mask_field
from gem_label.review.storage.internals import database, dataset_id, samples_of
from gem_label.review.storage.mask_reader import read_table
from gem_label.review.storage.mask_table import in_order, join_tables

__all__ = ["fiftyone_db"]

FIELD = "gem_label"
PHOTOS, MASKS = 500, 10
DECISIONS = 3000


@pytest.fixture(scope="module")
def dataset(fiftyone_db: str) -> Iterator[Any]:
    """5000 masks that were pushed an hour ago, and 3000 decisions that were made since."""
    import fiftyone as fo

    dataset = fo.Dataset("scale", overwrite=True)
    add_samples(dataset)
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    samples_of(dataset).update_many({}, {"$set": {"last_modified_at": long_ago}})
    decisions, entries = collections()
    log = [
        {"_id": f"scale {i}", "dataset": dataset_id(dataset), "field": FIELD, "action": "accept", "masks": 1,
         "at": long_ago, "label": None, "author": "Ada", "request": f"r{i}", "forgotten": True}
        for i in range(DECISIONS)
    ]  # fmt: skip
    decisions.insert_many(log)
    entries.insert_many(
        [{"decision": each["_id"], "dataset": each["dataset"], "removed": ["m"]} for each in log]
    )
    yield dataset
    fo.delete_dataset(dataset.name)


def add_samples(dataset: Any) -> None:
    """Add the photos with their masks: copies of one sample, with other numbers."""
    import fiftyone as fo
    from bson import ObjectId

    rng = np.random.default_rng(0)
    names = [f"class {i}" for i in range(8)]
    first = fo.Detection(label="", tags=[], mask=np.ones((4, 4), bool), bounding_box=[0.1, 0.1, 0.3, 0.3])
    sample = fo.Sample(filepath="/photos/0.jpg", metadata=fo.ImageMetadata(width=64, height=48))
    sample[FIELD] = fo.Detections(detections=[first])
    dataset.add_sample(sample)
    declare_mask_field(dataset, FIELD)
    template = samples_of(dataset).find_one()
    mask = template[FIELD]["detections"][0]
    documents = []
    for number in range(PHOTOS):
        masks = []
        for best, second in rng.integers(0, len(names), (MASKS, 2)):
            words = {"label": names[best], "proposed_label": names[best], "runner_up": names[second]}
            numbers = {"confidence": rng.random(), "margin": rng.random()}
            masks.append({**mask, "_id": ObjectId(), **words, **numbers})
        path = {"_id": ObjectId(), "filepath": f"/photos/{number}.jpg"}
        documents.append({**template, **path, FIELD: {**template[FIELD], "detections": masks}})
    samples_of(dataset).insert_many(documents)
    samples_of(dataset).delete_one({"_id": template["_id"]})


@contextmanager
def examined(at_most: int) -> Iterator[None]:
    """The database looks at no more documents of any collection in one command inside of the `with` block."""
    db = database()
    db.drop_collection("system.profile")
    db.command("profile", 2)
    try:
        yield
    finally:
        db.command("profile", 0)
    rows = [row for row in db["system.profile"].find() if row.get("docsExamined", 0) > at_most]
    db.drop_collection("system.profile")
    assert [(row["ns"], row["docsExamined"], row["command"]) for row in rows] == []


def ask(dataset: Any, method: str, **params: Any) -> dict[str, Any]:
    """What a method of the panel answers."""
    from fiftyone.operators.executor import ExecutionContext

    from gem_label.plugin.review_panel import ReviewPanel

    request = {"dataset_name": dataset.name, "selected": [], "params": params}
    answer = getattr(ReviewPanel(), method)(ExecutionContext(request))
    assert "error" not in answer
    return answer


@pytest.mark.slow
def test_what_a_click_reads_does_not_grow_with_the_dataset(dataset: Any) -> None:
    told = ask(dataset, "describe_field")  # the first time reads all masks
    question = {"field": FIELD, "label": told["classes"][0]["name"], "seed": 0}
    queue = ask(dataset, "make_queue", field=FIELD, order="uncertain")["masks"]
    first, names = queue[0], [each["name"] for each in told["classes"]]
    decisions = [{"mask": first, "label": "class 0", "seen": None}]
    decision = {"field": FIELD, "decisions": decisions, "author": "Ada"}
    ask(dataset, "decide", **decision, request="new 1")  # declares attributes
    ask(dataset, "undo", field=FIELD, masks=[first], request="new 1")
    with examined(at_most=20):
        ask(dataset, "describe_field")
        for order in ("teaches", "uncertain", "likely", "random"):
            assert len(ask(dataset, "make_queue", field=FIELD, order=order)["masks"]) == 2000
            ask(dataset, "make_queue", **question, order=order)
        assert len(ask(dataset, "get_details", field=FIELD, masks=queue[:20], classes=names)["details"]) == 20
        ask(dataset, "decide", **decision, request="new 2")
        ask(dataset, "describe_field")
        assert ask(dataset, "make_queue", field=FIELD, order="uncertain")["masks"][0] != first
        ask(dataset, "undo", field=FIELD, masks=[first], request="new 2")
        ask(dataset, "get_progress", field=FIELD)


def test_the_table_follows_every_kind_of_change(dataset: Any) -> None:
    import fiftyone as fo

    before = read_table(dataset, FIELD)
    assert len(before) == PHOTOS * MASKS
    assert list(before.samples) == sorted(before.samples)
    sample = dataset.skip(7).first()
    kept = sample[FIELD].detections[1:]
    odd = fo.Detection(label="drawn by hand", bounding_box=[0, 0, 0.1, 0.1], tags=["rejected"])
    sample[FIELD].detections = [odd, *kept]
    sample.save()
    dataset.add_sample(fo.Sample(filepath="/photos/new.jpg"))
    gone = dataset.skip(3).first()
    dataset.delete_samples(gone)
    now = read_table(dataset, FIELD)
    expected = {
        each.id: (each.label, each.confidence or 0.0, getattr(each, "margin", None), "rejected" in each.tags)
        for one in dataset
        if one[FIELD]
        for each in one[FIELD].detections
    }
    margins = [None if np.isnan(margin) else margin for margin in now.margins]
    labels = [now.names[code] for code in now.labels]
    rejected = now.states == 2
    rows = zip(labels, now.scores.tolist(), margins, rejected.tolist(), strict=True)
    assert dict(zip([each.ljust(12, b"\0").hex() for each in now.ids], rows, strict=True)) == expected
    assert len(now.samples) == len(dataset) == PHOTOS


def test_a_sample_that_changes_while_it_is_read_counts_once_as_it_is_last(dataset: Any) -> None:
    table = read_table(dataset, FIELD)
    before, after = table.take(np.array([7, 2])), table.take(np.array([2]))
    after = replace(after, scores=after.scores + 1)
    found = in_order(join_tables([before, after], table.names))
    assert found.samples.tolist() == [table.samples[2], table.samples[7]]
    rows = table.rows_of(np.array([2, 7]))
    assert found.ids.tolist() == table.ids[rows].tolist()
    count = int(after.counts[0])
    assert found.scores.tolist() == [*after.scores, *table.scores[rows[count:]]]
