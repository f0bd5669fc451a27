"""Joined and imported masks: what others changed meanwhile stays, and undo leaves what was changed since."""

from __future__ import annotations

from typing import Any

import pytest
from database_commands import changes_samples, meanwhile, watching
from fiftyone_fixture import fiftyone_db
from review_safety import (
    FIELD,
    HIDDEN,
    RIGHT,
    copy_of,
    dataset,
    detections,
    ids_of,
    run,
    sample_key,
    set_detections,
)

from gem_label.errors import UsageError
from gem_label.review import push_run
from gem_label.review.editing.changes import MaskChanges, replace_masks
from gem_label.review.editing.decisions import decide, undo
from gem_label.review.editing.joining import join_masks
from gem_label.review.storage.decision_log import collections, list_decisions
from gem_label.review.storage.selection import Selection
from gem_label.runs import Run

__all__ = ["dataset", "fiftyone_db", "run"]


@pytest.fixture
def parts(dataset: Any) -> Any:
    """Two cats and two dogs in the first photo, to be joined."""
    first, second = detections(dataset)
    cat, dog = (copy_of(mask, bounding_box=RIGHT, mask_id=None) for mask in (first, second))
    set_detections(dataset, [first, second, cat, dog])
    return dataset


EDITS: dict[str, dict[str, Any]] = {
    "label": {"label": "wolf"},
    "tags": {"tags": ["accepted"]},
    "shape": {"bounding_box": [0.0, 0.0, 0.125, 0.125]},
    "outline": {"mask": b"another"},
}


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("edit", [*EDITS, "deleted"])
def test_a_group_with_a_mask_that_changes_meanwhile_stays(parts: Any, edit: str, place: int) -> None:
    masks = detections(parts)
    changed = [
        *masks[:place],
        *([{**masks[place], **EDITS[edit]}] if edit in EDITS else []),
        *masks[place + 1 :],
    ]
    with meanwhile(lambda: set_detections(parts, changed)):
        made = join_masks(parts, FIELD, Selection(view=parts.limit(1)))
    assert (made.masks, made.missed) == (2, 2)
    assert "2 changed meanwhile and stay as they are" in str(made)
    dogs = [mask for mask in detections(parts) if mask["label"] == "dog"]
    assert [mask["tags"] for mask in dogs] == [["accepted"]]
    assert [mask for mask in detections(parts) if mask not in dogs] == [
        m for m in changed if m["label"] != "dog"
    ]
    assert undo(parts, FIELD)[1] == 2
    assert sorted(map(repr, detections(parts))) == sorted(map(repr, changed))


def test_a_join_of_masks_that_all_changed_is_refused(parts: Any) -> None:
    changed = [{**mask, "tags": ["blurry"]} for mask in detections(parts)]
    with (
        meanwhile(lambda: set_detections(parts, changed)),
        pytest.raises(UsageError, match="somebody else changed these masks"),
    ):
        join_masks(parts, FIELD, Selection(view=parts.limit(1)))
    assert detections(parts) == changed
    assert list_decisions(parts, FIELD) == []
    assert collections()[1].count_documents({"dataset": parts._doc.id}) == 0


def correct(dataset: Any) -> tuple[list[Any], list[Any], dict[Any, MaskChanges]]:
    """The masks of the first photo, what a correction makes of them, and the correction."""
    key = dataset._sample_collection.find_one(sample_key())["_id"]
    first, second, third, fourth = masks = detections(dataset)
    new = {**first, "label": "wolf", "tags": ["accepted"], "mask": second["mask"]}
    drawn = copy_of(third, label="bird", tags=["accepted"])
    after = [new, {**third, "tags": ["rejected"]}, fourth, drawn]
    changes = MaskChanges(replaced=[(first, new), (third, after[1])], removed=[second], added=[drawn])
    return masks, after, {key: changes}


