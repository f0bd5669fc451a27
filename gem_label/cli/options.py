"""Options that several commands share, and what they mean."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Generator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from gem_label.errors import UsageError
from gem_label.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gem_label.clip.text import TextEncoder
    from gem_label.labeling.negatives import Wanted
    from gem_label.labeling.settings import Thresholds
    from gem_label.progress import Progress
    from gem_label.runs.summary import RunSummary
    from gem_label.sam.proposals import AnySettings
    from gem_label.vocabulary import Vocabulary

DEFAULT_CLIP = "ViT-B-16/openai"
DEFAULT_SAM = "mobile_sam"
SHOWN_WORDS = 10  # in a note
MISSING_COLUMNS = 56  # for the names of classes without a label
INTERRUPTED = 130  # what shells report for Ctrl-C

Result = TypeVar("Result")

Classes = Annotated[
    str | None,
    typer.Option(
        help="Words, with commas between; 'e-scooter, electric scooter => scooter; cat' maps phrasings."
    ),
]
ClassesFile = Annotated[
    Path | None, typer.Option(help="The same in a text file, entries on lines of their own, # for comments.")
]
Background = Annotated[
    str,
    typer.Option(help="Words that compete with the classes and never become a label, with commas between."),
]
MinScore = Annotated[
    str | None,
    typer.Option(
        metavar="S", help="Keep labels with at least this score, 0 to 1; '0.5, cat=0.4' for single classes."
    ),
]
Negatives = Annotated[
    str,
    typer.Option(
        metavar="auto|none|N|FILE",
        help="Words that compete and are never a label: of the lexicon (auto, or N of them), or of a text file.",
    ),
]
Overlaps = Annotated[bool, typer.Option("--overlaps", help="Keep masks that repeat a better one, too.")]


class Purpose(StrEnum):
    """What labels are for, which decides over the threshold."""

    training = "training"
    review = "review"


For = Annotated[
    Purpose | None,
    typer.Option("--for", help="Threshold by purpose: training keeps more labels, review surer ones."),
]
WordsPerImage = Annotated[
    Path | None,
    typer.Option(help="CSV with the columns image and words (';' between): the classes of each photo."),
]
ImageTopK = Annotated[
    int | None,
    typer.Option(min=0, help="Per photo, only the K classes most similar to the whole photo; 0: all."),
]
LearnedFile = Annotated[
    Path | None,
    typer.Option("--learned", metavar="FILE", help="What `gem-label learn` found: RUN/learned.json."),
]
ExamplesFile = Annotated[
    Path | None,
    typer.Option(
        "--examples",
        metavar="FILE",
        help="Annotated photos beside this file (COCO and others): their classes look like this, with or without "
        "a word among --classes.",
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


DeviceOption = Annotated[Device, typer.Option(help="auto takes the GPU when there is one.")]
PrecisionOption = Annotated[
    Precision,
    typer.Option(help="What the image encoders compute in; bfloat16 is faster where the hardware has it."),
]

ShortSide = Annotated[
    int | None,
    typer.Option(
        min=16, help="Pixels of a photo's shorter side as CLIP sees it: the model's, 448 as a rule."
    ),
]


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


def note_negatives(vocabulary: Vocabulary, wanted: Wanted) -> None:
    """Say on stderr when no negative words take part although they were not ruled out."""
    if wanted == "auto" and not vocabulary.negatives:
        print(
            "note: no negative words take part: the classes cover the scene, or all that the model knows",
            file=sys.stderr,
        )


def note_unknown_words(encoder: TextEncoder, phrases: Sequence[str]) -> None:
    """Say on stderr, once for all of them, which words the text encoder cannot know: those of other scripts."""
    from gem_label.tables import first_names

    unknown = encoder.unknown_words(phrases)
    if unknown:
        count = f"{len(unknown)} words, such as " if len(unknown) > SHOWN_WORDS else ""
        print(
            f"note: the text encoder cannot know {count}{first_names(unknown, SHOWN_WORDS)}: its tokenizer has only "
            "single letters or bytes for them; use English words, or a multilingual CLIP",
            file=sys.stderr,
        )


def note_demo_clip(encoder: TextEncoder, phrases: Sequence[str]) -> None:
    """Say once that the demo model knows drawings of few words, and which of the words it never saw."""
    known = encoder.known_words
    if known is None:
        return
    from gem_label.tables import first_names

    unseen = [phrase for phrase in dict.fromkeys(phrases) if phrase.casefold() not in known]
    never = f"; it never saw {first_names(unseen, SHOWN_WORDS)}" if unseen else ""
    print(
        f"note: the demo CLIP is for trying things out: it knows drawings of {len(known)} words, and its labels on "
        f"photographs mean little{never}",
        file=sys.stderr,
    )


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
    typer.Option(help="fast: prompts where they pay, finds more; exact: as SamAutomaticMaskGenerator."),
]
PointsPerSide = Annotated[
    int | None,
    typer.Option(help="Prompts along each side of the first grid: 8; for exact of the only one: 32."),
]
MaxPrompts = Annotated[
    int | None, typer.Option(help="fast: most prompts for a photo, 192 unless given; more find more.")
]
CropLayers = Annotated[int, typer.Option(help="exact: layers of crops to look into as well.")]
PredIouThresh = Annotated[
    float | None,
    typer.Option(help="SAM's own estimate a mask must pass, 0 to 1: 0.7; for exact 0.88."),
]
StabilityThresh = Annotated[
    float | None, typer.Option(help="Stability a mask must have, 0 to 1: 0.7; for exact 0.95.")
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
    """The torch device: "cpu" or "cuda".

    Raises:
        UsageError: cuda is asked for where torch finds none.
    """
    import torch

    if device is Device.cuda and not torch.cuda.is_available():
        raise UsageError("torch finds no CUDA device: use --device cpu or auto")
    return "cuda" if device is not Device.cpu and torch.cuda.is_available() else "cpu"


def print_summary(place: object, summary: RunSummary) -> None:
    """The result of a command that labels: totals, then the labels of each class.

    Args:
        place: the run's path or address.
        summary: of the run.
    """
    from gem_label.tables import columns, first_names, shorten

    print(f"{place}")
    totals = {
        "photos": summary.images,
        "failed": summary.failed,
        "masks": summary.masks,
        "kept": summary.kept,
    }
    for name, count in totals.items():
        print(f"{name:<6} {count:>8}")
    found = [each for each in summary.classes if each.masks]
    missing = [each.name for each in summary.classes if not each.masks]
    width = max([5, *(columns(shorten(each.name)) for each in found)])
    if found:
        print(f"\n{'class':<{width}} {'kept':>8} {'photos':>8}  score: median, lowest to highest")
    for each in found:
        name = shorten(each.name)
        scores = f"{each.median:.2f}, {each.lowest:.2f} to {each.highest:.2f}"
        print(f"{name}{' ' * (width - columns(name))} {each.masks:>8} {each.images:>8}  {scores}")
    if missing:
        count = len(missing)
        named = [n for n in range(count + 1) if columns(first_names(missing, n)) <= MISSING_COLUMNS]
        print(f"without a label: {count}: {first_names(missing, max(1, named[-1]))}")


def print_next_steps(place: object) -> None:
    """What to do with a run that is labeled, as commands to paste; to stderr, since it is no result."""
    run = shlex.quote(str(place))
    steps = {
        "look at it": f"gem-label show {run}",
        "review it": f"gem-label push {run} --dataset NAME && gem-label review NAME",
        "other words": f"gem-label relabel {run} --classes ...",
        "COCO": f"gem-label export {run} --out annotations.json",
    }
    print("", *(f"{what:<12} {command}" for what, command in steps.items()), sep="\n", file=sys.stderr)


def with_bar(work: Generator[Progress, None, Result], name: str) -> Result:
    """Run a generator to its end behind a progress bar."""
    from tqdm import tqdm

    with tqdm(unit="photo", desc=name, file=sys.stderr, disable=None, leave=False) as bar:
        while True:
            try:
                step = next(work)
            except StopIteration as end:
                return end.value
            bar.total = step.total
            bar.update(step.done - bar.n)
