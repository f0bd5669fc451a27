"""Two processes that push into one dataset at the same time, and runs whose masks are files that datasets share."""

from __future__ import annotations

import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from database_commands import Command, meanwhile, run_and_kill
from fiftyone_fixture import fiftyone_db
from PIL import Image
from review_safety import FIELD, HIDDEN, detections, ids_of, two_photos
from run_factory import make_run, mask_labels, mask_set, rectangles

from gem_label.errors import GemLabelError
from gem_label.progress import finish
from gem_label.review import push_run
from gem_label.review.editing.decisions import decide
from gem_label.review.editing.joining import join_masks
from gem_label.review.exchange.export import export_masks
from gem_label.review.storage.selection import Selection
from gem_label.runs import Run

__all__ = ["fiftyone_db"]


@pytest.fixture
def name(fiftyone_db: str, request: pytest.FixtureRequest) -> Iterator[str]:
    import fiftyone as fo

    name = f"pushes {request.node.name}"
    yield name
    for each in fo.list_datasets(f"{name}*"):
        fo.delete_dataset(each)


def in_processes(*works: Callable[[], Any]) -> None:
    """Run something in processes of their own that begin at the same moment."""
    start, ready = os.pipe()
    children = []
    for work in works:
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # rather than wait for ever
            code = 1
            try:
                os.close(ready)
                os.read(start, 1)  # ends when all others have closed it
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    os.close(ready)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(children)
    os.close(start)


# --- the same photos ---------------------------------------------------------------------------------------------


def test_processes_that_push_one_run_at_once_add_each_photo_once(tmp_path: Path, name: str) -> None:
    import fiftyone as fo

    labels = mask_labels(["cat", "dog", "cup"], [0.9, 0.8, 0.2], kept=[True, True, False])
    photos = {f"{i}.png": (mask_set(rectangles(3, seed=i)), labels) for i in range(40)}
    run = make_run(tmp_path / "run", photos)
    for number in range(3):
        each = f"{name} {number}"
        in_processes(*[lambda each=each: push_run(run, each)] * 3)
        assert fo.list_datasets(each) == [each]
        dataset = fo.load_dataset(each)
        dataset.reload()
        assert len(dataset) == len(set(dataset.values("filepath"))) == 40
        assert (dataset.count(f"{FIELD}.detections"), dataset.count(f"{HIDDEN}.detections")) == (80, 40)
        schema = set(dataset.get_field_schema(flat=True))
        assert {f"{field}.detections.margin" for field in (FIELD, HIDDEN)} <= schema
        assert push_run(run, each).unchanged == 40


def adds_samples(event: Command) -> bool:
    return event.command_name == "insert" and event.command["insert"].startswith("samples.")


def test_a_photo_that_another_push_adds_meanwhile_is_counted_there(tmp_path: Path, name: str) -> None:
    import fiftyone as fo

    run = two_photos(tmp_path / "run")
    reports = []
    with meanwhile(lambda: reports.append(push_run(run, name)), adds_samples):
        reports.append(push_run(run, name))
    first, second = reports
    assert (first.added, first.updated, first.unchanged, first.masks_in_database) == (2, 0, 0, 5)
    assert (second.added, second.updated, second.unchanged, second.masks_in_database) == (0, 0, 2, 0)
    assert (second.detections, second.less_likely) == (4, 1)
    dataset = fo.load_dataset(name)
    # a sample of another photo now: the photo gets a new one
    sample = dataset.first()
    path = sample.filepath
    sample.filepath = str(tmp_path / "moved.png")
    sample.save()
    report = push_run(run, name)
    assert (report.added, report.unchanged) == (1, 1)
    assert path in dataset.values("filepath")
    assert len(dataset) == 3


def test_processes_that_push_into_other_fields_lose_no_field(tmp_path: Path, name: str) -> None:
    import fiftyone as fo

    run = two_photos(tmp_path / "run")
    in_processes(*[lambda field=field: push_run(run, name, field=field) for field in ("one", "two", "three")])
    dataset = fo.load_dataset(name)
    dataset.reload()
    for field in ("one", "two", "three"):
        assert dataset.count(f"{field}.detections") == 4
        assert dataset.count(f"{field}_less_likely.detections") == 1
        assert dataset.classes[field] == dataset.classes[f"{field}_less_likely"]
        assert dataset.info["gem_label"][field]["run"] == str(run.path.resolve())


