"""SC-CLIP, "Self-Calibrated CLIP for Training-Free Open-Vocabulary Segmentation" (Bai et al., 2024).

Some patches of CLIP are outliers that all others attend to. They are replaced by their neighbors; the similarity of
patches in middle blocks, which still tell places apart, then says who attends to whom and smooths the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gem_label.clip.last_block import BlockOutputs, Guidance, LastBlockMethod, scaled_block
from gem_label.clip.streams import Step

SHARPNESS = 3.0
"""Factor on the similarity of middle blocks ahead of the softmax."""


@dataclass(frozen=True)
class ScClip(LastBlockMethod):
    """Settings of SC-CLIP. Blocks are numbered from 1 in a tower of 12 (see `scaled_block`).

    Attributes:
        outliers: share of the patches that are taken for outliers, by their local outlier factor.
        neighbors: how many patches that factor looks at.
        least: cosine in a middle block below which patches are not averaged.
        class_share: how much of the class token is added to each patch.
        before: block whose similarity is used ahead of the last block and in its attention.
        after: block whose similarity smooths the result.
        levels: first and last of the blocks that go through the last block together.
    """

    name: str = "scclip"
    outliers: float = 0.05
    neighbors: int = 30
    least: float = 0.4
    class_share: float = 0.3
    before: int = 9
    after: int = 4
    levels: tuple[int, int] = (4, 10)

    def _levels(self, count: int) -> range:
        first, last = (scaled_block(number, count) for number in self.levels)
        return range(first, last + 1)

    def blocks(self, count: int) -> frozenset[int]:
        """See `LastBlockMethod.blocks`."""
        return frozenset(
            {scaled_block(self.before, count), scaled_block(self.after, count), *self._levels(count)}
        )

    def features(self, outputs: BlockOutputs, guidance: Guidance) -> Tensor:
        """See `LastBlockMethod.features`."""
        count = outputs.tower.num_blocks
        last = outputs.patches(outputs.last.x)
        outliers = find_outliers(last, self.neighbors, self.outliers)
        middle = outputs.patches(outputs.after(scaled_block(self.before, count)))
        similarity = _cosines(replace_outliers(middle, outliers, outputs.grid))
        smooth = _cosines(outputs.patches(outputs.after(scaled_block(self.after, count))))
        mended = self._average(similarity, replace_outliers(last, outliers, outputs.grid))
        levels = torch.stack([outputs.after(number) for number in self._levels(count)]).sum(dim=0)
        inputs = (
            (mended, outputs.class_token(outputs.last.x)),
            (outputs.patches(levels), outputs.class_token(levels)),
        )
        attended = [
            self._attend(outputs.last, patches, similarity) + self.class_share * class_token
            for patches, class_token in inputs
        ]
        total = torch.stack([self._average(smooth, each) for each in attended]).sum(dim=0)
        return outputs.tower.project(total).unflatten(1, outputs.grid)

    def _average(self, similarity: Tensor, patches: Tensor) -> Tensor:
        """Patches averaged over those that are alike, (B, n, D)."""
        weights = torch.where(similarity < self.least, 0.0, similarity)
        return (weights / (weights.sum(dim=-1, keepdim=True) + 1e-6)) @ patches

    @staticmethod
    def _attend(last: Step, patches: Tensor, similarity: Tensor) -> Tensor:
        """The last block's attention, half of it by its keys and half by the similarity of a middle block."""
        _, k, v = last.block.qkv(last.block.ln_1(patches))
        scores = SHARPNESS * (similarity - similarity.mean(dim=(1, 2), keepdim=True))
        alike = torch.where(scores < 0, -torch.inf, scores).softmax(dim=-1)[:, None].to(v)
        return last.block.out_proj((F.scaled_dot_product_attention(k, k, v) + alike @ v) / 2)


def _cosines(patches: Tensor) -> Tensor:
    """(B, n, n) cosines of patches (B, n, D)."""
    unit = F.normalize(patches.float(), dim=-1)
    return unit @ unit.mT


def find_outliers(patches: Tensor, neighbors: int, share: float) -> Tensor:
    """Patches whose neighborhoods are sparser than their neighbors': the highest local outlier factors.

    As in the authors' code, the distance at which a neighbor counts is that of the patch's own farthest neighbor.

    Args:
        patches: (B, n, D).
        neighbors: how many neighbors to look at; all others where there are fewer.
        share: of the patches, in [0, 1].

    Returns:
        (B, n) bool.
    """
    x = patches.float()
    k = min(neighbors, x.shape[1] - 1)
    if k < 1:
        return torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
    distances, nearest = (torch.cdist(x, x) ** 2).topk(k + 1, largest=False)
    reach = torch.maximum(distances[..., 1:], distances[..., -1:]).mean(dim=-1)
    density = k / reach.clamp(min=torch.finfo(x.dtype).tiny)
    of_neighbors = density.gather(1, nearest[..., 1:].flatten(1)).unflatten(1, (-1, k))
    factors = (of_neighbors / density[..., None]).mean(dim=-1)
    return factors > factors.quantile(1 - share, dim=1, keepdim=True)


def replace_outliers(patches: Tensor, outliers: Tensor, grid: tuple[int, int]) -> Tensor:
    """Outliers become the mean of the patches around them that are none; those without such stay.

    Args:
        patches: (B, h * w, D).
        outliers: (B, h * w) bool.
        grid: (h, w).

    Returns:
        (B, h * w, D).
    """
    good = (~outliers).to(patches)[:, None].unflatten(2, grid)
    image = patches.mT.unflatten(2, grid) * good
    # an outlier itself is 0 in both sums
    total, count = (F.avg_pool2d(each, 3, stride=1, padding=1, divisor_override=1) for each in (image, good))
    means = (total / count.clamp(min=1)).flatten(2).mT
    replaced = outliers & (count.flatten(1) > 0)
    return torch.where(replaced[..., None], means, patches)
