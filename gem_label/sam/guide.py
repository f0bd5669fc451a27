"""SAM as a guide of dense methods: its image features say which places are alike, its masks what is one thing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gem_label.clip.guides import Guide
from gem_label.clip.timm_proxy import TimmProxy
from gem_label.sam.encoding import encode_image
from gem_label.sam.fast import FastSettings
from gem_label.sam.models import Sam
from gem_label.sam.proposals import AnySettings, propose_masks

SAM_PROXY = "sam"


class SamProxy:
    """The features of SAM's image encoder, those that its mask decoder gets.

    Args:
        sam: what `load_sam` returns.
    """

    def __init__(self, sam: Sam) -> None:
        self.sam = sam

    def __call__(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> (B, 256, h, w), SAM's tokens averaged or interpolated to the grid."""
        pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        found = []
        for image in pixels:
            encoded = encode_image(self.sam, image)
            rows, columns = (-(-side // encoded.stride) for side in encoded.resized)  # the rest is padding
            features = encoded.features[:, :, :rows, :columns]
            found.append(F.interpolate(features, grid, mode="bilinear", antialias=True, align_corners=False))
        return torch.cat(found).to(images.device)

    def describe(self) -> dict[str, Any]:
        """See `Proxy.describe`."""
        return {"name": f"sam/{self.sam.name}", "sha256": self.sam.weights_sha256}


def load_guide(sam: Sam, proposals: AnySettings | None = None, proxy: str = SAM_PROXY) -> Guide:
    """A guide that proposes masks by SAM.

    Args:
        sam: what `load_sam` returns.
        proposals: how masks are proposed; None: fast.
        proxy: whose features say which places are alike: "sam", or a model as `TimmProxy` takes it.

    Raises:
        UsageError: no such model.
        GemLabelError: its weights cannot be loaded.
    """
    features = SamProxy(sam) if proxy == SAM_PROXY else TimmProxy(proxy, sam.device)
    return Guide(features, lambda pixels: propose_masks(sam, pixels, proposals or FastSettings()))