def unstamped(masks: list[Any]) -> list[Any]:
    return [
        {k: v for k, v in mask.items() if k not in ("decided_at", "decided_by", "decision")} for mask in masks
    ]


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("edit", [*EDITS, "deleted"])
def test_a_correction_leaves_what_changes_meanwhile(parts: Any, edit: str, place: int) -> None:
    masks, after, changes = correct(parts)
    edited = {**masks[place], **EDITS[edit]} if edit in EDITS else None
    others = [masks[:place], masks[place + 1 :]]
    changed = [*others[0], *([edited] if edited else []), *others[1]]
    with meanwhile(lambda: set_detections(parts, changed)):
        made = replace_masks(parts, FIELD, "import", changes)
    gone = place == 1 and edited is None  # what it would delete is deleted
    assert (made.masks, made.missed) == ((4, 0) if gone else (3, 1))
    found = {mask["_id"]: mask for mask in detections(parts)}
    expected = {mask["_id"]: mask for mask in after if mask["_id"] != masks[place]["_id"]}
    if edited:
        expected[edited["_id"]] = edited
    assert unstamped([found[each] for each in sorted(found)]) == [expected[each] for each in sorted(expected)]
    assert undo(parts, FIELD)[1] == made.masks
    back = masks if gone else changed
    assert sorted(map(repr, detections(parts))) == sorted(map(repr, back))


def test_a_correction_that_is_sent_twice_is_made_once(parts: Any) -> None:
    from fiftyone.core.odm import get_db_conn

    _, after, changes = correct(parts)

    def send_first(event: Any) -> None:
        if changes_samples(event) and event.command_name == "aggregate":
            get_db_conn()[event.command["aggregate"]].aggregate(event.command["pipeline"], let={})

    with watching(send_first):
        assert replace_masks(parts, FIELD, "import", changes).missed == 0
    assert unstamped(detections(parts)) == after


def test_undo_leaves_joined_and_corrected_masks_that_were_changed_since(parts: Any) -> None:
    masks, _, changes = correct(parts)
    replace_masks(parts, FIELD, "import", changes)
    new, rejected, fourth, drawn = detections(parts)
    # the outline of one is drawn again, one gets an attribute, the added one another label
    now = [{**new, "mask": b"another"}, {**rejected, "color": "red"}, fourth, {**drawn, "label": "owl"}]
    set_detections(parts, now)
    decision, restored = undo(parts, FIELD)
    assert (restored, decision.masks, decision.missed) == (2, 2, 2)
    assert str(decision) == "import 2 masks (2 changed meanwhile and stay as they are)"
    stays, back, untouched, owl, removed = detections(parts)
    assert (stays, untouched, owl) == (now[0], masks[3], now[3])
    undecided = {"decided_at": None, "decided_by": None, "decision": None}
    assert back == {**masks[2], "color": "red", **undecided, "mask_path": None}
    assert removed == masks[1]
    with pytest.raises(UsageError, match="nothing to undo"):
        undo(parts, FIELD)


def test_undo_of_a_join_brings_parts_back_once(parts: Any) -> None:
    masks = detections(parts)
    join_masks(parts, FIELD, Selection(labels=["cat"], view=parts.limit(1)))
    joined, dog, other = detections(parts)
    # somebody puts the part back by hand, and draws the whole again
    set_detections(parts, [{**joined, "tags": ["accepted", "blurry"]}, dog, other, masks[2]])
    assert undo(parts, FIELD)[1] == 1
    assert detections(parts) == [{**joined, "tags": ["accepted", "blurry"]}, dog, other, masks[2]]


