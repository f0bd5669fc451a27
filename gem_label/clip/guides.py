"""What dense methods may ask besides CLIP: features of another vision model, and the photo's masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gem_label.clip.last_block import Guidance, LastBlockMethod
from gem_label.clip.methods import AnyMethod
from gem_label.errors import UsageError
from gem_label.masks import MaskSet, patch_weights

PROXY = "proxy"
"""The key of a proxy's description in the settings of an encoder."""


class Proxy(Protocol):
    """Features of another vision model that say which places are alike."""

    def __call__(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> (B, C, h, w) for a grid of (h, w)."""
        ...

    def describe(self) -> dict[str, Any]:
        """Name and sha256 of the weights, as JSON."""
        ...


@dataclass(frozen=True)
class Guide:
    """Models beside CLIP.

    Attributes:
        proxy: features of another vision model; None: there is none.
        propose: (H, W, 3) uint8 RGB to its masks, for photos that come without; None: they have to come with them.
    """

    proxy: Proxy | None = None
    propose: Callable[[NDArray[np.uint8]], MaskSet] | None = None

    def check(self, method: AnyMethod) -> None:
        """Make sure that a method gets what it needs.

        Raises:
            UsageError: it needs features of another model, and there is none.
        """
        if isinstance(method, LastBlockMethod) and method.needs_proxy and self.proxy is None:
            raise UsageError(
                f"{method.name} needs the features of another vision model: give guide=load_guide(sam)"
            )

    def look(
        self,
        method: LastBlockMethod,
        images: Tensor,
        grid: tuple[int, int],
        mask_shares: Tensor | None = None,
    ) -> Guidance:
        """What a method needs to know of images.

        Args:
            method: the method.
            images: (B, 3, H, W) RGB in [0, 1].
            grid: (h, w) patches.
            mask_shares: (N, h, w) of a batch of one; None: masks are proposed where the method needs them.

        Raises:
            UsageError: it needs masks, and nobody proposes any, or there are several images.
        """
        proxy = self.proxy(images, grid) if method.needs_proxy and self.proxy is not None else None
        if method.needs_masks and mask_shares is None:
            if self.propose is None or len(images) > 1:
                raise UsageError(
                    f"{method.name} needs the masks of one photo at a time: give mask_shares, or a guide with propose"
                )
            pixels = (images[0].permute(1, 2, 0) * 255).round().to(torch.uint8)
            masks = self.propose(np.ascontiguousarray(pixels.cpu().numpy()))
            mask_shares = torch.from_numpy(patch_weights(masks, grid)).to(images.device)
        return Guidance(proxy, mask_shares)
