"""Review, learn, forget: all of it in the App, as a reviewer does it in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from app_fixture import app, browser
from fiftyone_fixture import fiftyone_db
from learning_run import FIELD, decide_by_truth, learning_dataset
from panel_page import CANVAS, Panel, eventually, masks

from gem_label.review.queues.order import queue_masks
from gem_label.review.statistics.quality import LEAST_SAMPLE, label_quality

__all__ = ["app", "browser", "fiftyone_db"]

DECIDED = 10
AGAIN = 5000
"""Milliseconds after which a click without effect is repeated."""


@pytest.fixture
def dataset(fiftyone_db: str, tmp_path: Path) -> Iterator[Any]:
    """Photos that nobody has reviewed, more than a random sample of twenty masks can cover."""
    import fiftyone as fo

    dataset = learning_dataset(tmp_path, f"loop-{uuid4().hex[:6]}", count=26)
    yield dataset
    fo.delete_dataset(dataset.name)


def places(dataset: Any) -> dict[str, int]:
    """Detection id -> index of the mask in its photo: 0 is a cat, 1 a blick, the others are parts."""
    found = [mask for sample in dataset for mask in sample[FIELD].detections]
    return {mask.id: int(mask.mask_id.rpartition("#")[2]) for mask in found}


def undecided(dataset: Any) -> dict[str, str]:
    """Detection id -> label of the masks that nobody decided about."""
    labels = masks(dataset)
    return {mask.label_id: labels[mask.label_id][0] for mask in queue_masks(dataset, FIELD, "photo")}


def submit(form: Any, name: str) -> None:
    """Press a form's button until the progress is shown, and close that: FiftyOne drops clicks while it asks the
    server for the form again.
    """
    from playwright.sync_api import TimeoutError as NothingYet

    button, done = (
        form.get_by_role("button", name=name, exact=True).first,
        form.get_by_role("button", name="Done"),
    )
    for _ in range(20):
        with suppress(NothingYet):
            if not done.first.is_visible():
                button.click(timeout=AGAIN)
            done.first.wait_for(timeout=AGAIN)
            break
    # a click that FiftyOne did not drop after all, but was slow with, brings the progress once more
    while form.first.is_visible():
        with suppress(NothingYet):
            done.first.click(timeout=AGAIN)
        form.first.page.wait_for_timeout(300)


@pytest.mark.slow
def test_a_reviewer_decides_learns_and_forgets_in_the_app(
    app: str, browser: Any, dataset: Any, tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    panel = Panel(page, f"{app}/datasets/{dataset.name}", tmp_path)
    panel.open()
    place = places(dataset)
    queue = [mask.label_id for mask in queue_masks(dataset, FIELD, "teaches", limit=DECIDED)]
    page.get_by_label("Order").select_option("teaches")
    for mask in queue:
        page.locator(f"{CANVAS}[data-mask='{mask}']").wait_for()
        if place[mask] == 1:
            page.get_by_role("button", name="the class is blick").click()
        else:
            page.keyboard.press("r" if place[mask] else "a")
    panel.stored()
    assert len(undecided(dataset)) == len(place) - DECIDED
    sample = [mask.label_id for mask in queue_masks(dataset, FIELD, "random", limit=LEAST_SAMPLE)]
    decide_by_truth(dataset, sample)
    decide_by_truth(dataset)  # the other masks of sixteen photos
    decided, before = masks(dataset), undecided(dataset)
    decided = {mask: decided[mask] for mask in decided.keys() - before.keys()}
    wrong = next(mask for mask, label in before.items() if place[mask] == 1 and label != "blick")

    page.get_by_role("tab", name="How it goes").click()
    quality = label_quality(dataset, FIELD)
    assert quality.precision is not None
    panel.sees(re.compile(f"of the {quality.labels} labels are right, estimated from {quality.sample}"))
    page.get_by_label("Wanted precision").select_option("0.95")
    page.get_by_role("button", name="Learn from decisions").click()
    form = page.get_by_role("dialog")
    form.get_by_text(re.compile("reviewed photos teach")).wait_for()
    form.get_by_text(re.compile("masks change")).first.wait_for()
    submit(form, "Learn")
    eventually(lambda: {undecided(dataset)[mask] for mask in before if place[mask] == 1} == {"blick"})
    assert {mask: masks(dataset)[mask] for mask in decided} == decided
    taught = undecided(dataset)
    assert taught.keys() == before.keys()

    page.get_by_role("tab", name="One mask").click()
    page.get_by_label("Order").select_option("photo")
    first = next(mask.label_id for mask in queue_masks(dataset, FIELD, "photo"))
    page.locator(f"{CANVAS}[data-mask='{first}']").wait_for()
    for _ in range(list(taught).index(wrong)):
        panel.press("s")
    page.locator(f"{CANVAS}[data-mask='{wrong}']").wait_for()
    assert page.locator(".glr-name").text_content() == "blick"

    page.get_by_role("tab", name="How it goes").click()
    page.get_by_role("button", name="Learn from decisions").click()
    form.get_by_text("Forget what was learned").click()
    submit(form, "Forget")
    eventually(lambda: undecided(dataset) == before)
    assert {mask: masks(dataset)[mask] for mask in decided} == decided
    page.close()
