"""Several people review one dataset: every mask is before one of them, and every decision has its author."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from app_fixture import app, browser
from fiftyone_fixture import fiftyone_db
from panel_dataset import FIELD
from panel_page import CANVAS, Panel, dataset

from gem_label.review.editing.decisions import decide, undo
from gem_label.review.queues.order import queue_masks
from gem_label.review.storage.claims import claim_masks, masks_of_others, release_masks
from gem_label.review.storage.decision_log import current_user, list_decisions
from gem_label.review.storage.selection import Selection

__all__ = ["app", "browser", "dataset", "fiftyone_db"]

ENDED = timedelta(seconds=-1)


@pytest.fixture
def ids(dataset: Any) -> Iterator[list[str]]:
    """The ids of ten masks."""
    found = [mask.label_id for mask in queue_masks(dataset, FIELD, "photo", limit=10)]
    yield found
    for holder in ("ada", "bob"):
        release_masks(dataset, holder)


def test_a_mask_is_before_one_person_until_it_is_given_back(dataset: Any, ids: list[str]) -> None:
    assert claim_masks(dataset, ids[:6], "ada") == set(ids[:6])
    assert claim_masks(dataset, ids, "bob") == set(ids[6:])
    assert claim_masks(dataset, ids, "ada") == set(ids[:6])
    assert masks_of_others(dataset, "bob") == set(ids[:6])
    release_masks(dataset, "ada")
    assert masks_of_others(dataset, "bob") == set()
    assert claim_masks(dataset, ids, "bob") == set(ids)
    assert claim_masks(dataset, [], "bob") == set()


def test_a_claim_that_nobody_renews_ends(dataset: Any, ids: list[str]) -> None:
    claim_masks(dataset, ids, "ada", ENDED)
    assert masks_of_others(dataset, "bob") == set()
    assert claim_masks(dataset, ids[:5], "ada") == set(ids[:5])  # renewed in time
    assert claim_masks(dataset, ids, "bob") == set(ids[5:])
    assert claim_masks(dataset, ids, "ada") == set(ids[:5])


def test_two_who_ask_at_once_never_get_the_same_mask(dataset: Any) -> None:
    every = [mask.label_id for mask in queue_masks(dataset, FIELD, "photo")]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda holder: claim_masks(dataset, every, f"holder {holder}"), range(8)))
    assert sum(map(len, found)) == len(every)
    assert set().union(*found) == set(every)
    for holder in range(8):
        release_masks(dataset, f"holder {holder}")


def test_a_photo_is_before_one_person_while_any_of_its_masks_is_undecided(dataset: Any) -> None:
    from gem_label.plugin.review_photo import get_photo, make_photo_queue

    def ask(holder: str, sample_id: str) -> Any:
        params = {"field": FIELD, "sample_id": sample_id, "holder": holder}
        return get_photo(SimpleNamespace(dataset=dataset, params=params))["photo"]

    def begin(holder: str) -> list[str]:
        context = SimpleNamespace(dataset=dataset, params={"field": FIELD, "holder": holder})
        return make_photo_queue(context, Selection())["photos"]

    first, second = begin("ada")[:2]
    assert len(ask("ada", first)["masks"]) == 5
    assert ask("bob", first) is None
    assert len(ask("bob", second)["masks"]) == 5
    assert ask("ada", first) is not None
    decide(dataset, FIELD, "accept", Selection(samples=[first]))
    assert ask("bob", first) is not None  # to look at: nothing is left to decide
    begin("bob")  # another queue gives the photos back
    assert ask("ada", second) is not None
    release_masks(dataset, "ada")


def test_decided_masks_tell_who_decided_and_an_undo_takes_that_back(dataset: Any, ids: list[str]) -> None:
    decide(dataset, FIELD, "accept", Selection(ids=ids[:3]), author="Ada")
    decide(dataset, FIELD, "rename", Selection(ids=ids[3:4]), "lynx", author="$bob")
    decide(dataset, FIELD, "reject", Selection(ids=ids[4:5]))
    by_id = {each.id: each for sample in dataset for each in sample[FIELD].detections}
    assert [getattr(by_id[each], "decided_by", None) for each in ids[:6]] == ["Ada"] * 3 + [
        "$bob",
        current_user(),
        None,
    ]
    shown = dataset.filter_labels(FIELD, {"$eq": ["$$this.decided_by", "Ada"]})
    assert set(shown.values(f"{FIELD}.detections.id", unwind=True)) == set(ids[:3])
    again = decide(dataset, FIELD, "reject", Selection(decided_by=["Ada"]), author="Cleo")
    assert again.masks == 3
    undo(dataset, FIELD, again.id)
    dataset.reload()
    assert {
        each.decided_by for sample in dataset for each in sample[FIELD].detections if each.id in ids[:3]
    } == {"Ada"}


@pytest.mark.slow
def test_two_people_are_never_shown_the_same_mask(
    app: str, browser: Any, dataset: Any, tmp_path: Path
) -> None:
    shown: dict[str, list[str]] = {"Ada": [], "Bob": []}
    panels = {}
    for name in shown:
        context = browser.new_context(viewport={"width": 1280, "height": 720})
        context.add_init_script(f"localStorage.setItem('gem-label-reviewer', '{name}')")
        context.add_init_script(
            """window.shown = [];
            setInterval(() => {
                const mask = document.querySelector('.glr-stage canvas')?.dataset.mask;
                if (mask && window.shown.at(-1) !== mask) window.shown.push(mask);
            }, 5)"""
        )
        panels[name] = Panel(context.new_page(), f"{app}/datasets/{dataset.name}", tmp_path)
    panels["Ada"].open()
    panels["Bob"].open()
    for number in range(30):
        for panel in panels.values():
            before = panel.shown()
            panel.press("ar"[number % 2])
            panel.page.wait_for_function(
                "([c, m]) => document.querySelector(c).dataset.mask !== m", arg=[CANVAS, before]
            )
    for name, panel in panels.items():
        panel.stored()
        shown[name] = panel.page.evaluate("window.shown")
    assert len(set(shown["Ada"])) == len(set(shown["Bob"])) == 31
    assert not set(shown["Ada"]) & set(shown["Bob"])
    decisions = list_decisions(dataset, FIELD, 100)
    assert sorted(each.author or "" for each in decisions) == ["Ada"] * 30 + ["Bob"] * 30
    dataset.reload()
    authors = {
        each.id: each.decided_by for sample in dataset for each in sample[FIELD].detections if each.tags
    }
    assert authors == {each: name for name in shown for each in shown[name][:30]}

    # Ada has left, and her claims have ended: Bob is shown her masks
    left = shown["Ada"][30]
    assert left in masks_of_others(dataset, "nobody")
    holder = panels["Ada"].page.evaluate("sessionStorage.getItem('gem-label-holder')")
    panels["Ada"].page.close()
    release_masks(dataset, holder)
    order = panels["Bob"].page.locator(".glr-bar select").first
    order.select_option("photo")
    order.select_option("uncertain")
    panels["Bob"].page.wait_for_function(
        "([c, m]) => document.querySelector(c).dataset.mask === m", arg=[CANVAS, left]
    )
    for panel in panels.values():
        panel.page.context.close()
