"""gem_label.engines: decoding ahead within its memory, and a night's run that no photo can end."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from gem_label import memory
from gem_label.engines.counts import LabelCounts
from gem_label.engines.decoding import MemoryBudget, iter_decoded
from gem_label.engines.local import LocalEngine
from gem_label.engines.stream import workers_for
from gem_label.engines.writing import FAILURES_IN_A_ROW
from gem_label.errors import GemLabelError, ImageError
from gem_label.labeled_photo import EmbeddedPhoto, LabelJob, PhotoModels
from gem_label.labeling import LabelSettings
from gem_label.masks import MaskSet, encode_mask
from gem_label.photos.listing import list_images
from gem_label.photos.photo import Photo
from gem_label.runs import RunWriter, open_run
from gem_label.vocabulary import Vocabulary
from gem_label.words import WordsPerImage

WORDS = Vocabulary.parse("red, green", background="blue")
JOB = LabelJob(WORDS, np.eye(3, dtype=np.float32), 10.0, LabelSettings(), keep_patches=True)


class ColorModels:
    """Stands for SAM and GEM: the left and right half of a photo, embedded as their mean color.

    Photos with a pure white corner are too much for its memory; those with a black one make it crash.
    """

    def propose_masks(self, image: NDArray[np.uint8]) -> MaskSet:
        if (image[0, 0] == 255).all():
            raise MemoryError
        left = np.zeros(image.shape[:2], bool)
        left[:, : image.shape[1] // 2] = True
        ones, counts = np.ones(2, np.float32), (encode_mask(left), encode_mask(~left))
        return MaskSet(*image.shape[:2], counts, ones, ones, np.zeros((2, 2), np.float32))

    def embed(self, image: NDArray[np.uint8], masks: MaskSet) -> EmbeddedPhoto:
        if not image[0, 0].any():
            raise RuntimeError("CUDA error:\nan illegal memory access was encountered")
        embeddings = np.array([image[mask].mean(axis=0) / 255 for mask in masks], np.float32)
        token = embeddings.mean(axis=0).astype(np.float16)
        return EmbeddedPhoto(masks.with_embeddings(embeddings), token, embeddings[None])


def save(folder: Path, **colors: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, color in colors.items():
        Image.new("RGB", (12, 8), color).save(folder / f"{name}.png")
    return folder


def run_photos(
    folder: Path, run: Path, job: LabelJob = JOB, workers: int = 1, models: PhotoModels | None = None
) -> LabelCounts:
    with RunWriter.create_or_resume(
        run,
        settings={},
        vocabulary=job.vocabulary,
        embedding_dim=3,
        logit_scale=job.logit_scale,
        words_per_image=None if job.words is None else job.words.digest,
    ) as writer:
        engine = LocalEngine(workers, progress=False)
        return engine.run(writer.register(list_images([folder])), models or ColorModels(), job, writer)


@pytest.mark.parametrize("workers", [1, 3])
def test_every_failure_has_its_stage_and_reason_and_the_rest_goes_on(tmp_path: Path, workers: int) -> None:
    folder = save(tmp_path / "photos", a="red", b="white", c="lime", d="black", e="blue")
    (folder / "broken.jpg").write_text("no photo")
    (folder / "empty.png").touch()
    report = run_photos(folder, tmp_path / "run", workers=workers)
    assert (report.photos, report.failed, report.masks, report.kept) == (3, 4, 6, 4)
    run = open_run(tmp_path / "run")
    assert {f.image_id: (f.stage, f.error) for f in run.failures()} == {
        "b": ("propose", "MemoryError"),
        "broken": ("read", "broken: not an image that PIL can read"),
        "d": ("embed", "RuntimeError: CUDA error: an illegal memory access was encountered"),
        "empty": ("read", "empty: the file has no bytes"),
    }
    assert {p.image_id: labels.names for p, _, labels in run.photo_masks()} == {
        "a": ["red", "red"],
        "c": ["green", "green"],
        "e": [None, None],
    }
    assert [run.patches(p.number) is not None for p in run.photos()] == [True] * 3
    save(folder, b="red")  # mended since
    again = run_photos(folder, tmp_path / "run")
    assert (again.photos, again.failed) == (1, 3)


def test_words_per_photo_reach_the_labels(tmp_path: Path) -> None:
    folder = save(tmp_path / "photos", a="red", b="red")
    job = LabelJob(WORDS, JOB.text, 10.0, LabelSettings(), WordsPerImage({"b.png": ["green"]}))
    run_photos(folder, tmp_path / "run", job)
    names = {p.image_id: labels.names[0] for p, _, labels in open_run(tmp_path / "run").photo_masks()}
    assert names["a"] == "red"
    assert names["b"] in ("green", None)


@pytest.mark.parametrize("workers", [1, 4])
def test_models_that_only_fail_end_the_run_and_it_can_go_on(tmp_path: Path, workers: int) -> None:
    folder = save(
        tmp_path / "photos", **{f"{i:03d}": "black" for i in range(FAILURES_IN_A_ROW)}, x="red", y="red"
    )
    with pytest.raises(GemLabelError, match="photos in a row failed, the last with RuntimeError: CUDA error"):
        run_photos(folder, tmp_path / "run", workers=workers)
    assert open_run(tmp_path / "run").manifest["finished"] is False
    with pytest.raises(GemLabelError, match="in a row"):
        run_photos(folder, tmp_path / "run", workers=workers)
    assert [photo.image_id for photo in open_run(tmp_path / "run").photos()] == [
        "x",
        "y",
    ]  # new ones come first


def test_a_disk_that_takes_no_more_ends_the_run_in_one_line_and_it_can_go_on(tmp_path: Path) -> None:
    folder = save(tmp_path / "photos", **{f"{i:03d}": "red" for i in range(8)})
    pending = tmp_path / "run" / "masks" / "pending"
    with RunWriter.create_or_resume(
        tmp_path / "run", settings={}, vocabulary=WORDS, embedding_dim=3, logit_scale=10.0
    ) as writer:
        photos = writer.register(list_images([folder]))
        pending.rmdir()
        pending.touch()  # nothing can be written into a file
        with pytest.raises(GemLabelError, match=r"cannot write .*the same command resumes"):
            LocalEngine(progress=False).run(photos, ColorModels(), JOB, writer)
        pending.unlink()
        pending.mkdir()
    assert run_photos(folder, tmp_path / "run").photos == 8
    assert open_run(tmp_path / "run").manifest["counts"]["photos"] == 8


class MeetingModels(ColorModels):
    """Answers once this many photos are being labeled at a time; the later, the faster."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count)

    def propose_masks(self, image: NDArray[np.uint8]) -> MaskSet:
        self._barrier.wait(timeout=10)
        return super().propose_masks(image)

    def embed(self, image: NDArray[np.uint8], masks: MaskSet) -> EmbeddedPhoto:
        time.sleep(0.02 * (image[0, 0] > 0).sum())  # white ones come late
        return super().embed(image, masks)


