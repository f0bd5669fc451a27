"""Decisions about masks: what the database does, judged through FiftyOne's own API and against plain Python."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fiftyone_fixture import fiftyone_db
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_factory import DIMENSION, make_run, mask_labels, mask_set, rectangles

from gem_label.errors import UsageError
from gem_label.labeling import Vocabulary
from gem_label.review.editing.changes import MaskChanges, replace_masks
from gem_label.review.editing.decisions import decide, undo
from gem_label.review.storage.decision_log import DECIDED_MASKS, DECISIONS, collections, list_decisions
from gem_label.review.storage.detections import is_decided
from gem_label.review.storage.selection import STATES, Selection, aggregate_masks
from gem_label.runs import relabel_run

__all__ = ["fiftyone_db"]

FIELD = "gem_label"


@pytest.fixture
def dataset(fiftyone_db: str, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Three photos with 4, 0 and 3 masks."""
    import fiftyone as fo

    from gem_label.review import push_run

    labels = mask_labels(["cat", "dog", "cat", "cup"], [0.875, 0.75, 0.25, 0.125])
    run = make_run(
        tmp_path / "run",
        {
            "a.jpg": (mask_set(rectangles(4)), labels),
            "empty.jpg": (mask_set([]), mask_labels([], [])),
            "b.jpg": (
                mask_set(rectangles(3, seed=1)),
                mask_labels(["cup", "dog", "cat"], [0.5, 0.625, 0.75]),
            ),
        },
    )
    name = f"decisions {request.node.name}"
    push_run(run, name)
    yield fo.load_dataset(name)
    fo.delete_dataset(name)


def state_of(dataset: Any) -> dict[str, tuple[str, list[str]]]:
    """mask_id -> (label, tags), read by FiftyOne from the database."""
    dataset.reload()
    ids, labels, tags = dataset.values(
        [f"{FIELD}.detections.{name}" for name in ("mask_id", "label", "tags")]
    )
    return {
        i: (label, list(tag))
        for of_sample in zip(ids, labels, tags, strict=True)
        for i, label, tag in zip(*(part or [] for part in of_sample), strict=True)
    }


def tagged(dataset: Any, tag: str) -> set[str]:
    return {i for i, (_, tags) in state_of(dataset).items() if tag in tags}


def label_ids(dataset: Any, *mask_ids: str) -> list[str]:
    found = dict(
        zip(
            dataset.values(f"{FIELD}.detections.mask_id", unwind=True),
            dataset.values(f"{FIELD}.detections.id", unwind=True),
            strict=True,
        )
    )
    return [found[each] for each in mask_ids]


def test_accept_and_reject_by_hand(dataset: Any) -> None:
    first = dataset.first()
    chosen = label_ids(dataset, "a#0", "b#1")
    decision = decide(dataset, FIELD, "accept", Selection(ids=chosen))
    assert (decision.masks, str(decision)) == (2, "accept 2 masks")
    assert tagged(dataset, "accepted") == {"a#0", "b#1"}
    assert "accepted" in first.gem_label.detections[0].tags  # samples that are held are up to date
    assert first.gem_label.detections[0].decided_at.replace(tzinfo=None) == decision.at.replace(tzinfo=None)
    decide(dataset, FIELD, "reject", Selection(ids=chosen[:1]))
    assert tagged(dataset, "accepted") == {"b#1"}
    assert tagged(dataset, "rejected") == {"a#0"}


def test_other_tags_stay(dataset: Any) -> None:
    sample = dataset.first()
    sample.gem_label.detections[0].tags = ["blurry", "rejected"]
    sample.save()
    decide(dataset, FIELD, "accept", Selection(labels=["cat"]))
    assert state_of(dataset)["a#0"] == ("cat", ["blurry", "accepted"])


def test_by_threshold_and_class(dataset: Any) -> None:
    assert decide(dataset, FIELD, "reject", Selection(labels=["cat"], below_score=0.75)).masks == 1
    assert tagged(dataset, "rejected") == {"a#2"}
    assert decide(dataset, FIELD, "accept", Selection(min_score=0.75, states=["undecided"])).masks == 3
    assert tagged(dataset, "accepted") == {"a#0", "a#1", "b#2"}


@pytest.mark.parametrize(
    "kind", ["samples", "labels", "patches", "selected patches", "other fields left out"]
)
def test_all_masks_of_a_view(dataset: Any, kind: str) -> None:
    import fiftyone as fo

    view, expected = {
        "samples": lambda: (dataset.limit(1), {"a#0", "a#1", "a#2", "a#3"}),
        "labels": lambda: (dataset.filter_labels(FIELD, fo.ViewField("label") == "cup"), {"a#3", "b#0"}),
        "patches": lambda: (
            dataset.filter_labels(FIELD, fo.ViewField("label") == "dog").to_patches(FIELD),
            {"a#1", "b#1"},
        ),
        "selected patches": lambda: (
            dataset.to_patches(FIELD).select(label_ids(dataset, "b#2")),
            {"b#2"},
        ),
        "other fields left out": lambda: (
            dataset.limit(1).select_fields(f"{FIELD}.detections.label"),
            {"a#0", "a#1", "a#2", "a#3"},
        ),
    }[kind]()
    decide(dataset, FIELD, "accept", Selection(view=view))
    assert tagged(dataset, "accepted") == expected


