"""A photo at a time, in a real browser: a duplicate goes, and MobileSAM finds what is missing.

Set GEM_LABEL_SCREENSHOTS=docs/images to renew the picture of docs/review.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from app_fixture import app, browser
from fiftyone_fixture import fiftyone_db
from panel_page import Panel, closed_panel, masks
from photo_scenes import FIELD, middle_of, scene_run, true_things
from pycocotools import mask as coco_mask

from gem_label.labeler import load_labeler
from gem_label.review import push_run
from gem_label.review.storage.decision_log import list_decisions
from gem_label.review.storage.documents import detection_rle
from gem_label.review.storage.internals import samples_of

__all__ = ["app", "browser", "closed_panel", "fiftyone_db"]

ACCEPTED, REJECTED = ("accepted",), ("rejected",)


@pytest.fixture
def dataset(fiftyone_db: str, tmp_path: Path) -> Iterator[Any]:
    """Two demo scenes; the run missed a tent, and has a rose twice."""
    import fiftyone as fo

    name = f"photo-{uuid4().hex[:6]}"
    labeler = load_labeler(clip="demo", sam="mobile_sam")
    push_run(scene_run(tmp_path / "made", labeler, missed=["tent"], doubled=["rose"]), name)
    yield fo.load_dataset(name)
    fo.delete_dataset(name)


class PhotoPanel:
    """The panel with a photo."""

    def __init__(self, panel: Panel) -> None:
        self.panel, self.page = panel, panel.page

    def open(self) -> None:
        self.panel.open(beside=False)
        self.page.get_by_role("tab", name="A photo").click()
        self.shown()

    def shown(self) -> str:
        """The id of the sample whose photo is drawn, once one is."""
        return self.page.locator("canvas[data-photo]").get_attribute("data-photo")

    def turned(self, sample: str) -> None:
        """Wait until a photo is drawn."""
        self.page.locator(f"canvas[data-photo='{sample}']").wait_for()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.locator("canvas[data-photo]").wait_for()
            self.page.keyboard.press(key)

    def chosen(self, mask: str) -> None:
        """Wait until a mask is chosen."""
        self.page.locator(f"canvas[data-chosen='{mask}']").wait_for()

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place on the screen of a pixel of the photo, which has 448 a side."""
        box = self.page.locator("canvas[data-photo]").bounding_box()
        scale = min(box["width"], box["height"]) / 448
        left = box["x"] + (box["width"] - 448 * scale) / 2
        return left + x * scale, box["y"] + (box["height"] - 448 * scale) / 2 + y * scale

    def point(self, x: float, y: float) -> None:
        self.page.mouse.move(*self.at(x, y))

    def click(self, x: float, y: float, hold: str | None = None) -> None:
        """Click on a pixel of the photo, with a key held down."""
        if hold:
            self.page.keyboard.down(hold)
        self.page.mouse.click(*self.at(x, y))
        if hold:
            self.page.keyboard.up(hold)

    def found(self) -> None:
        """Wait until a missing thing is found."""
        self.page.locator("canvas[data-found]:not([data-found=''])").wait_for()


@pytest.fixture
def photo(closed_panel: Panel) -> PhotoPanel:
    """The panel with its first photo."""
    photo = PhotoPanel(closed_panel)
    photo.open()
    return photo


def named(dataset: Any, label: str) -> list[str]:
    """The ids of the masks of a class, the largest first."""
    dataset.reload()
    found = [mask for sample in dataset for mask in sample[FIELD].detections if mask.label == label]
    return [mask.id for mask in sorted(found, key=lambda mask: -mask.bounding_box[2])]


def iou_with_truth(dataset: Any, sample: str, mask: str, truth: dict[str, Any]) -> float:
    from bson import ObjectId

    document = samples_of(dataset).find_one({"_id": ObjectId(sample)})
    (stored,) = [each for each in document[FIELD]["detections"] if str(each["_id"]) == mask]
    return float(coco_mask.iou([detection_rle(stored, 448, 448)], [truth], [0])[0, 0])


