"""Parts of forms, and what they mean: the field, the words, negative words and thresholds."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

from fiftyone.operators import types

from gem_label.errors import GemLabelError, UsageError
from gem_label.labeling import Thresholds
from gem_label.labeling.negatives import NEGATIVES as DEFAULT_NEGATIVES
from gem_label.labeling.negatives import Wanted
from gem_label.phrases import as_words
from gem_label.plugin.paths import allowed_file
from gem_label.review.storage.fields import mask_fields
from gem_label.review.storage.internals import is_patches
from gem_label.review.tasks.labeling import dataset_words, word_fields, words_of_field
from gem_label.text_files import decode_text
from gem_label.vocabulary import Vocabulary
from gem_label.words import WordsPerImage


def refuse(form: types.Object, name: str, check: Callable[[], Any]) -> None:
    """Mark a property of a form as wrong, with the library's own reason, when a check fails."""
    try:
        check()
    except GemLabelError as error:
        mark_wrong(form, name, str(error))


def mark_wrong(form: types.Object, name: str, reason: str) -> None:
    """Mark a property of a form as wrong; keeps the button off."""
    form.properties[name].invalid = True
    form.properties[name].error_message = reason


def check_file(form: types.Object, ctx: Any, name: str, or_folder: bool = False) -> None:
    """Mark the path that was typed as wrong when there is no such file (or folder), or it may not be read."""
    if ctx.params.get(name):
        refuse(form, name, lambda: allowed_file(ctx, ctx.params[name], or_folder))


def notice(form: types.Object, name: str, text: str, description: str = "") -> None:
    """A few lines to read."""
    form.view(name, types.Notice(label=text, description=description or None))


def problem(form: types.Object, name: str, text: str) -> None:
    """Something that has to be done before the form can be used; keeps the button off."""
    form.view(name, types.Error(label=text))
    mark_wrong(form, name, text)


def wait_for(form: types.Object, name: str, reason: str) -> None:
    """Keep the button off, without a red line, until something is typed or chosen; Python gets the reason."""
    form.str(name, view=types.HiddenView())
    mark_wrong(form, name, reason)


def titled(form: types.Object, label: str, button: str) -> types.Property:
    """The finished form."""
    return types.Property(form, view=types.PromptView(label=label, submit_button_label=button))


def add_mask_field(form: types.Object, ctx: Any) -> str | None:
    """Choose a field of masks, where there are several.

    Returns:
        The field that is chosen; None when there is none: then the form says so.
    """
    fields = mask_fields(ctx.dataset)
    if not fields:
        problem(form, "no_field", "this dataset has no masks yet: label it first")
        return None
    chosen = chosen_field(ctx)
    choices = types.DropdownView()
    for field in fields:
        choices.add_choice(field, label=field)
    form.enum(
        "field",
        fields,
        default=chosen if chosen in fields else fields[0],
        label="Field",
        description="The label field that holds the masks",
        view=choices if len(fields) > 1 else types.HiddenView(),
    )
    return chosen


def chosen_field(ctx: Any) -> str | None:
    """The field that a form's answers name, by default that of the selected masks, or else the first of a run."""
    if ctx.params.get("field"):
        return str(ctx.params["field"])
    fields = mask_fields(ctx.dataset)
    selected = [label.get("field") for label in ctx.selected_labels or []]
    selected.append(
        getattr(ctx.view, "patches_field", None) if is_patches(ctx.view) and ctx.selected else None
    )
    return next((field for field in selected if field in fields), fields[0] if fields else None)


# --- words -------------------------------------------------------------------------------------------------------


def add_words(form: types.Object, ctx: Any, default: str = "") -> None:
    """Ask for the classes (typed, from a file, or those the dataset has), background words and words per photo."""
    sources = types.RadioGroup(orientation="horizontal")
    sources.add_choice("typed", label="Typed")
    sources.add_choice("file", label="From a file")
    known = dataset_words(ctx.dataset, ctx.params.get("field"))
    if known:
        sources.add_choice("dataset", label=f"The dataset's {len(known)} classes")
    form.enum("words_from", sources.values(), default="typed", label="Words", view=sources)
    source = ctx.params.get("words_from", "typed")
    if source == "typed":
        form.str(
            "words",
            default=default or None,
            required=True,
            label="Classes",
            description="With commas between; one class of several phrasings: e-scooter, electric scooter => scooter",
            view=types.TextFieldView(multiline=True, rows=3, placeholder="cat, dog"),
        )
        if ctx.params.get("words"):
            refuse(form, "words", lambda: read_words(ctx))
    elif source == "file":
        form.define_property(
            "words_file",
            types.UploadedFile(),
            label="Classes file",
            required=True,
            description="Text: a class or 'phrasing, phrasing => class' a line, # for comments",
            view=types.FileView(types=".txt"),
        )
        if ctx.params.get("words_file"):
            refuse(form, "words_file", lambda: read_words(ctx))
    else:
        form.md(f"`{', '.join(known)}`", name="known_words")
    form.str(
        "background",
        label="Background words",
        description="Words that compete with the classes and never become a label",
        view=types.TextFieldView(placeholder="sky, wall"),
    )
    if ctx.params.get("background") and has_words(ctx):
        refuse(form, "background", lambda: read_words(ctx))
    fields = word_fields(ctx.dataset)
    if fields:
        choices = types.DropdownView()
        for field in fields:
            choices.add_choice(field, label=field)
        form.enum(
            "words_field",
            list(fields),
            label="Known words per photo",
            description="A field of classifications: each photo may only have its own words",
            view=choices,
        )
        if ctx.params.get("words_field") and has_words(ctx):
            refuse(form, "words_field", lambda: read_words_per_photo(ctx, read_words(ctx)))


