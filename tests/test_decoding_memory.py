"""The memory of decoding, as it is estimated before: formats and modes, and photos for which there is none."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from decoding_worker import status
from PIL import Image
from test_engines import JOB, ColorModels

from gem_label.engines import decoding
from gem_label.engines.decoding import iter_decoded
from gem_label.engines.local import LocalEngine
from gem_label.engines.stream import iter_labeled_photos
from gem_label.labeled_photo import PhotoError
from gem_label.memory import available_bytes
from gem_label.photos.listing import list_images
from gem_label.runs import RunWriter

SIDE = 1600
SLACK = 6 << 20
"""Bytes for rows at work, buffers of decoders, and modules that they import."""


def write_formats(folder: Path, side: int) -> list[str]:
    """One picture in formats and modes that decode in different ways."""
    folder.mkdir()
    rgba = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)).resize(
        (side, side)
    )
    rgb, gray = rgba.convert("RGB"), rgba.convert("L")
    turned = Image.Exif()
    turned[0x112] = 6
    rgb.save(folder / "rgb.jpg", exif=turned)
    rgb.save(folder / "progressive.jpg", progressive=True, subsampling=0)
    gray.save(folder / "gray.png")
    rgba.save(folder / "alpha.png")
    rgb.save(folder / "turned.tif", exif=turned)
    rgba.save(folder / "alpha.webp")
    Image.fromarray(np.asarray(gray).astype(np.float32)).save(folder / "float.tif")
    Image.fromarray(np.asarray(gray).astype(np.uint16)).save(folder / "deep.png")
    from pillow_heif import from_pillow

    from_pillow(rgba).save(folder / "alpha.heic")
    bits12 = np.asarray(rgb).astype(np.uint16) * 16
    cv2.imwrite(str(folder / "deep.tif"), bits12)
    return sorted(map(str, folder.iterdir()))


def test_estimates_hold(tmp_path: Path) -> None:
    small, large = write_formats(tmp_path / "small", 8), write_formats(tmp_path / "large", SIDE)
    worker = str(Path(__file__).with_name("decoding_worker.py"))
    done = subprocess.run(
        [sys.executable, worker, ",".join(small), *large], capture_output=True, text=True, check=True
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    print(
        *((row["name"], *(round(row[key] / SIDE**2, 1) for key in ("estimate", "peak"))) for row in rows),
        sep="\n",
    )
    assert len(rows) == len(large)
    for row in rows:
        assert row["peak"] < row["estimate"] + SLACK, row
    assert {row["name"]: row["estimate"] / SIDE**2 for row in rows}["alpha.png"] == 7


def test_a_photo_that_does_not_fit_is_recorded_and_the_rest_is_labeled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, side in (("a", 30), ("b", 300), ("c", 30)):
        Image.new("RGB", (side, side), "red").save(tmp_path / f"{name}.png")
    monkeypatch.setattr(decoding, "available_bytes", lambda: 500_000)
    photos = list_images([tmp_path])
    found = [each for _, each in iter_labeled_photos(photos, ColorModels(), JOB, bytes_ahead=10_000)]
    assert [isinstance(each, PhotoError) for each in found] == [False, True, False]
    assert str(found[1]) == "enormous: decoding it takes 0.0 GB of memory, of which 0.0 GB are free"
    monkeypatch.setattr(decoding, "available_bytes", lambda: 700_000)
    assert all(isinstance(each, np.ndarray) for _, each in iter_decoded(photos, bytes_ahead=10_000))


def test_memory_that_is_left(tmp_path: Path) -> None:
    free = available_bytes()
    assert free is None or free > 1 << 20
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable: 50 kB\n")
    assert available_bytes(meminfo, tmp_path) == 50 << 10
    for name, content in (
        ("max", "40000\n"),
        ("current", "30000\n"),
        ("stat", "anon 1\ninactive_file 5000\n"),
    ):
        (tmp_path / f"memory.{name}").write_text(content)
    assert available_bytes(meminfo, tmp_path) == 15000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(meminfo, tmp_path) == 50 << 10
    assert available_bytes(tmp_path / "none", tmp_path) is None


def test_memory_threads_and_descriptors_stay_flat(tmp_path: Path) -> None:
    """A thousand small photos: what a process holds after the last hundred is what it held after the first."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(1000):
        Image.new("RGB", (12, 8), (200, i % 200, 50)).save(folder / f"{i:04d}.png")
    held: list[tuple[int, int, int]] = []
    with RunWriter.create_or_resume(
        tmp_path / "run", settings={}, vocabulary=JOB.vocabulary, embedding_dim=3, logit_scale=JOB.logit_scale
    ) as writer:
        photos = writer.register(list_images([folder]))
        counts = LocalEngine(2).iter_counts(photos, ColorModels(), replace(JOB, keep_patches=False), writer)
        for number, _ in enumerate(counts, start=1):
            if number % 100 == 0:
                gc.collect()
                descriptors = len(list(Path("/proc/self/fd").iterdir()))
                held.append((status("VmRSS"), threading.active_count(), descriptors))
    memory, threads, descriptors = zip(*held, strict=True)
    print(f"MB {[each >> 20 for each in memory]}, threads {threads}, descriptors {descriptors}")
    assert memory[-1] < memory[2] + (20 << 20)  # 256 photos make a shard
    assert max(threads[1:]) <= threads[0]
    assert max(descriptors[1:]) <= descriptors[0] + 2
