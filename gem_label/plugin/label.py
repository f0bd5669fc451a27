"""Label the photos of a dataset with any words."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from gem_label.defaults import DEFAULT_CLIP, DEFAULT_SAM
from gem_label.errors import GemLabelError, UsageError
from gem_label.labeling import LabelSettings, Thresholds
from gem_label.plugin.base import Result, SteppedOperator, is_own_process
from gem_label.plugin.forms import (
    add_min_score,
    add_negative_words,
    add_words,
    mark_wrong,
    notice,
    read_min_score,
    read_negatives,
    read_words,
    read_words_per_photo,
    refuse,
    titled,
)
from gem_label.plugin.paths import allowed_path, allowed_run_folder
from gem_label.progress import Progress
from gem_label.review.storage.fields import check_field_name
from gem_label.review.storage.internals import is_patches
from gem_label.review.tasks.labeling import default_run_folder, label_dataset
from gem_label.runs import open_run
from gem_label.weights import WEIGHTS, list_weights, pull_weights

DELEGATED_OVER = 20
"""More photos than that are delegated unless one chooses otherwise."""

CLIPS = (DEFAULT_CLIP, "ViT-B-16/laion2b_s34b_b88k", "ViT-L-14/openai", "ViT-B-32/openai", "demo")
DEFAULTS = {
    "field": "gem_label",
    "clip": DEFAULT_CLIP,
    "sam": DEFAULT_SAM,
    "proposals": "fast",
}
THRESHOLDS = {
    "pred_iou_thresh": "SAM's own estimate a mask must pass",
    "stability_score_thresh": "Stability a mask must have",
}


class Label(SteppedOperator):
    """SAM proposes masks, GEM names them."""

    @property
    def config(self) -> foo.OperatorConfig:
        """Name, label and when the form is asked for."""
        return foo.OperatorConfig(
            name="label",
            label="GEM-Label: Label photos",
            description="Propose masks with SAM and name them with any words, without training",
            icon="auto_awesome",
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
        )

    def resolve_execution_options(self, ctx: Any) -> foo.ExecutionOptions:
        """Many photos are delegated by default."""
        return foo.ExecutionOptions(
            allow_immediate_execution=True,
            allow_delegated_execution=True,
            default_choice_to_delegated=ctx.target_view().count() > DELEGATED_OVER,
        )

    def resolve_input(self, ctx: Any) -> types.Property:
        """Words, models, proposals, target and field."""
        form = types.Object()
        form.view_target(ctx, action_description="Label")
        photos = ctx.target_view().count()
        notice(
            form,
            "about",
            f"SAM proposes masks in {photos} photos, GEM gives each the word that fits it best.",
        )
        if not photos:
            mark_wrong(form, "about", "there is no photo to label")
        add_words(form, ctx)
        add_negative_words(form, ctx)
        self._ask_models(form, ctx)
        self._ask_proposals(form, ctx)
        add_min_score(form, ctx, Thresholds(), lambda: read_words(ctx).classes)
        form.str(
            "field",
            default=DEFAULTS["field"],
            label="Field",
            description="The label field that takes the masks; made when it is not there",
        )
        field = _answer(ctx, "field")
        refuse(form, "field", lambda: check_field_name(ctx.dataset, field))
        if not form.properties["field"].invalid:
            self._ask_run(form, ctx, field)
        return titled(form, "Label photos", "Label")

    def _ask_models(self, form: types.Object, ctx: Any) -> None:
        clips = types.AutocompleteView(allow_user_input=True)
        for name in CLIPS:
            clips.add_choice(name, label=name)
        form.str(
            "clip",
            default=DEFAULTS["clip"],
            label="CLIP",
            description="open_clip's ARCH/PRETRAINED, ARCH/FILE, a folder, or demo (knows 215 words of drawings)",
            view=clips,
        )
        refuse(form, "clip", lambda: check_clip(ctx))
        present = {weights.name: weights.present for weights in list_weights()}
        sams = types.DropdownView()
        for name, source in WEIGHTS.items():
            size = "" if present[name] else f" (to fetch: {source.bytes / 1e6:.0f} MB)"
            sams.add_choice(name, label=f"{name}{size}")
        form.enum("sam", sams.values(), default=DEFAULTS["sam"], label="SAM", view=sams)
        sam = _answer(ctx, "sam")
        if not present.get(sam, True):
            form.bool("fetch_weights", default=False, label=f"Fetch the weights of {sam} first")
            if not ctx.params.get("fetch_weights"):
                mark_wrong(form, "fetch_weights", f"the weights of {sam} are not on this machine")

    def _ask_proposals(self, form: types.Object, ctx: Any) -> None:
        modes = types.RadioGroup(orientation="horizontal")
        modes.add_choice("fast", label="Fast: asks where something is unexplained")
        modes.add_choice("exact", label="Exact: as SamAutomaticMaskGenerator")
        form.enum("proposals", modes.values(), default=DEFAULTS["proposals"], label="Proposals", view=modes)
        mode = _answer(ctx, "proposals")
        defaults = _proposal_class(mode)()
        form.int(
            "points_per_side",
            min=1,
            max=128,
            label="Points along each side of a photo",
            description="More find smaller things and take longer",
            view=types.TextFieldView(placeholder=str(defaults.points_per_side)),
        )
        if mode == "fast":
            form.int(
                "max_prompts",
                min=1,
                label="Most prompts for one photo",
                view=types.TextFieldView(placeholder=str(defaults.max_prompts)),
            )
        for name, label in THRESHOLDS.items():
            placeholder = types.TextFieldView(placeholder=str(getattr(defaults, name)))
            form.float(name, min=0, max=1, label=label, view=placeholder)
        refuse(form, "points_per_side", lambda: read_proposals(ctx))

    def _ask_run(self, form: types.Object, ctx: Any, field: str) -> None:
        folder = default_run_folder(ctx.dataset, field)
        form.str(
            "run_folder",
            default=str(folder),
            label="Run folder",
            description="Masks and embeddings for relabel and search; an interrupted run continues there",
        )
        try:
            path = allowed_run_folder(ctx, ctx.params.get("run_folder") or folder, field)
        except UsageError as error:
            mark_wrong(form, "run_folder", str(error))
            return
        if not (path / "manifest.json").is_file():
            return
        try:
            counts = open_run(path).manifest["counts"]
        except GemLabelError as error:
            mark_wrong(form, "run_folder", str(error))
            return
        text = f"There is a run with {counts['photos']} labeled photos: the same settings continue it."
        notice(form, "resumes", text, "For other words use 'GEM-Label: Relabel'.")

    def steps(self, ctx: Any) -> Generator[Progress, None, Result]:
        """Load the models, label, push."""
        from gem_label.labeler import load_labeler

        samples = ctx.target_view()
        if is_patches(samples):
            samples = ctx.dataset.select(samples.distinct("sample_id"))
        if not len(samples):
            raise UsageError("there is no photo to label: widen the view or the selection")
        vocabulary = read_words(ctx)
        words, negatives = read_words_per_photo(ctx, vocabulary), read_negatives(ctx)
        field, sam = _answer(ctx, "field"), _answer(ctx, "sam")
        settings = LabelSettings(min_score=read_min_score(ctx) or Thresholds())
        settings.min_score.by_class(vocabulary.classes)  # before models are loaded
        proposals = read_proposals(ctx)
        folder = ctx.params.get("run_folder") or default_run_folder(ctx.dataset, field)
        path = allowed_run_folder(ctx, folder, field)
        clip = check_clip(ctx)
        if ctx.params.get("fetch_weights"):
            yield Progress(0, 1, f"fetching the weights of {sam}")
            pull_weights(sam)
        yield Progress(0, 1, "loading the models")
        labeler = load_labeler(clip=clip, sam=sam, proposals=proposals)
        work = label_dataset(samples, labeler, vocabulary, field, path, settings, words, negatives)
        report = yield from work
        failed = f"; {len(report.failures)} photos could not be labeled" if report.failures else ""
        return {
            "message": f"{report.photos} photos labeled, {report.push.detections} masks in {field!r}{failed}",
            "photos": report.photos,
            "labeled_before": report.before,
            "masks": report.push.detections,
            "decided": report.push.decided,
            "failures": [{"photo": photo, "reason": reason} for photo, reason in report.failures[:100]],
            "run": str(path),
        }

    def resolve_output(self, ctx: Any) -> types.Property:
        """What was done."""
        form = types.Object()
        form.str("message", label="Done")
        form.str("run", label="Run folder")
        failures = types.TableView()
        failures.add_column("photo", label="Photo")
        failures.add_column("reason", label="Why it could not be labeled")
        if ctx.results.get("failures"):
            form.list("failures", types.Object(), label="Failures", view=failures)
        return types.Property(form)


def _proposal_class(mode: str) -> Any:
    from gem_label.sam.fast import FastSettings  # torch: not before the form is opened
    from gem_label.sam.proposals import ProposalSettings

    if mode not in ("fast", "exact"):
        raise UsageError(f"proposals are 'fast' or 'exact', not {mode!r}")
    return FastSettings if mode == "fast" else ProposalSettings


def read_proposals(ctx: Any) -> Any:
    """The proposal settings that a form's answers give; what is left out has the default of its mode.

    Raises:
        UsageError: values that make no sense.
    """
    mode = _answer(ctx, "proposals")
    names = ["points_per_side", *THRESHOLDS, *(["max_prompts"] if mode == "fast" else [])]
    given = {name: ctx.params[name] for name in names if ctx.params.get(name) is not None}
    return _proposal_class(mode)(**given)


def check_clip(ctx: Any) -> str:
    """The CLIP that a form's answers name.

    Raises:
        UsageError: the App asks for a file or folder that is not below an allowed folder, or for one that holds code.
    """
    from gem_label.checkpoints import TORCHSCRIPT  # torch: not before the form is opened

    name = str(_answer(ctx, "clip"))
    if is_own_process(ctx) or name in CLIPS:
        return name
    if name.startswith(TORCHSCRIPT):
        raise UsageError("a TorchScript archive holds code, and the App loads none: use `gem-label label`")
    for part in (name, name.partition("/")[2]):  # a folder, or ARCH/FILE
        path = os.path.expanduser(part)
        if os.path.isabs(path) or ".." in Path(path).parts or (part and os.path.lexists(path)):
            allowed_path(ctx, os.path.abspath(path))
    return name


def _answer(ctx: Any, name: str) -> Any:
    """A form's answer, or the default where Python left it out."""
    value = ctx.params.get(name)
    return DEFAULTS[name] if value is None else value
