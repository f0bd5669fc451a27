"""Methods that put something of their own in place of a tower's last block.

The ordinary stream runs as trained up to the last block. What a method makes of it there may use earlier blocks, the
features of another vision model, and the photo's masks. docs/methods.md has the table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gem_label.clip.streams import Step
from gem_label.clip.towers import VisionTower
from gem_label.errors import UsageError


@dataclass(frozen=True)
class Guidance:
    """What is known of images besides what CLIP sees.

    Attributes:
        proxy: (B, C, h, w) features of another vision model on CLIP's grid of patches; None: there are none.
        mask_shares: (N, h, w) share of each patch's area under each mask, of a batch of one; None: there are none.
    """

    proxy: Tensor | None = None
    mask_shares: Tensor | None = None


@dataclass(frozen=True)
class BlockOutputs:
    """The ordinary stream of a batch of images.

    Attributes:
        tower: the tower.
        grid: (h, w) patches.
        steps: block number, from 1, to the block: those that the method asks for, and the last.
        regions: (1, R, D) tokens of the method's own regions after the last block; None: it has none.
    """

    tower: VisionTower
    grid: tuple[int, int]
    steps: Mapping[int, Step]
    regions: Tensor | None = None

    def after(self, number: int) -> Tensor:
        """The output (B, n, D) of the block of that number, from 1; not of the last."""
        return self.steps[number].output

    @property
    def last(self) -> Step:
        """The last block; its input `x` is the output of the block before."""
        return self.steps[self.tower.num_blocks]

    def patches(self, tokens: Tensor) -> Tensor:
        """Tokens without the class token, (B, n, D) -> (B, h * w, D)."""
        return tokens[:, self.tower.class_tokens :]

    def class_token(self, tokens: Tensor) -> Tensor | float:
        """The class token (B, 1, D), or 0 where the tower has none."""
        return tokens[:, :1] if self.tower.class_tokens else 0.0


@dataclass(frozen=True)
class LastBlockMethod(ABC):
    """A method in place of the last block.

    Attributes:
        name: for manifests and tables.
    """

    name: str
    depth: ClassVar[int] = 1
    needs_proxy: ClassVar[bool] = False
    needs_masks: ClassVar[bool] = False

    def check(self, tower: VisionTower, clip: str) -> None:
        """Make sure that a tower has what the method needs.

        Args:
            tower: of the model.
            clip: name of the model, for the message.

        Raises:
            UsageError: it has not.
        """
        if tower.num_blocks < 2:
            raise UsageError(f"{self.name} needs at least 2 blocks, and {clip} has 1")

    @abstractmethod
    def blocks(self, count: int) -> frozenset[int]:
        """Numbers, from 1, of the blocks ahead of the last that `features` looks at, in a tower of `count` blocks."""

    def region_bias(self, guidance: Guidance) -> Tensor | None:
        """What the tokens of the method's own regions see, as `mask_bias` gives it; None: it has no regions."""
        return None

    @abstractmethod
    def features(self, outputs: BlockOutputs, guidance: Guidance) -> Tensor:
        """(B, h, w, d) features in the space of the texts, not normalized."""


def scaled_block(number: int, count: int) -> int:
    """The block of a tower of `count` blocks that is where block `number` is in a tower of 12; never the last.

    >>> [scaled_block(9, count) for count in (12, 24, 6, 2)]
    [9, 18, 4, 1]
    """
    return min(max(1, round(number * count / 12)), max(1, count - 1))
