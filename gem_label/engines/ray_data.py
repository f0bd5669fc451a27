"""Labeling a shared run with the processes of a Ray cluster, or of one machine.

Ray Data is the pool: it starts actors while there are free resources, takes new nodes into use, and starts an actor
again when it dies. What travels through it is where chunks are and how many masks became of them; photos are read and
shards are written by the actors. So the driver may die too: whoever runs the same command labels what is missing.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from typing import Any, Protocol

from tqdm import tqdm

from gem_label.checks import COUNT, Numbers, check_number
from gem_label.engines.counts import LabelCounts
from gem_label.engines.shared import PHOTO_TIMEOUT, ChunkLabeler
from gem_label.engines.stream import workers_for
from gem_label.errors import GemLabelError, UsageError
from gem_label.labeled_photo import LabelJob, PhotoModels, failure_reason
from gem_label.runs.chunks import ChunkPlace
from gem_label.runs.shared import SharedRun
from gem_label.stores import open_store

CPUS_PER_ACTOR = 8
"""At most, where actors have no GPU."""
MOST_BLOCKS = 2000
"""Ray keeps statistics of every block in the driver's memory; a block is one chunk up to so many, then several."""
_SAY_AFTER = 10.0
"""Seconds after which the driver says what it waits for, and again each time."""


class NamedModels(PhotoModels, Protocol):
    """Models that say what they are, as `gem_label.Labeler` does."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides over masks and embeddings."""
        ...

    @property
    def weights(self) -> Mapping[str, Any]:
        """Names and checksums of the weights."""
        ...


