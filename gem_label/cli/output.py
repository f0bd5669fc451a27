"""What commands print besides their results: notes, summaries, progress."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from gem_label.clip.text import TextEncoder
    from gem_label.labeling.negatives import Wanted
    from gem_label.progress import Progress
    from gem_label.runs import Run
    from gem_label.runs.summary import RunSummary
    from gem_label.vocabulary import Vocabulary

SHOWN_WORDS = 10  # in a note
MISSING_COLUMNS = 56  # for the names of classes without a label

Result = TypeVar("Result")


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


def note_changed_photos(run: Run) -> None:
    """Say on stderr how many photos were replaced after they were labeled."""
    from gem_label.runs.changed_photos import note_of_changed

    if note := note_of_changed(run.photos()):
        print(f"note: {note}", file=sys.stderr)


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