def test_workers_label_photos_at_the_same_time_and_in_order(tmp_path: Path) -> None:
    colors = ["yellow", "red", "red"] * 4
    folder = save(tmp_path / "photos", **{f"{i:02d}": color for i, color in enumerate(colors)})
    report = run_photos(folder, tmp_path / "run", workers=3, models=MeetingModels(3))
    assert (report.photos, report.failed) == (12, 0)
    run = open_run(tmp_path / "run")
    assert [photo.image_id for photo in run.photos()] == [f"{i:02d}" for i in range(12)]
    assert {labels.names[0] for _, _, labels in run.photo_masks()} <= {"red", "green"}


@pytest.mark.parametrize(
    ("device", "processors", "gibibytes", "expected"),
    [
        ("cpu", 2, 64, 2),
        ("cpu", 64, 64, 8),
        ("cpu", 8, 8, 4),
        ("cpu", 8, 1, 1),
        ("cuda", 16, 80, 4),
        ("cuda", 16, 8, 2),
        ("cuda", 2, 80, 2),
        ("cuda", 8, 1, 1),
    ],
)
def test_as_many_workers_as_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, device: str, processors: int, gibibytes: int, expected: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: processors)
    sizes = {"SC_PHYS_PAGES": gibibytes << 18, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(memory.os, "sysconf", sizes.__getitem__)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (gibibytes << 30, 80 << 30))
    assert workers_for(device) == expected


def test_photos_in_use_that_fill_the_memory_do_not_stop_the_next(tmp_path: Path) -> None:
    save(tmp_path, **{f"{i}": "red" for i in range(6)})
    assert len(list(iter_decoded(numbered(tmp_path), threads=6, bytes_ahead=1, in_use=2))) == 6


def numbered(folder: Path) -> list[Photo]:
    return [Photo(photo.path, photo.image_id, i) for i, photo in enumerate(list_images([folder]), start=1)]


def test_photos_come_decoded_in_order(tmp_path: Path) -> None:
    for i in range(20):
        Image.new("RGB", (1 + i * 37 % 50, 5), (i, 0, 0)).save(tmp_path / f"{i:02d}.png")
    (tmp_path / "07.png").unlink()
    photos = [*numbered(tmp_path), Photo(str(tmp_path / "07.png"), "07", 99)]
    for threads, size in ((1, 1), (3, 1), (3, 2000), (8, 10**7)):
        seen = list(iter_decoded(photos, threads, size))
        assert [photo for photo, _ in seen] == photos
        assert [image[0, 0, 0] for _, image in seen[:-1]] == [i for i in range(20) if i != 7]  # type: ignore[index]
        assert isinstance(seen[-1][1], ImageError)


def test_decoding_ahead_stays_within_its_memory() -> None:
    """Threads that hold photos of 10 bytes: never more than 35 bytes beside the one that is waited for."""
    budget, held, most = MemoryBudget(35), 0, 0
    lock = threading.Lock()

    def decode(index: int) -> None:
        nonlocal held, most
        budget.admit(index, 10)
        with lock:
            held += 10
            most = max(most, held)

    threads = [threading.Thread(target=decode, args=(i,)) for i in range(30)]
    for thread in threads:
        thread.start()
    for i, thread in enumerate(threads):
        budget.wait_for(i)
        thread.join(timeout=10)
        assert not thread.is_alive()
        with lock:
            held -= 10
        budget.release(i)
    assert 10 <= most <= 45


def test_a_reader_that_stops_early_leaves_no_thread_behind(tmp_path: Path) -> None:
    save(tmp_path, **{f"{i:02d}": "red" for i in range(30)})
    before = threading.active_count()
    images = iter_decoded(numbered(tmp_path), threads=4, bytes_ahead=200)
    next(images)
    images.close()
    for _ in range(50):
        if threading.active_count() == before:
            break
        time.sleep(0.1)
    assert threading.active_count() == before


def test_a_name_that_is_not_utf8_is_a_failure_of_that_photo(tmp_path: Path) -> None:
    photo = Photo("/photos/b\udcfcro.jpg", "b\udcfcro")
    with RunWriter.create_or_resume(
        tmp_path / "run", settings={}, vocabulary=WORDS, embedding_dim=3, logit_scale=1.0
    ) as writer:
        report = LocalEngine(progress=False).run(writer.register([photo]), ColorModels(), JOB, writer)
    assert report.failed == 1
    assert "not UTF-8" in open_run(tmp_path / "run").failures()[0].error
