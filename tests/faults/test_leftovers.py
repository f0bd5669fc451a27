"""What killed commands and full disks leave: the next command removes it, and errors name the path."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from random_run import (
    ANIMALS,
    THINGS,
    make_photo,
    open_writer,
    photos,
    rows_of,
    text_of,
    write_photo,
    write_run,
)

from gem_label.atomic import delete_leftovers, replacing, replacing_folder
from gem_label.errors import GemLabelError
from gem_label.labeling import label_maskset
from gem_label.runs import open_run, relabel_run
from gem_label.runs.export import export_run
from gem_label.runs.files import RELABEL_READY, REPLACED
from gem_label.runs.jsonl import append_jsonl
from gem_label.runs.repair import repair_run


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that runs code which prints "ready" and continues."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


HOLD = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from gem_label.atomic import replacing, replacing_folder
with ExitStack() as stack:
    stack.enter_context(replacing(sys.argv[1])).write(b"half")
    stack.enter_context(replacing_folder(Path(sys.argv[2])))
    print("ready", flush=True)
    time.sleep(600)
"""


def test_temporary_files_of_living_processes_stay_and_those_of_dead_ones_go(tmp_path: Path) -> None:
    process = child(HOLD, tmp_path / "masks.json", tmp_path / "RUN2")
    assert len(list(tmp_path.iterdir())) == 2
    delete_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    process.kill()
    process.wait()
    delete_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_next_export_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 3)
    process = child(HOLD, tmp_path / "masks.json", tmp_path / "RUN2")
    process.kill()
    process.wait()
    export_run(run, tmp_path / "masks.json")
    relabel_run(run, THINGS, text_of(THINGS), out=tmp_path / "RUN2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["RUN2", "masks.json", "run"]


COMMAND = """
import signal, sys, time
from gem_label import cli
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, under which tests may run, has children ignore it
from gem_label.atomic import replacing
def run():
    with replacing(sys.argv[1]):
        print("ready", flush=True)
        time.sleep(600)
cli.run = run
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_told_to_end_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    process = child(COMMAND, tmp_path / "masks.json")
    process.send_signal(number)
    assert process.wait() == 128 + number
    assert process.stderr is not None
    assert process.stderr.read() == f"gem-label: ended by {number.name}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [".relabel.tmp", ".relabel.ready.0123.tmp"])
@pytest.mark.parametrize("use", ["label", "relabel", "repair"])
def test_folders_of_killed_relabels_are_removed(tmp_path: Path, name: str, use: str) -> None:
    run = write_run(tmp_path / "run", 3)
    (run.path / name).mkdir()
    (run.path / name / "manifest.json").touch()
    if use == "label":
        open_writer(run.path).close()
    elif use == "relabel":
        relabel_run(run, THINGS, text_of(THINGS))
    else:
        repair_run(run.path)
    assert not (run.path / name).exists()


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file can be longer than this, which is how a process meets a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_is_named_by_its_path(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 12)
    big = tmp_path / "big.jsonl"
    writes: list[tuple[Callable[[], object], str]] = [
        (lambda: append_jsonl(big, {"a": "b" * 3000}), "big.jsonl"),
        (lambda: relabel_run(run, THINGS, text_of(THINGS)), "shard-000000.parquet"),
        (lambda: export_run(run, tmp_path / "masks.json"), "masks.json"),
        (lambda: write_half(tmp_path / "a.txt"), "a.txt"),
    ]
    for write, name in writes:
        with full_disk(500), pytest.raises((OSError, GemLabelError), match="File too large") as caught:
            write()
        assert name in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.jsonl", "run"]
    assert big.read_bytes() == b""
    assert rows_of(open_run(run.path))


def write_half(path: Path) -> None:
    with replacing_folder(path.parent / "folder") as folder, replacing(folder / path.name) as file:
        file.write(b"a" * 5000)


def test_a_disk_that_fills_while_failures_are_written_does_no_harm(tmp_path: Path) -> None:
    with open_writer(tmp_path / "run") as writer:
        todo = writer.register(photos(9))
        writer.fail(todo[0], "read", "broken " * 10)
        with full_disk(300), pytest.raises(OSError, match=r"failures\.jsonl"):
            writer.fail(todo[1], "read", "broken " * 10)
        writer.fail(todo[2], "read", "broken")
    assert [each.image_id for each in open_run(tmp_path / "run").failures()] == ["0001", "0003"]
    with open_writer(tmp_path / "run") as writer:
        assert len(writer.register(photos(9))) == 9


READ = """
import os, sys
from gem_label.runs import open_run
def read(path):
    run = open_run(path)
    return run.vocabulary.classes[0], len(list(run.photos())), sum(map(len, run.tables()))
read(sys.argv[1])  # imports everything
os.chdir(sys.argv[2])
if os.geteuid() == 0:  # may write everything
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print("ready")
print(*read("."))
"""


@pytest.mark.parametrize("steps", range(4))
def test_a_run_that_cannot_be_written_is_read_in_the_middle_of_a_swap(tmp_path: Path, steps: int) -> None:
    run, other = write_run(tmp_path / "run", 10), write_run(tmp_path / "other", 10, THINGS)
    whole, masks = write_run(tmp_path / "whole", 1), len(rows_of(other))
    ready = run.path / RELABEL_READY
    ready.mkdir()
    os.rename(other.path / "masks", ready / "masks")
    os.rename(other.path / "manifest.json", ready / "manifest.json")
    swap: list[Callable[[], object]] = [
        lambda: os.rename(run.path / "masks", run.path / REPLACED),
        lambda: os.rename(ready / "masks", run.path / "masks"),
        lambda: os.replace(ready / "manifest.json", run.path / "manifest.json"),
    ]
    for step in swap[:steps]:
        step()
    files = [run.path, *run.path.rglob("*")]
    for path in files:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        process = child(READ, whole.path, run.path)
        assert process.stdout is not None
        assert process.stdout.read() == f"bottle 10 {masks}\n"
        assert process.wait() == 0
    finally:
        for path in files:
            path.chmod(0o700)
    assert ready.exists()
    assert len(rows_of(open_run(run.path))) == masks
    assert not ready.exists()


def test_a_run_that_is_removed_while_it_is_written_is_said_to_be(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "run")
    todo = writer.register(photos(3))
    write_photo(writer, todo[0])
    shutil.rmtree(tmp_path / "run")
    masks, token = make_photo(2)
    labels = label_maskset(masks, text_of(ANIMALS), ANIMALS, 20.0)
    for write in (
        lambda: writer.write(todo[1], masks, labels, token),
        lambda: writer.fail(todo[2], "read", "broken"),
    ):
        with pytest.raises(GemLabelError, match=r"run was removed while it was written: start again"):
            write()
    assert not (tmp_path / "run").exists()
