"""What others do at the same moment, or by hand before an undo, stays."""

from __future__ import annotations

from typing import Any

import pytest
from database_commands import meanwhile
from fiftyone_fixture import fiftyone_db
from review_safety import (
    FIELD,
    HIDDEN,
    dataset,
    detections,
    drop_metadata,
    ids_of,
    run,
    sample_key,
    set_detections,
    write_photos,
)

from gem_label.errors import UsageError
from gem_label.review import push_run
from gem_label.review.editing.decisions import decide, undo
from gem_label.review.storage.decision_log import list_decisions
from gem_label.review.storage.documents import find_sizes
from gem_label.review.storage.selection import Selection
from gem_label.runs import Run

__all__ = ["dataset", "fiftyone_db", "run"]

# --- changes by others at the same moment ------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["accept", "rename", "delete"])
def test_a_decision_that_somebody_makes_meanwhile_stays(run: Run, dataset: Any, action: Any) -> None:
    first, second = before = detections(dataset)
    other = []
    with meanwhile(lambda: other.append(decide(dataset, FIELD, "reject", ids_of(first)))):
        made = decide(dataset, FIELD, action, ids_of(first, second), "mug" if action == "rename" else None)
    assert (made.masks, made.missed) == (1, 1)
    assert "(1 changed meanwhile and stay as they are)" in str(made)
    assert [d.masks for d in list_decisions(dataset, FIELD)] == [1, 1]
    after = {mask["mask_id"]: mask for mask in detections(dataset)}
    assert (after["a#0"]["tags"], after["a#0"]["decision"]) == (["rejected"], other[0].id)
    assert ("a#1" in after) == (action != "delete")
    push_run(run, dataset.name)
    assert {mask["mask_id"]: mask for mask in detections(dataset)} == after
    assert undo(dataset, FIELD, made.id)[1] == 1
    assert undo(dataset, FIELD, other[0].id)[1] == 1
    empty = {"decided_at": None, "decided_by": None, "decision": None}
    assert [{**empty, **mask} for mask in detections(dataset)] == [{**empty, **mask} for mask in before]


@pytest.mark.parametrize(("action", "label"), [("accept", None), ("rename", "mug")])
def test_who_decides_the_same_at_the_same_moment_undoes_only_their_own(
    dataset: Any, action: Any, label: str | None
) -> None:
    first, second = detections(dataset)
    other = []
    with meanwhile(lambda: other.append(decide(dataset, FIELD, action, ids_of(first), label))):
        made = decide(dataset, FIELD, action, ids_of(first, second), label)
    assert (made.masks, made.missed) == (2, 0)
    assert undo(dataset, FIELD, made.id)[1] == 2
    after, untouched = detections(dataset)
    assert (after["decision"], untouched.get("decision")) == (other[0].id, None)
    assert (after["tags"], after["label"]) == ((["accepted"], "cat") if label is None else ([], "mug"))
    assert undo(dataset, FIELD)[1] == 1
    assert [(m["label"], m["tags"]) for m in detections(dataset)] == [("cat", []), ("dog", [])]


def test_a_decision_about_masks_that_all_changed_is_refused(dataset: Any) -> None:
    first, second = detections(dataset)
    with (
        meanwhile(lambda: set_detections(dataset, [{**first, "label": "wolf"}, second])),
        pytest.raises(UsageError, match="somebody else changed these masks"),
    ):
        decide(dataset, FIELD, "delete", ids_of(first))
    assert detections(dataset) == [{**first, "label": "wolf"}, second]
    assert list_decisions(dataset, FIELD) == []


def test_a_mask_that_gets_another_outline_meanwhile_is_not_deleted(dataset: Any) -> None:
    first, second = detections(dataset)
    redrawn = {**first, "mask": second["mask"]}
    with meanwhile(lambda: set_detections(dataset, [redrawn, second])):
        made = decide(dataset, FIELD, "delete", ids_of(first, second))
    assert (made.masks, made.missed) == (1, 1)
    assert detections(dataset) == [redrawn]


def test_a_mask_that_a_push_hides_meanwhile_is_not_deleted(run: Run, dataset: Any) -> None:
    first, second = detections(dataset)
    with meanwhile(lambda: push_run(run, dataset.name, min_score=0.85)):
        made = decide(dataset, FIELD, "delete", ids_of(first, second))
    assert (made.masks, made.missed) == (1, 1)
    assert detections(dataset) == []
    assert "a#1" in [mask["mask_id"] for mask in detections(dataset, HIDDEN)]
    assert undo(dataset, FIELD)[1] == 1
    assert [mask["mask_id"] for mask in detections(dataset)] == ["a#0"]


def test_a_push_writes_nothing_over_a_decision_of_the_same_moment(run: Run, dataset: Any) -> None:
    first, second = detections(dataset)
    set_detections(dataset, [{**first, "confidence": 0.1}, second])  # gives the push something to write
    with meanwhile(lambda: decide(dataset, FIELD, "accept", ids_of(first))):
        assert push_run(run, dataset.name).decided == 1
    assert [mask["tags"] for mask in detections(dataset)] == [["accepted"], []]


