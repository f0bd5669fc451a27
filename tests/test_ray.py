"""The Ray engine on a real Ray: the local engine's run, whatever dies on the way."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from numpy.typing import NDArray
from PIL import Image
from shared_worker import DeadlyColors, join
from test_engines import JOB, run_photos, save
from test_shared_runs import content

from gem_label.cli import run as run_command
from gem_label.engines.counts import LabelCounts
from gem_label.engines.ray_data import ActorResources, RayEngine, _Actor, actor_resources
from gem_label.engines.shared import Part
from gem_label.errors import GemLabelError, UsageError
from gem_label.masks import MaskSet
from gem_label.photos.listing import list_images
from gem_label.runs import open_run

COLORS = ["red", "lime", "white", "blue", "black"]


class NamedColors(DeadlyColors):
    """`DeadlyColors` that say what they are, and take their time while a file is there."""

    def __init__(self, device: str = "cpu", weights: str = "here", brake: Path | None = None) -> None:
        if weights == "missing":
            raise GemLabelError("mobile_sam is not here: gem-label models pull mobile_sam")
        self.settings = {"device": device}
        self.weights = {"sha256": weights}
        self._brake = brake

    def propose_masks(self, image: NDArray[np.uint8]) -> MaskSet:
        if self._brake is not None and self._brake.exists():
            time.sleep(0.3)
        return super().propose_masks(image)


@pytest.fixture(scope="module")
def environment() -> dict[str, Any]:
    """What processes of Ray need to find the models of this file."""
    return {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}


@pytest.fixture
def cluster(environment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray on this machine, with two processors."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(num_cpus=2, runtime_env=environment, **options)
    yield
    ray.shutdown()


def label(folder: Path, out: Path, engine: RayEngine) -> LabelCounts:
    run = join(str(out))
    run.add_photos(list_images([folder]))
    report = engine.run(run, list(Part(0, 1).of(run)), NamedColors(), JOB)
    run.finish()
    return report


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_the_run_is_that_of_one_process_whatever_dies(tmp_path: Path) -> None:
    folder = save(tmp_path / "photos", **{f"{i:02d}": color for i, color in enumerate(COLORS * 5)})
    (folder / "broken.jpg").write_text("no photo")
    run_photos(folder, tmp_path / "one")
    expected = content(open_run(tmp_path / "one"))
    engine = RayEngine(NamedColors, actors=(2, 2), progress=False)
    report = label(folder, tmp_path / "run", engine)
    assert (report.photos, report.failed, report.masks, report.kept) == (15, 11, 30, 20)
    assert content(open_run(tmp_path / "run")) == expected

    # a photo that ends its process: the actor is started again, the photo is recorded, and no other is lost
    save(folder, **{"06": "fuchsia"})
    report = label(folder, tmp_path / "deadly", engine)
    assert (report.photos, report.failed) == (14, 12)
    found = content(open_run(tmp_path / "deadly"))
    assert found.pop("06") == ("process died", "it ended its process 2 times")
    expected.pop("06")
    assert found == expected

    # a cluster whose processors are taken: it says what it waits for, and gives up
    taken = ray.util.placement_group([{"CPU": 2}])
    assert taken.wait(30)
    with pytest.raises(GemLabelError, match=r"no room for an actor \(2 CPU; free are 0 CPU\)"):
        label(folder, tmp_path / "waiting", RayEngine(NamedColors, wait=0.5, progress=False))
    ray.util.remove_placement_group(taken)


@pytest.mark.parametrize(
    ("weights", "message"), [("others", "other weights"), ("missing", "mobile_sam is not here")]
)
def test_an_actor_without_the_same_models_says_so(tmp_path: Path, weights: str, message: str) -> None:
    run = join(str(tmp_path / "run"))
    run.add_photos(list_images([save(tmp_path / "photos", a="red")]))
    expected = {"device": "cpu"}, {"sha256": "here"}
    build = partial(NamedColors, weights=weights)
    actor = _Actor(run.store.address, run.manifest, build, expected, JOB, 1, 600.0, "cpu")
    (place,) = run.places()
    row = actor({name: [value] for name, value in asdict(place).items()})
    assert message in row["problem"][0]
    assert run.progress().missing == (0,)
    elsewhere = _Actor(str(tmp_path / "other"), run.manifest, NamedColors, expected, JOB, 1, 600.0, "cpu")
    assert "is not the run on every machine" in elsewhere({name: [0] for name in asdict(place)})["problem"][0]


@pytest.mark.slow
def test_nodes_come_and_go_while_a_run_is_made(
    tmp_path: Path, environment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    folder = save(tmp_path / "photos", **{f"{i:02d}": color for i, color in enumerate(COLORS * 20)})
    run_photos(folder, tmp_path / "one")
    # a node that is gone is noticed after five seconds
    noticing = {"health_check_period_ms": 1000, "health_check_failure_threshold": 5}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": noticing}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    ray.init(cluster.address, runtime_env=environment, log_to_driver=False, logging_level="ERROR")
    out, brake = tmp_path / "run", tmp_path / "brake"
    brake.touch()

    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def shards() -> int:
        return len(list((out / "masks").glob("shard-*")))

    def labeled_now() -> int:
        return len({path.name.partition("-")[0] for path in (out / "tries").glob("*")})

    try:
        slow = RayEngine(partial(NamedColors, brake=brake), progress=False)
        with ThreadPoolExecutor(1) as pool:  # Ray adds nodes in the main thread only
            labeling = pool.submit(label, folder, out, slow)
            until(lambda: shards() >= 1)
            node = cluster.add_node(num_cpus=1)
            until(lambda: labeled_now() == 2)  # the new node is used
            cluster.remove_node(node, allow_graceful=False)
            brake.unlink()
            report = labeling.result()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert report.photos + report.failed == 100
    assert content(open_run(out)) == content(open_run(tmp_path / "one"))


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_label_with_ray_is_label(tmp_path: Path, photos: dict[str, NDArray[np.uint8]]) -> None:
    (tmp_path / "photos").mkdir()
    for name in list(photos)[:2]:
        Image.fromarray(photos[name]).resize((160, 120)).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "photos" / "broken.png").write_text("no photo")
    command = ["label", str(tmp_path / "photos"), "--classes", "cat, cup", "--clip", "demo"]
    command += ["--points-per-side", "3", "--max-prompts", "9"]
    for engine in (["ray", "--actors", "1"], ["local", "--workers", "1"]):
        assert run_command([*command, "--out", str(tmp_path / engine[0]), "--engine", *engine]) == 1
    runs = [open_run(tmp_path / engine) for engine in ("ray", "local")]
    assert runs[0].manifest["counts"] == runs[1].manifest["counts"]
    assert runs[0].manifest["counts"]["photos"] == 2
    assert content(runs[0]) == content(runs[1])


def machine(**resources: float) -> dict[str, Any]:
    return {"Alive": True, "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "device", "gpus", "expected"),
    [
        ([machine(CPU=2)], None, 1, ActorResources("cpu", 2, 0)),
        ([machine(CPU=64)], "cpu", 1, ActorResources("cpu", 8, 0)),
        ([machine(CPU=6), machine(CPU=16)], None, 1, ActorResources("cpu", 6, 0)),
        ([machine(CPU=4), machine(CPU=32, GPU=4)], None, 1, ActorResources("cuda", 8, 1)),
        ([machine(CPU=4), machine(CPU=32, GPU=4)], "cpu", 1, ActorResources("cpu", 4, 0)),
        ([machine(CPU=32, GPU=8), machine(CPU=8, GPU=1)], "cuda", 1, ActorResources("cuda", 4, 1)),
        ([machine(CPU=16, GPU=1)], None, 0.25, ActorResources("cuda", 4, 0.25)),
        ([machine(CPU=2, GPU=8)], None, 1, ActorResources("cuda", 1, 1)),
        (
            [machine(CPU=8, GPU=2), {"Alive": False, "Resources": {"GPU": 9}}],
            None,
            1,
            ActorResources("cuda", 4, 1),
        ),
    ],
)
def test_what_an_actor_takes(
    nodes: list[dict[str, Any]], device: str | None, gpus: float, expected: ActorResources
) -> None:
    assert actor_resources(nodes, device, gpus) == expected


def test_what_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no GPU"):
        actor_resources([machine(CPU=4)], "cuda")
    with pytest.raises(UsageError, match="the first number is the smaller one"):
        RayEngine(NamedColors, actors=(3, 2))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"gem-label\[ray\]"):
        label(save(tmp_path / "photos", a="red"), tmp_path / "run", RayEngine(NamedColors, progress=False))
