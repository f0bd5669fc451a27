"""Decisions that look like mistakes come back for a second look: from a run that learns, in a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fiftyone_fixture import fiftyone_db
from learning_run import FIELD, decide_by_truth, learning_dataset
from plugin_calls import execute, plugin

from gem_label.review.editing.decisions import decide
from gem_label.review.storage.second_looks import SECOND_LOOKS
from gem_label.review.storage.selection import Selection

__all__ = ["fiftyone_db", "plugin"]


@pytest.fixture
def dataset(fiftyone_db: str, tmp_path: Path) -> Iterator[Any]:
    """Twenty photos that nobody has reviewed."""
    import fiftyone as fo

    dataset = learning_dataset(tmp_path, f"second-{uuid4().hex[:6]}")
    yield dataset
    fo.delete_dataset(dataset.name)


def call(method: str, dataset: Any, **params: Any) -> Any:
    """What a method of the review panel answers."""
    return execute("review_masks", dataset, __method__=method, panel_id="panel", field=FIELD, **params)[0]


def listed(dataset: Any, label: str | None = None) -> list[list[str]]:
    return call("make_queue", dataset, order="second_look", scope="dataset", label=label)["masks"]


@pytest.mark.slow
def test_a_decision_that_the_others_contradict_comes_back_until_it_is_confirmed(
    plugin: Any, dataset: Any
) -> None:
    assert "nobody decided" in call("make_queue", dataset, order="second_look", scope="dataset")["error"]
    sample = dataset.sort_by("filepath").first()
    pizza = next(mask for mask in sample[FIELD].detections if mask.mask_id == "001#1")
    decide(dataset, FIELD, "rename", Selection(ids=[pizza.id]), label="cat")
    decide_by_truth(dataset)
    mask = [sample.id, pizza.id]
    found = call("make_queue", dataset, order="second_look", scope="dataset")
    assert found == {"masks": [mask], "remaining": 1}
    assert listed(dataset, label="cat") == [mask]
    assert listed(dataset, label="dog") == []
    # the panel shows it although it is decided, and only in this queue
    shown = {"masks": [mask], "holder": "me", "fresh": [pizza.id]}
    assert call("get_details", dataset, **shown)["details"] == []
    (details,) = call("get_details", dataset, second_look=True, **shown)["details"]
    assert (details["label"], details["state"]) == ("cat", "accepted")

    agreed = {"mask": mask, "label": "cat", "seen": details["decision"]}
    keep = {"decisions": [agreed], "request": "first", "author": "Ada", "second_look": True}
    assert call("decide", dataset, **keep)["answers"][0]["outcome"] == "stored"
    assert listed(dataset) == []
    call("undo", dataset, masks=[mask], request="first")
    assert listed(dataset) == [mask]
    call("decide", dataset, **keep)
    decide(dataset, FIELD, "rename", Selection(ids=[pizza.id]), label="dog")  # which is wrong, too
    assert listed(dataset) == [mask]
    decide(dataset, FIELD, "rename", Selection(ids=[pizza.id]), label="blick")
    assert listed(dataset) == []


@pytest.mark.slow
def test_second_looks_at_datasets_that_are_gone_are_dropped(
    plugin: Any, dataset: Any, tmp_path: Path
) -> None:
    from gem_label.review.storage.internals import database
    from gem_label.review.storage.second_looks import record_second_looks, second_looks

    other = plugin.Dataset(f"gone-{uuid4().hex[:6]}")
    record_second_looks(other, {"a" * 24: None})
    assert second_looks(other) == {"a" * 24: None}
    plugin.delete_dataset(other.name)
    record_second_looks(dataset, {"b" * 24: "c" * 24})
    assert [look["mask"] for look in database()[SECOND_LOOKS].find({}, ["mask"])] == ["b" * 24]
