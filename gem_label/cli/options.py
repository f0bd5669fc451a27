"""Options that several commands share, and what they mean."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from gem_label.cli import panels
from gem_label.errors import UsageError
from gem_label.precision import Precision

if TYPE_CHECKING:
    from gem_label.labeling.negatives import Wanted
    from gem_label.labeling.settings import Thresholds
    from gem_label.sam.proposals import AnySettings
    from gem_label.vocabulary import Vocabulary

INTERRUPTED = 130  # what shells report for Ctrl-C

Classes = Annotated[
    str | None,
    typer.Option(
        metavar="WORDS",
        rich_help_panel=panels.VOCABULARY,
        help="Classes, separated by commas. 'e-scooter, electric scooter => scooter; cat' gives several phrases to "
        "one class.",
    ),
]
ClassesFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=panels.VOCABULARY,
        help="Read the classes from a text file: an entry on each line, # starts a comment.",
    ),
]
Background = Annotated[
    str,
    typer.Option(
        metavar="WORDS",
        rich_help_panel=panels.VOCABULARY,
        help="Words that compete with the classes and are never a label, separated by commas.",
    ),
]
MinScore = Annotated[
    str | None,
    typer.Option(
        metavar="SCORE",
        rich_help_panel=panels.FILTERING,
        help="Keep labels with at least this score, 0 to 1. '0.5, cat=0.4' sets single classes.",
    ),
]
Negatives = Annotated[
    str,
    typer.Option(
        metavar="auto|none|N|FILE",
        rich_help_panel=panels.VOCABULARY,
        help="Words that compete and are never a label: from the lexicon (auto, or N of them), or from a text file.",
    ),
]
Overlaps = Annotated[
    bool,
    typer.Option(
        "--overlaps", rich_help_panel=panels.FILTERING, help="Also keep masks that repeat a better one."
    ),
]


class Purpose(StrEnum):
    """What labels are for, which decides over the threshold."""

    training = "training"
    review = "review"


For = Annotated[
    Purpose | None,
    typer.Option(
        "--for",
        rich_help_panel=panels.FILTERING,
        help="Choose the threshold by purpose: training keeps more labels, review keeps surer ones.",
    ),
]
WordsPerImage = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=panels.VOCABULARY,
        help="The classes that are known to be in each photo: a CSV file with the columns image and words (separated "
        "by ';').",
    ),
]
ImageTopK = Annotated[
    int | None,
    typer.Option(
        metavar="K",
        min=0,
        rich_help_panel=panels.VOCABULARY,
        help="Consider only the K classes that are most similar to the whole photo; 0: all.",
    ),
]
ClipOption = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        rich_help_panel=panels.MODELS,
        help="demo, ARCH/PRETRAINED of open_clip, ARCH/FILE, or a folder in open_clip's layout.",
    ),
]
SamOption = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        rich_help_panel=panels.MODELS,
        help="mobile_sam, vit_b, vit_l, vit_h, or a checkpoint file of one of them.",
    ),
]
MethodOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        rich_help_panel=panels.MODELS,
        help="Patch features: gem, or another method of docs/methods.md.",
    ),
]
Proxy = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        rich_help_panel=panels.MODELS,
        help="Whose features guide the methods proxyclip and corrclip: sam, a model of timm such as "
        "vit_base_patch8_224.dino, or MODEL/FILE.",
    ),
]
MaskTokens = Annotated[
    float | None,
    typer.Option(
        "--mask-tokens",
        metavar="SHARE",
        min=0,
        max=1,
        rich_help_panel=panels.MODELS,
        help="Also embed each mask by a class token of its own, which decides this share of a score (0.5: equal "
        "parts).",
    ),
]
LearnedFile = Annotated[
    Path | None,
    typer.Option(
        "--learned",
        metavar="FILE",
        rich_help_panel=panels.VOCABULARY,
        help="Apply what `gem-label learn` found: RUN/learned.json.",
    ),
]
ExamplesFile = Annotated[
    Path | None,
    typer.Option(
        "--examples",
        metavar="FILE",
        rich_help_panel=panels.VOCABULARY,
        help="Learn classes from annotated photos: a COCO or other annotation file that lies beside its photos.",
    ),
]
RunPlace = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run, as `gem-label label` makes it: its folder, or its address in a bucket."
    ),
]


class Device(StrEnum):
    """Where the models run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


DeviceOption = Annotated[
    Device, typer.Option(rich_help_panel=panels.HARDWARE, help="auto: the GPU where there is one.")
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        rich_help_panel=panels.HARDWARE,
        help="Number format of the image encoders; bfloat16 is faster on hardware that supports it.",
    ),
]

ShortSide = Annotated[
    int | None,
    typer.Option(
        metavar="PX",
        min=16,
        rich_help_panel=panels.MODELS,
        help="Resize photos to this shorter side for CLIP; default: the model's, usually 448.",
    ),
]


class BackgroundSet(StrEnum):
    """Names of background words, see `gem_label.background_words`."""

    voc21 = "voc21"
    context60 = "context60"
    coco_object = "coco-object"


BackgroundWords = Annotated[
    BackgroundSet | None,
    typer.Option(
        rich_help_panel=panels.VOCABULARY,
        help="Add the background words of a benchmark (sky, wall, tree, ...) to --background.",
    ),
]


def add_background(vocabulary: Vocabulary, chosen: BackgroundSet | None) -> Vocabulary:
    """The vocabulary with the words of --background-words."""
    from gem_label.background_words import background_words

    return vocabulary if chosen is None else vocabulary.with_background(background_words(chosen.value))


