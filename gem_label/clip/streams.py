"""The ordinary stream of a tower, block by block, as every dense method reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from gem_label.clip.towers import TowerBlock, VisionTower


@dataclass(frozen=True, slots=True)
class Step:
    """One block of the ordinary stream, as trained.

    Attributes:
        block: the block.
        x: (B, n, D) its input.
        normed: (B, n, D) the output of its first layer norm.
        q: (B, heads, n, d_head) queries of `normed`.
        k: keys likewise.
        v: values likewise.
        out: (B, n, D) the block's output; None where nobody needs it.
    """

    block: TowerBlock
    x: Tensor
    normed: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor | None

    @property
    def output(self) -> Tensor:
        """The block's output, which is there."""
        assert self.out is not None
        return self.out


def ordinary_steps(tower: VisionTower, tokens: Tensor, finish: bool = True) -> Iterator[Step]:
    """Yield the blocks of a tower from first to last.

    Args:
        tower: the tower.
        tokens: (B, n, D) the first block's input.
        finish: False leaves the last block without an output.
    """
    x = tokens
    for number, block in enumerate(tower.blocks, start=1):
        normed = block.ln_1(x)
        q, k, v = block.qkv(normed)
        last = number == tower.num_blocks
        out = block.attend(x, q, k, v) if finish or not last else None
        yield Step(block, x, normed, q, k, v, out)
        if out is not None:
            x = out
