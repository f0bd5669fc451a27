"""Published models to compare with, behind the protocols of `gem_label.predictors`.

They come with Hugging Face's transformers: `pip install 'gem-label[transformers]'`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gem_label.defaults import DEFAULT_SAM
from gem_label.devices import pick_device
from gem_label.errors import GemLabelError, UsageError

if TYPE_CHECKING:
    import torch

    from gem_label.predictors import DenseModel, MaskModel

# name to the weights that the papers used, where they are published for transformers
COMPARATORS = {
    "groupvit": "nvidia/groupvit-gcc-yfcc",
    "clipseg": "CIDAS/clipseg-rd64-refined",
    "grounding-sam": "IDEA-Research/grounding-dino-tiny",
}


def load_comparator(
    name: str, weights: str | None = None, device: torch.device | str = "auto", sam: str = DEFAULT_SAM
) -> DenseModel | MaskModel:
    """A comparator by name, in float32, eval mode.

    Args:
        name: one of `COMPARATORS`.
        weights: a name on the model hub, or a folder as transformers saves it; None takes the published one.
        device: where to put it, see `pick_device`.
        sam: which SAM draws the masks in the boxes of "grounding-sam", as `load_sam` takes it.

    Raises:
        UsageError: an unknown name.
        GemLabelError: transformers is not installed, or the weights cannot be fetched.
    """
    if name not in COMPARATORS:
        raise UsageError(f"unknown comparator {name!r}: choose one of {', '.join(COMPARATORS)}")
    try:
        import transformers  # noqa: F401
    except ImportError:
        raise GemLabelError(f"{name} needs transformers: pip install 'gem-label[transformers]'") from None
    from gem_label.comparators.hub import check_source

    source, device = weights or COMPARATORS[name], pick_device(device)
    check_source(source)
    if name == "groupvit":
        from gem_label.comparators.groupvit import GroupVit

        return GroupVit(source, device)
    if name == "clipseg":
        from gem_label.comparators.clipseg import ClipSeg

        return ClipSeg(source, device)
    from gem_label.comparators.grounding_sam import GroundingSam
    from gem_label.sam.models import load_sam

    return GroundingSam(source, load_sam(sam, device), device)