def read_vocabulary(classes: str | None, classes_file: Path | None, background: str) -> Vocabulary:
    """The vocabulary that --classes or --classes-file, and --background, give.

    Raises:
        UsageError: both or neither of the two, or words that make no vocabulary.
    """
    from gem_label.vocabulary import Vocabulary

    if (classes is None) == (classes_file is None):
        raise UsageError("give the words with either --classes 'cat, dog' or --classes-file FILE")
    if classes_file is not None:
        return Vocabulary.from_file(classes_file, background)
    return Vocabulary.parse(classes or "", background)


def thresholds(min_score: str | None, purpose: Purpose | None) -> Thresholds:
    """The thresholds that --min-score or --for give; without either, the defaults.

    Raises:
        UsageError: both of them, or no scores.
    """
    from gem_label.labeling.settings import MIN_SCORE_FOR, Thresholds

    if min_score is not None and purpose is not None:
        raise UsageError("give either --min-score or --for: both choose the threshold")
    return Thresholds.of(min_score if purpose is None else MIN_SCORE_FOR[purpose.value])


def asked_thresholds(min_score: str | None, purpose: Purpose | None) -> Thresholds | None:
    """As `thresholds`, None where neither --min-score nor --for is given."""
    return None if min_score is None and purpose is None else thresholds(min_score, purpose)


def read_negatives(text: str) -> Wanted:
    """What --negatives says.

    Raises:
        UsageError: a negative number, or a file that cannot be read or has no word.
    """
    if text in ("auto", "none"):
        return cast("Wanted", text)
    if text.lstrip("-").isdecimal():
        if int(text) < 0:
            raise UsageError(f"--negatives {text}: a number of words is not negative")
        return int(text)
    from gem_label.phrases import clean_word
    from gem_label.text_files import read_text

    try:
        lines = read_text(text).splitlines()
    except UsageError as error:
        raise UsageError(f"--negatives takes auto, none, a number or a text file: {error}") from error
    words = [clean_word(line) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not words:
        raise UsageError(f"{text} has no words: put one on each line, or use --negatives none")
    return words


def absolute_clip(name: str) -> str:
    """`name` as a run's manifest should hold it: folders and files by their absolute path.

    So that `relabel` and `search` find them from any folder.
    """
    folder = Path(name).expanduser()
    architecture, _, weights = name.partition("/")  # the prefix of TorchScript archives stays with it
    file = Path(weights).expanduser()
    if name != "demo" and folder.is_dir():
        return str(folder.resolve())
    return f"{architecture}/{file.resolve()}" if weights and file.is_file() else name


def absolute_sam(name: str) -> str:
    """`name` for processes that run in other folders: a checkpoint file by its absolute path."""
    from gem_label.weights import WEIGHTS

    file = Path(name).expanduser()
    return str(file.resolve()) if name not in WEIGHTS and file.is_file() else name


class Proposals(StrEnum):
    """How masks are proposed."""

    exact = "exact"
    fast = "fast"


ProposalsOption = Annotated[
    Proposals,
    typer.Option(
        rich_help_panel=panels.PROPOSALS,
        help="fast: adaptive prompts, which find more in less time; exact: the masks of SamAutomaticMaskGenerator.",
    ),
]
PointsPerSide = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=panels.PROPOSALS,
        help="Prompts along each side of the first grid; default: 8 (fast), 32 (exact).",
    ),
]
MaxPrompts = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=panels.PROPOSALS,
        help="fast: the most prompts for a photo; more find more. Default: 192.",
    ),
]
CropLayers = Annotated[
    int,
    typer.Option(
        metavar="N", rich_help_panel=panels.PROPOSALS, help="exact: also look into crops, in so many layers."
    ),
]
PredIouThresh = Annotated[
    float | None,
    typer.Option(
        metavar="IOU",
        rich_help_panel=panels.PROPOSALS,
        help="The least IoU that SAM predicts for a mask, 0 to 1; default: 0.7 (fast), 0.88 (exact).",
    ),
]
StabilityThresh = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        rich_help_panel=panels.PROPOSALS,
        help="The least stability of a mask, 0 to 1; default: 0.7 (fast), 0.95 (exact).",
    ),
]


def proposal_settings(
    proposals: Proposals,
    points_per_side: int | None = None,
    max_prompts: int | None = None,
    crop_layers: int = 0,
    pred_iou_thresh: float | None = None,
    stability_thresh: float | None = None,
) -> AnySettings:
    """The settings that the options give; what is None has the default of its mode.

    Raises:
        UsageError: an option of the other mode, or a value that makes no sense.
    """
    from gem_label.sam.fast import FastSettings
    from gem_label.sam.proposals import ProposalSettings

    shared: dict[str, Any] = {
        "points_per_side": points_per_side,
        "pred_iou_thresh": pred_iou_thresh,
        "stability_score_thresh": stability_thresh,
    }
    given = {name: value for name, value in shared.items() if value is not None}
    if proposals is Proposals.fast:
        if crop_layers:
            raise UsageError("--crop-layers needs --proposals exact: fast looks at the whole photo alone")
        return FastSettings(**given | ({} if max_prompts is None else {"max_prompts": max_prompts}))
    if max_prompts is not None:
        raise UsageError("--max-prompts needs --proposals fast: exact asks about every point of its grid")
    return ProposalSettings(crop_n_layers=crop_layers, **given)


def resolve_device(device: Device) -> str:
    """The torch device: "cpu" or "cuda"; see `gem_label.devices.pick_device`."""
    from gem_label.devices import pick_device

    return str(pick_device(device.value))
