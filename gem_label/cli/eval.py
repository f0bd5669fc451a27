"""`gem-label eval`: the papers' evaluations."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gem_label.cli import eval_labels, options
from gem_label.cli import photos as photo_arguments
from gem_label.cli.commands import add_command, help_text, make_group, show_help
from gem_label.cli.options import Device, DeviceOption
from gem_label.defaults import DEFAULT_CLIP, DEFAULT_SAM
from gem_label.errors import GemLabelError, UsageError

if TYPE_CHECKING:
    from gem_label.predictors import DenseModel, MaskModel

SHOWN_CLASSES = 40


class Rule(StrEnum):
    """How masks get classes in GEM-SAM."""

    threshold = "threshold"
    argmax = "argmax"
    both = "both"


Method = Annotated[
    str, typer.Option(help="A dense method such as gem or clip, or groupvit, clipseg, grounding-sam.")
]
Weights = Annotated[
    str | None,
    typer.Option(help="For groupvit, clipseg and grounding-sam: a model of the hub, or its folder."),
]
SamName = Annotated[str, typer.Option("--sam", help="For proxyclip and corrclip: as for label.")]
Surgery = Annotated[
    bool,
    typer.Option("--feature-surgery", help="Subtract what all words have in common (CLIP Surgery)."),
]
Json = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the whole result into this file.")
]


def make_app() -> typer.Typer:
    """The commands under `gem-label eval`."""
    app = make_group(invoke_without_command=True)
    app.callback(help=help_text(root))(root)
    add_command(app, "points", points)
    add_command(app, "segmentation", segmentation)
    add_command(app, "localization", localization)
    add_command(app, "labels", eval_labels.labels)
    return app


def root(context: typer.Context) -> None:
    """Measure models and runs as the papers do.

    \b
    Example: gem-label eval points RUN --points points.csv
    """
    show_help(context)


def points(
    source: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, or a folder of photos.")],
    points: Annotated[Path, typer.Option(metavar="FILE", help="Point labels as Open Images V7 has them.")],
    class_names: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Class descriptions; default: those beside the points."),
    ] = None,
    rule: Annotated[Rule, typer.Option(help="For a run: which masks belong to a class.")] = Rule.both,
    clip: options.ClipOption = DEFAULT_CLIP,
    method: Method = "gem",
    feature_surgery: Surgery = False,
    sam: SamName = DEFAULT_SAM,
    proxy: options.Proxy = "sam",
    weights: Weights = None,
    short_side: options.ShortSide = None,
    json: Json = None,
    device: DeviceOption = Device.auto,
) -> None:
    """p-mIoU on the point labels of Open Images V7.

    Of a run: of its similarity maps and of its masks (GEM and GEM-SAM), with the run's own model; photos are opened
    only when the run kept no patches (`gem-label label --keep-patches`). Of a folder of photos: of --clip and
    --method. Per photo only classes with a yes-point count. With --json, an interrupted evaluation resumes.

    \b
    Example: gem-label eval points RUN --points labels/points.csv --json points.json
    """
    from gem_label.evaluation.models import encoder_of_run
    from gem_label.evaluation.openimages import class_names as names_of
    from gem_label.evaluation.openimages import read_points
    from gem_label.evaluation.point_evaluation import (
        RULES,
        PointEvaluation,
        photo_predictions,
        run_predictions,
    )
    from gem_label.evaluation.results import write_result
    from gem_label.runs import open_run
    from gem_label.weights import file_sha256

    if not points.is_file():
        raise UsageError(f"no such file: {points}")
    table = read_points(points)
    names = names_of(table, points, class_names)
    rules = [name for name in RULES if rule.value in (name, "both")]
    settings: dict[str, Any] = {"points_sha256": file_sha256(points)}
    partial = None if json is None else json.with_name(f"{json.name}.partial.jsonl")
    if (source / "manifest.json").is_file():
        if method != "gem" or weights or short_side or feature_surgery:
            raise UsageError(
                f"{source} is a run and has its own model: leave out --method, --weights, --short-side and "
                "--feature-surgery"
            )
        run = open_run(source)
        model = encoder_of_run(run, options.resolve_device(device))
        settings |= {
            "model": run.manifest["settings"],
            "weights": run.manifest["weights"],
            "rules": list(rules),
        }
        _note_unknown_words(model, names.values())
        evaluation = PointEvaluation(table, settings, partial)
        predictions = run_predictions(run, table, names, model, rules, evaluation.done)
    else:
        found = photo_arguments.list_arguments([str(source)])  # before a model is loaded
        chosen = _choose_model(
            method, clip, weights, short_side, device, sam=sam, proxy=proxy, feature_surgery=feature_surgery
        )
        photo_arguments.print_notes(found)
        _note_unknown_words(chosen, names.values())
        evaluation = PointEvaluation(table, settings | {"model": chosen.describe()}, partial)
        predictions = photo_predictions(found.photos, table, names, chosen, evaluation.done)
    evaluation.run(predictions)
    if not evaluation.done:
        if partial is not None:
            partial.unlink()
        if evaluation.failures:
            raise GemLabelError(
                "no photo could be read, the first: {}: {}".format(*next(iter(evaluation.failures.items())))
            )
        raise UsageError(f"no photo of {source} has points in {points}: photos are named <ImageId>.jpg there")
    result = evaluation.report(names)
    print_points(result)
    if json is not None:
        write_result(json, result)
        if partial is not None:
            partial.unlink(missing_ok=True)
        print(f"\n{json}")
    if evaluation.failures:
        raise typer.Exit(1)


def print_points(result: dict[str, Any]) -> None:
    """p-mIoU in percent as a table, and IoU per class, those with most points first."""
    from gem_label.evaluation.results import percent, text_table

    predictors = list(result["p_miou"])
    print(f"{result['images']} images, {max(result['image_class_pairs'].values())} image-class pairs")
    for count, what in ((result["images_missing"], "not here"), (len(result["failures"]), "failed")):
        if count:
            print(f"{count} images with points {what}")
    rows = [[name, *(percent(v) for v in result["p_miou"][name].values())] for name in predictors]
    print(f"\n{text_table(['p-mIoU averaged over', 'pairs', 'images', 'classes'], rows)}")

    def points_of(row: dict[str, Any]) -> int:
        return max(row[name]["tp"] + row[name]["fn"] for name in predictors)

    per_class = sorted(result["per_class"], key=points_of, reverse=True)
    rows = [
        [row["name"], str(points_of(row)), *(percent(row[name]["iou"]) for name in predictors)]
        for row in per_class[:SHOWN_CLASSES]
    ]
    print(f"\n{text_table(['IoU per class', 'yes-points', *predictors], rows)}")
    if len(per_class) > SHOWN_CLASSES:
        print(f"... and {len(per_class) - SHOWN_CLASSES} more classes, all in the JSON file (--json)")


class Dataset(StrEnum):
    """Datasets of `eval segmentation`."""

    voc20 = "voc20"
    voc21 = "voc21"
    context59 = "context59"
    context60 = "context60"
    ade20k = "ade20k"
    cocostuff = "cocostuff"
    cityscapes = "cityscapes"


class Split(StrEnum):
    """Parts of a dataset."""

    train = "train"
    val = "val"


class Phrasings(StrEnum):
    """What a class is called."""

    first = "first"
    all = "all"


class Templates(StrEnum):
    """Prompts around a phrase."""

    one = "one"
    imagenet = "imagenet"


Root = Annotated[Path, typer.Option(help="The dataset's folder, in its official layout.")]
SplitOption = Annotated[Split, typer.Option(help="Which part of the dataset.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N images.")]
TemplatesOption = Annotated[
    Templates, typer.Option(help="one: 'a photo of a {}.'; imagenet: the 80 of CLIP's ImageNet classifier.")
]


def segmentation(
    dataset: Annotated[Dataset, typer.Option(help="voc21 is voc20 with background, context60 context59.")],
    root: Root,
    split: SplitOption = Split.val,
    clip: options.ClipOption = DEFAULT_CLIP,
    method: Method = "gem",
    feature_surgery: Surgery = False,
    sam: SamName = DEFAULT_SAM,
    proxy: options.Proxy = "sam",
    weights: Weights = None,
    short_side: options.ShortSide = None,
    crop: Annotated[int | None, typer.Option(help="Slide a window of this size over the photo.")] = None,
    stride: Annotated[
        int | None, typer.Option(help="Pixels from window to window; default: half of --crop.")
    ] = None,
    phrasings: Annotated[
        Phrasings, typer.Option(help="first: one phrase for each class; all: the best of its phrases.")
    ] = Phrasings.first,
    background_words: Annotated[
        options.BackgroundSet | None,
        typer.Option(
            help="Words of the background class, of datasets that have one, in place of a threshold."
        ),
    ] = None,
    map_correction: Annotated[
        bool,
        typer.Option("--map-correction", help="Every mask of SAM gets the class of most of its pixels."),
    ] = False,
    templates: TemplatesOption = Templates.one,
    limit: Limit = None,
    json: Json = None,
    device: DeviceOption = Device.auto,
) -> None:
    """mIoU on a segmentation dataset.

    Photos are seen with a short side of 448 pixels by default; similarity is resized to the label map.

    \b
    Example: gem-label eval segmentation --dataset voc21 --root VOCdevkit/VOC2012 --clip ViT-B-16/openai
    """
    from gem_label.background_words import background_words as word_set
    from gem_label.evaluation.datasets import open_dataset
    from gem_label.evaluation.predictors import EncoderModel
    from gem_label.evaluation.results import percent, text_table, write_result
    from gem_label.evaluation.segmentation import SegmentationSettings, evaluate_segmentation

    found = open_dataset(dataset.value, root, split.value)
    model = _choose_model(
        method,
        clip,
        weights,
        short_side,
        device,
        sam=sam,
        proxy=proxy,
        feature_surgery=feature_surgery,
        with_masks=map_correction,
        crop=crop,
        stride=stride,
        templates=templates,
    )
    _note_unknown_words(model, [phrases[0] for phrases in found.phrasings])
    settings = SegmentationSettings(
        phrasings.value,
        background_words=() if background_words is None else word_set(background_words.value),
    )
    propose = model.dense.guide.propose if map_correction and isinstance(model, EncoderModel) else None
    result = evaluate_segmentation(found, model, settings, limit, propose=propose)
    rows = [[row["name"], str(row["pixels"]), percent(row["iou"])] for row in result["per_class"]]
    print(text_table(["IoU per class", "pixels", ""], rows))
    print(f"\n{result['images']} images of {dataset.value} ({split.value})")
    print(f"mIoU      {percent(result['miou'])}\naccuracy  {percent(result['accuracy'])}")
    if json is not None:
        write_result(json, result)
        print(f"\n{json}")


def _note_unknown_words(model: DenseModel | MaskModel, phrases: Iterable[str]) -> None:
    """Say so when a small model has never seen some of the words."""
    from gem_label.evaluation.predictors import EncoderModel

    words = sorted(phrases)
    unknown = model.dense.clip.unknown_phrases(words) if isinstance(model, EncoderModel) else []
    if unknown:
        print(
            f"note: this CLIP has never seen {len(unknown)} of {len(words)} classes, such as {unknown[0]!r}: "
            "its figures for them mean nothing",
            file=sys.stderr,
        )


def _choose_model(
    method: str,
    clip: str,
    weights: str | None,
    short_side: int | None,
    device: Device,
    *,
    sam: str,
    proxy: str,
    feature_surgery: bool = False,
    with_masks: bool = False,
    crop: int | None = None,
    stride: int | None = None,
    templates: Templates = Templates.one,
) -> DenseModel | MaskModel:
    """The model that the options name."""
    from gem_label.clip.templates import GEM_TEMPLATES, IMAGENET_TEMPLATES
    from gem_label.clip.windows import Window
    from gem_label.evaluation.models import load_model

    if crop is None and stride is not None:
        raise UsageError("--stride goes with --crop")
    return load_model(
        method,
        options.absolute_clip(clip),
        weights,
        short_side,
        options.resolve_device(device),
        None if crop is None else Window(crop, stride or crop // 2),
        IMAGENET_TEMPLATES if templates is Templates.imagenet else GEM_TEMPLATES,
        options.absolute_sam(sam),
        options.absolute_clip(proxy),
        feature_surgery,
        with_masks,
    )


def localization(
    dataset: Annotated[
        Dataset, typer.Option(help="Where the objects come from; the paper uses the training part of VOC.")
    ],
    root: Root,
    split: SplitOption = Split.train,
    clip: options.ClipOption = DEFAULT_CLIP,
    method: Annotated[str, typer.Option(help="A dense method such as gem or clip.")] = "gem",
    sam: SamName = DEFAULT_SAM,
    proxy: options.Proxy = "sam",
    short_side: options.ShortSide = None,
    limit: Limit = None,
    json: Json = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Localization properties after each layer: how well patches group, and how well they match their words.

    Patch-patch similarity, object-background contrast and text-object-background contrast.

    \b
    Example: gem-label eval localization --dataset voc20 --root VOCdevkit/VOC2012 --method gem
    """
    from gem_label.evaluation.datasets import open_dataset
    from gem_label.evaluation.localization import evaluate_localization
    from gem_label.evaluation.predictors import EncoderModel
    from gem_label.evaluation.results import text_table, write_result

    found = open_dataset(dataset.value, root, split.value)
    model = _choose_model(method, clip, None, short_side, device, sam=sam, proxy=proxy)
    if not isinstance(model, EncoderModel):
        raise UsageError(f"{method} shows no layers: take a dense method such as gem")
    result = evaluate_localization(found, model, limit)
    rows = [
        [str(row.pop("layer")), *("-" if value is None else f"{value:.3f}" for value in row.values())]
        for row in [dict(row) for row in result["layers"]]
    ]
    header = ["layer", "patch-patch", "object-background", "text-object-background"]
    print(f"{result['objects']} objects in {result['images']} images\n\n{text_table(header, rows)}")
    if json is not None:
        write_result(json, result)
        print(f"\n{json}")
