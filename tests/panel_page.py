"""The review panel in a real browser, as a reviewer uses it, with its dataset: three fixtures.

Set GEM_LABEL_SCREENSHOTS=docs/images to renew the pictures of docs/review.md.
"""

from __future__ import annotations

import base64
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from app_fixture import PATIENCE
from numpy.typing import NDArray
from panel_dataset import FIELD, panel_dataset
from PIL import Image

CANVAS = ".glr-stage canvas"


@pytest.fixture
def dataset(fiftyone_db: str, photos: dict[str, NDArray[np.uint8]], tmp_path: Path) -> Iterator[Any]:
    """Sixty photos with five masks each."""
    import fiftyone as fo

    name = f"panel-{uuid4().hex[:6]}"  # the App's server remembers fields of datasets by their names
    dataset = panel_dataset(tmp_path / "made", photos, 60, 5, name)
    yield dataset
    fo.delete_dataset(dataset.name)


class Panel:
    """The panel as a reviewer uses it."""

    def __init__(self, page: Any, address: str, tmp_path: Path) -> None:
        page.set_default_timeout(PATIENCE)
        self.page, self.address = page, address
        self.pictures = tmp_path

    def open(self, beside: bool = True) -> None:
        """Open the panel beside the grid, or from the operator browser as a tab of its own."""
        self.page.goto(self.address)
        self.page.locator("[data-cy=looker]").first.wait_for()
        self.page.get_by_role("button", name="Dismiss").click()
        if beside:
            self.page.locator("[data-cy=new-panel-btn]").first.click()
            self.page.get_by_text("GEM-Label: Review", exact=True).first.click()
        else:
            for close in self.page.get_by_title("Close").all():  # the App remembers what was open
                close.click()
            self.page.keyboard.press("`")
            self.page.keyboard.type("with the keyboard")
            self.page.get_by_text("GEM-Label: Review with the keyboard").click()
        self.page.locator(f"{CANVAS}[data-mask]").click()

    def open_again(self) -> None:
        """Load the page again, from a server that may not know what was open."""
        self.page.goto(self.address)
        self.page.locator("[data-cy=looker]").first.wait_for()
        title = self.page.get_by_text("GEM-Label: Review", exact=True)
        if not title.count():
            self.page.locator("[data-cy=new-panel-btn]").first.click()
            title.first.click()
        self.page.locator(f"{CANVAS}[data-mask]").click()

    def shown(self) -> str:
        """The id of the mask that is drawn, once one is."""
        return self.page.locator(f"{CANVAS}[data-mask]").first.get_attribute("data-mask")

    def press(self, *keys: str) -> None:
        """Press keys, each when a mask is drawn: a key before that means nothing."""
        for key in keys:
            self.shown()
            self.page.keyboard.press(key)

    def sees(self, text: str | re.Pattern[str]) -> None:
        self.page.locator(".glr").get_by_text(text).locator("visible=true").first.wait_for()

    def stored(self) -> None:
        """Wait until nothing is on its way to the database."""
        self.page.locator("[data-unstored='0']").wait_for(state="attached")

    def pixels(self) -> NDArray[np.uint8]:
        """What the canvas shows: (height, width, 4)."""
        address = self.page.evaluate("canvas => document.querySelector(canvas).toDataURL()", CANVAS)
        content = base64.b64decode(address.partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))

    def picture(self, name: str, of_docs: bool = False) -> None:
        """Take a picture to look at; those of the documentation go where the environment says."""
        folder = Path(os.environ.get("GEM_LABEL_SCREENSHOTS") or self.pictures) if of_docs else self.pictures
        self.page.mouse.move(2, 2)
        self.page.wait_for_timeout(600)
        self.page.screenshot(path=folder / f"review-{name}.jpg", type="jpeg", quality=72)


@pytest.fixture
def closed_panel(app: str, browser: Any, dataset: Any, tmp_path: Path) -> Iterator[Panel]:
    """The panel before it is opened."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    yield Panel(page, f"{app}/datasets/{dataset.name}", tmp_path)
    page.close()


@pytest.fixture
def panel(closed_panel: Panel) -> Panel:
    """The panel, open beside the grid."""
    closed_panel.open()
    return closed_panel


def masks(dataset: Any) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What the database says, by detection id: label and tags."""
    dataset.reload()
    return {d.id: (d.label, tuple(d.tags)) for sample in dataset for d in sample[FIELD].detections}


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
