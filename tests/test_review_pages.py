"""Pages of like masks, and decisions about many masks in one request: on a real database, without the App."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from database_commands import meanwhile
from fiftyone_fixture import fiftyone_db
from review_dataset import FIELD, WORDS, demo_run

from gem_label.errors import UsageError
from gem_label.review import push_run
from gem_label.review.editing.decisions import decide
from gem_label.review.editing.many_masks import Answer, MaskDecision, decide_masks, undo_masks
from gem_label.review.queues.likeness import arrange_pages
from gem_label.review.queues.order import MaskReference, queue_masks
from gem_label.review.queues.pages import make_pages, next_class
from gem_label.review.storage.decision_log import list_decisions
from gem_label.review.storage.selection import Selection

__all__ = ["fiftyone_db"]

PHOTOS = 12


@pytest.fixture
def dataset(fiftyone_db: str, tmp_path: Path) -> Iterator[Any]:
    """Twelve photos with four masks each, 16 of every word."""
    import fiftyone as fo

    name = "review pages"
    push_run(demo_run(tmp_path / "run", PHOTOS), name)
    yield fo.load_dataset(name)
    fo.delete_dataset(name)


def stored(dataset: Any) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What the database says, by detection id: label and tags."""
    dataset.reload()
    return {
        each.id: (each.label, tuple(each.tags)) for sample in dataset for each in sample[FIELD].detections
    }


def accepting(masks: list[MaskReference], label: str) -> list[MaskDecision]:
    return [MaskDecision(mask, label) for mask in masks]


# --- order ---


def test_like_masks_share_a_page_and_the_most_doubtful_page_is_first() -> None:
    rng = np.random.default_rng(0)
    kind = rng.permutation(np.repeat(np.arange(4), 15))
    embeddings = (np.eye(4)[kind] * 3 + rng.normal(0, 0.1, (60, 4))).astype(np.float32)
    margins = np.array([0.4, 0.1, 0.3, 0.2])[kind] + rng.uniform(0, 0.05, 60)
    pages = arrange_pages(embeddings, margins, 15)
    assert [set(kind[page]) for page in pages] == [{1}, {3}, {2}, {0}]
    assert sorted(np.concatenate(pages)) == list(range(60))


def test_neighbors_on_a_page_are_like_each_other() -> None:
    rng = np.random.default_rng(1)
    angles = rng.permutation(np.linspace(0, 2.5, 40))
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    (page,) = arrange_pages(embeddings, 1 - angles, 60)
    assert list(angles[page]) == sorted(angles, reverse=True)  # and it begins with the smallest margins


