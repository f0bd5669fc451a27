"""Commands on a run that is there: `relabel`, `search`; neither opens a photo or runs a vision model."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gem_label.cli import options, output, panels
from gem_label.cli.options import RunPlace
from gem_label.errors import UsageError

if TYPE_CHECKING:
    from gem_label.learning.learned import Learned


class HitFormat(StrEnum):
    """How `search` prints what it finds."""

    tsv = "tsv"
    jsonl = "jsonl"


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def finish(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run that several processes label: a folder, or an address."),
    ],
) -> None:
    """Count what several processes have labeled.

    The last of them does it by itself. Exit code 1 when photos are still to be labeled: the line says which.

    \b
    Example: gem-label finish RUN
    """
    from gem_label.runs import open_run
    from gem_label.runs.shared import SharedRun
    from gem_label.runs.summary import summarize_run
    from gem_label.stores import open_store

    SharedRun.open(open_store(run)).finish()
    output.print_summary(run, summarize_run(open_run(run)))


def relabel(
    run: RunPlace,
    classes: options.Classes = None,
    classes_file: options.ClassesFile = None,
    background: options.Background = "",
    background_words: options.BackgroundWords = None,
    words_per_image: options.WordsPerImage = None,
    image_top_k: options.ImageTopK = None,
    negatives: options.Negatives = "auto",
    min_score: options.MinScore = None,
    purpose: options.For = None,
    overlaps: Annotated[
        bool | None,
        typer.Option(
            "--overlaps/--no-overlaps",
            rich_help_panel=panels.FILTERING,
            help="Also keep masks that repeat a better one; default: as in RUN.",
        ),
    ] = None,
    mask_tokens: options.MaskTokens = None,
    learned: Annotated[
        str | None,
        typer.Option(
            metavar="none|FILE",
            rich_help_panel=panels.VOCABULARY,
            help="Apply what was learned: from a file, or nothing; default: as in RUN.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN2",
            rich_help_panel=panels.INPUT_OUTPUT,
            help="Write a new run; default: update RUN in place.",
        ),
    ] = None,
) -> None:
    """Label a run with new words; no photo is read.

    No photo is opened and no vision model runs. Thresholds that are not given stay as they are in the run, and what
    it learned does too.

    \b
    Example: gem-label relabel RUN --classes "cat; e-scooter, electric scooter => scooter"
    """
    from dataclasses import replace

    from gem_label.labeler import text_encoder_of
    from gem_label.runs import open_run, relabel_run
    from gem_label.runs.learned_file import read_learned
    from gem_label.runs.summary import summarize_run
    from gem_label.words import WordsPerImage

    vocabulary = options.read_vocabulary(classes, classes_file, background)
    vocabulary = options.add_background(vocabulary, background_words)
    wanted = options.read_negatives(negatives)
    min_scores = options.asked_thresholds(min_score, purpose)
    old = open_run(run)
    words = None if words_per_image is None else WordsPerImage.from_csv(words_per_image)
    if words is None and old.manifest["labeling"]["words_per_image"]:
        print("note: words per photo are not kept in a run: give --words-per-image again", file=sys.stderr)
    settings = old.label_settings
    if min_scores is None:  # those of classes that are gone would be for nothing
        min_scores = settings.min_score.among(vocabulary.classes)
    settings = replace(settings, min_score=min_scores)
    if overlaps is not None:
        settings = replace(settings, overlaps=overlaps)
    if image_top_k is not None:
        settings = replace(settings, image_top_k=image_top_k or None)
    if mask_tokens is not None:
        if not old.has_mask_tokens:
            raise UsageError(f"{run} holds no mask tokens: label the photos again with --mask-tokens")
        settings = replace(settings, token_share=mask_tokens)
    encoder = text_encoder_of(old)
    output.note_unknown_words(encoder, vocabulary.phrases)
    output.note_demo_clip(encoder, vocabulary.phrases)
    vocabulary = encoder.prepare(vocabulary, wanted)
    output.note_negatives(vocabulary, wanted)
    if not old.has_surrounds:
        print(
            f"note: {run} was made by an older version and holds no surround embeddings: scores rest on the masks "
            "alone; label the photos again for better ones",
            file=sys.stderr,
        )
    text = encoder.encode(vocabulary.phrases)
    using: Learned | Literal["none"] | None = None
    if learned is not None:
        using = "none" if learned == "none" else read_learned(learned)
    new = relabel_run(old, vocabulary, text, label_settings=settings, words=words, out=out, learned=using)
    output.print_summary(new.place, summarize_run(new))


def search(
    run: RunPlace,
    text: Annotated[str, typer.Argument(help="A word or phrase.")],
    top: Annotated[int, typer.Option(min=1, help="How many masks to print.")] = 50,
    format: Annotated[
        HitFormat, typer.Option(help="tsv: values separated by tabs; jsonl: a JSON object on each line.")
    ] = HitFormat.tsv,
) -> None:
    """Rank all masks of a run by a phrase.

    A mask ranks by how much more it is like the phrase than what is around it. Prints similarity, mask id, label, box
    (x,y,width,height) and photo, with tabs between. Tabs, line breaks and backslashes in names are written \\t, \\n,
    \\r and \\\\. With --format jsonl, each line is a JSON object with all that is known about the mask.

    \b
    Example: gem-label search RUN "broken window" --top 20
    """
    from dataclasses import asdict

    from gem_label.checks import check_phrase
    from gem_label.labeler import text_encoder_of
    from gem_label.runs import open_run, search_run

    check_phrase(text)
    opened = open_run(run)
    encoder = text_encoder_of(opened)
    output.note_unknown_words(encoder, [text])
    hits = search_run(opened, encoder.encode([text]), top)
    if format is HitFormat.jsonl:
        for hit in hits:
            print(json.dumps(asdict(hit), ensure_ascii=False))
        return
    print("similarity\tmask_id\tlabel\tbbox\timage")
    for hit in hits:
        box = ",".join(f"{side:g}" for side in hit.bbox)
        names = (hit.mask_id, hit.label or "-", box, hit.image)
        print("\t".join([f"{hit.similarity:.4f}", *(name.translate(_ESCAPES) for name in names)]))