@pytest.mark.slow
def test_a_photo_is_reviewed_and_what_it_lacks_is_added(photo: PhotoPanel, dataset: Any) -> None:
    panel, page = photo.panel, photo.page
    first, second = dataset.values("id")
    before = masks(dataset)
    assert photo.shown() == first
    panel.sees(re.compile("Photo 1 of 2, 4 undecided"))

    # a duplicate: one key keeps the one and rejects the other, one key takes that back
    rose, smaller = named(dataset, "rose")
    photo.press("d")
    panel.sees(re.compile(r"Duplicate of rose: they have \d+ % in common"))
    kept = page.locator("canvas[data-chosen]").get_attribute("data-chosen")
    assert kept in (rose, smaller)
    panel.picture("photo-pair")
    if kept == smaller:
        photo.press("x")
        photo.chosen(rose)
    photo.press("k")
    panel.stored()
    now = masks(dataset)
    assert (now[rose], now[smaller]) == (("rose", ACCEPTED), ("rose", REJECTED))
    photo.press("u")
    panel.stored()
    assert masks(dataset) == before
    photo.press("Shift+U")
    panel.stored()
    assert masks(dataset) == now

    # the mask under the mouse is chosen: reject it, take that back, give it another class
    (bicycle,) = named(dataset, "bicycle")
    photo.point(*middle_of(true_things(1)["bicycle"]))
    photo.chosen(bicycle)
    photo.press("r", "u")
    photo.chosen(bicycle)
    photo.press("/")
    page.keyboard.type("Tricycle")
    page.keyboard.press("Enter")
    panel.stored()
    assert masks(dataset) == now | {bicycle: ("Tricycle", ())}

    # a missing thing: a box around it, dropped, then a click on it, kept with the word that is proposed
    tent = true_things(1)["tent"]
    x, y, w, h = coco_mask.toBbox(tent)
    photo.point(x, y)
    page.mouse.down()
    photo.point(x + w / 2, y + h / 2)
    photo.point(x + w, y + h)
    page.mouse.up()
    panel.sees(re.compile("Looking …"))
    photo.found()
    photo.press("Escape")
    page.locator("canvas[data-found='']").wait_for()
    photo.click(*middle_of(tent))
    photo.found()
    panel.sees("New: tent")
    panel.picture("photo", of_docs=True)
    photo.click(*middle_of(true_things(1)["rose"]), hold="Alt")
    panel.sees("Looking …")
    photo.found()
    panel.sees("New: tent")
    photo.press("Enter")
    panel.stored()
    (new,) = named(dataset, "tent")
    photo.chosen(new)
    assert masks(dataset)[new] == ("tent", ACCEPTED)
    assert iou_with_truth(dataset, first, new, tent) > 0.8
    decision = list_decisions(dataset, FIELD)[0]
    assert (decision.action, decision.masks, decision.label) == ("add", 1, "tent")
    photo.press("u")
    panel.stored()
    assert named(dataset, "tent") == []
    photo.press("Shift+U")
    panel.stored()
    assert named(dataset, "tent") == [new]

    # all the rest by one key, which shows the next photo; one key takes that back
    now = masks(dataset)
    photo.press("Shift+A")
    photo.turned(second)
    panel.stored()
    (dartboard,) = named(dataset, "dartboard")
    assert masks(dataset) == now | {dartboard: ("dartboard", ACCEPTED)}
    panel.sees("4 decided")
    photo.press("u")
    photo.turned(first)
    panel.stored()
    assert masks(dataset) == now
    # nearer, the mask under the mouse is still the one that is seen there
    photo.point(*middle_of(tent))
    photo.chosen(new)
    for _ in range(3):
        page.mouse.wheel(0, -200)
    photo.press("ArrowLeft")
    photo.press("-", "-", "-", "ArrowRight")
    photo.chosen(new)

    photo.press("Shift+A", "n")
    panel.sees("This was the last photo.")
    page.keyboard.press("p")
    photo.turned(second)
    photo.press("ArrowRight", "ArrowRight", "?")
    panel.sees("accept all undecided masks of the photo, and show the next one")
    panel.picture("photo-keys")
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 1280, "height": 720})
    panel.picture("photo-small")
    page.get_by_title("Light mode").click()
    panel.picture("photo-light")
