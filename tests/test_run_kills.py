"""gem_label.runs under kill -9, a full disk and a second writer, each in a real process."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from random_run import (
    ANIMALS,
    THINGS,
    open_writer,
    photos,
    rounded_scores,
    rows_of,
    text_of,
    write_run,
)

from gem_label.errors import GemLabelError
from gem_label.runs import open_run, relabel_run
from gem_label.runs.files import MANIFEST


def test_only_one_process_writes(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "run")
    output = child("child_opens", tmp_path / "run").communicate(timeout=60)[0]
    assert f"is being written by another gem-label (process {os.getpid()})" in output
    with pytest.raises(GemLabelError, match="being written"):
        relabel_run(open_run(tmp_path / "run"), THINGS, text_of(THINGS))
    writer.close()
    open_writer(tmp_path / "run").close()


def child(function: str, path: Path) -> subprocess.Popen:
    code = "import sys, pathlib, test_run_kills as t; getattr(t, sys.argv[1])(pathlib.Path(sys.argv[2]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", code, function, str(path)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def child_opens(path: Path) -> None:
    try:
        open_writer(path)
    except GemLabelError as error:
        print(error)


def child_writes(path: Path) -> None:
    print("ready", flush=True)
    write_run(path, 120, photos_per_shard=5)


def child_relabels(path: Path) -> None:
    run = open_run(path)
    for vocabulary in (THINGS, ANIMALS) * 1000:
        run = relabel_run(run, vocabulary, text_of(vocabulary))
        print("ready", flush=True)


def kill_after(process: subprocess.Popen, seconds: float) -> bool:
    """Whether the kill came before the end."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_kill_and_resume_gives_the_rows_of_an_uninterrupted_run(tmp_path: Path) -> None:
    """kill -9 at random moments, again and again on the same run, with a reader after each."""
    whole = write_run(tmp_path / "whole", 120, photos_per_shard=5)
    rng, path, kills, done = random.Random(0), tmp_path / "run", 0, 0
    while kills < 8:
        if not kill_after(child("child_writes", path), rng.uniform(0.0, 0.35)):
            break
        kills += 1
        if (path / MANIFEST).exists():
            numbers = [photo.number for photo in open_run(path).photos()]
            assert (
                len(numbers) == len(set(numbers)) >= done
            )  # nothing twice, and nothing that was there is lost
            done = len(numbers)
    assert kills >= 2
    run = write_run(path, 120, photos_per_shard=5)
    assert rows_of(run) == rows_of(whole)
    assert sorted(p.number for p in run.photos()) == list(range(1, 121))
    assert run.manifest["counts"] == whole.manifest["counts"]
    assert not list(path.rglob("*.tmp"))


@pytest.mark.slow
def test_kill_while_relabeling_leaves_the_old_labels_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "run"
    expected = {
        vocabulary.classes: rows_of(write_run(tmp_path / vocabulary.classes[0], 60, vocabulary))
        for vocabulary in (ANIMALS, THINGS)
    }
    write_run(path, 60)
    rng = random.Random(1)
    for _ in range(7):
        assert kill_after(child("child_relabels", path), rng.uniform(0.0, 0.3))
        run = open_run(path)
        assert rounded_scores(rows_of(run)) == rounded_scores(expected[run.vocabulary.classes])
    with open_writer(path, run.vocabulary) as writer:
        assert writer.register(photos(60)) == []
    assert sorted(file.name for file in path.iterdir()) == [".lock", "images.jsonl", "manifest.json", "masks"]


def child_fills_the_disk(path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))  # stands for a full disk
    print("ready", flush=True)
    try:
        write_run(path, 40, photos_per_shard=20)
    except OSError as error:
        print(type(error).__name__, error.errno, flush=True)


def test_a_full_disk_ends_the_run_and_loses_nothing(tmp_path: Path) -> None:
    process = child("child_fills_the_disk", tmp_path / "run")
    output = process.communicate(timeout=60)[0]
    assert "OSError 27" in output
    done = len(list(open_run(tmp_path / "run").photos()))
    assert 0 < done < 40
    assert rows_of(write_run(tmp_path / "run", 40, photos_per_shard=20)) == rows_of(
        write_run(tmp_path / "whole", 40, photos_per_shard=20)
    )
