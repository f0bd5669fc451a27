"""The power is lost at any point: what was finished is there, and the same commands end with the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from power_loss import Recorder, states
from random_run import ANIMALS, COWS, DIM, make_photo, open_writer, photos, text_of
from run_content import content
from shared_worker import CHUNK
from test_engines import save
from test_failing_files import label_shared
from test_failing_files import relabel as relabel_shared

from gem_label.labeling import label_maskset
from gem_label.learning.learned import Learned
from gem_label.runs import open_run, relabel_run

PHOTOS = 4
LEARNED = Learned(None, None, None, None, {"source": "a test"})


def label(path: Path, finish: Callable[[int], None] = lambda photo: None) -> None:
    """Label photos into shards of three, with patch features; one fails."""
    with open_writer(path, photos_per_shard=3) as writer:
        for photo in writer.register(photos(PHOTOS + 1)):
            if photo.number > PHOTOS:
                writer.fail(photo, "read", "broken")
                continue
            masks, token = make_photo(photo.number)
            labels = label_maskset(masks, text_of(ANIMALS), ANIMALS, 20.0, None, None, token)
            writer.write(photo, masks, labels, token, np.full((2, 2, DIM), photo.number / 8))
            finish(photo.number)


def result(path: Path) -> dict[str, Any]:
    """The content of a run, without the id that it gets when it begins."""
    found = content(path)
    return found | {"manifest": {**found["manifest"], "id": None}}


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    (tmp_path / "disk").mkdir()
    return Recorder(tmp_path / "disk")


def restarts(recorder: Recorder, request: pytest.FixtureRequest, step: int) -> Iterator[tuple[Path, int]]:
    """Yield some of the states, in a soak all."""
    soak = bool(request.config.getoption("soak_minutes"))
    yield from states(recorder, recorder.root.with_name("states"), 1 if soak else step)
    print(f"{request.node.name}: {len(recorder.points)} points")


def test_labeling(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    label(tmp_path / "expected")
    expected = result(tmp_path / "expected")

    def finish(photo: int) -> None:
        recorder.finished = photo

    with recorder.recording(monkeypatch):
        label(recorder.root / "new" / "run", finish)
    tried = 0
    for state, finished in restarts(recorder, request, 4):
        path, tried = state / "new" / "run", tried + 1
        found = [photo.number for photo in open_run(path).photos()] if finished else []
        assert set(range(1, finished + 1)) <= set(found), state
        label(path)
        assert result(path) == expected, state
    assert tried > 15


@pytest.mark.parametrize("out", ["run", "out"])
def test_relabeling(
    recorder: Recorder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    out: str,
) -> None:
    def relabel(folder: Path) -> None:
        run = open_run(folder / "run")
        relabel_run(run, COWS, text_of(COWS), out=folder / out if out != "run" else None, learned=LEARNED)

    label(tmp_path / "run")
    before = result(tmp_path / "run")
    relabel(tmp_path)
    after = result(tmp_path / out)
    with recorder.recording(monkeypatch):
        label(recorder.root / "run")
        recorder.finished = 1
        relabel(recorder.root)
        recorder.finished = 2
    tried = 0
    for state, finished in restarts(recorder, request, 2):
        if not finished:
            continue
        tried += 1
        if out == "run":
            found = result(state / "run")
            assert found == after or (finished == 1 and found == before), state
            relabel(state)
        else:
            assert result(state / "run") == before, state
            if not (state / out).exists():
                assert finished == 1
                relabel(state)
        assert result(state / out) == after, state
    assert tried > 5


def test_a_shared_run(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    folder = save(
        tmp_path / "photos", **{f"{i}": color for i, color in enumerate(["red", "lime", "blue"] * 2)}
    )
    assert CHUNK < 6
    label_shared(folder, tmp_path / "expected")
    before = result(tmp_path / "expected")
    relabel_shared(folder, tmp_path / "expected")
    after = result(tmp_path / "expected")
    with recorder.recording(monkeypatch):
        label_shared(folder, recorder.root / "run")
        recorder.finished = 1
        relabel_shared(folder, recorder.root / "run")
        recorder.finished = 2
    tried = 0
    for state, finished in restarts(recorder, request, 4):
        tried += 1
        path = state / "run"
        if finished:
            found = result(path)
            assert found == after or (finished == 1 and found == before), state
        else:
            label_shared(folder, path)
            assert result(path) == before, state
        relabel_shared(folder, path)
        assert result(path) == after, state
    assert tried > 15
