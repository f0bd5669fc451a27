"""`gem-label show`: counts by class, which images are chosen, and the page in a real browser."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_factory import make_run, mask_labels, mask_set, rectangles

from gem_label.cli import run as command
from gem_label.progress import finish
from gem_label.runs import Run
from gem_label.runs.summary import summarize_run
from gem_label.show.choosing import choose_images
from gem_label.show.page import svg_path, write_page

CLASSES = ("cat", "dog", "<img src=x onerror=alert(1)>")


def drawn_run(folder: Path, images: int = 6, seed: int = 0) -> Run:
    """Images of 1 to 4 masks with random classes and scores; the first image has none."""
    rng = np.random.default_rng(seed)
    photos = {}
    (folder / "photos").mkdir(parents=True)
    for i in range(images):
        count = 0 if i == 0 else int(rng.integers(1, 5))
        names = [CLASSES[k] if k < 3 else None for k in rng.integers(0, 4, count)]
        scores = rng.random(count).round(3)
        labels = mask_labels(names, scores, kept=list(scores > 0.4), classes=CLASSES)
        photos[f"{i}.png"] = mask_set(rectangles(count, seed=i)), labels
        Image.new("RGB", (64, 48), (40 * (i % 6), 80, 120)).save(folder / "photos" / f"{i}.png")
    return make_run(folder / "run", photos, classes=CLASSES)


def test_the_summary_counts_what_the_run_keeps(tmp_path: Path) -> None:
    run = drawn_run(tmp_path, images=30)
    summary = summarize_run(run)
    kept: dict[str, list[tuple[int, float]]] = {name: [] for name in CLASSES}
    total = 0
    for photo, _, labels in run.photo_masks():
        total += len(labels)
        for name, score, keeps in zip(labels.names, labels.score.tolist(), labels.kept.tolist(), strict=True):
            if keeps and name is not None:
                kept[name].append((photo.number, score))
    assert (summary.images, summary.failed, summary.masks) == (30, 0, total)
    assert summary.kept == sum(map(len, kept.values())) == run.manifest["counts"]["kept"]
    assert [each.masks for each in summary.classes] == sorted(map(len, kept.values()), reverse=True)
    for each in summary.classes:
        scores = [score for _, score in kept[each.name]]
        assert each.images == len({number for number, _ in kept[each.name]})
        assert (each.lowest, each.highest) == (pytest.approx(min(scores)), pytest.approx(max(scores)))
        assert each.median == pytest.approx(np.quantile(scores, 0.5, method="inverted_cdf"), abs=1.1e-3)


def test_images_are_chosen_at_random_and_where_mistakes_are_likely(tmp_path: Path) -> None:
    run = drawn_run(tmp_path, images=40)
    everything = choose_images(run, 40)
    assert set(everything.reasons.values()) == {"all"}
    assert str(everything) == "all 40 images"
    chosen = choose_images(run, 8)
    assert chosen == choose_images(run, 8)
    counts = [
        list(chosen.reasons.values()).count(each) for each in ("random", "lowest score", "two classes close")
    ]
    assert sum(counts) == len(chosen.reasons) == 8
    assert counts[0] == 4
    lowest = {
        photo.number: labels.score[labels.kept].min(initial=2) for photo, _, labels in run.photo_masks()
    }
    worst = min(lowest, key=lambda number: lowest[number])
    assert worst in chosen.reasons
    one = choose_images(run, 1)
    assert len(one.reasons) == 1


def test_paths_have_holes_and_parts() -> None:
    mask = np.zeros((40, 60), bool)
    mask[5:30, 5:30] = True
    mask[12:20, 12:20] = False
    mask[32:38, 40:55] = True
    path = svg_path(mask, 0.75)
    assert path.count("M") == path.count("Z") == 3
    numbers = [float(number) for number in re.findall(r"[\d.]+", path)]
    assert min(numbers[::2]) == 5.5
    assert max(numbers[::2]) == 54.5
    single = np.zeros((3, 3), bool)
    single[1, 1] = True
    assert svg_path(single, 0.75) == "M1.5,1.5Z"


@pytest.fixture
def page(tmp_path: Path) -> tuple[Run, Path]:
    run = drawn_run(tmp_path)
    (tmp_path / "photos" / "2.png").unlink()
    report = finish(write_page(run, tmp_path / "look", 48))
    assert report.unreadable == 1
    return run, report.page


@pytest.mark.slow
def test_the_page_filters_sorts_and_needs_no_network(page: tuple[Run, Path]) -> None:
    from playwright.sync_api import sync_playwright

    run, path = page
    shown = [
        (name, float(score), bool(keeps))
        for _, _, labels in run.photo_masks()
        for name, score, keeps in zip(labels.names, labels.score, labels.kept, strict=True)
        if name is not None
    ]
    kept = sorted(score for _, score, keeps in shown if keeps)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 720})
        problems: list[str] = []
        requests: list[str] = []
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("console", lambda message: problems.append(message.text))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(path.as_uri())
        captions = tab.locator("#grid figcaption div:first-child")
        texts = captions.all_text_contents()
        assert [float(text.rsplit(" ", 1)[1]) for text in texts] == pytest.approx(kept, abs=0.0051)
        tab.select_option("#order", "best")
        assert captions.all_text_contents() == texts[::-1] or len(set(texts)) < len(texts)
        tab.fill("#score", "0.7")
        assert captions.count() == sum(score >= 0.7 for score in kept)
        tab.fill("#score", "0")
        tab.check("#less")
        assert captions.count() == sum(score >= 0.05 for _, score, _ in shown)
        tab.uncheck("#less")
        row = tab.locator("#classes .row", has_text="onerror")  # a name is text, whatever it holds
        row.locator("input").uncheck()
        assert captions.count() == sum(keeps and name != CLASSES[2] for name, _, keeps in shown)
        tab.click("#all")
        tab.click("#images")
        assert tab.locator("#grid figure").count() == 6
        tab.locator("#grid figure").first.click()
        assert tab.locator("dialog").is_visible()
        assert tab.locator("#side .row").count() >= 1
        sizes = tab.evaluate(
            "Promise.all([...document.querySelectorAll('#grid image')].map(i => {"
            "const p = new Image(); p.src = i.href.baseVal; return p.decode().then(() => p.naturalWidth)}))"
        )
        assert sizes == [64] * 6
        assert all(url.startswith("file:") for url in requests)
        assert problems == []
        browser.close()


def test_the_command_writes_a_page_and_says_what_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert command(["show", "run", "--photos", "3"]) == 0
    out = capsys.readouterr().out
    assert "3 of 6 images" in out
    assert re.search(r"^cat +\d+ +\d+  0\.\d\d, 0\.\d\d to 0\.\d\d$", out, re.M)
    assert {path.name for path in (tmp_path / "run-show").iterdir()} == {
        "contact-sheet.jpg",
        "images",
        "index.html",
        "overlays",
    }
    assert len(list((tmp_path / "run-show/overlays").iterdir())) == 3
    assert command(["show", "nowhere"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
