"""Photos that were replaced after they were labeled are noticed, wherever they are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from test_engines import run_photos, save

from gem_label.cli import run as gem_label
from gem_label.runs import Run, open_run
from gem_label.runs.changed_photos import note_of_changed
from gem_label.runs.repair import check_run
from gem_label.stores import open_store

COLORS = {"a": "red", "b": "white", "c": "lime"}


def note(run: Run) -> str | None:
    return note_of_changed(run.photos())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "photos", **COLORS)


def test_a_replaced_photo_is_noticed(tmp_path: Path, folder: Path) -> None:
    run_photos(folder, tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert all(photo.tag for photo in run.photos())
    assert note(run) is None
    first, second = (Path(photo.image) for photo in list(run.photos())[:2])
    shutil.copyfile(second, first)
    assert note(run) == (
        f"1 photo was replaced after labeling, such as {first}: the masks are of the old picture; label into another "
        "--out for new ones"
    )
    os.utime(second, ns=(0, 0))  # another time is another file: nobody looks into it
    assert str(note(run)).startswith(f"2 photos were replaced after labeling, such as {first}: ")
    first.unlink()  # a photo that is gone is not a changed one
    assert str(note(run)).startswith(f"1 photo was replaced after labeling, such as {second}: ")
    assert check_run(run.path).notes == [note(run)]


def test_commands_say_so(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_photos(folder, tmp_path / "run")
    os.utime(folder / "a.png", ns=(0, 0))
    said = f"1 photo was replaced after labeling, such as {folder}/a.png: "
    assert gem_label(["repair", str(tmp_path / "run"), "--check"]) == 0
    assert f"note: {said}" in capsys.readouterr().out
    for files, noted in (("copy", True), ("list", False)):
        out = str(tmp_path / f"yolo-{files}")
        assert (
            gem_label(["export", str(tmp_path / "run"), "--format", "yolo", "--photos", files, "--out", out])
            == 0
        )
        assert (said in capsys.readouterr().err) == noted


def test_runs_of_earlier_versions_know_nothing() -> None:
    run = open_run(Path(__file__).parent / "fixtures" / "run_format_2")
    assert not any(photo.tag for photo in run.photos())
    assert note(run) is None


def test_files_of_a_folder_have_the_same_tag_however_it_is_asked_for(folder: Path) -> None:
    store = open_store(folder)
    assert {name: store.read_tagged(name)[1] for name in ("a.png", "b.png", "c.png")} == dict(store.tags(""))
