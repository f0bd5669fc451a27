"""New words for an existing run, with a preview."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.errors import GemLabelError
from gem_label.review.fields import run_of
from gem_label.review.progress import Progress
from gem_label.review.relabeling import LabelChange, preview_labels, relabel_dataset
from gem_label.runs import Run
from gem_label.vocabulary import Vocabulary

from .base import Result, SteppedOperator
from .decide import required_field
from .encoders import text_encoder
from .forms import (
    add_mask_field,
    add_words,
    has_words,
    photos_selected,
    problem,
    read_words,
    read_words_per_photo,
    titled,
)

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
            if run.manifest["labeling"]["words_per_image"] and not ctx.params.get("words_field"):
                text = (
                    "The run was made with words per photo, which it does not keep: choose their field again."
                )
                form.view("words_again", types.Warning(label=text))
            if not any(each.invalid for each in form.properties.values()):
                self._preview(form, ctx, field, run)
            form.float(
                "min_score",
                default=run.label_settings.min_score,
                min=0,
                max=1,
                label="Score a label must have",
                description="The probability of the class",
            )
        return titled(form, "Relabel with other words", "Relabel")

    def _preview(self, form: types.Object, ctx: Any, field: str, run: Run) -> None:
        try:
            vocabulary = read_words(ctx) if has_words(ctx) else run.vocabulary
            changes = self._changes(ctx, field, run, vocabulary)
        except GemLabelError as error:
            problem(form, "no_preview", str(error))
            return
        form.md(preview_text(changes), name="preview")

    def _changes(self, ctx: Any, field: str, run: Run, vocabulary: Vocabulary) -> list[LabelChange]:
        photos = ctx.dataset.select(ctx.selected) if photos_selected(ctx) else ctx.view
        paths = photos[:PREVIEW_PHOTOS].values("filepath")
        settings = run.label_settings
        if ctx.params.get("min_score") is not None:
            settings = replace(settings, min_score=ctx.params["min_score"])
        text = text_encoder(run).encode(vocabulary.phrases)
        words = read_words_per_photo(ctx, vocabulary)
        return preview_labels(ctx.dataset, field, paths, vocabulary, text, settings, words)

    def steps(self, ctx: Any) -> Generator[Progress, None, Result]:
        """Encode the words, relabel the run, bring the labels into the dataset."""
        field = required_field(ctx)
        run = run_of(ctx.dataset, field)
        vocabulary = read_words(ctx)
        words = read_words_per_photo(ctx, vocabulary)
        yield Progress(0, 3, "encoding the words")
        text = text_encoder(run).encode(vocabulary.phrases)
        report = yield from relabel_dataset(
            ctx.dataset, field, vocabulary, text, ctx.params.get("min_score"), words
        )
        stay = f"; {report.decided} decided masks stay as they are" if report.decided else ""
        return {
            "message": f"{report.detections} masks in {field!r} with {len(vocabulary.classes)} words{stay}",
            "masks": report.detections,
            "decided": report.decided,
        }

    def resolve_output(self, ctx: Any) -> types.Property:
        """What was done."""
        form = types.Object()
        form.str("message", label="Done")
        return types.Property(form)


def words_as_text(vocabulary: Vocabulary) -> str:
    """A vocabulary as one types it."""
    plain = [
        name
        for name, phrases in zip(vocabulary.classes, vocabulary.phrasings, strict=True)
        if phrases == (name,)
    ]
    mapped = [
        f"{', '.join(phrases)} => {name}"
        for name, phrases in zip(vocabulary.classes, vocabulary.phrasings, strict=True)
        if phrases != (name,)
    ]
    quoted = ", ".join(f'"{name}"' if "," in name else name for name in plain)
    return "\n".join([*([quoted] if plain else []), *mapped])


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
            f"| {old or '(not kept)'} | {new or '(not kept)'} | {n} |"
            for (old, new), n in moves.most_common(12)
        ]
        if len(moves) > 12:
            lines.append(f"| ... | {len(moves) - 12} more | |")
    return "\n".join(lines)
