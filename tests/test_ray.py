"""The Ray engine on a real Ray of this machine: the local engine's run, and no process takes photos down with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray
from numpy.typing import NDArray
from PIL import Image
from test_engines import JOB, ColorModels, save

from gem_label.cli import run as run_command
from gem_label.engines import LabelReport
from gem_label.engines.cluster import RayEngine, Share, share_of_cluster
from gem_label.engines.local import LocalEngine
from gem_label.errors import GemLabelError, UsageError
from gem_label.masks import MaskSet
from gem_label.photos.listing import list_images
from gem_label.runs import Run, RunWriter, open_run


class NamedColors(ColorModels):
    """`ColorModels` that say what they are; photos with a fuchsia corner kill their process."""

    def __init__(self, device: str = "cpu", weights: str = "here") -> None:
        if weights == "missing":
            raise GemLabelError("mobile_sam is not here: gem-label models pull mobile_sam")
        self.settings = {"device": device}
        self.weights = {"sha256": weights}

    def propose_masks(self, image: NDArray[np.uint8]) -> MaskSet:
        if image[0, 0].tolist() == [255, 0, 255]:
            os._exit(1)
        return super().propose_masks(image)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray for all tests of this file: it takes seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        found = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}  # the models of this file
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", runtime_env=found
        )
        yield
        ray.shutdown()


def write(path: Path) -> RunWriter:
    return RunWriter.create_or_resume(
        path, settings={}, vocabulary=JOB.vocabulary, embedding_dim=3, logit_scale=JOB.logit_scale
    )


def label(folder: Path, out: Path, engine: RayEngine | LocalEngine) -> tuple[LabelReport, Run]:
    with write(out) as writer:
        report = engine.run(writer.register(list_images([folder])), NamedColors(), JOB, writer)
    return report, open_run(out)


def answers(run: Run) -> dict[str, tuple[list[str | None], bytes]]:
    return {photo.image_id: (labels.names, masks.counts[0]) for photo, masks, labels in run.photo_masks()}


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_the_run_is_that_of_the_local_engine(tmp_path: Path) -> None:
    colors = ["red", "lime", "white", "blue", "black"] * 5
    folder = save(tmp_path / "photos", **{f"{i:02d}": color for i, color in enumerate(colors)})
    (folder / "broken.jpg").write_text("no photo")
    engine = RayEngine(NamedColors, processes=2, progress=False)
    ours, run = label(folder, tmp_path / "ray", engine)
    theirs, expected = label(folder, tmp_path / "local", LocalEngine(progress=False))
    assert (ours.photos, ours.failed, ours.masks, ours.kept) == (15, 11, 30, 20)
    assert (theirs.photos, theirs.failed, theirs.masks, theirs.kept) == (15, 11, 30, 20)
    assert answers(run) == answers(expected)
    assert all(run.patches(photo.number) is not None for photo in run.photos())
    failures, others = (
        {failure.image_id: (failure.stage, failure.error) for failure in each.failures()}
        for each in (run, expected)
    )
    assert failures == others


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_photo_that_kills_its_process_is_recorded_and_loses_no_other(tmp_path: Path) -> None:
    folder = save(tmp_path / "photos", **{f"{i:02d}": "red" for i in range(20)}, killer="fuchsia")
    report, run = label(folder, tmp_path / "run", RayEngine(NamedColors, processes=2, progress=False))
    assert (report.photos, report.failed) == (20, 1)
    (failure,) = run.failures()
    assert (failure.image_id, failure.stage) == ("killer", "label")
    assert failure.error.startswith("its process died")
    Image.new("RGB", (12, 8), "red").save(folder / "killer.png")  # mended since
    again, _ = label(folder, tmp_path / "run", RayEngine(NamedColors, processes=1, progress=False))
    assert (again.photos, again.failed) == (1, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("weights", "message"), [("others", "other weights"), ("missing", "mobile_sam is not here")]
)
def test_processes_without_the_same_models_end_the_run(tmp_path: Path, weights: str, message: str) -> None:
    folder = save(tmp_path / "photos", a="red")
    with pytest.raises(GemLabelError, match=message) as raised:
        label(folder, tmp_path / "run", RayEngine(partial(NamedColors, weights=weights), progress=False))
    assert "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_label_with_ray_is_label(tmp_path: Path, photos: dict[str, NDArray[np.uint8]]) -> None:
    (tmp_path / "photos").mkdir()
    for name in list(photos)[:2]:
        Image.fromarray(photos[name]).resize((160, 120)).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "photos" / "broken.png").write_text("no photo")
    command = ["label", str(tmp_path / "photos"), "--classes", "cat, cup", "--clip", "demo"]
    command += ["--points-per-side", "3", "--max-prompts", "9"]
    for engine in (["ray", "--processes", "1"], ["local", "--workers", "1"]):
        assert run_command([*command, "--out", str(tmp_path / engine[0]), "--engine", *engine]) == 1
    runs = [open_run(tmp_path / engine) for engine in ("ray", "local")]
    assert runs[0].manifest["counts"] == runs[1].manifest["counts"]
    assert runs[0].manifest["counts"]["photos"] == 2
    names, expected = ({photo: found[0] for photo, found in answers(each).items()} for each in runs)
    assert names == expected


def machine(**resources: float) -> dict:
    return {"Alive": True, "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "device", "processes", "expected"),
    [
        ([machine(CPU=2)], None, None, Share("cpu", 1, 2)),
        ([machine(CPU=2)], None, 2, Share("cpu", 2, 1)),
        ([machine(CPU=64)], "cpu", None, Share("cpu", 8, 8)),
        ([machine(CPU=6), machine(CPU=16)], None, None, Share("cpu", 3, 6)),
        ([machine(CPU=4), machine(CPU=32, GPU=4)], None, None, Share("cuda", 4, 8)),
        ([machine(CPU=4), machine(CPU=32, GPU=4)], "cpu", None, Share("cpu", 9, 4)),
        ([machine(CPU=32, GPU=8), machine(CPU=8, GPU=1)], "cuda", None, Share("cuda", 9, 4)),
        ([machine(CPU=8, GPU=2), {"Alive": False, "Resources": {"GPU": 9}}], None, None, Share("cuda", 2, 4)),
    ],
)
def test_a_process_for_each_gpu_or_for_some_processors(
    nodes: list[dict], device: str | None, processes: int | None, expected: Share
) -> None:
    assert share_of_cluster(nodes, device, processes) == expected


def test_a_cluster_without_the_gpu_that_is_asked_for() -> None:
    with pytest.raises(UsageError, match="no GPU"):
        share_of_cluster([machine(CPU=4)], "cuda")


def test_without_ray_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"gem-label\[ray\]"):
        label(save(tmp_path / "photos", a="red"), tmp_path / "run", RayEngine(NamedColors, progress=False))
