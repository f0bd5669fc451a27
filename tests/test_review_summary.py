"""How a review goes: counts, precision and people, from Python and in the panel, with the queues that it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from app_fixture import app, browser
from fiftyone_fixture import fiftyone_db
from panel_dataset import FIELD
from panel_page import CANVAS, Panel, closed_panel, dataset, eventually, panel
from review_dataset import demo_run

from gem_label.labeling import Thresholds
from gem_label.review.editing.decisions import decide
from gem_label.review.editing.one_mask import decide_mask
from gem_label.review.queues.order import MaskReference, queue_masks
from gem_label.review.statistics.progress import Precision, review_progress, wilson
from gem_label.review.statistics.quality import label_quality
from gem_label.review.storage.fields import less_likely_field
from gem_label.review.storage.selection import Selection

__all__ = ["app", "browser", "closed_panel", "dataset", "fiftyone_db", "panel"]


def test_the_interval_is_wilsons() -> None:
    found = wilson(8, 10)
    assert found is not None
    assert (found.share, found.low, found.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 0) is None
    assert wilson(5, 5) == Precision(1.0, pytest.approx(0.5655, abs=1e-4), 1.0)  # type: ignore[arg-type]


def test_a_renamed_mask_counts_as_wrong_for_the_class_that_was_proposed(dataset: Any) -> None:
    before = review_progress(dataset, FIELD)
    assert (before.total.reviewed, before.total.remaining, before.total.precision) == (0, 300, None)
    label = before.classes[0].label
    masks = queue_masks(dataset, FIELD, "photo", Selection(labels=[label]), limit=4)
    for number, (mask, given) in enumerate(zip(masks, (label, label, None, "lynx"), strict=True)):
        decide_mask(dataset, FIELD, mask, given, None, f"r{number}", "Ada" if number < 3 else "Bob")
    decide(dataset, FIELD, "reject", Selection(labels=[before.classes[1].label]), author="Bob")
    now = review_progress(dataset, FIELD)
    by_label = {each.label: each for each in now.classes}
    first = by_label[label]
    assert (first.reviewed, first.remaining, first.right) == (4, before.classes[0].remaining - 4, 2)
    assert first.precision == wilson(2, 4)
    assert "lynx" not in by_label
    other = by_label[before.classes[1].label]
    assert (other.reviewed, other.remaining, other.right) == (before.classes[1].remaining, 0, 0)
    ada, bob = sorted(now.people, key=lambda each: each.name or "")
    assert (ada.name, ada.masks) == ("Ada", 3)
    assert ada.per_minute in (3, 1.5)  # within one minute, or at the turn of two
    assert bob.masks == 1 + before.classes[1].remaining
    assert bob.per_minute == 1  # what the desk decides at once is no speed


@pytest.fixture
def searched(fiftyone_db: str, tmp_path: Path) -> Iterator[Any]:
    """A dataset whose masks can be searched; cats are less likely labels, and one mask is there twice."""
    import fiftyone as fo

    from gem_label.review.pushing.push_run import push_run

    name = f"searched-{uuid4().hex[:6]}"
    push_run(demo_run(tmp_path / "run", photos=6), name, min_score=Thresholds(0.0, {"cat": 1.0}))
    dataset = fo.load_dataset(name)
    sample = dataset.last()
    first = sample[FIELD].detections[0]
    copy = fo.Detection(label=first.label, mask=first.mask, bounding_box=first.bounding_box)
    sample[FIELD].detections.append(copy)
    sample.save()
    yield dataset
    fo.delete_dataset(name)


@pytest.mark.slow
def test_masks_are_found_by_a_phrase_as_duplicates_and_below_the_threshold(
    app: str, browser: Any, searched: Any, tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    panel = Panel(page, f"{app}/datasets/{searched.name}", tmp_path)
    panel.open()
    order = page.get_by_label("Order")
    order.select_option("search")
    page.get_by_role("textbox", name="Phrase").fill("horse")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.glr-name')?.textContent === 'horse'")
    labels = searched.count(f"{FIELD}.detections")
    panel.sees(f"{labels - 1} remaining")  # the run does not know the copy
    panel.picture("search")
    before = panel.shown()
    panel.press("s")  # keys decide after a search
    page.wait_for_function("([c, m]) => document.querySelector(c).dataset.mask !== m", arg=[CANVAS, before])
    last = searched.last()
    same = {last[FIELD].detections[0].id, last[FIELD].detections[-1].id}
    order.select_option("duplicates")
    panel.sees("2 remaining")
    eventually(lambda: panel.shown() in same)
    order.select_option("less_likely")
    page.wait_for_function("document.querySelector('.glr-name')?.textContent === 'cat'")
    cats = searched.count(f"{less_likely_field(FIELD)}.detections")
    panel.sees(f"{cats} remaining")
    order.select_option("photo")
    panel.sees(f"{labels} remaining")
    page.close()


def of_mask(mask: MaskReference) -> Selection:
    return Selection(ids=[mask.label_id], samples=[mask.sample_id])


@pytest.mark.slow
def test_how_it_goes_tells_classes_and_people_and_leads_to_the_export(panel: Panel, dataset: Any) -> None:
    page = panel.page
    page.get_by_role("tab", name="How it goes").click()
    panel.sees(re.compile("0 of 300 masks are reviewed"))
    page.get_by_role("tab", name="One mask").click()
    page.locator(CANVAS).click()
    panel.press("a", "a", "r", "a", "1", "a", "a")
    panel.stored()
    page.get_by_role("tab", name="How it goes").click()
    panel.sees(re.compile("7 of 300 masks are reviewed"))
    panel.sees(re.compile(r"71 % \(36 % to 92 %\) of the reviewed labels were right"))
    page.get_by_role("table", name="People").get_by_text("7", exact=True).wait_for()
    panel.sees(re.compile("Not enough of the random sample is reviewed"))
    for number, mask in enumerate(queue_masks(dataset, FIELD, "random", limit=60)):
        decide(dataset, FIELD, "accept" if number % 5 else "reject", of_mask(mask), author="Ada")
    page.get_by_role("button", name="Count again").click()
    quality = label_quality(dataset, FIELD)
    panel.sees(re.compile(rf"of the {quality.labels} labels are right, estimated from {quality.sample}"))
    page.get_by_label("Wanted precision").select_option("0.95")
    panel.sees(re.compile(f"takes about {quality.more[0.95]} more decisions"))
    panel.picture("summary", of_docs=True)
    page.set_viewport_size({"width": 1280, "height": 720})
    page.get_by_title("Light mode").click()
    panel.picture("summary-small-light")
    fits = "table => table.scrollWidth <= table.parentElement.clientWidth"
    assert page.get_by_role("table", name="Classes").evaluate(fits)
    page.get_by_title("Dark mode").click()
    page.get_by_role("button", name="Export annotations").click()
    page.get_by_role("dialog").get_by_text("Which masks").wait_for()
    panel.picture("summary-export")
