"""A process that is killed while it writes: no decided mask is lost, and undo or repetition mends the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from database_commands import run_and_kill, run_and_kill_after
from fiftyone_fixture import fiftyone_db
from review_safety import (
    FIELD,
    HIDDEN,
    RIGHT,
    copy_of,
    dataset,
    detections,
    run,
    set_detections,
)

from gem_label.review import push_run
from gem_label.review.editing.decisions import decide, undo
from gem_label.review.editing.joining import join_masks
from gem_label.review.storage.decision_log import collections, list_decisions
from gem_label.review.storage.detections import is_decided
from gem_label.review.storage.selection import Selection
from gem_label.runs import Run

__all__ = ["dataset", "fiftyone_db", "run"]

State = dict[Any, tuple[Any, ...]]


def state(dataset: Any) -> State:
    """`_id` -> what a mask is; each is there once."""
    found = [
        (name, mask)
        for name in (FIELD, HIDDEN)
        for photo in "ab"
        for mask in detections(dataset, name, photo)
    ]
    facts = {
        mask["_id"]: (name, mask.get("mask_id"), mask["label"], mask["tags"], mask["bounding_box"],
                      mask.get("mask") or mask["mask_path"], mask.get("decision"))
        for name, mask in found
    }  # fmt: skip
    assert len(facts) == len(found)
    return facts


class Snapshot:
    """A dataset's samples and the log as they are, to begin again from."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.collections = (dataset._sample_collection, *collections())
        self.documents = [list(each.find()) for each in self.collections]
        self.state = state(dataset)
        self.decided = {mask["_id"] for name in (FIELD, HIDDEN) for photo in "ab"
                        for mask in detections(dataset, name, photo) if is_decided(mask)}  # fmt: skip

    def restore(self) -> None:
        for collection, documents in zip(self.collections, self.documents, strict=True):
            collection.delete_many({})
            if documents:
                collection.insert_many(documents)

    def check(self) -> None:
        """No decided mask is lost or changed."""
        now = state(self.dataset)
        assert {each: now.get(each) for each in self.decided} == {
            each: self.state[each] for each in self.decided
        }

    def check_after_undo(self, field: str) -> None:
        """Undo what is in the log since; all is as it was."""
        known = {document["_id"] for document in self.documents[1]}
        for each in list_decisions(self.dataset, field):
            if each.id not in known:
                undo(self.dataset, field, each.id)
        assert state(self.dataset) == self.state


@pytest.fixture
def parts(dataset: Any) -> Any:
    """Two cats in the first photo, to be joined, and an accepted mask."""
    first, second = detections(dataset)
    cat = copy_of(first, bounding_box=RIGHT, mask_id="a#7")
    set_detections(dataset, [first, second, cat])
    (hidden,) = detections(dataset, HIDDEN)
    set_detections(dataset, [hidden, copy_of(hidden, mask_id="a#8", bounding_box=RIGHT)], HIDDEN)
    decide(dataset, FIELD, "accept", Selection(labels=["dog"]))
    return dataset


WORK: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "accept": (HIDDEN, lambda dataset: decide(dataset, HIDDEN, "accept")),
    "delete": (FIELD, lambda dataset: decide(dataset, FIELD, "delete", Selection(labels=["cat", "cup"]))),
    "join": (FIELD, lambda dataset: join_masks(dataset, FIELD, Selection(labels=["cat"]))),
    "join less likely": (HIDDEN, lambda dataset: join_masks(dataset, HIDDEN, Selection())),
}


@pytest.mark.parametrize("name", WORK)
def test_killed_before_any_of_its_writes(run: Run, parts: Any, name: str) -> None:
    field, work = WORK[name]
    snapshot = Snapshot(parts)
    written = 0
    while run_and_kill(lambda: work(parts), written):
        snapshot.check()
        if written % 2:
            push_run(run, parts.name)
            snapshot.check()
            snapshot.restore()
            assert run_and_kill(lambda: work(parts), written)
        snapshot.check_after_undo(field)
        snapshot.restore()
        written += 1
    assert written > 3
    snapshot.check()
    work_again = Snapshot(parts)
    assert work_again.state != snapshot.state
    # an undo that is killed is repeated
    killed = 0
    while run_and_kill(lambda: undo(parts, field), killed):
        snapshot.check()
        snapshot.check_after_undo(field)
        work_again.restore()
        killed += 1
    assert killed > 2
    assert state(parts) == snapshot.state


def test_a_push_that_is_killed_is_pushed_again(run: Run, parts: Any) -> None:
    join_masks(parts, FIELD, Selection(labels=["cat"]))
    snapshot = Snapshot(parts)

    def pushed() -> list[Any]:
        push_run(run, parts.name, min_score=0.1)
        return sorted((facts[:-1] for facts in state(parts).values()), key=repr)

    expected = pushed()
    snapshot.restore()
    killed = 0
    while run_and_kill(pushed, killed):
        snapshot.check()
        assert pushed() == expected
        snapshot.restore()
        killed += 1
    assert killed > 1
    assert pushed() == expected


@pytest.mark.slow
def test_killed_at_any_moment(run: Run, parts: Any) -> None:
    snapshot = Snapshot(parts)
    rng = np.random.default_rng(0)

    def review() -> None:
        decide(parts, FIELD, "reject", Selection(states=["undecided"]))
        undo(parts, FIELD)
        join_masks(parts, FIELD, Selection(labels=["cat"]))
        undo(parts, FIELD)
        decide(parts, FIELD, "delete", Selection(labels=["cat", "cup"]))
        undo(parts, FIELD)

    def push() -> None:
        for score in (0.1, 0.85):
            push_run(run, parts.name, min_score=score)

    for work in [review, push] * 7:
        run_and_kill_after(work, float(rng.uniform(0.05, 0.5)))
        time.sleep(0.1)  # the database ends what it was told
        snapshot.check()
        if work is review:
            snapshot.check_after_undo(FIELD)
        push_run(run, parts.name)
        snapshot.check()
        assert {facts[1] for facts in state(parts).values()} == {"a#0", "a#1", "a#2", "b#0", "b#1"}
        snapshot.restore()
