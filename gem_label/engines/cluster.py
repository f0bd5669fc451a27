"""The engine of many processes, on the GPUs or processors of a Ray cluster or of one machine.

Each process makes models of its own and labels a few photos at a time as `LocalEngine` does; results come back to the
one writer. A process that dies takes only the photos under way with it: they are asked about again, one by one, and a
photo whose process dies again is recorded as failed.
"""

from __future__ import annotations

import logging
import os
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gem_label.checks import COUNT, check_numbers
from gem_label.engines import LabelJob, LabelReport, PhotoError, PhotoModels, PhotoResult, failure_reason
from gem_label.engines.photos import label_photos, workers_for
from gem_label.engines.writing import write_results
from gem_label.errors import GemLabelError, UsageError
from gem_label.runs import RunPhoto, RunWriter

PHOTOS_PER_TASK = 8  # what is done again when a process dies
CPUS_PER_PROCESS = 8  # at most, where processes have no GPU
LIVES = 2  # so often a photo may be under way in a process that dies
_COLOURS = re.compile(r"\x1b\[\d*m")  # in Ray's messages


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
class RayEngine:
    """Labels photos with processes of the Ray cluster that RAY_ADDRESS names, else of this machine.

    Photos have the same paths on all machines, and gem_label is the same version there.

    Attributes:
        build: makes the models on a device, "cpu" or "cuda"; called in every process.
        device: where they run; None: on the cluster's GPUs when it has any.
        processes: how many; None: one for each GPU, or for every `CPUS_PER_PROCESS` processors of a machine.
        workers: photos under way at a time in a process; None: what its device is good for.
        progress: a bar on stderr.
    """

    build: Callable[[str], NamedModels]
    device: str | None = None
    processes: int | None = None
    workers: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        check_numbers(self, dict.fromkeys(("processes", "workers"), replace(COUNT, optional=True)))

    def run(
        self, photos: Sequence[RunPhoto], models: NamedModels, job: LabelJob, writer: RunWriter
    ) -> LabelReport:
        """Label photos into a run.

        Args:
            photos: those that `writer.register` gave.
            models: what the run's settings were taken from; the processes' own must be the same.
            job: the words and thresholds.
            writer: of the run.

        Raises:
            UsageError: ray is not installed, or the cluster has no GPU and one is asked for.
            GemLabelError: the processes cannot make the models, or make others; the run cannot be written, or
                the models fail on every photo.
        """
        if job.words is not None:
            job.words.check_names(photos)
        with _cluster() as ray, closing(self._results(ray, photos, models, job)) as results:
            return write_results(results, len(photos), writer, self.progress)

    def _results(
        self, ray: Any, photos: Sequence[RunPhoto], models: NamedModels, job: LabelJob
    ) -> Generator[tuple[RunPhoto, PhotoResult | PhotoError], None, None]:
        """Photos with what became of them, as they come."""
        share = share_of_cluster(ray.nodes(), self.device, self.processes)
        remote = ray.remote(num_cpus=share.cpus, num_gpus=int(share.device == "cuda"))(_Process)
        job_there = ray.put(job)
        queue = deque(
            _Task(photos[start : start + PHOTOS_PER_TASK], LIVES)
            for start in range(0, len(photos), PHOTOS_PER_TASK)
        )
        asked: dict[Any, tuple[Any, _Task]] = {}

        def start() -> None:
            process = remote.remote(self.build, share.device, self.workers)
            asked[process.prepare.remote()] = process, _Task((), 0)

        try:
            for _ in range(min(share.processes, len(queue))):
                start()
            while queue or any(task.photos for _, task in asked.values()):
                (answered,), _ = ray.wait(list(asked), num_returns=1)
                process, task = asked.pop(answered)
                try:
                    answer = ray.get(answered)
                except ray.exceptions.RayError as error:
                    reason = _COLOURS.sub("", failure_reason(getattr(error, "cause", None) or error))
                    ray.kill(process)  # one that is only confused would keep its GPU from the next
                    if not task.photos and not asked:
                        raise GemLabelError(f"no process of the cluster could start: {reason}") from error
                    if task.lives > 1:
                        queue.extend(_Task((photo,), task.lives - 1) for photo in task.photos)
                    else:
                        yield from (
                            (p, PhotoError("label", f"its process died: {reason}")) for p in task.photos
                        )
                    if task.photos and queue:
                        start()  # in its place; one that could not even start gets none
                    continue
                if task.photos:
                    yield from answer
                elif answer != (dict(models.settings), dict(models.weights)):
                    raise GemLabelError(
                        "a process of the cluster has other weights than this machine: bring the same to all"
                    )
                if queue:
                    task = queue.popleft()
                    asked[process.label.remote(list(task.photos), job_there)] = process, task
        finally:
            for process, _ in asked.values():
                ray.kill(process)


@dataclass(frozen=True)
class _Task:
    """Photos that a process is asked about; none while it makes its models."""

    photos: Sequence[RunPhoto]
    lives: int


class _Process:
    """What runs in each process."""

    def __init__(self, build: Callable[[str], NamedModels], device: str, workers: int | None) -> None:
        self._build, self._device = build, device
        self._workers = workers or workers_for(device)

    def prepare(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Make the models, and say which they are."""
        self._models = self._build(self._device)
        return dict(self._models.settings), dict(self._models.weights)

    def label(
        self, photos: Sequence[RunPhoto], job: LabelJob
    ) -> list[tuple[RunPhoto, PhotoResult | PhotoError]]:
        """Label photos."""
        return list(label_photos(photos, self._models, job, self._workers))


@dataclass(frozen=True)
class Share:
    """What of a cluster an engine takes.

    Attributes:
        device: "cpu" or "cuda", one GPU a process.
        processes: how many.
        cpus: processors of each.
    """

    device: str
    processes: int
    cpus: int


def share_of_cluster(
    nodes: Sequence[Mapping[str, Any]], device: str | None = None, processes: int | None = None
) -> Share:
    """As many processes as there is room for on the machines of a cluster.

    Args:
        nodes: as `ray.nodes` lists them.
        device: "cpu" or "cuda"; None: GPUs when there are any.
        processes: how many instead.

    Raises:
        UsageError: a GPU is asked for where there is none.
    """
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    with_gpu = [machine for machine in machines if machine.get("GPU", 0) >= 1]
    device = device or ("cuda" if with_gpu else "cpu")
    if device == "cuda":
        if not with_gpu:
            raise UsageError("the Ray cluster has no GPU: use --device cpu or auto")
        cpus = min(int(machine.get("CPU", 1)) // int(machine["GPU"]) for machine in with_gpu)
        return Share(device, processes or sum(int(machine["GPU"]) for machine in with_gpu), max(1, cpus))
    sizes = [int(machine["CPU"]) for machine in machines if machine.get("CPU", 0) >= 1]
    if not sizes:
        raise UsageError("the Ray cluster has no processors")
    cpus = min(CPUS_PER_PROCESS, *sizes)
    if processes is not None:
        cpus = max(1, min(cpus, sum(sizes) // processes))
    return Share(device, processes or sum(size // cpus for size in sizes), cpus)


@contextmanager
def _cluster() -> Iterator[Any]:
    """Ray, connected, and left again by whoever connected."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do anyway, and warns of
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: pip install 'gem-label[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    dashboard = None if "RAY_ADDRESS" in os.environ else False  # a cluster has its own
    try:
        ray.init(include_dashboard=dashboard, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, OSError) as error:
        raise GemLabelError(f"no Ray cluster: {failure_reason(error)}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
