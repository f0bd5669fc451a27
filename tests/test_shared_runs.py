"""Shared runs: several processes, no lock, and nothing lost when they die; in a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from shared_worker import CHUNK, DeadlyColors, join, work
from test_engines import JOB, ColorModels, run_photos, save

from gem_label.engines.shared import ChunkLabeler, Part, label_chunks
from gem_label.engines.watchdog import EXIT_CODE
from gem_label.errors import GemLabelError, UsageError
from gem_label.photos.listing import list_images
from gem_label.runs import Run, open_run, relabel_run
from gem_label.runs.attempts import MAX_ATTEMPTS, Attempt
from gem_label.runs.manifest import new_manifest
from gem_label.runs.shared import SharedRun
from gem_label.stores import open_store
from gem_label.vocabulary import Vocabulary

COLORS = ["red", "lime", "white", "blue", "black"]


def content(run: Run) -> dict[str, Any]:
    """Everything that the run says of its photos, and of those that failed."""
    photos = {
        photo.image_id: (labels.names, masks.counts, photo.number, masks.embeddings.tolist())
        for photo, masks, labels in run.photo_masks()
    }
    return photos | {each.image_id: (each.stage, each.error) for each in run.failures()}


def start(
    folder: Path, out: Path, index: int, parts: int, photo_timeout: float = 600.0
) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(Path(__file__).with_name("shared_worker.py"))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, str(folder), str(out), str(index), str(parts), str(photo_timeout)], env=environment
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty-five photos, ten of which fail, and one that is none."""
    folder = save(tmp_path / "photos", **{f"{i:02d}": color for i, color in enumerate(COLORS * 5)})
    (folder / "broken.jpg").write_text("no photo")
    return folder


def test_parts_make_the_run_that_one_process_makes(tmp_path: Path, folder: Path) -> None:
    run_photos(folder, tmp_path / "one")
    expected = open_run(tmp_path / "one")
    out = str(tmp_path / "run")
    for index in (2, 0):
        work(str(folder), out, index, 3)
    shared = join(out)
    with pytest.raises(GemLabelError, match=r"2 of 7 chunks are missing, the first is 1"):
        shared.finish()
    unfinished = open_run(out)  # what is there can be read already
    assert content(unfinished).items() <= content(expected).items()
    work(str(folder), out, 1, 3)
    assert shared.finish() == expected.manifest["counts"]
    run = open_run(out)
    assert content(run) == content(expected)
    assert [each.image_id for each in run.listing()] == [each.image_id for each in expected.listing()]
    assert run.manifest["finished"]
    assert run.manifest["counts"] == expected.manifest["counts"]
    assert run.patches(1).shape == (1, 2, 3)
    assert not list((tmp_path / "run" / "tries").rglob("*.parquet"))
    names = (tmp_path / "run" / "failures.jsonl").read_text().splitlines()
    assert len(names) == 11