@dataclass(frozen=True)
class ActorResources:
    """What of a cluster each actor takes.

    Attributes:
        device: "cpu" or "cuda".
        cpus: processors.
        gpus: GPUs; several actors share one where this is a fraction.
    """

    device: str
    cpus: int
    gpus: float

    def bundle(self) -> dict[str, float]:
        """As Ray counts resources."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})


@dataclass(frozen=True)
class RayEngine:
    """Labels chunks with actors of a Ray cluster, else of this machine.

    Photos and the run have the same paths or addresses on all machines, and gem_label is the same version there.

    Attributes:
        build: makes the models on a device, "cpu" or "cuda"; called in every actor.
        device: where they run; None: on the cluster's GPUs when it has any.
        actors: how many at least and at most; None at most: as many as the cluster has room for, also later.
        gpus_per_actor: of each actor on GPUs.
        workers: photos that an actor labels at a time; None: as many as its device and memory allow.
        address: of the cluster; None: the one that RAY_ADDRESS names, else this machine.
        photo_timeout: see `ChunkLabeler`.
        wait: seconds to wait for the resources of the first actor.
        progress: a bar on stderr.
    """

    build: Callable[[str], NamedModels]
    device: str | None = None
    actors: tuple[int, int | None] = (1, None)
    gpus_per_actor: float = 1.0
    workers: int | None = None
    address: str | None = None
    photo_timeout: float = PHOTO_TIMEOUT
    wait: float = 600.0
    progress: bool = True

    def __post_init__(self) -> None:
        least, most = self.actors
        check_number("actors", least, COUNT)
        if most is not None and most < least:
            raise UsageError(f"actors {least}:{most}: the first number is the smaller one")
        if self.workers is not None:
            check_number("workers", self.workers, COUNT)
        check_number("gpus_per_actor", self.gpus_per_actor, Numbers(0, above=True))

    def run(
        self, run: SharedRun, chunks: Sequence[ChunkPlace], models: NamedModels, job: LabelJob
    ) -> LabelCounts:
        """Label chunks of a shared run.

        Args:
            run: the run.
            chunks: which.
            models: what the run's settings were taken from; the actors' own must be the same.
            job: the words and thresholds.

        Raises:
            UsageError: Ray is not installed, or the cluster has no GPU and one is asked for.
            GemLabelError: the actors cannot make the models or make others, cannot reach the run, or their models
                fail on photo after photo; the cluster has no room for an actor.
        """
        counts = LabelCounts()
        if not chunks:
            return counts
        total = sum(place.photos for place in chunks)
        with _cluster(self.address) as ray:
            share = actor_resources(ray.nodes(), self.device, self.gpus_per_actor)
            wait_for_room(ray, share, self.wait)
            bar = tqdm(total=total, unit="photo", file=sys.stderr, disable=not self.progress, smoothing=0.05)
            with bar, _quiet():
                for row in self._rows(run, chunks, models, job, share):
                    if problem := row.pop("problem"):
                        raise GemLabelError(problem)
                    photos = row.pop("listed")
                    counts += LabelCounts(**row)
                    bar.set_postfix(failed=counts.failed, refresh=False)
                    bar.update(photos)
        return counts

    def _rows(
        self,
        run: SharedRun,
        chunks: Sequence[ChunkPlace],
        models: NamedModels,
        job: LabelJob,
        share: ActorResources,
    ) -> Iterator[dict[str, Any]]:
        """Yield the report of each chunk, as they come."""
        from ray.data import ActorPoolStrategy, DataContext, from_items

        context = DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        names = [field.name for field in fields(ChunkPlace)]
        items = [dict(zip(names, astuple(place), strict=True)) for place in chunks]
        least, most = self.actors
        most = max(least, min(len(chunks), most or len(chunks)))
        places = from_items(items, override_num_blocks=min(len(items), MOST_BLOCKS))
        labeled = places.map_batches(
            _Actor,
            fn_constructor_args=(
                run.store.address,
                run.manifest,
                self.build,
                (dict(models.settings), dict(models.weights)),
                job,
                self.workers,
                self.photo_timeout,
                share.device,
            ),
            batch_size=1,
            # two tasks for each actor: with one, the pool would not grow
            compute=ActorPoolStrategy(min_size=least, max_size=most, max_tasks_in_flight_per_actor=2),
            num_cpus=share.cpus,
            num_gpus=share.gpus or None,
            runtime_env={"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}},  # as `gem-label` sets it for itself
        )
        yield from labeled.iter_rows()


class _Actor:
    """What runs in each process. What is wrong comes back as a row: Ray would hide the reason in its own account."""

    def __init__(
        self,
        address: str,
        manifest: dict[str, Any],
        build: Callable[[str], NamedModels],
        expected: tuple[dict[str, Any], dict[str, Any]],
        job: LabelJob,
        workers: int | None,
        photo_timeout: float,
        device: str,
    ) -> None:
        self._problem: str | None = None
        try:
            run = SharedRun(open_store(address), manifest)
            run.check_reachable()
            models = build(device)
        except Exception as error:
            self._problem = failure_reason(error)
            return
        if (dict(models.settings), dict(models.weights)) != expected:
            self._problem = "an actor has other weights than this machine: bring the same to all machines"
        self._run = run
        self._labeler = ChunkLabeler(
            run, models, job, workers or workers_for(device), photo_timeout=photo_timeout
        )

    def __call__(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        place = ChunkPlace(**{name: int(values[0]) for name, values in batch.items()})
        counts = LabelCounts()
        if not self._problem:
            try:
                counts = self._labeler.label(self._run.read_chunk(place))
            except GemLabelError as error:
                self._problem = failure_reason(error)
        row = asdict(counts) | {"listed": place.photos, "problem": self._problem or ""}
        return {name: [value] for name, value in row.items()}


def actor_resources(
    nodes: Sequence[Mapping[str, Any]], device: str | None = None, gpus_per_actor: float = 1.0
) -> ActorResources:
    """What each actor takes, so that the machines of a cluster are used up.

    Args:
        nodes: as `ray.nodes` lists them.
        device: "cpu" or "cuda"; None: GPUs when there are any.
        gpus_per_actor: GPUs of each actor.

    Raises:
        UsageError: a GPU is asked for where there is none.
    """
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    with_gpu = [machine for machine in machines if machine.get("GPU", 0) >= min(1.0, gpus_per_actor)]
    device = device or ("cuda" if with_gpu else "cpu")
    if device == "cuda":
        if not with_gpu:
            raise UsageError("the Ray cluster has no GPU: use --device cpu or auto")
        cpus = min(int(machine.get("CPU", 1) * gpus_per_actor / machine["GPU"]) for machine in with_gpu)
        return ActorResources(device, max(1, cpus), gpus_per_actor)
    sizes = [int(machine["CPU"]) for machine in machines if machine.get("CPU", 0) >= 1]
    if not sizes:
        raise UsageError("the Ray cluster has no processors")
    return ActorResources(device, min(CPUS_PER_ACTOR, *sizes), 0.0)


def wait_for_room(ray: Any, share: ActorResources, timeout: float) -> None:
    """Wait until a cluster has room for an actor, and say on stderr what it waits for.

    Raises:
        GemLabelError: there is none within `timeout` seconds.
    """
    from ray.util import placement_group, remove_placement_group

    group, started = placement_group([share.bundle()]), time.monotonic()
    wanted = _describe(share.bundle())
    try:
        while not group.wait(min(_SAY_AFTER, max(0.1, timeout))):
            free = _describe({name: ray.available_resources().get(name, 0) for name in share.bundle()})
            if time.monotonic() - started > timeout:
                raise GemLabelError(
                    f"the Ray cluster has no room for an actor ({wanted}; free are {free}): wait for others, or give "
                    "--ray-wait more seconds"
                )
            print(f"waiting for {wanted} of the Ray cluster; free are {free}", file=sys.stderr)
    finally:
        remove_placement_group(group)


def _describe(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items())


@contextmanager
def _quiet() -> Iterator[None]:
    """Only errors from Ray Data, which reports on its plans and progress."""
    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected, and left again by whoever connected."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do anyway, and warns of
    try:
        import ray
        import ray.data  # which ray alone does not install
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: pip install 'gem-label[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    dashboard = None if address or "RAY_ADDRESS" in os.environ else False  # a cluster has its own
    try:
        ray.init(address, include_dashboard=dashboard, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, OSError) as error:
        raise GemLabelError(f"no Ray cluster: {failure_reason(error)}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
