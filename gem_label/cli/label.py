"""`gem-label label`: photos and words in, a run directory out."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gem_label.cli import options, output, panels
from gem_label.cli import photos as photo_arguments
from gem_label.cli.labeling import is_shared, label_alone, label_shared, read_actors, read_part
from gem_label.cli.options import Device, DeviceOption
from gem_label.defaults import DEFAULT_CLIP, DEFAULT_SAM
from gem_label.errors import UsageError
from gem_label.precision import Precision
from gem_label.stores import is_address


class Engine(StrEnum):
    """Who does the work."""

    local = "local"
    ray = "ray"


def label(
    paths: photo_arguments.Photos,
    out: Annotated[
        str,
        typer.Option(
            metavar="RUN",
            rich_help_panel=panels.INPUT_OUTPUT,
            help="The run: a folder, or s3://BUCKET/RUN, gs://BUCKET/RUN. An interrupted run resumes.",
        ),
    ],
    keep_patches: Annotated[
        bool,
        typer.Option(
            "--keep-patches",
            rich_help_panel=panels.INPUT_OUTPUT,
            help="Keep each photo's patch features in RUN/patches, for `eval points`.",
        ),
    ] = False,
    top_k: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="K",
            rich_help_panel=panels.INPUT_OUTPUT,
            help="How many classes and scores are stored for each mask.",
        ),
    ] = 5,
    classes: options.Classes = None,
    classes_file: options.ClassesFile = None,
    background: options.Background = "",
    background_words: options.BackgroundWords = None,
    negatives: options.Negatives = "auto",
    words_per_image: options.WordsPerImage = None,
    image_top_k: options.ImageTopK = None,
    learned: options.LearnedFile = None,
    examples: options.ExamplesFile = None,
    min_score: options.MinScore = None,
    purpose: options.For = None,
    overlaps: options.Overlaps = False,
    clip: options.ClipOption = DEFAULT_CLIP,
    sam: options.SamOption = DEFAULT_SAM,
    method: options.MethodOption = "gem",
    proxy: options.Proxy = "sam",
    mask_tokens: options.MaskTokens = None,
    short_side: options.ShortSide = None,
    proposals: options.ProposalsOption = options.Proposals.fast,
    points_per_side: options.PointsPerSide = None,
    max_prompts: options.MaxPrompts = None,
    crop_layers: options.CropLayers = 0,
    pred_iou_thresh: options.PredIouThresh = None,
    stability_thresh: options.StabilityThresh = None,
    device: DeviceOption = Device.auto,
    precision: options.PrecisionOption = Precision.float32,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            rich_help_panel=panels.HARDWARE,
            help="Photos that a process labels at a time; default: chosen from device and memory.",
        ),
    ] = None,
    engine: Annotated[
        Engine,
        typer.Option(
            rich_help_panel=panels.PROCESSES,
            help="local: this process; ray: actors on every GPU of this machine or of a Ray cluster.",
        ),
    ] = Engine.local,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="i/n|slurm",
            rich_help_panel=panels.PROCESSES,
            help="Label every n-th chunk of photos, starting with chunk i (0 to n - 1); other processes label the "
            "others. slurm: i and n of the SLURM array.",
        ),
    ] = None,
    photos_per_shard: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", rich_help_panel=panels.PROCESSES, help="Photos in a chunk; default: 64."
        ),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            rich_help_panel=panels.PROCESSES,
            help="Label photos that failed again. A run of one process always does.",
        ),
    ] = False,
    photo_timeout: Annotated[
        float,
        typer.Option(
            min=1,
            metavar="S",
            rich_help_panel=panels.PROCESSES,
            help="Seconds after which a photo that hangs ends its process.",
        ),
    ] = 1800.0,
    actors: Annotated[
        str | None,
        typer.Option(
            metavar="MIN[:MAX]",
            rich_help_panel=panels.PROCESSES,
            help="ray: how many actors; default: as many as the cluster has room for.",
        ),
    ] = None,
    gpus_per_actor: Annotated[
        float,
        typer.Option(
            min=0.01,
            metavar="GPUS",
            rich_help_panel=panels.PROCESSES,
            help="ray: GPUs of each actor; 0.5: two actors share one.",
        ),
    ] = 1.0,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            rich_help_panel=panels.PROCESSES,
            help="ray: the cluster; default: RAY_ADDRESS, else this machine.",
        ),
    ] = None,
    ray_wait: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="S",
            rich_help_panel=panels.PROCESSES,
            help="ray: seconds to wait for free resources of the cluster.",
        ),
    ] = 600.0,
) -> None:
    """Propose masks in photos and name them: makes a run.

    The same command resumes an interrupted run. The exit code is 1 when a photo failed; the reasons are in
    RUN/failures.jsonl. With --shard, several processes or machines label one run, in a folder that they share or in a
    bucket.

    \b
    Example: gem-label label photos/ --classes "cat, dog" --background "sofa" --out RUN
    Example: gem-label label photos/ --classes "cat, dog" --out s3://bucket/run --shard 0/4
    """
    from gem_label.examples import read_examples, with_example_classes, with_examples
    from gem_label.words import WordsPerImage

    if engine is Engine.local and (actors is not None or ray_address is not None):
        raise UsageError("--actors and --ray-address need --engine ray")
    if engine is Engine.ray and shard is not None:
        raise UsageError("--shard is for processes without Ray: leave out one of --shard and --engine ray")
    part = None if shard is None else read_part(shard, os.environ)
    number_of_actors = read_actors(actors)
    shown = None if examples is None else read_examples(examples)
    if shown is None:
        vocabulary = options.read_vocabulary(classes, classes_file, background)
    else:
        given = classes is not None or classes_file is not None
        words_given = options.read_vocabulary(classes, classes_file, background) if given else None
        vocabulary = with_example_classes(words_given, shown, background)
    vocabulary = options.add_background(vocabulary, background_words)
    wanted = options.read_negatives(negatives)
    min_scores = options.thresholds(min_score, purpose)
    min_scores.by_class(vocabulary.classes)
    words = None if words_per_image is None else WordsPerImage.from_csv(words_per_image)
    photos = photo_arguments.find_photos(paths)
    if words is not None:
        words.check(vocabulary)
        words.check_photos(photos)

    # torch only now: a mistake in the words or paths is told at once
    from gem_label.engines.ray_data import RayEngine
    from gem_label.engines.shared import Part
    from gem_label.labeler import load_labeler
    from gem_label.labeling import LabelSettings
    from gem_label.runs.learned_file import read_learned

    label_settings = LabelSettings(min_scores, top_k, overlaps, image_top_k or None)
    if mask_tokens:
        label_settings = replace(label_settings, token_share=mask_tokens)
    proposal_settings = options.proposal_settings(
        proposals, points_per_side, max_prompts, crop_layers, pred_iou_thresh, stability_thresh
    )
    build = partial(
        load_labeler,
        clip=options.absolute_clip(clip),
        sam=options.absolute_sam(sam),
        proposals=proposal_settings,
        method=method,
        precision=precision,
        short_side=short_side,
        mask_tokens=bool(mask_tokens),
        proxy=options.absolute_clip(proxy),
    )
    # with Ray the models here only say what the run is made with; those that work are in its processes
    where = "cpu" if engine is Engine.ray else options.resolve_device(device)
    labeler = build(where)
    known = None if learned is None else read_learned(learned)
    if shown is not None:
        named = frozenset(() if words_given is None else words_given.classes)
        known = with_examples(known, shown, labeler, vocabulary, named, wanted, label_settings.token_share)
    job = labeler.job(vocabulary, label_settings, words, keep_patches, wanted, known)
    output.note_unknown_words(labeler.text, vocabulary.phrases)
    output.note_demo_clip(labeler.text, vocabulary.phrases)
    output.note_negatives(job.vocabulary, wanted)
    try:
        if engine is Engine.ray or part or is_address(out) or is_shared(out):
            on = None if device is Device.auto else device.value
            cluster = RayEngine(
                build, on, number_of_actors, gpus_per_actor, workers, ray_address, photo_timeout, ray_wait
            )
            with_ray = cluster if engine is Engine.ray else None
            failures = label_shared(
                photos,
                labeler,
                job,
                out,
                part or Part(0, 1),
                photos_per_shard,
                retry_failed,
                workers,
                photo_timeout,
                with_ray,
            )
        else:
            failures = label_alone(photos, labeler, job, Path(out), workers)
    except KeyboardInterrupt:
        print("gem-label: interrupted; the same command resumes the run", file=sys.stderr)
        raise typer.Exit(options.INTERRUPTED) from None
    if failures.reasons:
        said = photo_arguments.describe_failures(failures.reasons, failures.tried, f"{out}/failures.jsonl")
        print(f"gem-label: {said}", file=sys.stderr)
        raise typer.Exit(1)
