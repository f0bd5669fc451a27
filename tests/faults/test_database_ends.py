"""mongod is killed while commands use it: one line within seconds, and the same command afterwards does all of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from database_commands import watching
from fiftyone_fixture import fiftyone_db
from learning_run import FIELD, decide_by_truth, learning_dataset
from mongod import running_mongod
from test_failing_database import corrected

from gem_label.cli import run as command
from gem_label.review.storage.detections import is_decided
from gem_label.runs import open_run

__all__ = ["fiftyone_db"]

SECONDS = 30
"""Several times the 5 seconds for which commands wait for the database, for a machine that is busy."""


def decided(dataset: Any) -> list[dict[str, Any]]:
    """The masks that reviewers decided about, as the database has them."""
    found = [mask for photo in dataset._sample_collection.find() for mask in photo[FIELD]["detections"]]
    return [mask for mask in found if is_decided(mask)]


@pytest.mark.slow
def test_mongod_ends(fiftyone_db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mongod, times = running_mongod(), list[str]()

    def killed(arguments: list[str], before: int) -> None:
        """Run a command during which mongod is killed before one of its commands; then run it again."""
        number = 0

        def kill(_: Any) -> None:
            nonlocal number
            if number == before:
                mongod.end(signal.SIGKILL)
            number += 1

        capsys.readouterr()
        started = time.monotonic()
        try:
            with watching(kill):
                code = command(arguments)
            seconds = time.monotonic() - started
        finally:
            if number > before:
                mongod.start()
        assert code == 1
        (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gem-label: ")]
        assert "database" in said
        assert "again" in said
        assert len(said) < 500
        assert seconds < SECONDS
        times.append(f"{arguments[0]} {seconds:.1f} s")
        assert command(arguments) == 0

    dataset = learning_dataset(tmp_path, "ending", 8)
    decide_by_truth(dataset)
    path = str(tmp_path / "run")
    before = decided(dataset)
    killed(["push", path, "--dataset", "ending"], before=10)
    assert decided(dataset) == before
    killed(["push", path, "--dataset", "ended"], before=50)
    file = corrected(dataset, tmp_path / "corrected.json")
    killed(["import", str(file), "--dataset", "ending", "--missing", "reject"], before=12)
    now = decided(dataset)
    assert len(now) > len(before)
    killed(["learn", path, "--dataset", "ending", "--field", FIELD], before=5)
    assert decided(dataset) == now
    assert open_run(path).manifest["finished"]
    print(*times, sep="\n")
    dataset.delete()


@pytest.mark.slow
def test_no_database_at_the_start() -> None:
    run = Path(__file__).parents[1] / "fixtures" / "run_format_1"
    nowhere = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=200"
    done = subprocess.run(
        [sys.executable, "-m", "gem_label.cli", "push", str(run), "--dataset", "nowhere"],
        env=os.environ | {"FIFTYONE_DATABASE_URI": nowhere},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "database does not answer" in done.stderr
    assert done.stderr.count("\n") == 1
