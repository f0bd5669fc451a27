"""Many decisions in a browser, with a slow database and a reload in the middle: none lost, none doubled.

60 decisions, or in `make soak` 1000.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
import pytest
from app_fixture import PATIENCE, browser, serve_app
from fiftyone_fixture import fiftyone_db, free_port
from numpy.typing import NDArray
from panel_dataset import FIELD, panel_dataset
from panel_page import CANVAS, Panel, masks
from slow_database import slow_database

from gem_label.review.queues.order import queue_masks
from gem_label.review.storage.decision_log import collections
from gem_label.review.storage.internals import dataset_id

__all__ = ["browser", "fiftyone_db"]

DELAY = 0.005
"""Seconds that mongod takes longer for every answer; a decision needs some thirty."""

GROWTH = 8e6
"""Bytes that the browser's memory may grow by in all decisions after the reload: pictures that are kept vary."""


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    """How many decisions."""
    return 1000 if request.config.getoption("soak_minutes") else 60


@pytest.fixture
def dataset(
    fiftyone_db: str, photos: dict[str, NDArray[np.uint8]], tmp_path: Path, count: int
) -> Iterator[Any]:
    """Photos with five masks each, a few more masks than are decided."""
    import fiftyone as fo

    yield panel_dataset(tmp_path / "made", photos, count // 5 + 8, 5, name := f"panel-{uuid4().hex[:6]}")
    fo.delete_dataset(name)


def memory(page: Any) -> float:
    """Bytes that the page's JavaScript uses, without what it does not need any more."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    return metrics.get("JSHeapUsedSize") or page.evaluate("performance.memory.usedJSHeapSize")


@pytest.mark.slow
def test_no_decision_is_lost_or_doubled_when_the_database_is_slow(
    fiftyone_db: str, browser: Any, dataset: Any, tmp_path: Path, count: int
) -> None:
    queue = [mask.label_id for mask in queue_masks(dataset, FIELD, "uncertain", limit=count)]
    page, address = browser.new_page(viewport={"width": 1280, "height": 720}), urlsplit(fiftyone_db)
    with slow_database(address.port or 0, DELAY) as relay:
        uri = address._replace(netloc=f"127.0.0.1:{relay}").geturl()
        with serve_app(free_port(), tmp_path, {"FIFTYONE_DATABASE_URI": uri}) as app:
            panel = Panel(page, f"{app}/datasets/{dataset.name}", tmp_path)
            panel.open()
            started = time.monotonic()
            waiting, used = 0, []
            for number, mask in enumerate(queue):
                page.wait_for_function(
                    "([c, m]) => document.querySelector(c)?.dataset.mask === m", arg=[CANVAS, mask]
                )
                if number == count // 2:
                    waiting = int(page.locator("[data-unstored]").get_attribute("data-unstored"))
                    page.reload()
                    panel.shown()
                    page.locator(CANVAS).click()
                if number > count // 2 and number % (count // 10) == 0:
                    used.append(memory(page))
                page.keyboard.press("ar"[number % 2])
            keys = time.monotonic() - started
            stored = page.locator("[data-unstored='0']")
            stored.wait_for(state="attached", timeout=PATIENCE * count / 60)
            seconds = time.monotonic() - started
            used.append(memory(page))
            page.close()
    print(
        f"\n{count} keys in {keys:.1f} s, all stored after {seconds:.1f} s; {waiting} decisions were on their way "
        f"when the page was reloaded; the browser's memory after it {min(used) / 1e6:.1f} to {max(used) / 1e6:.1f} MB"
    )
    tags = {label: tags for label, (_, tags) in masks(dataset).items() if tags}
    assert tags == {label: (("accepted",), ("rejected",))[n % 2] for n, label in enumerate(queue)}
    log = collections()[0].find({"dataset": dataset_id(dataset)}, ["request", "action"])
    decisions = list(log.sort([("at", 1), ("_id", 1)]))
    assert [each["action"] for each in decisions] == ["accept", "reject"] * (count // 2)
    assert len(decisions) == len({each["request"] for each in decisions}) == count
    assert used[-1] - used[0] < GROWTH
