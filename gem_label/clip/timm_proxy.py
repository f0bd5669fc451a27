"""Vision transformers of timm, such as DINO, as a proxy of dense methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import hf_hub_download
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional as F

from gem_label.checkpoints import read_tensors
from gem_label.errors import GemLabelError, UsageError
from gem_label.weights import file_sha256

WEIGHT_FILE = "model.safetensors"


class TimmProxy:
    """The patch features of a vision transformer after its last norm.

    Args:
        name: timm's name, such as "vit_base_patch8_224.dino", for the weights on the hub, or NAME/FILE for a weight
            file of that architecture.
        device: where to put it.

    Raises:
        UsageError: timm has no vision transformer of that name.
        GemLabelError: the hub does not answer, or the weights do not fit.
    """

    def __init__(self, name: str, device: torch.device | str = "cpu") -> None:
        architecture, _, file = name.partition("/")
        if not timm.is_model(architecture):
            raise UsageError(
                f"--proxy takes sam or a model of timm such as vit_base_patch8_224.dino, not {name}"
            )
        model = timm.create_model(architecture, pretrained=False, num_classes=0)
        if not isinstance(model, VisionTransformer):
            raise UsageError(
                f"--proxy needs a vision transformer, and {architecture} is a {type(model).__name__}"
            )
        model = timm.create_model(architecture, pretrained=False, num_classes=0, dynamic_img_size=True)
        path = Path(file) if file else _download(architecture)
        weights = {key: value for key, value in read_tensors(path).items() if not key.startswith("head.")}
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise GemLabelError(f"the weights in {path} do not fit {architecture}: {reason}") from error
        self.name = name
        self._sha256 = file_sha256(path)
        self._model: Any = model.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> (B, C, h, w); images are resized to a patch for each place of the grid."""
        model = self._model
        sides = [count * patch for count, patch in zip(grid, model.patch_embed.patch_size, strict=True)]
        resized = F.interpolate(images, sides, mode="bicubic", antialias=True, align_corners=False)
        mean, std = (
            torch.tensor(model.default_cfg[name]).to(images)[:, None, None] for name in ("mean", "std")
        )
        normalized = (resized.clamp(0, 1) - mean) / std
        features: Tensor = model.forward_intermediates(
            normalized, indices=1, norm=True, intermediates_only=True
        )[-1]
        return features

    def describe(self) -> dict[str, Any]:
        """See `Proxy.describe`."""
        return {"name": self.name, "sha256": self._sha256}


def _download(architecture: str) -> Path:
    """The weight file on the hub, or in its cache."""
    try:
        return Path(hf_hub_download(f"timm/{architecture}", WEIGHT_FILE))
    except Exception as error:  # the hub's client raises anything from OSError to its own types
        raise GemLabelError(
            f"no answer from the model hub for {architecture}: bring {WEIGHT_FILE} of timm/{architecture} by hand "
            f"and pass --proxy {architecture}/FILE"
        ) from error
