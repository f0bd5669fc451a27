"""New words for an existing run, with a preview."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import GemLabelError
from gem_label.labeling import Thresholds
from gem_label.labeling.negatives import Wanted
from gem_label.phrases import quoted
from gem_label.plugin.base import Result, SteppedOperator
from gem_label.plugin.decide import required_field
from gem_label.plugin.encoders import text_encoder
from gem_label.plugin.forms import (
    add_mask_field,
    add_min_score,
    add_negative_words,
    add_words,
    has_words,
    problem,
    read_min_score,
    read_negatives,
    read_words,
    read_words_per_photo,
    titled,
)
from gem_label.plugin.targets import photos_selected
from gem_label.progress import Progress
from gem_label.review.storage.fields import run_of
from gem_label.review.tasks.relabeling import LabelChange, field_thresholds, preview_labels, relabel_dataset
from gem_label.runs import Run
from gem_label.tables import markdown_cell
from gem_label.vocabulary import Vocabulary

PREVIEW_PHOTOS = 20
"""The preview is about the selected photos, or the first so many of the view: about what the grid shows."""


class Relabel(SteppedOperator):
    """New words for an existing run: no photo is opened, no vision model runs."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name, label and when the form is asked for."""
        return foo.OperatorConfig(
            name="relabel",
            label="GEM-Label: Relabel with other words",
            description="Give all masks new labels in seconds, with a preview; decided masks stay as they are",
            icon="translate",
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
        )

    def resolve_input(self, ctx: Any) -> types.Property:
        """Field, words, threshold, and what would change on the current page."""
        form = types.Object()
        field = add_mask_field(form, ctx)
        if field:
            try:
                run = run_of(ctx.dataset, field)
            except GemLabelError as error:
                problem(form, "no_run", str(error))
                return titled(form, "Relabel with other words", "Relabel")
            add_words(form, ctx, default=words_as_text(run.vocabulary))
            add_negative_words(form, ctx, default_negatives(run), run.vocabulary.negatives)
            if run.manifest["labeling"]["words_per_image"] and not ctx.params.get("words_field"):
                text = (
                    "The run was made with words per photo, which it does not keep: choose their field again."
                )
                form.view("words_again", types.Warning(label=text))
            add_min_score(form, ctx, self._thresholds(ctx, field, run), lambda: self._words(ctx, run).classes)
            if not any(each.invalid for each in form.properties.values()):
                self._preview(form, ctx, field, run)
        return titled(form, "Relabel with other words", "Relabel")

    def _words(self, ctx: Any, run: Run) -> Vocabulary:
        """The words of the form, which begins with those of the run."""
        return read_words(ctx) if has_words(ctx) else replace(run.vocabulary, negatives=())

    def _negatives(self, ctx: Any, run: Run) -> Wanted:
        """The negative words of the form, which begins with those of the run."""
        default = default_negatives(run)
        is_own = ctx.params.get("negatives", default) == "words"
        if is_own and "negative_words" not in ctx.params:
            return list(run.vocabulary.negatives)
        return read_negatives(ctx, default)

    def _thresholds(self, ctx: Any, field: str, run: Run) -> Thresholds:
        try:
            classes = self._words(ctx, run).classes
        except GemLabelError:  # the words' own field says so
            classes = run.vocabulary.classes
        return field_thresholds(ctx.dataset, field, classes)

    def _preview(self, form: types.Object, ctx: Any, field: str, run: Run) -> None:
        try:
            changes = self._changes(ctx, field, run)
        except GemLabelError as error:
            problem(form, "no_preview", str(error))
            return
        form.md(preview_text(changes), name="preview")

    def _changes(self, ctx: Any, field: str, run: Run) -> list[LabelChange]:
        photos = ctx.dataset.select(ctx.selected) if photos_selected(ctx) else ctx.view
        paths = photos[:PREVIEW_PHOTOS].values("filepath")
        vocabulary = self._words(ctx, run)
        negatives = self._negatives(ctx, run)
        words = read_words_per_photo(ctx, vocabulary)
        return preview_labels(
            ctx.dataset, field, paths, vocabulary, text_encoder(run), negatives, read_min_score(ctx), words
        )

    def steps(self, ctx: Any) -> Generator[Progress, None, Result]:
        """Encode the words, relabel the run, bring the labels into the dataset."""
        field = required_field(ctx)
        run = run_of(ctx.dataset, field)
        vocabulary, negatives, min_score = read_words(ctx), read_negatives(ctx), read_min_score(ctx)
        words = read_words_per_photo(ctx, vocabulary)
        yield Progress(0, 3, "loading the text encoder")
        report = yield from relabel_dataset(
            ctx.dataset, field, vocabulary, text_encoder(run), negatives, min_score, words
        )
        hidden = f" and {report.less_likely} less likely ones" if report.less_likely else ""
        stay = f"; {report.decided} decided masks stay as they are" if report.decided else ""
        return {
            "message": f"{report.detections} masks{hidden} in {report.field!r} with {len(vocabulary.classes)} "
            f"words{stay}",
            "masks": report.detections,
            "less_likely": report.less_likely,
            "decided": report.decided,
        }

    def resolve_output(self, ctx: Any) -> types.Property:
        """What was done."""
        form = types.Object()
        form.str("message", label="Done")
        return types.Property(form)


def default_negatives(run: Run) -> str:
    """What the form begins with, so that it gives the words that the run has: "auto", "none" or "words"."""
    try:
        chosen = text_encoder(run).prepare(replace(run.vocabulary, negatives=()))
    except GemLabelError:  # the preview says so
        return "auto"
    if chosen.negatives == run.vocabulary.negatives:
        return "auto"
    return "words" if run.vocabulary.negatives else "none"


def words_as_text(vocabulary: Vocabulary) -> str:
    """A vocabulary as one types it: plain classes in a line, the others on lines of their own."""
    plain, lines = [], []
    entries = zip_longest(vocabulary.classes, vocabulary.phrasings, vocabulary.own_negatives, fillvalue=())
    for name, phrases, against in entries:
        words = _listed(phrases) if phrases == (name,) else f"{_listed(phrases)} => {quoted(str(name))}"
        if phrases == (name,) and not against:
            plain.append(words)
        else:
            lines.append(f"{words} ! {_listed(against)}" if against else words)
    return "\n".join([*([", ".join(plain)] if plain else []), *lines])


def _listed(words: Sequence[str]) -> str:
    return ", ".join(map(quoted, words))


def preview_text(changes: list[LabelChange]) -> str:
    """A table of what a relabel would change, as Markdown."""
    photos = len({change.image for change in changes})
    moves = Counter((change.old, change.new) for change in changes if change.old != change.new)
    same = len(changes) - moves.total()
    decided = sum(change.decided for change in changes)
    lines = [f"**Preview on {photos} photos:** {moves.total()} masks change, {same} stay"]
    if decided:
        lines[0] += f" ({decided} of them because they are decided)"
    if moves:
        lines += ["", "| now | then | masks |", "|---|---|---:|"]
        lines += [
            f"| {markdown_cell(old or '(not kept)')} | {markdown_cell(new or '(not kept)')} | {n} |"
            for (old, new), n in moves.most_common(12)
        ]
        if len(moves) > 12:
            lines.append(f"| ... | {len(moves) - 12} more | |")
    return "\n".join(lines)