@pytest.mark.slow
def test_a_first_push_that_is_killed_is_pushed_again(tmp_path: Path, name: str) -> None:
    import fiftyone as fo

    run = two_photos(tmp_path / "run")
    for before_write in range(0, 100, 4):
        each = f"{name} {before_write}"
        if not run_and_kill(lambda each=each: push_run(run, each), before_write):
            break
        report = push_run(run, each)
        assert (report.photos, report.detections, report.less_likely) == (2, 4, 1)
        dataset = fo.load_dataset(each)
        assert dataset.persistent
        schema = set(dataset.get_field_schema(flat=True))
        for field in (FIELD, HIDDEN):
            assert {f"{field}.detections.{part}" for part in ("margin", "mask_id", "runner_up")} <= schema
            assert dataset.classes[field] == list(run.vocabulary.classes)
        assert dataset.app_config.active_fields.paths == [FIELD]
        assert len(dataset) == 2
    assert 10 < before_write < 90


# --- masks on disk -----------------------------------------------------------------------------------------------


def shown(dataset: Any, field: str = FIELD) -> dict[str, Any]:
    """mask_id -> the mask as FiftyOne reads it."""
    dataset.reload()
    return {
        detection.mask_id: np.asarray(detection.get_mask() > 0).tolist()
        for sample in dataset
        for detection in sample[field].detections
    }


def files(run: Run) -> dict[str, bytes]:
    folder = run.path / "fiftyone_masks"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_with_other_masks_changes_nothing_in_older_datasets(tmp_path: Path, name: str) -> None:
    import fiftyone as fo

    def masks(seed: int) -> Any:  # one box for all: only the outline differs
        pixels = np.random.default_rng(seed).random((2, 48, 64)) > 0.5
        pixels[:, [0, -1], [0, -1]] = True
        return mask_set(list(pixels)), mask_labels(["cat", "dog"], [0.9, 0.8])

    old = make_run(tmp_path / "run", {"a.png": masks(0)})
    push_run(old, f"{name} 1", mask_storage="disk")
    first = fo.load_dataset(f"{name} 1")
    before, of_old = shown(first), files(old)
    folder = old.path / "fiftyone_masks"
    shutil.move(folder, tmp_path / "kept")
    shutil.rmtree(old.path)
    new = make_run(tmp_path / "run", {"a.png": masks(1)})
    shutil.move(tmp_path / "kept", folder)
    push_run(new, f"{name} 2", mask_storage="disk")
    second = fo.load_dataset(f"{name} 2")
    assert shown(first) == before
    assert shown(second).keys() == before.keys()
    assert all(shown(second)[each] != before[each] for each in before)
    assert files(new).items() > of_old.items()
    # the same masks use the same files, and nothing is written
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    push_run(new, f"{name} 3", field="other", mask_storage="disk")
    assert shown(fo.load_dataset(f"{name} 3"), "other") == shown(second)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == stamps
    assert len(stamps) == 4


def test_a_mask_that_is_edited_gets_a_place_of_its_own(tmp_path: Path, name: str) -> None:
    import fiftyone as fo

    run = make_run(
        tmp_path / "run", {"a.png": (mask_set(rectangles(2)), mask_labels(["cat"] * 2, [0.9, 0.8]))}
    )
    for number in (1, 2):
        push_run(run, f"{name} {number}", mask_storage="disk")
    push_run(run, f"{name} 1", field="other", mask_storage="disk")
    first, second = (fo.load_dataset(f"{name} {number}") for number in (1, 2))
    before, of_run = shown(second), files(run)
    join_masks(first, FIELD, Selection())
    (joined,) = detections(first)
    assert (joined["mask_path"], bool(joined["mask"])) == (None, True)
    assert shown(second) == shown(first, "other") == before
    assert files(run) == of_run
    # a file that somebody edits is not overwritten by the next push
    decide(second, FIELD, "accept", ids_of(*detections(second)))
    path = Path(detections(second)[0]["mask_path"])
    Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    edited = shown(second)
    push_run(run, f"{name} 3", mask_storage="disk")
    assert shown(second) == edited
    assert shown(fo.load_dataset(f"{name} 3")) == before


def test_masks_whose_folder_is_gone_are_told_in_one_line(tmp_path: Path, name: str) -> None:
    import fiftyone as fo

    run = make_run(
        tmp_path / "run", {"a.png": (mask_set(rectangles(2)), mask_labels(["cat"] * 2, [0.9, 0.8]))}
    )
    push_run(run, name, mask_storage="disk")
    dataset = fo.load_dataset(name)
    before = detections(dataset)
    shutil.rmtree(run.path / "fiftyone_masks")
    for work in (
        lambda: join_masks(dataset, FIELD, Selection()),
        lambda: finish(export_masks(dataset, FIELD, tmp_path / "out.json")),
    ):
        with pytest.raises(
            GemLabelError, match=r"cannot read the mask .*fiftyone_masks.*png: No such"
        ) as error:
            work()
        assert "\n" not in str(error.value)
    assert detections(dataset) == before
