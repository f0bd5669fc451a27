"""What `gem-label label` does after its options are read: alone into a folder, or beside others into a shared run."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gem_label.cli import output
from gem_label.errors import UsageError

if TYPE_CHECKING:
    from gem_label.engines.ray_data import RayEngine
    from gem_label.engines.shared import Part
    from gem_label.labeled_photo import LabelJob
    from gem_label.labeler import Labeler
    from gem_label.photos.photo import Photo

_PART = re.compile(r"([0-9]+)/([0-9]+)")
_ACTORS = re.compile(r"([0-9]+)(?::([0-9]+))?")


@dataclass(frozen=True)
class Failures:
    """The photos that this command could not label.

    Attributes:
        tried: how many photos it tried.
        reasons: path and reason of each that failed.
    """

    tried: int
    reasons: Sequence[tuple[str, str]]


def read_part(text: str, environment: Mapping[str, str]) -> Part:
    """What --shard says.

    Args:
        text: "i/n", or "slurm".
        environment: variables, of which SLURM sets some for the tasks of an array.

    Raises:
        UsageError: something else, or "slurm" outside an array.

    Example:
        >>> str(read_part("2/8", {}))
        '2/8'
    """
    from gem_label.engines.shared import Part

    if text == "slurm":
        names = (
            "SLURM_ARRAY_TASK_ID",
            "SLURM_ARRAY_TASK_MIN",
            "SLURM_ARRAY_TASK_MAX",
            "SLURM_ARRAY_TASK_STEP",
        )
        try:
            task, first, last, step = (int(environment[name]) for name in names)
        except (KeyError, ValueError):
            raise UsageError("--shard slurm is for the tasks of a SLURM array: write i/n here") from None
        return Part((task - first) // step, (last - first) // step + 1)
    match = _PART.fullmatch(text)
    if match is None:
        raise UsageError(f"--shard {text}: write i/n, such as 0/4, or slurm")
    return Part(int(match[1]), int(match[2]))


def read_actors(text: str | None) -> tuple[int, int | None]:
    """What --actors says: how many at least and at most.

    Raises:
        UsageError: it is not MIN or MIN:MAX.

    Example:
        >>> read_actors("2:8"), read_actors("4"), read_actors(None)
        ((2, 8), (4, 4), (1, None))
    """
    if text is None:
        return 1, None
    match = _ACTORS.fullmatch(text)
    if match is None:
        raise UsageError(f"--actors {text}: write MIN or MIN:MAX, such as 2:8")
    return int(match[1]), int(match[2] or match[1])


def is_shared(out: str) -> bool:
    """Whether a folder holds a run that several processes write."""
    from gem_label.runs.files import MANIFEST, read_manifest

    return (Path(out) / MANIFEST).exists() and "shared" in read_manifest(Path(out))


def label_alone(
    photos: Sequence[Photo], labeler: Labeler, job: LabelJob, out: Path, workers: int | None
) -> Failures:
    """Label photos into a run of this process, and print its counts."""
    from gem_label.engines.local import LocalEngine
    from gem_label.engines.stream import workers_for
    from gem_label.runs import open_run
    from gem_label.runs.summary import summarize_run

    with labeler.start_run(out, job) as writer:
        output.note_changed_photos(open_run(out))
        todo = writer.register(photos)
        report = LocalEngine(workers or workers_for(labeler.device)).run(todo, labeler, job, writer)
    run = open_run(out)
    output.print_summary(run.place, summarize_run(run))
    output.print_next_steps(out)
    tried = {photo.path for photo in todo}
    failed = run.failures() if report.failed else []
    return Failures(len(todo), [(each.image, each.error) for each in failed if each.image in tried])


def label_shared(
    photos: Sequence[Photo],
    labeler: Labeler,
    job: LabelJob,
    out: str,
    part: Part,
    photos_per_shard: int | None,
    retry_failed: bool,
    workers: int | None,
    photo_timeout: float,
    cluster: RayEngine | None,
) -> Failures:
    """Label chunks of a shared run, by Ray or in this process, and finish the run where no chunk is missing.

    Args:
        photos: those that the run is to have.
        labeler: models; with Ray, those that the run's settings are taken from.
        job: the words and thresholds.
        out: the run's folder or address.
        part: of the chunks.
        photos_per_shard: of a new run; None: the default.
        retry_failed: list photos that failed once more.
        workers: photos that are labeled at a time; None: as many as the device and memory allow.
        photo_timeout: seconds after which a photo that hangs ends this process.
        cluster: the engine, or None.
    """
    from gem_label.engines.shared import label_chunks
    from gem_label.engines.stream import workers_for
    from gem_label.runs import open_run
    from gem_label.runs.summary import summarize_run

    if job.words is not None:
        job.words.check_names(photos)
    run = labeler.join_run(out, job, photos_per_shard)
    run.add_photos(photos)
    if part.index == 0 and run.committed():
        output.note_changed_photos(open_run(out))
    if retry_failed and (again := run.retry_failures()):
        print(f"trying {again} photos once more", file=sys.stderr)
    todo = list(part.of(run))
    if cluster is None:
        report = label_chunks(
            run, todo, labeler, job, workers or workers_for(labeler.device), photo_timeout=photo_timeout
        )
    else:
        report = cluster.run(run, todo, labeler, job)
    missing = run.progress().missing
    if missing:
        more = "1 chunk is" if len(missing) == 1 else f"{len(missing)} chunks are"
        print(f"{more} still to be labeled, by other shards", file=sys.stderr)
    else:
        run.finish()
        output.print_summary(run.store.address, summarize_run(open_run(out)))
        output.print_next_steps(out)
    mine = {place.number for place in todo}
    failed = run.failures_of(mine) if report.failed else []
    tried = sum(place.photos for place in todo)
    return Failures(tried, [(each["image"], each["error"]) for each in failed])