def test_patches_of_another_field_are_refused(dataset: Any) -> None:
    dataset.clone_sample_field(FIELD, "other")
    with pytest.raises(UsageError, match="shows patches of 'other'"):
        decide(dataset, FIELD, "accept", Selection(view=dataset.to_patches("other")))


def test_an_old_patches_view_does_not_bring_old_labels_back(dataset: Any) -> None:
    patches = dataset.to_patches(FIELD)
    decide(dataset, FIELD, "rename", Selection(labels=["cup"]), "mug")
    decide(dataset, FIELD, "accept", Selection(view=patches))
    undo(dataset, FIELD)
    assert {label for label, _ in state_of(dataset).values()} == {"cat", "dog", "mug"}


def test_rename_adds_the_class_and_decides(dataset: Any, tmp_path: Path) -> None:
    from gem_label.review import push_run

    decide(dataset, FIELD, "rename", Selection(labels=["dog", "cup"]), " $puppy ")
    assert {label for label, _ in state_of(dataset).values()} == {"cat", "$puppy"}
    assert "$puppy" in dataset.classes[FIELD]
    text = np.eye(DIMENSION, dtype=np.float32)[:2]
    relabeled = relabel_run(_run(tmp_path), Vocabulary.from_words(["bird", "car"]), text)
    report = push_run(relabeled, dataset.name)
    assert report.decided == 4
    assert {label for label, _ in state_of(dataset).values()} == {"bird", "car", "$puppy"}


def test_the_same_name_again_confirms_it_and_undo_takes_that_back(dataset: Any) -> None:
    ids = dataset.values(f"{FIELD}.detections.id", unwind=True)
    before = state_of(dataset)
    for label in set(dataset.values(f"{FIELD}.detections.label", unwind=True)):
        decision = decide(dataset, FIELD, "rename", Selection(labels=[label]), label)
    assert tagged(dataset, "accepted") == set(dataset.values(f"{FIELD}.detections.mask_id", unwind=True))
    while len(list_decisions(dataset, FIELD)):
        undo(dataset, FIELD)
    assert state_of(dataset) == before
    # masks that no run proposed are decided by any name
    dataset.set_label_values(f"{FIELD}.detections.proposed_label", dict.fromkeys(ids))
    decision = decide(dataset, FIELD, "rename", Selection(ids=ids[:1]), "zebra")
    assert decision.masks == len(tagged(dataset, "accepted")) == 1


def _run(tmp_path: Path) -> Any:
    from gem_label.runs import open_run

    return open_run(tmp_path / "run")


def test_deleted_masks_do_not_come_back_and_undo_brings_them_back_whole(dataset: Any, tmp_path: Path) -> None:
    from gem_label.review import push_run

    before = dataset.values(f"{FIELD}.detections")
    decide(dataset, FIELD, "delete", Selection(labels=["cat"]))
    assert set(state_of(dataset)) == {"a#1", "a#3", "b#0", "b#1"}
    assert push_run(_run(tmp_path), dataset.name).detections == 4
    assert set(state_of(dataset)) == {"a#1", "a#3", "b#0", "b#1"}
    decision, masks = undo(dataset, FIELD)
    assert (decision.action, masks) == ("delete", 3)
    for old, new in zip(before, dataset.values(f"{FIELD}.detections"), strict=True):
        by_id = {d.id: d for d in new or []}
        assert set(by_id) == {d.id for d in old or []}
        for detection in old or []:
            np.testing.assert_array_equal(detection.mask, by_id[detection.id].mask)
    assert push_run(_run(tmp_path), dataset.name).detections == 7


def test_undo_step_by_step_to_the_beginning(dataset: Any) -> None:
    states = [state_of(dataset)]
    for action, selection, label in (
        ("accept", Selection(labels=["cat"]), None),
        ("rename", Selection(labels=["cat"], min_score=0.5), "tiger"),
        ("reject", Selection(below_score=0.6), None),
        ("delete", Selection(labels=["dog"]), None),
    ):
        decide(dataset, FIELD, action, selection, label)  # type: ignore[arg-type]
        states.append(state_of(dataset))
    assert [d.action for d in list_decisions(dataset, FIELD)] == ["delete", "reject", "rename", "accept"]
    for expected in reversed(states[:-1]):
        undo(dataset, FIELD)
        assert state_of(dataset) == expected
    assert set(dataset.values(f"{FIELD}.detections.decided_at", unwind=True)) == {None}
    with pytest.raises(UsageError, match="nothing to undo"):
        undo(dataset, FIELD)


