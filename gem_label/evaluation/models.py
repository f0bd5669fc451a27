"""Names to models for evaluations: our methods, comparators, and the model that made a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gem_label.clip.dense import DenseEncoder
from gem_label.clip.guides import PROXY, Guide
from gem_label.clip.method_settings import read_method
from gem_label.clip.methods import named, needs_guide
from gem_label.clip.models import load_clip
from gem_label.clip.templates import GEM_TEMPLATES
from gem_label.clip.text import TextEncoder
from gem_label.clip.windows import Window
from gem_label.comparators import COMPARATORS, load_comparator
from gem_label.defaults import DEFAULT_SAM
from gem_label.errors import GemLabelError, UsageError
from gem_label.evaluation.predictors import EncoderModel
from gem_label.guides import SAM_PROXY, check_proxy, load_guide
from gem_label.labeler import text_encoder_of
from gem_label.precision import Precision
from gem_label.predictors import DenseModel, MaskModel
from gem_label.runs import Run
from gem_label.sam.models import load_sam
from gem_label.sam.proposals import read_proposals


def load_model(
    method: str,
    clip: str,
    weights: str | None = None,
    short_side: int | None = None,
    device: torch.device | str = "auto",
    window: Window | None = None,
    templates: Sequence[str] = GEM_TEMPLATES,
    sam: str = DEFAULT_SAM,
    proxy: str = SAM_PROXY,
    feature_surgery: bool = False,
    with_masks: bool = False,
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
        sam: proposes masks and gives features for methods such as "corrclip", as `load_sam` takes it.
        proxy: whose features guide those methods, as `load_guide` takes it.
        feature_surgery: for our methods: see `EncoderModel`.
        with_masks: for our methods: a guide that proposes masks, even where the method needs none.

    Raises:
        UsageError: an unknown method, or an option that does not go with it.
    """
    if method in COMPARATORS:
        own = short_side is None and window is None and tuple(templates) == GEM_TEMPLATES
        if not own or feature_surgery or with_masks:
            raise UsageError(f"{method} has its own input size and prompts: leave those options out")
        return load_comparator(method, weights, device)
    if weights is not None:
        raise UsageError(f"--weights goes with {', '.join(COMPARATORS)}; {method} takes --clip")
    check_proxy(named(method), proxy)
    loaded = load_clip(clip, device)
    text = TextEncoder(loaded, templates)
    guided = with_masks or needs_guide(named(method))
    guide = load_guide(load_sam(sam, device), proxy=proxy) if guided else None
    return EncoderModel(
        DenseEncoder(loaded, method, text=text, window=window, guide=guide), short_side, feature_surgery
    )


def encoder_of_run(run: Run, device: torch.device | str = "auto") -> EncoderModel:
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
        proxy = chosen.pop(PROXY, None)
        method = read_method(chosen)
    except (KeyError, TypeError, ValueError) as error:
        raise GemLabelError(
            f"the manifest of {run.place} does not say how its patch features were made"
        ) from error
    guide = _guide_of_run(run, proxy, device) if needs_guide(method) else None
    dense = DenseEncoder(
        text.clip, method, text=text, window=window and Window(**window), scales=scales, guide=guide
    )
    return EncoderModel(dense, short_side)


def _guide_of_run(run: Run, proxy: Mapping[str, Any], device: torch.device | str) -> Guide:
    """The models beside CLIP that made a run's features.

    Raises:
        UsageError: they have other weights now.
        GemLabelError: they cannot be loaded.
    """
    settings = run.manifest["settings"]
    name = str(proxy["name"])
    sam = load_sam(settings["sam"], device, settings.get("precision", {}).get("sam", Precision.float32))
    guide = load_guide(
        sam, read_proposals(settings["proposals"]), SAM_PROXY if name.startswith(f"{SAM_PROXY}/") else name
    )
    assert guide.proxy is not None
    if guide.proxy.describe() != proxy:
        raise UsageError(
            f"{run.place} was made with other weights of {name}: bring those weights, or label the photos again"
        )
    return guide
