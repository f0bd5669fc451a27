"""Commands to the database fail, then the work is repeated: no decided mask is lost, and the result is the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from failing_database import Commands, Fault, failing_command
from failing_files import failing_at
from fiftyone_fixture import fiftyone_db
from learning_run import decide_by_truth, learning_dataset
from review_safety import FIELD, dataset, detections, run
from run_content import content
from test_review_kills import Snapshot, state

from gem_label.clip.models import load_clip
from gem_label.clip.text import TextEncoder
from gem_label.errors import GemLabelError
from gem_label.progress import finish
from gem_label.review import push_run
from gem_label.review.editing.decisions import decide
from gem_label.review.exchange.corrections import import_corrections
from gem_label.review.exchange.export import export_masks
from gem_label.review.pushing.mask_files import MASK_FOLDER
from gem_label.review.storage.selection import Selection
from gem_label.review.tasks.learning import learn_from_decisions
from gem_label.runs import Run, open_run
from gem_label.runs.learn import learn_run

__all__ = ["dataset", "fiftyone_db", "run"]

FAULTS: tuple[Fault, ...] = ("refused", "cut", "late")


def failures(request: pytest.FixtureRequest, step: int) -> Iterator[tuple[int, Fault]]:
    """Yield which command fails and how: some commands in one way each, in a soak all in all ways."""
    soak = bool(request.config.getoption("soak_minutes"))
    for at in count(0, 1 if soak else step):
        for fault in FAULTS if soak else (FAULTS[at % 3],):
            yield at, fault


def fail(work: Callable[[], Any], at: int, fault: Fault) -> Commands:
    """Do something of which a command fails; what it says then is one line."""
    said = ""
    with failing_command(at, fault) as commands:
        try:
            work()
        except GemLabelError as error:
            said = str(error)
    assert "\n" not in said
    assert len(said) < 500
    return commands


def masks(dataset: Any) -> list[tuple[Any, ...]]:
    """Everything of the masks but ids of detections and of decisions."""
    dataset.reload()
    return sorted((facts[:-1] for facts in state(dataset).values()), key=repr)


def pushed(name: str) -> Any:
    """What a push makes of a dataset."""
    import fiftyone as fo

    dataset = fo.load_dataset(name)
    push = dict(dataset.info["gem_label"][FIELD])
    assert push.pop("pushed")
    fields = sorted(dataset.get_field_schema(flat=True))
    return masks(dataset), push, dataset.classes, len(dataset), dataset.persistent, fields


def test_a_first_push(run: Run, fiftyone_db: str, request: pytest.FixtureRequest) -> None:
    import fiftyone as fo

    push_run(run, "failing expected")
    expected = pushed("failing expected")
    for at, fault in failures(request, 5):
        commands = fail(lambda: push_run(run, "failing"), at, fault)
        push_run(run, "failing")
        assert pushed("failing") == expected, (at, fault)
        fo.delete_dataset("failing")
        if commands.count <= at:
            break
    assert at > 40
    fo.delete_dataset("failing expected")


def test_a_push_after_a_review(run: Run, dataset: Any, request: pytest.FixtureRequest) -> None:
    decide(dataset, FIELD, "accept", Selection(labels=["dog"]))
    decide(dataset, FIELD, "rename", Selection(labels=["cat"]), label="dog")
    snapshot = Snapshot(dataset)

    def push() -> None:
        push_run(run, dataset.name, min_score=0.1)

    push()
    expected = masks(dataset)
    assert len(expected) == 5
    for at, fault in failures(request, 1):
        snapshot.restore()
        commands = fail(push, at, fault)
        snapshot.check()
        push()
        snapshot.check()
        assert masks(dataset) == expected, (at, fault)
        if commands.count <= at:
            break
    assert at > 8


def corrected(dataset: Any, path: Path) -> Path:
    """A file of the dataset's masks in which one has another class, one is moved, one is gone and one is new."""
    finish(export_masks(dataset, FIELD, path))
    content = json.loads(path.read_text())
    first, second, third, *_ = content["annotations"]
    first["category_id"] = 1 + first["category_id"] % len(content["categories"])
    second |= {"segmentation": [[1, 1, 30, 1, 30, 20, 1, 20]], "bbox": [1, 1, 29, 19], "area": 551}
    content["annotations"].remove(third)
    new = {name: second[name] for name in ("image_id", "category_id")}
    new |= {
        "id": 99,
        "segmentation": [[40, 30, 60, 30, 60, 45, 40, 45]],
        "bbox": [40, 30, 20, 15],
        "area": 300,
    }
    content["annotations"].append(new)
    path.write_text(json.dumps(content))
    return path


def test_an_import(dataset: Any, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    decide(dataset, FIELD, "accept", Selection(labels=["cup"]))
    file = corrected(dataset, tmp_path / "corrected.json")

    def take_in() -> None:
        finish(import_corrections(dataset, FIELD, file, missing="reject"))

    snapshot = Snapshot(dataset)
    take_in()
    expected = masks(dataset)
    assert expected != sorted((facts[:-1] for facts in snapshot.state.values()), key=repr)
    for at, fault in failures(request, 2):
        snapshot.restore()
        commands = fail(take_in, at, fault)
        take_in()
        assert masks(dataset) == expected, (at, fault)
        if commands.count <= at:
            break
    assert at > 10


def test_mask_files_that_cannot_be_written(run: Run, dataset: Any) -> None:
    decide(dataset, FIELD, "accept", Selection(labels=["dog"]))
    snapshot = Snapshot(dataset)

    def push() -> None:
        push_run(run, dataset.name, mask_storage="disk")

    push()
    expected = masks(dataset)
    for at in count():
        shutil.rmtree(run.path / MASK_FOLDER)
        snapshot.restore()
        with failing_at(at, run.path) as hook, suppress(GemLabelError, OSError):
            push()
        push()
        assert masks(dataset) == expected, at
        files = [mask.get("mask_path") for photo in "ab" for mask in detections(dataset, name=photo)]
        written = [Path(file) for file in files if file]  # decided masks stay where they are
        assert len(written) == 2
        assert all(file.stat().st_size for file in written)
        assert not list((run.path / MASK_FOLDER).rglob("*.tmp"))
        if hook.operations <= at:
            break
    assert at > 5


def test_learning(fiftyone_db: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    dataset = learning_dataset(tmp_path, "failing lessons")
    decide_by_truth(dataset)
    encoder = TextEncoder(load_clip("demo", "cpu"))
    expected = learn_from_decisions(dataset, FIELD, encoder)
    for at, fault in failures(request, 2):
        commands = fail(lambda: learn_from_decisions(dataset, FIELD, encoder), at, fault)
        if commands.count <= at:
            break
    assert at > 4
    text = encoder.encode(expected.vocabulary.phrases)

    def teach(path: Path) -> Any:
        taught = learn_run(open_run(path), expected, text)
        assert taught.learned is not None
        return content(path) | {"manifest": None}  # its id is another each time

    taught = teach(shutil.copytree(tmp_path / "run", tmp_path / "expected"))
    for at in count(0, 3):
        path = shutil.copytree(tmp_path / "run", tmp_path / f"run{at}")
        with failing_at(at, path) as hook, suppress(GemLabelError, OSError):
            teach(path)
        assert teach(path) == taught, at
        assert not list(path.rglob("*.tmp"))
        if hook.operations <= at:
            break
    assert at > 20
    dataset.delete()
