"""Adapters: each presents the image tower of one library as a `VisionTower`, and alone knows its layers' names."""

from __future__ import annotations

from torch import nn

from gem_label.clip.adapters import blip, openclip, timm_vit
from gem_label.clip.towers import VisionTower
from gem_label.errors import UsageError

_ADAPTERS = (openclip, timm_vit, blip)


def make_tower(visual: nn.Module) -> VisionTower:
    """The view of an image tower.

    Args:
        visual: `model.visual` of an open_clip model (its own ViT, or timm's as in SigLIP), or of `BlipClip`.

    Raises:
        UsageError: for a tower whose patches cannot be read so, with the reason.
    """
    for adapter in _ADAPTERS:
        if adapter.handles(visual):
            problem = adapter.problem(visual)
            if problem is None:
                return adapter.Tower(visual)
            break
    else:
        problem = f"this model's image tower is a {type(visual).__name__}"
    raise UsageError(f"dense features need a plain ViT such as ViT-B-16 or ViT-B-16-SigLIP, but {problem}")
