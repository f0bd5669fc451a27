"""One pass of images through a tower: the dense stream of a method and mask tokens, beside the ordinary stream."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gem_label.clip.last_block import BlockOutputs, Guidance
from gem_label.clip.mask_tokens import advance_mask_tokens, mask_bias
from gem_label.clip.methods import AnyMethod, DenseMethod
from gem_label.clip.streams import Step, ordinary_steps
from gem_label.clip.towers import VisionTower

MASKS, REGIONS = "masks", "regions"


@dataclass(frozen=True)
class Pass:
    """What a pass gives.

    Attributes:
        features: (B, h, w, d) patch features, not normalized.
        last: (B, n, D) the ordinary stream's last output; None where it stopped short of it.
        mask_tokens: (N, D) the masks' tokens after the last block; None where none were asked for.
    """

    features: Tensor
    last: Tensor | None
    mask_tokens: Tensor | None


def run_pass(
    tower: VisionTower,
    method: AnyMethod,
    images: Tensor,
    guidance: Guidance,
    mask_tokens: bool = False,
    finish: bool = True,
) -> Pass:
    """Take images through a tower.

    Args:
        tower: the tower.
        method: with a number for `depth`.
        images: (B, 3, H, W), on the tower's device.
        guidance: what the method needs to know of them.
        mask_tokens: whether the masks of `guidance` get tokens of their own; one image at a time.
        finish: False: the ordinary stream may stop short of its last block.
    """
    grid, count = tower.grid(images), tower.num_blocks
    dense = x = tower.tokens(images)
    biases: dict[str, Tensor] = {}
    if mask_tokens and guidance.mask_shares is not None:
        biases[MASKS] = mask_bias(guidance.mask_shares)
    watched: frozenset[int] = frozenset()
    place_bias = None
    if isinstance(method, DenseMethod):
        place_bias = frame_bias(method, tower, grid, x)
        finish = finish or method.is_ordinary
    else:
        watched = method.blocks(count) | {count}
        regions = method.region_bias(guidance)
        if regions is not None:
            biases[REGIONS] = regions
    tokens = {name: x[:1, :1].expand(-1, len(bias), -1) for name, bias in biases.items()}
    steps: dict[int, Step] = {}
    for number, step in enumerate(ordinary_steps(tower, x, finish), start=1):
        if isinstance(method, DenseMethod):
            dense = advance_frame(method, dense, step, count - number, place_bias)
        elif number in watched:
            steps[number] = step
        tokens = {
            name: advance_mask_tokens(step.block, each, step.k, step.v, biases[name])
            if each.shape[1]
            else each
            for name, each in tokens.items()
        }
    if isinstance(method, DenseMethod):
        features = tower.project(tower.patches(dense, grid))
    else:
        features = method.features(BlockOutputs(tower, grid, steps, tokens.get(REGIONS)), guidance)
    return Pass(features, step.out, tokens[MASKS][0] if MASKS in tokens else None)


def frame_bias(method: DenseMethod, tower: VisionTower, grid: tuple[int, int], like: Tensor) -> Tensor | None:
    """What a method adds to scores, on the device and in the type of some tokens; None: nothing."""
    bias = method.bias(grid, tower.class_tokens)
    return None if bias is None else bias.to(like)


def advance_frame(method: DenseMethod, dense: Tensor, step: Step, left: int, bias: Tensor | None) -> Tensor:
    """The dense stream after a block; the ordinary one stays as trained and feeds it (GEM, figure 2).

    Args:
        method: with a number for `depth`.
        dense: (B, n, D) the stream before the block.
        step: the block.
        left: how many blocks follow.
        bias: by `frame_bias`.

    Returns:
        (B, n, D); ahead of the last `depth` blocks the ordinary stream.
    """
    assert method.depth is not None
    if method.is_ordinary or left >= method.depth:
        return step.output
    branch = step.block.out_proj(method.attend(step.normed, step.q, step.k, step.v, bias))
    dense = dense + branch if method.residual else branch
    return step.block.feed_forward(dense) if method.mlp else dense