def test_a_push_writes_nothing_over_an_edit_that_leaves_the_time_of_change(run: Run, dataset: Any) -> None:
    first, second = detections(dataset)
    set_detections(dataset, [{**first, "confidence": 0.1}, second])
    change = {"$set": {f"{FIELD}.detections.0.tags": ["accepted"]}}
    with meanwhile(lambda: dataset._sample_collection.update_one(sample_key(), change)):
        assert push_run(run, dataset.name).decided == 1
    assert [mask["tags"] for mask in detections(dataset)] == [["accepted"], []]


def test_a_push_that_begins_again_counts_once(run: Run, dataset: Any) -> None:
    for field in (FIELD, HIDDEN):
        dataset._sample_collection.update_many({}, {"$set": {f"{field}.detections": []}})
    blurry = {"$set": {"tags": ["blurry"]}, "$currentDate": {"last_modified_at": True}}
    with meanwhile(lambda: dataset._sample_collection.update_one(sample_key(), blurry)):
        report = push_run(run, dataset.name)
    assert (report.updated, report.detections, report.less_likely, report.masks_in_database) == (2, 4, 1, 5)
    # whoever writes the same meanwhile has written it
    dataset._sample_collection.update_one(sample_key(), {"$set": {f"{FIELD}.detections": []}})
    with meanwhile(lambda: push_run(run, dataset.name)):
        report = push_run(run, dataset.name)
    assert (report.updated, report.unchanged, report.detections, report.masks_in_database) == (0, 2, 4, 0)


def test_a_size_that_somebody_stores_meanwhile_stays(run: Run, dataset: Any) -> None:
    write_photos(run)
    drop_metadata(dataset)
    ids = dataset.values("_id")
    with meanwhile(lambda: drop_metadata(dataset, {"_cls": "ImageMetadata", "width": 640, "height": 480})):
        assert find_sizes(dataset, ids[:1]) == {ids[0]: (640, 480)}


def test_classes_and_pushes_of_two_processes_both_stay(run: Run, dataset: Any) -> None:
    from fiftyone.core.odm import get_db_conn

    datasets = get_db_conn().datasets
    key = {"_id": dataset._doc.id}
    datasets.update_one(key, {"$push": {f"classes.{FIELD}": "bird"}, "$set": {"info.gem_label.other": {}}})
    decide(dataset, FIELD, "rename", Selection(labels=["cat"]), "mug")
    assert dataset.classes[FIELD][-2:] == ["bird", "mug"]
    push_run(run, dataset.name)
    assert "mug" in dataset.classes[FIELD]  # what reviewers named outlasts the run's words
    assert set(datasets.find_one(key)["info"]["gem_label"]) == {FIELD, "other"}


# --- undo --------------------------------------------------------------------------------------------------------


def test_undo_leaves_alone_what_was_done_by_hand_since(dataset: Any) -> None:
    first, second = detections(dataset)
    set_detections(dataset, [{**first, "tags": ["old", "rejected"]}, second])
    decide(dataset, FIELD, "accept")
    accepted, other = detections(dataset)
    set_detections(dataset, [{**accepted, "label": "wolf", "tags": ["blurry", "accepted"]},
                             {**other, "tags": ["rejected"]}])  # fmt: skip
    assert undo(dataset, FIELD)[1] == 1 + 2  # and those of the other photo
    after, rejected = detections(dataset)
    assert (after["label"], after["tags"]) == ("wolf", ["blurry", "rejected"])
    assert rejected["tags"] == ["rejected"]


def test_undo_of_a_rename_leaves_a_later_label(dataset: Any) -> None:
    decide(dataset, FIELD, "rename", Selection(labels=["cat", "dog"]), "mug")
    first, second = detections(dataset)
    set_detections(dataset, [{**first, "label": "wolf"}, {**second, "tags": ["blurry"]}])
    assert undo(dataset, FIELD)[1] == 1 + 1
    assert [(m["label"], m["tags"]) for m in detections(dataset)] == [("wolf", []), ("dog", ["blurry"])]


def test_undo_in_the_less_likely_field_keeps_what_was_renamed_by_hand_since(dataset: Any) -> None:
    decide(dataset, HIDDEN, "accept")
    *rest, mask = detections(dataset)
    set_detections(dataset, [*rest, {**mask, "label": "wolf", "tags": []}])
    assert undo(dataset, HIDDEN)[1] == 0
    assert detections(dataset)[-1]["label"] == "wolf"
    assert detections(dataset, HIDDEN) == []


def test_undo_restores_masks_without_tags_and_into_an_emptied_field(dataset: Any) -> None:
    first, second = detections(dataset)
    untagged = {key: value for key, value in first.items() if key != "tags"}
    set_detections(dataset, [untagged, second])
    decide(dataset, FIELD, "accept", ids_of(first))
    undo(dataset, FIELD)
    assert dataset.first()[FIELD].detections[0].tags == []
    decide(dataset, FIELD, "delete", ids_of(second))
    dataset._sample_collection.update_one(sample_key(), {"$set": {FIELD: None}})
    assert undo(dataset, FIELD)[1] == 1
    assert [detection.mask_id for detection in dataset.first()[FIELD].detections] == ["a#1"]
    decide(dataset, FIELD, "delete")
    dataset.delete_samples(dataset.first())
    assert undo(dataset, FIELD)[1] == 2  # those of the photo that is left
