"""CorrCLIP: attention within the regions of a photo's masks (Zhang et al., ICCV 2025).

In the last block patches attend to patches of their own region alone, by the features of another vision model.
Regions are SAM's masks, merged where these features are alike. Two branches add the values of earlier blocks, and a
class token for every region (`gem_label.clip.mask_tokens`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gem_label.clip.last_block import BlockOutputs, Guidance, LastBlockMethod
from gem_label.clip.mask_tokens import check_mask_tokens, mask_bias
from gem_label.clip.proxyclip import attend_patches, proxy_cosines
from gem_label.clip.towers import VisionTower
from gem_label.errors import UsageError

COVERED = 0.5
"""Share of a patch that a mask must cover for the patch to be in it."""

_SPATIAL_BLOCKS = {12: 5, 24: 12, 32: 28}


@dataclass(frozen=True)
class CorrClip(LastBlockMethod):
    """Settings of CorrCLIP.

    Attributes:
        sharpness: factor on cosines ahead of the softmax.
        merge: regions are merged where their cosine is less than that below the highest of any two regions.
        spatial: weight of the branch of earlier blocks; 0: without.
        semantic: weight of the branch of class tokens; 0: without.
        on_top: which of two overlapping masks a patch belongs to, the "largest" as in the authors' code, or the
            "smallest", for proposals that hold wholes beside their parts.

    Raises:
        UsageError: for another `on_top`.
    """

    needs_proxy: ClassVar[bool] = True
    needs_masks: ClassVar[bool] = True
    name: str = "corrclip"
    sharpness: float = 4.0
    merge: float = 0.2
    spatial: float = 1.0
    semantic: float = 0.5
    on_top: Literal["largest", "smallest"] = "largest"

    def __post_init__(self) -> None:
        if self.on_top not in ("largest", "smallest"):
            raise UsageError(f"on_top must be largest or smallest, not {self.on_top!r}")

    def check(self, tower: VisionTower, clip: str) -> None:
        """See `LastBlockMethod.check`."""
        super().check(tower, clip)
        if self.semantic:
            check_mask_tokens(
                tower, clip, f"the branch of class tokens of {self.name} (corrclip_regions has none)"
            )

    def blocks(self, count: int) -> frozenset[int]:
        """See `LastBlockMethod.blocks`."""
        if not self.spatial:
            return frozenset()
        used = max(1, _SPATIAL_BLOCKS.get(count, count - 4))
        return frozenset(range(max(1, count - 1 - used), max(1, count - 2) + 1))

    def region_bias(self, guidance: Guidance) -> Tensor | None:
        """See `LastBlockMethod.region_bias`."""
        if not self.semantic:
            return None
        regions = self._regions(guidance)
        return mask_bias((regions == regions.unique()[:, None, None]).float(), "class_token")

    def features(self, outputs: BlockOutputs, guidance: Guidance) -> Tensor:
        """See `LastBlockMethod.features`."""
        assert guidance.proxy is not None
        tower, last = outputs.tower, outputs.last
        regions = self._regions(guidance).flatten()
        cosines = proxy_cosines(guidance.proxy)
        scores = torch.where(self._scope(regions, cosines), self.sharpness * cosines, -torch.inf)
        found = tower.project(attend_patches(last, outputs.patches(last.x), scores))
        if self.spatial:
            earlier = torch.stack([outputs.after(number) for number in self.blocks(tower.num_blocks)]).mean(
                dim=0
            )
            found = found + self.spatial * tower.project(
                attend_patches(last, outputs.patches(earlier), scores)
            )
        if outputs.regions is not None:
            _, place = regions.unique(return_inverse=True)
            found = found + self.semantic * tower.project(outputs.regions)[:, place]
        return found.unflatten(1, outputs.grid)

    def _regions(self, guidance: Guidance) -> Tensor:
        assert guidance.proxy is not None
        assert guidance.mask_shares is not None
        regions = paint_regions(guidance.mask_shares, self.on_top == "largest")
        return merge_regions(regions, guidance.proxy, self.merge)

    @staticmethod
    def _scope(regions: Tensor, cosines: Tensor) -> Tensor:
        """(1, n, n) who may attend to whom: a region to itself; under no mask, all that is alike."""
        same = (regions[:, None] == regions) & (regions > 0)
        free = (regions[:, None] == 0) | (regions == 0)
        alike = cosines > cosines.mean(dim=(1, 2), keepdim=True)
        return same | (free & alike) | torch.eye(len(regions), dtype=torch.bool, device=regions.device)


def paint_regions(mask_shares: Tensor, largest_on_top: bool = True) -> Tensor:
    """Masks to regions that do not overlap.

    Args:
        mask_shares: (N, h, w) share of each patch's area under each mask.
        largest_on_top: whether a patch belongs to the largest or to the smallest of the masks over it.

    Returns:
        (h, w) region numbers from 1, 0 under no mask.

    Example:
        >>> paint_regions(torch.tensor([[[1.0, 0.9, 0.2, 0.0]], [[0.0, 1.0, 0.0, 0.0]]])).tolist()
        [[2, 2, 0, 0]]
    """
    if not len(mask_shares):
        return torch.zeros(mask_shares.shape[1:], dtype=torch.long, device=mask_shares.device)
    areas = mask_shares.sum(dim=(1, 2))
    rank = areas.argsort(stable=True, descending=not largest_on_top).argsort() + 1
    return (rank[:, None, None] * (mask_shares >= COVERED)).amax(dim=0)


def merge_regions(regions: Tensor, proxy: Tensor, merge: float) -> Tensor:
    """Merge regions that look alike, and what is merged with them: DBSCAN where every region is a core.

    Args:
        regions: (h, w) region numbers, 0 under no mask.
        proxy: (1, C, h, w) features of another vision model.
        merge: regions are merged where their cosine is less than that below the highest of any two, itself included.

    Returns:
        (h, w) numbers of merged regions, 0 where they were.
    """
    numbers, place = regions.unique(return_inverse=True)
    inside = F.one_hot(place.flatten(), len(numbers)).float()
    unit = F.normalize(proxy[0].float().flatten(1), dim=0)
    means = F.normalize((unit @ inside / inside.sum(dim=0)).mT, dim=1)[numbers > 0]
    if len(means) < 2:
        return regions
    cosines = means @ means.mT
    joined = (cosines.max() - cosines <= merge).float().fill_diagonal_(1)
    for _ in range(len(means).bit_length()):  # each step doubles the length of the chains
        joined = (joined @ joined > 0).float()
    group = joined.argmax(dim=1) + 1
    return torch.cat([group.new_zeros(int((numbers == 0).sum())), group])[place]
