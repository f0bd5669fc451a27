"""`gem-label learn`: a run learns from reviewed photos."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gem_label.cli import options, output
from gem_label.cli.options import RunPlace
from gem_label.errors import UsageError

if TYPE_CHECKING:
    from gem_label.clip.text import TextEncoder
    from gem_label.labeling.settings import Thresholds
    from gem_label.metrics.labels.curves import Counts
    from gem_label.runs import Run
    from gem_label.runs.learn import LearnReport
    from gem_label.words import WordsPerImage

SHOWN_MISTAKES = 20
SHOWN_CLASSES = 20


def learn(
    run: RunPlace,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Learn from decisions in this FiftyOne dataset.")
    ] = None,
    field: Annotated[str, typer.Option(help="Of the dataset: the field of masks.")] = "gem_label",
    annotations: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Learn from an annotation file; the photos that it lists count as reviewed in full for its classes.",
        ),
    ] = None,
    min_score: Annotated[
        str | None,
        typer.Option(
            metavar="S|best",
            help="Threshold of the new labels; best: the one with the highest F1 on the reviewed photos.",
        ),
    ] = None,
    words_per_image: options.WordsPerImage = None,
    out: Annotated[Path | None, typer.Option(help="Write a new run; default: update RUN in place.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be learned.")] = False,
) -> None:
    """Learn from reviewed photos, and relabel a run.

    No photo is opened and no vision model runs. What helps photos that it has not seen is used, nothing else. It is
    kept in RUN/learned.json, for `label --learned` and `relabel --learned`; `relabel --learned none` goes back.

    \b
    Example: gem-label learn RUN --dataset street
    """
    from gem_label.labeler import text_encoder_of
    from gem_label.runs import open_run
    from gem_label.runs.learn import learn_run
    from gem_label.runs.summary import summarize_run
    from gem_label.words import WordsPerImage

    if (dataset is None) == (annotations is None):
        raise UsageError("give what to learn from: either --dataset NAME or --annotations FILE")
    opened = open_run(run)
    words = None if words_per_image is None else WordsPerImage.from_csv(words_per_image)
    encoder = text_encoder_of(opened)
    if annotations is None:
        report = _from_dataset(dataset or "", field, opened, encoder, words)
    else:
        report = _from_annotations(annotations, opened, encoder, words)
    for line in report.left_out:
        print(f"note: left out: {line}", file=sys.stderr)
    print_report(report)
    thresholds = None if min_score is None else _thresholds(min_score, report)
    if dry_run:
        return
    if not report.teaches and opened.learned is None and out is None and thresholds is None:
        print("nothing is changed")
        return
    text = encoder.encode(report.vocabulary.phrases)
    new = learn_run(opened, report, text, words, out, thresholds)
    output.print_summary(new.place, summarize_run(new))


def _from_dataset(
    name: str, field: str, run: Run, encoder: TextEncoder, words: WordsPerImage | None
) -> LearnReport:
    """What decisions in a dataset teach."""
    from gem_label.review.database import open_dataset
    from gem_label.review.tasks.learning import learn_from_decisions

    return learn_from_decisions(open_dataset(name), field, encoder, run, words)


def _from_annotations(file: Path, run: Run, encoder: TextEncoder, words: WordsPerImage | None) -> LearnReport:
    """What annotated photos teach."""
    from gem_label.formats.reading import read_annotations
    from gem_label.runs.learn import learn_from_reviews
    from gem_label.runs.reviews import reviews_of
    from gem_label.weights import file_sha256

    source = {"annotations": file.name}
    if file.is_file():
        source["annotations_sha256"] = file_sha256(file)
    reviews = reviews_of(run, read_annotations(file), complete=True)
    text = encoder.encode(run.vocabulary.phrases)
    report = learn_from_reviews(run, reviews.photos, text, words, source)
    return replace(report, left_out=reviews.left_out)


def _thresholds(text: str, report: LearnReport) -> Thresholds:
    """The thresholds that --min-score gives.

    Raises:
        UsageError: it is no score, or there is no best one.
    """
    from gem_label.labeling.settings import Thresholds

    if text != "best":
        return Thresholds.of(text)
    if report.best is None:
        raise UsageError("the reviewed photos have too few things to choose a threshold on: give a score")
    return Thresholds(report.best.threshold)


def print_report(report: LearnReport) -> None:
    """What was learned, and how good it is."""
    from gem_label.evaluation.results import percent

    lesson = report.lesson
    numbers = lesson.validation
    print(
        f"{len(report.photos)} reviewed photos; labels of different things: {numbers.right:.0f} right, "
        f"{numbers.wrong:.0f} wrong"
    )
    if report.added.classes:
        print(f"classes that reviewers added: {', '.join(report.added.classes)}")
    for name, validation in (("calibration", numbers), ("words", lesson.word_validation)):
        print(f"{name}: {_outcome(validation)}")
    if lesson.word_validation.used:
        taught = lesson.word_validation.classes
        for known in taught[:SHOWN_CLASSES]:
            print(f"  {known.name}: {known.things} things")
        if len(taught) > SHOWN_CLASSES:
            print(f"  and {len(taught) - SHOWN_CLASSES} more")
    print("labels of the reviewed photos, each photo by what the others taught:")
    for name, counts in (("before", report.before), ("after", report.after)):
        print(f"  {name}: {_shares(counts)}")
    if report.best is not None:
        print(f"  best threshold: {report.best.threshold:g}, F1 {percent(report.best.f1)} (--min-score best)")
    if report.mistakes:
        print(f"decisions that look like mistakes: {len(report.mistakes)}")
    for each, mask_id in list(zip(report.mistakes, report.mistaken_masks, strict=True))[:SHOWN_MISTAKES]:
        what = (
            f"{each.label}, looks like {each.likelier}"
            if each.likelier is not None
            else f"not {each.label}, looks like one"
        )
        print(f"  {mask_id}: {what} ({each.probability:.2f})")


def _outcome(validation: Any) -> str:
    if validation.loss_before is None:
        return f"not learned: {validation.reason}"
    change = f"log-loss {validation.loss_before:.3f} -> {validation.loss_after:.3f} on photos it has not seen"
    if not validation.used:
        return f"not used: {validation.reason} ({change})"
    return f"used: {change}, {validation.gain:.1f} standard errors"


def _shares(counts: Counts) -> str:
    from gem_label.evaluation.results import percent

    names = ("precision", "recall", "f1")
    shares = ", ".join(f"{name} {percent(getattr(counts, name))}" for name in names)
    return f"{shares} ({counts.tp} right, {counts.fp} wrong, {counts.fn} missed)"
