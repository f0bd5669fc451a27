"""A review from an empty dataset to a COCO file, in the FiftyOne App, in a real browser.

Set GEM_LABEL_SCREENSHOTS=docs/images to renew the pictures of docs/review.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from app_fixture import PATIENCE, app, browser
from fiftyone_fixture import fiftyone_db
from review_dataset import demo_run

from gem_label.demo import scene_paths

__all__ = ["app", "browser", "fiftyone_db"]

WORDS = ("bicycle", "dartboard", "rose", "tent", "chair", "monkey", "onion", "peach")
FIELD, HIDDEN = "gem_label", "gem_label_less_likely"


@pytest.fixture
def dataset(fiftyone_db: str, tmp_path: Path) -> Iterator[Any]:
    """Two demo scenes without labels."""
    import fiftyone as fo

    dataset = fo.Dataset("scenes", persistent=True, overwrite=True)
    dataset.app_config.color_scheme = fo.ColorScheme(color_by="value")
    dataset.save()
    dataset.add_samples([fo.Sample(filepath=shutil.copy(path, tmp_path)) for path in scene_paths()[:2]])
    yield dataset
    fo.delete_dataset(dataset.name)


class Desk:
    """What a reviewer does in the App."""

    def __init__(self, page: Any, tmp_path: Path) -> None:
        self.page = page
        self.pictures = Path(os.environ.get("GEM_LABEL_SCREENSHOTS") or tmp_path)
        self.failure = tmp_path
        self.form = page.get_by_role("dialog")

    def open(self, address: str) -> None:
        self.page.goto(address)
        self.page.locator("[data-cy=looker]").first.wait_for()
        dismiss = self.page.get_by_role("button", name="Dismiss")
        dismiss.wait_for()
        dismiss.click()
        self.page.locator("[data-cy=new-panel-btn]").first.click()
        self.page.get_by_text("GEM-Label", exact=True).first.click()

    def press(self, name: str | re.Pattern) -> None:
        self.page.get_by_role("button", name=name).first.click()

    def submit(self, name: str) -> None:
        self.form.get_by_role("button", name=name, exact=True).first.click()

    def tab(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def paints(self) -> None:
        """Masks, which are magenta here, are to be seen in the grid: their pixels, not their elements."""
        from io import BytesIO

        from PIL import Image
        from playwright.sync_api import Error

        deadline = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < deadline:
            try:
                picture = self.page.locator("[data-cy=looker]").first.screenshot()
            except Error:  # the grid was made again at that moment
                continue
            red, green, blue = np.moveaxis(np.asarray(Image.open(BytesIO(picture)).convert("RGB"), int), 2, 0)
            if ((red > 220) & (green < 40) & (blue > 220)).mean() > 0.015:
                return
            self.page.wait_for_timeout(300)
        self.page.screenshot(path=self.failure / "app-failed.png")
        raise AssertionError(f"no mask is painted: look at {self.failure / 'app-failed.png'}")

    def selects(self, masks: int) -> None:
        """So many patches are ticked."""
        from playwright.sync_api import expect

        ticked = self.page.locator("[data-cy=looker] input:checked")
        expect(ticked).to_have_count(masks, timeout=PATIENCE)

    def sees(self, text: str | re.Pattern) -> None:
        from playwright.sync_api import TimeoutError

        try:
            self.page.get_by_text(text).locator("visible=true").first.wait_for()
        except TimeoutError:
            picture = self.failure / "app-failed.png"
            self.page.screenshot(path=picture)
            raise AssertionError(f"{text!r} is not to be seen: look at {picture}") from None

    def filtered(self) -> None:
        """The view bar holds a stage that filters masks (which says so in an input)."""
        self.page.locator("[data-cy=input-view-stage][value=FilterLabels]").wait_for()

    def charts_words(self, words: set[str]) -> None:
        """The class chart names these words and no others."""
        from playwright.sync_api import expect

        ticks = self.page.locator(".ytick text").filter(has_not_text=re.compile(r"^[\d.]+$"))
        expect(ticks).to_have_count(len(words), timeout=PATIENCE)
        assert {text.strip() for text in ticks.all_text_contents()} == words

    def draws(self, field: str, yes: bool) -> None:
        """The sidebar has a field switched on, or off."""
        from playwright.sync_api import expect

        box = self.page.locator(f"[data-cy=checkbox-{field}] input")
        expect(box).to_be_checked(checked=yes, timeout=PATIENCE)

    def select(self, place: int) -> None:
        """Tick a patch of the grid; its box is there while the mouse is over it.

        A click that comes while the grid is made again is lost, and repeated.
        """
        from playwright.sync_api import Error

        patch = self.page.locator("[data-cy=looker]").nth(place)
        deadline = time.monotonic() + PATIENCE / 1000
        while not patch.locator("input:checked").count():
            try:
                patch.hover()
                box = patch.locator("[data-cy=looker-checkbox-]").bounding_box(timeout=5000)
                self.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
                patch.locator("input:checked").wait_for(state="attached", timeout=5000)
            except Error:
                if time.monotonic() > deadline:
                    raise

    def done(self) -> None:
        """Close an operator's progress or result."""
        self.press(re.compile("Done|Close"))

    def picture(self, name: str) -> None:
        self.page.mouse.move(2, 2)
        self.page.wait_for_timeout(1500)  # what slides in and fades out does not belong there
        self.page.screenshot(path=self.pictures / f"review-{name}.jpg", type="jpeg", quality=72)


