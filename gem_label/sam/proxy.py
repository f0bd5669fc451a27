"""SAM's image features as a proxy of dense methods: they say which places are alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gem_label.sam.encoding import encode_image
from gem_label.sam.models import Sam


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
        """Name and sha256 of the weights, as JSON."""
        return {"name": f"sam/{self.sam.name}", "sha256": self.sam.weights_sha256}