def has_words(ctx: Any) -> bool:
    """Whether the answers give words already."""
    return bool(ctx.params.get("words") or ctx.params.get("words_file") or _from(ctx) == "dataset")


def _from(ctx: Any) -> str:
    return ctx.params.get("words_from", "typed")


def read_words(ctx: Any) -> Vocabulary:
    """The vocabulary that a form's answers give.

    Raises:
        UsageError: they make none.
    """
    background = ctx.params.get("background") or ""
    if _from(ctx) == "dataset":
        words = dataset_words(ctx.dataset, ctx.params.get("field"))
        return Vocabulary.from_words(words, background)
    if _from(ctx) == "file":
        content = (ctx.params.get("words_file") or {}).get("content") or ""
        data = base64.b64decode(content.rpartition(",")[2])
        return Vocabulary.parse(decode_text(data, "the file of words"), background)
    typed = ctx.params.get("words") or ""
    return Vocabulary.parse(typed if isinstance(typed, str) else "\n".join(typed), background)


def read_words_per_photo(ctx: Any, vocabulary: Vocabulary) -> WordsPerImage | None:
    """The words per photo that a form's answers give, or None.

    Raises:
        UsageError: the field has a word that the vocabulary lacks.
    """
    field = ctx.params.get("words_field")
    if not field:
        return None
    words = words_of_field(ctx.dataset, field)
    words.check(vocabulary)
    return words


# --- negative words and thresholds ---------------------------------------------------------------------------------

NEGATIVES = {
    "auto": "Automatic",
    "none": "None",
    "number": "A number of them",
    "words": "Own words",
}


def add_negative_words(
    form: types.Object, ctx: Any, default: str = "auto", words: Sequence[str] = ()
) -> None:
    """Ask which words compete and are never a label.

    Args:
        form: the form.
        ctx: its context.
        default: one of `NEGATIVES`.
        words: what "words" begins with.
    """
    choices = types.RadioGroup(orientation="horizontal")
    for name, label in NEGATIVES.items():
        choices.add_choice(name, label=label)
    form.enum(
        "negatives",
        choices.values(),
        default=default,
        label="Negative words",
        description="Common words that compete with the classes and never become a label, so that other things get "
        f"none. Automatic: {DEFAULT_NEGATIVES} of a lexicon, or none where the classes cover all of a scene",
        view=choices,
    )
    source = ctx.params.get("negatives", default)
    if source == "number":
        form.int("negative_count", default=DEFAULT_NEGATIVES, min=0, label="How many negative words")
    elif source == "words":
        form.str(
            "negative_words",
            default=", ".join(words) or None,
            required=True,
            label="Own negative words",
            description="With commas between; words that are related to a class are left out",
            view=types.TextFieldView(multiline=True, rows=3, placeholder="sky, wall, grass"),
        )
        if ctx.params.get("negative_words") is not None:
            refuse(form, "negative_words", lambda: read_negatives(ctx))


def read_negatives(ctx: Any, default: str = "auto") -> Wanted:
    """The negative words that a form's answers give.

    Args:
        ctx: the context, with `negatives`, one of `NEGATIVES`, and `negative_count` or `negative_words`.
        default: what counts where `negatives` is not given.

    Raises:
        UsageError: they make none.
    """
    given = ctx.params.get("negatives", default)
    if given == "number":
        return int(ctx.params.get("negative_count", DEFAULT_NEGATIVES))
    if given != "words":
        return "none" if given == "none" else "auto"
    words = list(as_words(ctx.params.get("negative_words") or ""))
    if not words:
        raise UsageError("give negative words, or choose none")
    return words


def add_min_score(
    form: types.Object, ctx: Any, default: Thresholds, classes: Callable[[], Sequence[str]]
) -> None:
    """Ask for the threshold, one for all classes or several.

    Args:
        form: the form.
        ctx: its context.
        default: what the field begins with.
        classes: gives the classes, to check the names.
    """
    given = ctx.params.get("min_score")
    ask = form.float if isinstance(given, int | float) else form.str  # Python may give a number
    ask(
        "min_score",
        default=str(default) if ask == form.str else given,
        label="Score a label must have",
        description="The estimated probability that the label is right, 0 to 1; 0.5, cat=0.4 for single classes",
    )
    if given not in (None, ""):
        refuse(form, "min_score", lambda: Thresholds.of(given).by_class(classes()))


def read_min_score(ctx: Any) -> Thresholds | None:
    """The threshold that a form's answers give; None where the field is empty.

    Raises:
        UsageError: no scores.
    """
    given = ctx.params.get("min_score")
    return None if given in (None, "") else Thresholds.of(given)