def test_new_words_keep_chunks_and_failures(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "run"
    work(str(folder), str(out), 0, 1)
    join(str(out)).finish()
    before = open_run(out)
    failed = {each.image_id for each in before.failures()}
    again = relabel_run(before, Vocabulary.parse("blue, red", background="green"), JOB.text[[2, 0, 1]])
    assert {each.image_id for each in again.failures()} == failed
    assert again.manifest["counts"]["kept_by_class"] == {"blue": 10, "red": 10}
    shards = [path.name for path in sorted((out / "masks").glob("shard-*"))]
    assert shards == [f"shard-{i:06d}.parquet" for i in range(7)]


def test_a_photo_that_ends_its_process_is_found_and_recorded(tmp_path: Path, folder: Path) -> None:
    save(folder, **{"06": "fuchsia"})
    out = tmp_path / "run"
    deaths = 0
    while start(folder, out, 0, 1).wait() == 9:
        deaths += 1
        assert deaths < 6
    assert deaths == 3  # several photos at a time, then alone, and once more to be sure
    counts = join(str(out)).finish()
    assert (counts["listed"], counts["photos"], counts["failed"]) == (26, 14, 12)
    found = content(open_run(out))
    assert found["06"] == ("process died", "it ended its process 2 times")


def test_a_photo_that_hangs_is_found_and_recorded(tmp_path: Path) -> None:
    folder = save(tmp_path / "photos", a="red", b="aqua", c="lime")
    out = tmp_path / "run"
    codes = [start(folder, out, 0, 1, photo_timeout=5).wait() for _ in range(4)]
    assert codes == [EXIT_CODE] * 3 + [0]
    assert join(str(out)).finish()["photos"] == 2
    assert content(open_run(out))["b"] == ("process died", "it ended its process 2 times")


def test_an_attempt_that_ends_with_an_error_keeps_what_is_finished(tmp_path: Path, folder: Path) -> None:
    run = join(str(tmp_path / "run"))
    run.add_photos(list_images([folder]))
    chunk = run.read_chunk(next(run.places()))

    class Stopping(ColorModels):
        asked = 0

        def propose_masks(self, image: Any) -> Any:
            self.asked += 1
            if self.asked == 3:
                raise KeyboardInterrupt
            return super().propose_masks(image)

    with pytest.raises(KeyboardInterrupt):
        ChunkLabeler(run, Stopping(), JOB).label(chunk)
    assert not run.is_committed(chunk)
    attempt = Attempt(run, chunk)
    assert (attempt.number, attempt.one_by_one) == (0, False)
    assert [photo.image_id for photo in attempt.remaining()] == ["02", "03"]
    attempt.withdraw()
    report = ChunkLabeler(run, ColorModels(), JOB).label(chunk)
    assert (report.photos, report.failed) == (3, 1)


def test_processes_that_are_killed_at_any_moment_lose_nothing(tmp_path: Path, folder: Path) -> None:
    run_photos(folder, tmp_path / "one")
    out, started = tmp_path / "run", time.monotonic()
    delays = [0.0, 0.1, 0.25, 0.4]
    for delay in delays:
        workers = [start(folder, out, index, 2) for index in range(2)]
        # from the moment on at which both have Python and their imports behind them
        while not (out / "manifest.json").exists() and any(each.poll() is None for each in workers):
            assert time.monotonic() < started + 120
            time.sleep(0.01)
        time.sleep(delay)
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
    for index in range(2):
        work(str(folder), str(out), index, 2)
    assert join(str(out)).finish() == open_run(tmp_path / "one").manifest["counts"]
    assert content(open_run(out)) == content(open_run(tmp_path / "one"))


def test_two_processes_on_the_same_chunks(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "run"
    workers = [start(folder, out, 0, 1) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    counts = join(str(out)).finish()
    assert (counts["listed"], counts["photos"], counts["failed"]) == (26, 15, 11)
    assert len(list(open_run(out).photos())) == 15


def test_more_photos_and_failures_are_new_chunks(tmp_path: Path, folder: Path) -> None:
    out = str(tmp_path / "run")
    work(str(folder), out, 0, 1)
    more = save(tmp_path / "more", **{"00": "red", "x": "lime"})
    work(str(more), out, 0, 1)
    run = join(out)
    assert run.progress().chunks == 8
    save(folder, **{f"{i:02d}": "red" for i in range(2, 25, 5)})  # mended since
    assert run.retry_failures() == 11
    assert run.retry_failures() == 0  # these chunks are missing
    label_chunks(run, Part(0, 1).of(run), DeadlyColors(), JOB, 1, progress=False)
    counts = run.finish()
    assert (counts["listed"], counts["photos"], counts["failed"]) == (28, 22, 6)
    ids = [photo.image_id for photo in open_run(out).photos()]
    assert len(set(ids)) == 22
    assert "00.png" in ids  # the other folder's


def test_what_is_refused(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "run"
    work(str(folder), str(out), 0, 7)
    others = new_manifest(
        settings={"sam": "vit_b"}, vocabulary=JOB.vocabulary, embedding_dim=3, logit_scale=10
    )
    with pytest.raises(UsageError, match=r"made with other settings \(settings\.sam"):
        SharedRun.create_or_join(open_store(out), others)
    with pytest.raises(UsageError, match="written by several processes"):
        run_photos(folder, out)
    run_photos(folder, tmp_path / "one")
    with pytest.raises(UsageError, match="written by one process"):
        join(str(tmp_path / "one"))
    with pytest.raises(UsageError, match="holds other files"):
        join(str(folder))
    for index, parts in ((3, 3), (-1, 2)):
        with pytest.raises(UsageError, match="such as 0/4"):
            Part(index, parts)
    run = join(str(out))
    chunk = run.read_chunk(list(run.places())[1])
    for _ in range(MAX_ATTEMPTS):
        Attempt(run, chunk)
    with pytest.raises(GemLabelError, match="mend what ends them"):
        Attempt(run, chunk)


def test_photos_that_several_processes_list_are_listed_once(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from gem_label.photos.photo import Photo

    photos = [Photo(f"/photos/{i}.jpg", str(i)) for i in range(10)]
    runs = [join(str(tmp_path / "run")) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda i: runs[i].add_photos(photos[i:] + photos[:i]), range(6)))
    listed = [photo for part in runs[0].parts() for photo in part]
    assert sorted(photo.path for photo in listed) == sorted(photo.path for photo in photos)
    assert [photo.number for photo in listed] == list(range(1, 11))
    assert [place.photos for place in runs[0].places()] == [CHUNK, CHUNK, 2]


def test_models_that_fail_on_everything_end_the_process_not_the_photos(tmp_path: Path) -> None:
    folder = save(tmp_path / "photos", **{f"{i:03d}": "black" for i in range(60)})
    run = join(str(tmp_path / "run"))
    run.add_photos(list_images([folder]))
    with pytest.raises(GemLabelError, match="50 photos in a row failed"):
        label_chunks(run, run.places(), ColorModels(), JOB, 1, progress=False)
    assert len(run.progress().missing) >= 1