@pytest.mark.parametrize(("count", "lengths"), [(0, []), (1, [1]), (2, [2]), (60, [60]), (61, [31, 30])])
def test_pages_are_of_even_length(count: int, lengths: list[int]) -> None:
    embeddings = np.random.default_rng(2).normal(size=(count, 8)).astype(np.float32)
    embeddings[: count // 2] = 0  # a mask without any feature is like every other
    pages = arrange_pages(embeddings, np.zeros(count), 60)
    assert sorted(map(len, pages), reverse=True) == lengths


# --- pages of a dataset ---


def test_a_page_has_undecided_masks_of_one_class(dataset: Any) -> None:
    before = stored(dataset)
    (page,) = make_pages(dataset, FIELD, "cat")
    assert {each.label_id for each in page} == {each for each, (label, _) in before.items() if label == "cat"}
    three = make_pages(dataset, FIELD, "cat", size=6)
    assert sorted(len(each) for each in three) == [5, 5, 6]
    decide(dataset, FIELD, "accept", Selection(ids=[mask.label_id for mask in three[0]]))
    left = {each.label_id for page in make_pages(dataset, FIELD, "cat") for each in page}
    assert left == {each.label_id for page in three[1:] for each in page}
    sample = three[1][0].sample_id
    found = make_pages(dataset, FIELD, "cat", Selection(view=dataset.select(sample)))
    assert {each.sample_id for page in found for each in page} == {sample}


def test_the_next_class_is_the_one_with_most_undecided_masks(dataset: Any) -> None:
    (page,) = make_pages(dataset, FIELD, "cat")
    decide(dataset, FIELD, "rename", Selection(ids=[mask.label_id for mask in page[:3]]), "horse")
    decide(dataset, FIELD, "reject", Selection(ids=[page[4].label_id]))
    decide(dataset, FIELD, "accept", Selection(labels=["pizza"]))
    assert next_class(dataset, FIELD, Selection()) == "horse"
    assert next_class(dataset, FIELD, Selection(), ["horse"]) == "cat"
    assert next_class(dataset, FIELD, Selection(), ["horse", "cat"]) is None


def test_without_the_run_pages_are_made_by_margin(dataset: Any, tmp_path: Path) -> None:
    by_margin = queue_masks(dataset, FIELD, "uncertain", Selection(labels=["cat"]))
    with_run = make_pages(dataset, FIELD, "cat", size=8)
    assert with_run != [by_margin[:8], by_margin[8:]]
    shutil.rmtree(tmp_path / "run")
    assert make_pages(dataset, FIELD, "cat", size=8) == [by_margin[:8], by_margin[8:]]


def test_a_mask_that_the_run_does_not_have_comes_along(dataset: Any) -> None:
    sample = dataset.first()
    drawn = sample[FIELD].detections[0]
    drawn.mask_id = drawn.margin = None
    sample.save()
    pages = make_pages(dataset, FIELD, drawn.label)
    assert [each.label_id for each in pages[-1]] == [drawn.id]


# --- decisions about many masks ---


def test_a_page_is_one_request_and_one_undo(dataset: Any) -> None:
    before = stored(dataset)
    (page,) = make_pages(dataset, FIELD, "cat")
    decisions = accepting(page, "cat")
    decisions[1:4] = [MaskDecision(page[1], None), MaskDecision(page[2], "dog"), MaskDecision(page[3], "fox")]
    answers = decide_masks(dataset, FIELD, decisions, "r1", author="Ada")
    assert {each.outcome for each in answers} == {"stored"}
    assert [each.state for each in answers[:5]] == ["accepted", "rejected", "renamed", "renamed", "accepted"]
    expected = {mask.label_id: ("cat", ("accepted",)) for mask in page}
    expected |= {page[1].label_id: ("cat", ("rejected",))}
    expected |= {page[2].label_id: ("dog", ()), page[3].label_id: ("fox", ())}
    assert stored(dataset) == before | expected
    made = list_decisions(dataset, FIELD)
    assert sorted((each.action, each.masks, each.author) for each in made) == [
        ("accept", 13, "Ada"),
        ("reject", 1, "Ada"),
        ("rename", 1, "Ada"),
        ("rename", 1, "Ada"),
    ]

    # no answer came, and it is sent again
    assert decide_masks(dataset, FIELD, decisions, "r1", author="Ada") == answers
    assert list_decisions(dataset, FIELD) == made
    undone = undo_masks(dataset, FIELD, page, "r1")
    assert {each.outcome for each in undone} == {"stored"}
    assert stored(dataset) == before
    assert undo_masks(dataset, FIELD, page, "r1") == undone


def test_half_a_page_that_was_stored_is_completed(dataset: Any) -> None:
    (page,) = make_pages(dataset, FIELD, "cat")
    decisions = [*accepting(page[:8], "cat"), *accepting(page[8:], "dog")]
    decide_masks(dataset, FIELD, decisions[:11], "r1")  # the server ended in the middle
    answers = decide_masks(dataset, FIELD, decisions, "r1")
    assert [each.state for each in answers] == ["accepted"] * 8 + ["renamed"] * 8
    undo_masks(dataset, FIELD, page, "r1")
    assert not list_decisions(dataset, FIELD)


def test_masks_that_others_decided_about_stay_and_the_rest_of_the_page_is_stored(dataset: Any) -> None:
    (page,) = make_pages(dataset, FIELD, "cat")
    decide(dataset, FIELD, "rename", Selection(ids=[page[0].label_id]), "dog")
    decide(dataset, FIELD, "reject", Selection(ids=[page[1].label_id]))
    decide(dataset, FIELD, "delete", Selection(ids=[page[2].label_id]))
    answers = decide_masks(dataset, FIELD, accepting(page, "cat"), "r1")
    assert [each.outcome for each in answers] == ["conflict", "conflict", "gone"] + ["stored"] * 13
    assert [(each.label, each.state) for each in answers[:2]] == [("dog", "renamed"), ("cat", "rejected")]
    assert answers[2] == Answer("gone")

    # with what the panel was told it may decide about them, out of the rejected ones into another class
    again = [MaskDecision(page[i], "fox", answers[i].decision) for i in (0, 1)]
    assert {each.outcome for each in decide_masks(dataset, FIELD, again, "r2")} == {"stored"}
    now = stored(dataset)
    assert [now[page[i].label_id] for i in (0, 1)] == [("fox", ()), ("fox", ("accepted",))]

    # an undo of the first request leaves them alone
    assert [each.state for each in undo_masks(dataset, FIELD, page[:4], "r1") if each.state] == [
        "renamed",
        "accepted",
        "undecided",
    ]


def test_masks_that_others_decide_about_meanwhile_stay(dataset: Any) -> None:
    (page,) = make_pages(dataset, FIELD, "cat")
    other = Selection(ids=[page[0].label_id])
    with meanwhile(lambda: decide(dataset, FIELD, "rename", other, "dog")):
        answers = decide_masks(dataset, FIELD, accepting(page, "cat"), "r1")
    assert [each.outcome for each in answers] == ["conflict"] + ["stored"] * 15
    assert stored(dataset)[page[0].label_id] == ("dog", ())


def test_bad_input_decides_nothing(dataset: Any) -> None:
    (page,) = make_pages(dataset, FIELD, "cat")
    with pytest.raises(UsageError, match="give the new label"):
        decide_masks(dataset, FIELD, [*accepting(page[1:], "cat"), MaskDecision(page[0], " ")], "r1")
    with pytest.raises(UsageError, match="has no field 'other'"):
        decide_masks(dataset, "other", accepting(page, "cat"), "r1")
    with pytest.raises(UsageError, match="has no field 'other'"):
        undo_masks(dataset, "other", page, "r1")
    with pytest.raises(UsageError, match="has no field 'other'"):
        make_pages(dataset, "other", "cat")
    with pytest.raises(UsageError, match="has no field 'other'"):
        next_class(dataset, "other", Selection())
    assert not list_decisions(dataset, FIELD)


# --- what the component of the panel calls ---


def test_the_panel_goes_from_class_to_class(dataset: Any) -> None:
    from fiftyone.operators.executor import ExecutionContext

    from gem_label.plugin.review_panel import ReviewPanel

    def ask(method: str, **params: Any) -> dict[str, Any]:
        request = {"dataset_name": dataset.name, "selected": [], "params": {"field": FIELD} | params}
        return getattr(ReviewPanel(), method)(ExecutionContext(request))

    finished: list[str] = []
    for _ in WORDS:
        told = ask("make_pages", finished=finished, size=10)
        assert [len(page) for page in told["pages"]] == [8, 8]
        assert told["remaining"] == 48
        finished.append(told["label"])
    assert sorted(finished) == sorted(WORDS)
    assert ask("make_pages", finished=finished)["label"] is None
    horses = ask("make_pages", label="horse", current="horse")
    assert (horses["label"], horses["remaining"]) == ("horse", 16)
    (page,) = horses["pages"]
    decisions = [{"mask": mask, "label": "horse", "seen": None} for mask in page]
    stored_page = ask("decide", decisions=decisions, request="r1", author="Ada")["answers"]
    assert {(each["outcome"], each["state"]) for each in stored_page} == {("stored", "accepted")}
    assert ask("make_pages", label="horse")["label"] is None
    undone = ask("undo", masks=page, request="r1")["answers"]
    assert {each["state"] for each in undone} == {"undecided"}
