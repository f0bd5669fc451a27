"""Every file operation of a command fails once, then the command is repeated: the result is that of no failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from failing_files import failing_at
from shared_worker import CHUNK
from test_engines import JOB, ColorModels, run_photos, save
from test_shared_runs import content

from gem_label.engines.shared import Part, label_chunks
from gem_label.errors import GemLabelError
from gem_label.photos.listing import list_images
from gem_label.runs import open_run, relabel_run
from gem_label.runs.export import export_run
from gem_label.runs.manifest import new_manifest
from gem_label.runs.shared import SharedRun
from gem_label.stores import open_store
from gem_label.vocabulary import Vocabulary

WORDS, TEXT = Vocabulary.parse("blue, red", background="green"), JOB.text[[2, 0, 1]]
MOST = 600


def label(folder: Path, out: Path) -> None:
    run_photos(folder, out)


def label_shared(folder: Path, out: Path) -> None:
    wanted = new_manifest(
        settings={}, vocabulary=JOB.vocabulary, embedding_dim=3, logit_scale=JOB.logit_scale
    )
    run = SharedRun.create_or_join(open_store(out), wanted, CHUNK)
    run.add_photos(list_images([folder]))
    label_chunks(run, Part(0, 1).of(run), ColorModels(), JOB, 1, progress=False)
    run.finish()


def relabel(folder: Path, out: Path) -> None:
    relabel_run(open_run(out), WORDS, TEXT)


def export(folder: Path, out: Path) -> None:
    export_run(open_run(out), out.parent / f"{out.name}.json")


def result(out: Path) -> Any:
    """Everything that the commands have made, and nothing that belongs to no run."""
    run = open_run(out)
    left = {path.name for path in out.rglob(".*")} - {".lock", ".store.lock"}
    if "shared" in run.manifest:  # others may be writing there, so that temporary files go after a day
        left = {name for name in left if not name.endswith(".tmp")}
    assert not left
    exported = out.parent / f"{out.name}.json"
    coco = json.loads(exported.read_text()) if exported.exists() else {}
    return content(run), run.manifest["counts"], coco.get("annotations"), coco.get("images")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos, and one that is none."""
    folder = save(tmp_path_factory.mktemp("made") / "photos", a="red", b="lime", c="blue")
    (folder / "broken.jpg").write_text("no photo")
    return folder


@pytest.mark.parametrize(
    "commands", [[label], [label_shared], [label, relabel], [label_shared, relabel], [label, export]]
)
def test_every_operation_fails_once(
    tmp_path: Path, folder: Path, commands: list[Callable[[Path, Path], None]]
) -> None:
    *before, command = commands
    expected_run = tmp_path / "expected"
    for each in commands:
        each(folder, expected_run)
    expected = result(expected_run)
    for at in range(MOST):
        out = tmp_path / f"run{at:03d}"
        for each in before:
            each(folder, out)
        with failing_at(at, out) as hook, suppress(OSError, GemLabelError):
            command(folder, out)
        command(folder, out)
        assert result(out) == expected, at
        if hook.operations <= at:
            break
    assert 5 < at < MOST - 1
