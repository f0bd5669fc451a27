"""`gem-label bench`: how long labeling takes on the user's own photos."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from enum import StrEnum
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gem_label.cli import options, panels
from gem_label.cli import photos as photo_arguments
from gem_label.cli.options import Device, DeviceOption, Proposals
from gem_label.defaults import DEFAULT_CLIP, DEFAULT_SAM
from gem_label.errors import GemLabelError, UsageError
from gem_label.precision import Precision

if TYPE_CHECKING:
    from gem_label.bench import BenchResult

WORDS = "person, animal, vehicle, furniture, food, plant, building, tool"


class Compared(StrEnum):
    """Which proposals are measured."""

    both = "both"
    exact = "exact"
    fast = "fast"


def bench(
    paths: photo_arguments.Photos,
    photos: Annotated[
        int, typer.Option(min=1, help="How many photos to label, spread evenly over those found.")
    ] = 8,
    proposals: Annotated[Compared, typer.Option(help="Which proposals to measure.")] = Compared.both,
    points_per_side: options.PointsPerSide = None,
    max_prompts: options.MaxPrompts = None,
    crop_layers: options.CropLayers = 0,
    pred_iou_thresh: options.PredIouThresh = None,
    stability_thresh: options.StabilityThresh = None,
    classes: Annotated[
        str,
        typer.Option(
            metavar="WORDS", rich_help_panel=panels.VOCABULARY, help="Classes, separated by commas."
        ),
    ] = WORDS,
    clip: options.ClipOption = DEFAULT_CLIP,
    sam: options.SamOption = DEFAULT_SAM,
    short_side: options.ShortSide = None,
    device: DeviceOption = Device.auto,
    precision: options.PrecisionOption = Precision.float32,
    estimate: Annotated[
        int | None,
        typer.Option(metavar="N", help="Estimate the time for N photos; default: as many as were found."),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Annotations of the photos: also measure recall."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the numbers into this file.")
    ] = None,
) -> None:
    """Label a few photos, and show time, masks and memory of every stage.

    `label` works on several photos at a time, and takes less than its stages one after the other. Nothing is kept.
    Each kind of proposals runs in a process of its own, so that its peak memory is its own.

    \b
    Example: gem-label bench photos/ --photos 8 --estimate 200000
    """
    found = photo_arguments.find_photos(paths)
    modes = [mode for mode in Proposals if proposals in (Compared.both, mode.value)]
    given = (points_per_side, max_prompts, crop_layers or None, pred_iou_thresh, stability_thresh)
    if len(modes) > 1 and any(value is not None for value in given):
        raise UsageError("settings of proposals need --proposals fast or --proposals exact: each has its own")
    step = max(1, len(found) // photos)
    chosen = [Path(photo.path) for photo in found[::step][:photos]]
    results: dict[str, BenchResult] = {}
    for mode in modes:
        settings = (mode, points_per_side, max_prompts, crop_layers, pred_iou_thresh, stability_thresh)
        # spawn: a fresh process, as CUDA needs it and as peak memory is measured
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            models = {"clip": clip, "sam": sam, "precision": precision, "short_side": short_side}
            work = pool.submit(measure, chosen, settings, classes, models, device, annotations)
            try:
                results[mode.value] = work.result()
            except BrokenProcessPool as error:
                raise GemLabelError(f"the process for {mode.value} was killed: is memory short?") from error
    total = estimate or len(found)
    print_results(results, total)
    if json_file is not None:
        from gem_label.runs.files import write_json

        content = {"photos": len(found), "estimate_for": total} | {
            "proposals": {mode: result.as_json() for mode, result in results.items()}
        }
        write_json(json_file, content)


def measure(
    photos: list[Path],
    settings: tuple[Proposals, int | None, int | None, int, float | None, float | None],
    classes: str,
    models: dict[str, Any],
    device: Device,
    annotations: Path | None,
) -> BenchResult:
    """Measure one kind of proposals in this process; the arguments are those of `bench`.

    Args:
        photos: the photos to label.
        settings: the arguments of `options.proposal_settings`.
        classes: words.
        models: what `load_labeler` makes them of, proposals apart.
        device: where they run.
        annotations: annotated instances of the photos.
    """
    from gem_label.bench import Annotations
    from gem_label.bench import bench as run_bench
    from gem_label.labeler import load_labeler
    from gem_label.photos.listing import list_images
    from gem_label.vocabulary import Vocabulary

    truth = None if annotations is None else Annotations.read(annotations)
    proposals = options.proposal_settings(*settings)
    where = options.resolve_device(device)
    labeler = load_labeler(where, proposals=proposals, **models)
    job = labeler.job(Vocabulary.parse(classes))
    return run_bench(labeler, job, list_images(photos), truth)


def print_results(results: dict[str, BenchResult], total: int) -> None:
    """The table: a column for each kind of proposals.

    Args:
        results: by kind.
        total: how many photos the estimate is for.
    """
    from gem_label.bench import STAGES
    from gem_label.evaluation.results import percent, text_table

    columns = results.values()
    rows = [[f"{name}, s/photo", *(f"{c.stages[name]:.3f}" for c in columns)] for name in STAGES]
    rows += [
        ["all stages, s/photo", *(f"{c.seconds:.3f}" for c in columns)],
        ["label, s/photo", *(f"{c.label_seconds:.3f}" for c in columns)],
        ["photos an hour", *(f"{c.photos_per_hour:.0f}" for c in columns)],
        [f"{total} photos", *(_duration(c.label_seconds * total) for c in columns)],
        ["masks/photo", *(f"{c.masks:.0f}" for c in columns)],
        ["peak memory, MiB", *(f"{c.memory_mib:.0f}" for c in columns)],
    ]
    if any(c.gpu_memory_mib is not None for c in columns):
        rows.append(["peak GPU memory, MiB", *(f"{c.gpu_memory_mib or 0:.0f}" for c in columns)])
    for size in next(iter(columns)).coverage or {}:
        found = [c.coverage[size] for c in columns if c.coverage is not None]
        instances = f"{size}, {found[0].instances} instances"
        rows.append([f"mean best IoU, {instances}, %", *(percent(f.mean_best_iou) for f in found)])
        rows.append([f"AR, {size}, %", *(percent(f.average_recall) for f in found)])
        rows.append([f"R@0.5, {size}, %", *(percent(f.recall_50) for f in found)])
    print(text_table([f"{next(iter(columns)).photos} photos", *results], rows))


def _duration(seconds: float) -> str:
    """Seconds for people: 45 s, 12 min, 3.4 h, 5.1 days."""
    for size, unit, digits in ((86400, "days", 1), (3600, "h", 1), (60, "min", 0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"