def test_two_users_undo_their_own(dataset: Any) -> None:
    first = decide(dataset, FIELD, "accept", Selection(labels=["cat"]))
    decide(dataset, FIELD, "reject", Selection(ids=label_ids(dataset, "a#0")))
    assert undo(dataset, FIELD, first.id)[1] == 2  # a#0 was decided again since
    assert tagged(dataset, "accepted") == set()
    assert tagged(dataset, "rejected") == {"a#0"}


def test_nothing_meant_and_nonsense_are_refused(dataset: Any) -> None:
    for selection in (Selection(ids=[]), Selection(labels=["zebra"]), Selection(view=dataset.limit(0))):
        with pytest.raises(UsageError, match="no mask is meant"):
            decide(dataset, FIELD, "accept", selection)
    with pytest.raises(UsageError, match="needs the new label"):
        decide(dataset, FIELD, "rename")
    with pytest.raises(UsageError, match="has no field 'nothing'"):
        decide(dataset, "nothing", "accept")
    with pytest.raises(UsageError, match="unknown decision"):
        decide(dataset, FIELD, "forget")  # type: ignore[arg-type]
    assert list_decisions(dataset, FIELD) == []


def test_changed_masks_are_one_decision(dataset: Any) -> None:
    sample = dataset._sample_collection.find_one({"filepath": {"$regex": "a.jpg$"}})
    old = sample[FIELD]["detections"]
    new = {**old[1], "label": "wolf", "mask": old[0]["mask"]}
    drawn = {**old[2], "_id": type(sample["_id"])(), "mask_id": None, "label": "$bird"}
    before = state_of(dataset)
    changes = MaskChanges(replaced=[(old[1], new)], removed=[old[3]], added=[drawn])
    assert replace_masks(dataset, FIELD, "import", {sample["_id"]: changes}).masks == 3
    detections = {d.id: d for d in dataset.first().gem_label.detections}
    assert [d.label for d in detections.values()] == ["cat", "wolf", "cat", "$bird"]
    np.testing.assert_array_equal(detections[str(new["_id"])].mask, detections[str(old[0]["_id"])].mask)
    assert undo(dataset, FIELD)[1] == 3
    assert state_of(dataset) == before
    assert dataset._sample_collection.find_one({"_id": sample["_id"]})[FIELD]["detections"] == old
    with pytest.raises(UsageError, match="nothing changes"):
        replace_masks(dataset, FIELD, "import", {sample["_id"]: MaskChanges()})


def test_the_last_decision_is_the_latest_whoever_made_it(dataset: Any) -> None:
    made = decide(dataset, FIELD, "accept", Selection(labels=["cat"]))
    decisions, _ = collections()
    for number, seconds in (("f", -1), ("0", 1)):  # ids of two processes are in order by the second alone
        document = decisions.find_one({"_id": made.id})
        at = document["at"] + timedelta(seconds=seconds)
        decisions.insert_one({**document, "_id": number * 24, "at": at})
    assert [each.id for each in list_decisions(dataset, FIELD)] == ["0" * 24, made.id, "f" * 24]


def test_the_log_forgets_datasets_that_are_gone(dataset: Any) -> None:
    import fiftyone as fo

    other = dataset.clone()
    decide(other, FIELD, "delete", Selection(labels=["cat"]))
    gone = other._doc.id
    fo.delete_dataset(other.name)
    decide(dataset, FIELD, "accept")
    for collection in collections():
        assert collection.count_documents({"dataset": gone}) == 0
    assert {c.name for c in collections()} == {DECISIONS, DECIDED_MASKS}


detections = st.fixed_dictionaries(
    {"label": st.sampled_from(["cat", "dog"])},
    optional={
        "proposed_label": st.sampled_from(["cat", "dog", None]),
        "tags": st.lists(st.sampled_from(["accepted", "rejected", "blurry"]), unique=True),
    },
)


@given(st.lists(detections, min_size=1, max_size=8))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_database_and_the_push_agree_on_what_is_decided(dataset: Any, masks: list[dict]) -> None:
    key = {"_id": dataset._sample_collection.find_one({"filepath": {"$regex": "empty"}})["_id"]}
    dataset._sample_collection.update_one(key, {"$set": {FIELD: {"detections": masks}}})
    found = {}
    for state in STATES:
        rows = aggregate_masks(dataset, FIELD, Selection(states=[state]), [{"$match": key}])
        found[state] = [mask for row in rows for mask in row["masks"]]
    assert sum(map(len, found.values())) == len(masks)
    assert all(not is_decided(mask) for mask in found["undecided"])
    assert all(is_decided(mask) for state in STATES[1:] for mask in found[state])