def test_undo_of_a_correction_leaves_a_corrected_mask_that_was_deleted_since(run: Run, parts: Any) -> None:
    masks, _, changes = correct(parts)
    replace_masks(parts, FIELD, "import", changes)
    decide(parts, FIELD, "delete", ids_of(detections(parts)[0]))
    (first,) = (each for each in list_decisions(parts, FIELD) if each.action == "import")
    decision, restored = undo(parts, FIELD, first.id)
    assert (restored, decision.missed) == (3, 1)
    assert [mask["_id"] for mask in detections(parts)] == [masks[i]["_id"] for i in (2, 3, 1)]
    push_run(run, parts.name)
    assert masks[0]["_id"] not in [mask["_id"] for mask in detections(parts)]
    # the delete is still there to be undone
    assert undo(parts, FIELD)[1] == 1


def test_what_others_change_while_an_undo_runs_stays(parts: Any) -> None:
    masks = detections(parts)
    join_masks(parts, FIELD, Selection(view=parts.limit(1)))
    cat, dog = detections(parts)
    with meanwhile(lambda: decide(parts, FIELD, "reject", ids_of(cat))):
        decision, restored = undo(parts, FIELD)
    assert (restored, decision.missed) == (3, 1)
    found = {mask["_id"]: mask for mask in detections(parts)}
    assert found.keys() == {mask["_id"] for mask in masks}
    assert (found[cat["_id"]]["tags"], found[dog["_id"]]) == (["rejected"], masks[1])


@pytest.mark.parametrize("work", ["accept", "delete", "join"])
def test_an_undo_while_a_decision_is_written_leaves_nothing_of_it(run: Run, parts: Any, work: str) -> None:
    before = detections(parts)

    def write() -> Any:
        if work == "join":
            return join_masks(parts, FIELD, Selection(view=parts.limit(1)))
        return decide(parts, FIELD, work)  # type: ignore[arg-type]

    with (
        meanwhile(lambda: undo(parts, FIELD), lambda event: event.command_name == "update" and (
            event.command["update"] == "gem_label.decisions"
        )),
        pytest.raises(UsageError, match="somebody else undid this"),
    ):  # fmt: skip
        write()
    keys = ("_id", "label", "tags", "mask", "bounding_box")
    found = sorted(detections(parts), key=lambda mask: mask["_id"])
    assert [[m[k] for k in keys] for m in found] == [
        [m[k] for k in keys] for m in sorted(before, key=lambda mask: mask["_id"])
    ]
    assert list_decisions(parts, FIELD) == []
    assert push_run(run, parts.name).decided == 0
    # before it is applied: nothing is
    with (
        meanwhile(lambda: undo(parts, FIELD)),
        pytest.raises(UsageError, match="somebody else undid this"),
    ):
        write()
    assert sorted(mask["_id"] for mask in detections(parts)) == [mask["_id"] for mask in found]
    assert all(mask.get("decision") is None for mask in detections(parts))
    assert list_decisions(parts, FIELD) == []


def test_two_undos_of_one_decision_at_once_restore_it_once(parts: Any) -> None:
    before = detections(parts)
    join_masks(parts, FIELD, Selection(view=parts.limit(1)))
    with meanwhile(lambda: undo(parts, FIELD)):
        assert undo(parts, FIELD)[1] in (0, 4)  # the log is gone when the other one ends first
    assert sorted(map(repr, detections(parts))) == sorted(map(repr, before))


def test_a_join_of_less_likely_masks_is_undone_back_into_their_field(dataset: Any) -> None:
    (hidden,) = detections(dataset, HIDDEN)
    main = detections(dataset)
    set_detections(dataset, [hidden, copy_of(hidden, mask_id=None, bounding_box=RIGHT)], HIDDEN)
    before = detections(dataset, HIDDEN)
    join_masks(dataset, HIDDEN, Selection())
    *_, joined = detections(dataset)
    assert detections(dataset, HIDDEN) == []
    # changed since: it stays with the labels, its part comes back
    set_detections(dataset, [*main, {**joined, "label": "wolf"}])
    decision, restored = undo(dataset, HIDDEN)
    assert (restored, decision.missed) == (1, 1)
    assert detections(dataset) == [*main, {**joined, "label": "wolf"}]
    assert detections(dataset, HIDDEN) == before[1:]
