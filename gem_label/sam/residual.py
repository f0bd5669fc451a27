"""Where to ask SAM next: places that the masks found so far do not explain. Pure functions.

A mask explains an image token that it covers as far as the token's features are like the mask's mean features. A
small thing on a big one lies inside the big one's mask, but its features are unlike the rest: there it pays to ask.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def token_cover(masks: Tensor) -> Tensor:
    """Share of each image token that each mask covers: (N, H, W) bool, 4 x 4 pixels a token -> (N, h, w) float.

    At the lower and right border a token may have fewer pixels.
    """
    if not len(masks):
        return torch.zeros(0, -(-masks.shape[1] // 4), -(-masks.shape[2] // 4), device=masks.device)
    return functional.avg_pool2d(masks[:, None].float(), 4, ceil_mode=True)[:, 0]


def similarity_to_masks(features: Tensor, cover: Tensor) -> Tensor:
    """How well the best of N masks explains each token: its cosine with the mask's mean features, (h, w).

    Args:
        features: (C, h, w) of unit length.
        cover: (N, h, w) share of each token under each mask; a mask explains tokens that it covers by half.

    Returns:
        Cosines in [-1, 1]; 0 where no mask is.
    """
    if not len(cover):
        return features.new_zeros(features.shape[1:])
    flat, shares = features.flatten(1), cover.flatten(1)
    means = functional.normalize(shares @ flat.T, dim=1)
    covers = shares >= 0.5
    best = (means @ flat).masked_fill(~covers, -1).amax(0)
    return torch.where(covers.any(0), best, 0).unflatten(0, features.shape[1:])


def next_tokens(
    residual: NDArray[np.float32], asked: NDArray[np.float64], count: int, least: float
) -> NDArray[np.float64]:
    """The tokens to ask about: one by one the highest residual times the distance to the nearest asked place.

    Args:
        residual: (h, w), 0 where the masks explain all.
        asked: (K, 2) places x, y asked already, in tokens; the center of the first token is (0, 0).
        count: how many at most.
        least: residual below which a token is not asked about.

    Returns:
        (n, 2) float64 x, y of n <= count tokens, best first.
    """
    height, width = residual.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    distance = np.full(residual.shape, np.hypot(height, width))
    for place in asked:
        np.minimum(distance, np.hypot(x - place[0], y - place[1]), out=distance)
    worth = np.where(residual >= least, residual, 0)
    chosen: list[tuple[float, float]] = []
    while len(chosen) < count:
        best = int((worth * distance).argmax())
        row, column = divmod(best, width)
        if worth[row, column] * distance[row, column] <= 0:
            break
        chosen.append((column, row))
        np.minimum(distance, np.hypot(x - column, y - row), out=distance)
    return np.array(chosen, np.float64).reshape(-1, 2)