def masks(dataset: Any, field: str = FIELD) -> dict[str, Any]:
    """What the database says, by detection id: label and tags."""
    dataset.reload()
    every = [d for sample in dataset if sample[field] for d in sample[field].detections]
    return {d.id: (d.label, tuple(d.tags)) for d in every}


@pytest.mark.slow
def test_a_review_from_an_empty_dataset_to_a_coco_file(
    app: str, browser: Any, dataset: Any, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    from gem_label.review.statistics.review import least_certain
    from gem_label.weights import pull_weights

    pull_weights("mobile_sam", progress=False)
    page = browser.new_page(viewport={"width": 1360, "height": 850})
    page.set_default_timeout(PATIENCE)
    desk = Desk(page, tmp_path)
    desk.open(f"{app}/datasets/{dataset.name}")

    # label, with a mistake on the way
    desk.sees("No masks yet")
    desk.press("Label photos")
    words = desk.form.locator("textarea").first
    words.fill("bicycle, rose => ")
    desk.sees("write 'phrasing, phrasing => class'")
    assert desk.form.get_by_role("button", name="Label", exact=True).first.is_disabled()
    words.fill(", ".join(WORDS))
    clip = desk.form.get_by_placeholder("Type or select a value")
    clip.fill("demo")  # whole: FiftyOne may lose the click on the option while it asks for the form again
    page.get_by_role("option", name="demo").click()
    for box, value in enumerate(("6", "48")):  # points along a side, most prompts
        desk.form.locator("input[type=number]").nth(box).fill(value)
    desk.form.locator("input").last.fill(str(tmp_path / "run"))
    desk.form.locator("input").nth(-3).fill("0.6")
    words.scroll_into_view_if_needed()
    desk.picture("label")
    desk.submit("Label")
    desk.sees(re.compile(r"2 photos labeled, \d+ masks"))
    desk.done()
    first = masks(dataset)
    assert {label for label, _ in first.values()} <= set(WORDS)
    assert len(first) > 2

    # the desk counts; a bar shows its masks
    desk.sees(f"0 of {len(first)} masks decided")
    page.locator(".barlayer .point path").first.wait_for()
    desk.picture("desk")
    bar = page.locator(".barlayer .point path").first
    bar.hover(force=True)
    desk.sees(re.compile(r": \d+ undecided"))  # plotly's hover text: the chart is alive
    bar.click(force=True)
    desk.filtered()

    # a click on a class's scores tells at once what would stay
    desk.tab("Thresholds")
    desk.sees("A threshold per class")
    expect(page.locator(".nsewdrag")).to_have_count(1, timeout=PATIENCE)
    page.wait_for_timeout(1000)  # the chart takes its place
    box = page.locator(".nsewdrag").bounding_box()
    page.mouse.click(box["x"] + 0.99 * box["width"], box["y"] + 12)  # the largest class
    text = page.get_by_text(re.compile(r"0\.9\d: \d+ stay, [1-9]\d* go")).first
    text.wait_for()
    go = re.search(r"stay, (\d+) go", text.text_content()).group(1)
    ticks = page.locator(".ytick text").all()
    label = min(ticks, key=lambda tick: tick.bounding_box()["y"]).text_content().strip()
    desk.press(f"Show the {go} that go")
    desk.filtered()
    desk.sees(re.compile(r"^\d samples?$"))
    page.locator("[data-cy=looker]").first.wait_for()
    desk.picture("thresholds")
    desk.press(f"Reject the {go}")
    desk.sees(f"{go} of {len(first)} masks decided")
    rejected = {i: each for i, each in masks(dataset).items() if "rejected" in each[1]}
    assert {name for name, _ in rejected.values()} == {label}
    assert len(rejected) == int(go)

    # labels below the threshold are hidden until they are asked for; an accepted one comes to the others
    desk.press("Undo")
    desk.sees(f"0 of {len(first)} masks decided")
    assert masks(dataset) == first
    desk.press("Show all")
    desk.draws(HIDDEN, False)
    hidden = masks(dataset, HIDDEN)
    desk.press(re.compile(rf"Show {len(hidden)} less likely labels?"))
    desk.sees(f"0 of {len(hidden)} less likely masks decided")
    desk.draws(HIDDEN, True)
    # a view that arrives in the same moment makes FiftyOne draw what it drew before (docs/fiftyone-issues.md)
    dataset.reload()
    fields = dataset.app_config.active_fields.paths
    page.evaluate(
        "fields => __foo__.executeOperator('@voxel51/operators/set_active_fields', { fields })", fields
    )
    desk.draws(FIELD, False)
    desk.draws(HIDDEN, True)
    desk.tab("Queue")
    desk.press("Open the queue")
    desk.sees(re.compile(rf"^{len(hidden)} patch"))
    desk.select(0)
    desk.picture("less-likely")
    desk.press("Accept")
    desk.sees(f"0 of {len(hidden) - 1} less likely masks decided")
    desk.press("Hide the less likely labels")
    desk.sees(f"1 of {len(first) + 1} masks decided")
    desk.draws(HIDDEN, False)
    assert masks(dataset).keys() > first.keys()

    # the queue: the least certain masks first; accepting moves it on
    desk.tab("Queue")
    expected = [mask.label_id for mask in least_certain(dataset, FIELD, 2)]
    desk.press("Open the queue")
    desk.sees(f"{len(first)} patches")
    for place in (0, 1):
        desk.select(place)
    desk.picture("queue")
    desk.press("Accept")
    desk.sees(f"3 of {len(first) + 1} masks decided")
    desk.sees(re.compile(rf"^{len(first) - 2} patch"))
    accepted = {i for i, (_, tags) in masks(dataset).items() if "accepted" in tags}
    assert accepted >= set(expected)
    desk.press("Show all")

    # other words, with a preview; what is decided stays
    decided = {i: each for i, each in masks(dataset).items() if i in accepted}
    desk.press("Relabel")
    desk.sees("Preview on 2 photos")
    desk.form.locator("textarea").first.fill("apple, spider, banana")
    desk.sees(re.compile(r"[1-9]\d* masks change, \d+ stay \(3 of them because they are decided\)"))
    desk.form.get_by_text(re.compile("Preview on")).scroll_into_view_if_needed()
    desk.picture("relabel")
    desk.submit("Relabel")
    desk.sees("3 decided masks stay as they are")
    desk.done()
    now = masks(dataset)
    assert {i: now[i] for i in accepted} == decided
    assert {name for i, (name, _) in now.items() if i not in accepted} <= {"apple", "spider", "banana"}

    # the desk in the light, and a file
    page.get_by_title("Light mode").click()
    desk.tab("Classes")
    desk.sees(f"3 of {len(now)} masks decided")
    desk.charts_words({name for name, _ in now.values()})
    desk.picture("desk-light")
    desk.press("Export")
    desk.form.locator("input").last.fill(str(tmp_path / "out.json"))
    desk.form.get_by_text("Accepted and renamed only").click()
    page.wait_for_timeout(1000)
    desk.submit("Export")
    desk.sees("Download")
    desk.picture("export")
    link = desk.form.get_by_role("link").first.get_attribute("href")
    content = json.loads((tmp_path / "out.json").read_text())
    assert json.load(urllib.request.urlopen(app + link)) == content
    assert len(content["annotations"]) == 3
    desk.done()

    # the labels against what a person drew, here against themselves with one word changed
    dataset.clone_sample_field(FIELD, "ground_truth")
    person = next(sample for sample in dataset if sample["ground_truth"].detections)
    person["ground_truth"].detections[0].label = "zebra"
    person.save()
    desk.press("Measure")
    desk.sees("Ground truth")
    desk.submit("Measure")
    desk.sees("labels per thing found")
    desk.sees(f"{len(now) - 1} of {len(now)} labels are right")
    desk.picture("measure")
    page.close()


@pytest.fixture
def reviewed(fiftyone_db: str, tmp_path: Path) -> Iterator[Any]:
    """Six photos of noise with four masks each, which are drawn in magenta."""
    import fiftyone as fo

    from gem_label.review import push_run

    name = f"magenta-{uuid4().hex[:6]}"  # the App's server remembers fields of datasets by their names
    push_run(demo_run(tmp_path / "run", 6), name)
    dataset = fo.load_dataset(name)
    dataset.app_config.color_scheme = fo.ColorScheme(color_pool=["#ff00ff"], color_by="field", opacity=1.0)
    dataset.save()
    yield dataset
    fo.delete_dataset(dataset.name)


@pytest.mark.slow
def test_a_decision_touches_what_is_selected_and_masks_stay_painted(
    app: str, browser: Any, reviewed: Any, tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.set_default_timeout(PATIENCE)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if "DataClone" in message.text else None)
    desk = Desk(page, tmp_path)
    desk.open(f"{app}/datasets/{reviewed.name}")
    for tab in ("Thresholds", "Confused words", "Run", "Classes", "Queue"):
        desk.tab(tab)
        desk.paints()

    # renamed masks leave the queue, and nothing is selected: the next button says so
    desk.press("Open the queue")
    desk.sees("24 patches")
    desk.paints()
    for place in range(3):
        desk.select(place)
    desk.press("Rename")
    desk.sees("3 masks of gem_label")
    page.keyboard.type("zebra")  # the focus is in the field of the label
    desk.sees("A new class")
    desk.submit("Rename")
    desk.sees("21 patches")
    desk.selects(0)
    desk.paints()
    desk.press("Reject")
    desk.sees("select masks first")
    counts = Counter(label for label, _ in masks(reviewed).values())
    assert counts["zebra"] == 3
    assert not any(tags for _, tags in masks(reviewed).values())

    # undo, delete and merge
    desk.press("Undo")
    desk.sees("24 patches")
    desk.paints()
    desk.select(0)
    desk.press("Delete")
    desk.sees("1 mask of gem_label")
    desk.submit("Delete")
    desk.sees("23 patches")
    desk.selects(0)
    desk.paints()

    # search shows patches; a decision about them shows what is stored
    desk.press("Search")
    desk.form.get_by_placeholder("broken window").fill("horse")
    desk.submit("Search")
    desk.sees(re.compile("masks for 'horse', best first"))
    desk.paints()
    desk.select(0)
    desk.press("Accept")
    desk.sees("accept 1 mask")
    desk.selects(0)
    desk.paints()
    assert [tags for _, tags in masks(reviewed).values() if tags] == [("accepted",)]

    # the tab that was open is open and marked after a reload
    page.reload()
    desk.sees("The least certain masks first.")
    desk.paints()
    if errors:  # FiftyOne's fault, see docs/fiftyone-issues.md; what counts is that the masks are there
        print(f"{len(errors)} errors in the console, the first: {errors[0]}")
    page.close()


@pytest.mark.slow
def test_masks_stay_painted_after_thresholds_merge_relabel_and_import(
    app: str, browser: Any, reviewed: Any, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    from gem_label.progress import finish
    from gem_label.review.exchange.export import export_masks

    for number, sample in enumerate(reviewed):
        for detection in sample[FIELD].detections:
            detection.confidence = 0.5 + number / 20
        sample.save()
    page = browser.new_page(viewport={"width": 1360, "height": 850})
    page.set_default_timeout(PATIENCE)
    desk = Desk(page, tmp_path)
    desk.open(f"{app}/datasets/{reviewed.name}")
    desk.paints()

    # what goes below a threshold is shown, and rejected
    desk.tab("Thresholds")
    expect(page.locator(".nsewdrag")).to_have_count(1, timeout=PATIENCE)
    page.wait_for_timeout(1000)  # the chart takes its place
    box = page.locator(".nsewdrag").bounding_box()
    page.mouse.click(box["x"] + 0.99 * box["width"], box["y"] + 12)
    text = page.get_by_text(re.compile(r"0\.9\d: \d+ stay, [1-9]\d* go")).first
    text.wait_for()
    go = re.search(r"stay, (\d+) go", text.text_content()).group(1)
    desk.press(f"Show the {go} that go")
    desk.filtered()
    desk.paints()
    desk.press(f"Reject the {go}")
    desk.sees(f"{go} of 24 masks decided")
    desk.press("Show all")
    desk.paints()

    # two masks of one photo and class become one
    desk.sees(re.compile("^6 samples"))
    desk.select(1)
    desk.press("Merge")
    desk.form.get_by_text("masks of the selected photos").click()
    desk.submit("Merge")
    desk.sees(re.compile("merge 2 masks"))
    desk.paints()
    assert len(masks(reviewed)) == 23

    # other words
    desk.press("Relabel")
    desk.form.locator("textarea").first.fill("apple, spider")
    desk.sees(re.compile(r"[1-9]\d* masks change"))
    desk.submit("Relabel")
    desk.sees(re.compile("masks stay as they are|masks changed|relabeled"))
    desk.done()
    desk.paints()

    # a corrected file, in which every class is another
    file = tmp_path / "corrected.json"
    finish(export_masks(reviewed, FIELD, file))
    content = json.loads(file.read_text())
    for category in content["categories"]:
        category["name"] = f"new {category['name']}"
    file.write_text(json.dumps(content))
    page.keyboard.press("`")
    page.keyboard.type("import")
    page.get_by_text("GEM-Label: Import corrections").click()
    desk.form.get_by_role("textbox").last.fill(str(file))
    desk.submit("Import")
    desk.done()
    desk.paints()
    page.close()
