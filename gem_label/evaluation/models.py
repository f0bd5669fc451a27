"""Names to models for evaluations: our methods, comparators, and the model that made a run."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gem_label.clip.dense import DenseEncoder
from gem_label.clip.method_settings import read_method
from gem_label.clip.models import load_clip
from gem_label.clip.templates import GEM_TEMPLATES
from gem_label.clip.text import TextEncoder
from gem_label.clip.windows import Window
from gem_label.comparators import COMPARATORS, load_comparator
from gem_label.errors import GemLabelError, UsageError
from gem_label.evaluation.predictors import EncoderModel
from gem_label.labeler import text_encoder_of
from gem_label.predictors import DenseModel, MaskModel
from gem_label.runs import Run


def load_model(
    method: str,
    clip: str,
    weights: str | None = None,
    short_side: int | None = None,
    device: torch.device | str = "cpu",
    window: Window | None = None,
    templates: Sequence[str] = GEM_TEMPLATES,
) -> DenseModel | MaskModel:
    """A model by name.

    Args:
        method: a method of `DenseEncoder`, or one of `gem_label.comparators.COMPARATORS`.
        clip: for our methods: as `load_clip` takes it.
        weights: for comparators: a name on the hub or a folder; None takes the published one.
        short_side: for our methods: pixels of the input's shorter side; None takes the model's.
        device: where to put it.
        window: for our methods: slides a window over large images.
        templates: for our methods: prompts.

    Raises:
        UsageError: an unknown method, or an option that does not go with it.
    """
    if method in COMPARATORS:
        if short_side is not None or window is not None or tuple(templates) != GEM_TEMPLATES:
            raise UsageError(f"{method} has its own input size and prompts: leave those options out")
        return load_comparator(method, weights, device)
    if weights is not None:
        raise UsageError(f"--weights goes with {', '.join(COMPARATORS)}; {method} takes --clip")
    loaded = load_clip(clip, device)
    text = TextEncoder(loaded, templates)
    return EncoderModel(DenseEncoder(loaded, method, text=text, window=window), short_side)


def encoder_of_run(run: Run, device: torch.device | str = "cpu") -> EncoderModel:
    """The dense model that made a run, with its settings and prompts.

    Raises:
        UsageError: the model of that name has other weights now.
        GemLabelError: it cannot be loaded, or the run does not say which settings it had.
    """
    text = text_encoder_of(run, device)
    settings = run.manifest["settings"]
    try:
        chosen, short_side = dict(settings["dense"]), settings["short_side"]
        window, scales = chosen.pop("window"), chosen.pop("scales")
        method = read_method(chosen)
    except (KeyError, TypeError, ValueError) as error:
        raise GemLabelError(
            f"the manifest of {run.place} does not say how its patch features were made"
        ) from error
    dense = DenseEncoder(text.clip, method, text=text, window=window and Window(**window), scales=scales)
    return EncoderModel(dense, short_side)
