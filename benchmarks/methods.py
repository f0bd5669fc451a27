"""Processor seconds a photo of every dense method, as ratios to GEM's, and of mask tokens and SAM's features.

    python benchmarks/methods.py

ViT-B/16 with random weights, a photo of 448 x 592 pixels, one thread. Methods take turns, so that a busy machine
slows all of them; processor time leaves out what others do. What guides a method is known beforehand: SAM's features
have a line of their own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.nn import functional as F

from gem_label.clip.dense import DenseEncoder
from gem_label.clip.guides import Guide
from gem_label.clip.methods import METHODS
from gem_label.sam.models import load_sam
from gem_label.sam.proxy import SamProxy

SIZE, GRID, MASKS = (448, 592), (28, 37), 60


class ColorProxy:
    """Features at no cost: the color of each place."""

    def __call__(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """See `Proxy`."""
        return F.adaptive_avg_pool2d(images, grid) - images.mean(dim=(2, 3), keepdim=True)

    def describe(self) -> dict[str, Any]:
        """See `Proxy`."""
        return {"name": "color"}


def rectangles(rng: np.random.Generator) -> np.ndarray:
    """(MASKS, h, w) shares of rectangles of 2 to 13 patches a side."""
    shares = np.zeros((MASKS, *GRID), np.float32)
    for share in shares:
        (top, left), (height, width) = rng.integers(0, (22, 30)), rng.integers(2, 14, 2)
        share[top : top + height, left : left + width] = 1
    return shares


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sam", default="mobile_sam")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-16", pretrained=None)
    image, shares = torch.randn(3, *SIZE), rectangles(np.random.default_rng(0))
    encoders = {name: DenseEncoder(model, name, guide=Guide(ColorProxy())) for name in METHODS}
    proxy, pixels = SamProxy(load_sam(args.sam)), torch.rand(1, 3, *SIZE)
    work: dict[str, Callable[[], object]] = {
        name: partial(encoder.encode_photo, image, shares) for name, encoder in encoders.items()
    }
    work[f"gem with {MASKS} mask tokens"] = lambda: encoders["gem"].encode_photo(
        image, shares, mask_tokens=True
    )
    work[f"features of {args.sam}"] = lambda: proxy(pixels, GRID)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(args.rounds):
        for name, run in work.items():
            started = time.process_time()
            run()
            seconds[name].append(time.process_time() - started)
    gem = median(seconds["gem"])
    for name, times in seconds.items():
        print(f"{name:28s} {median(times):6.2f} s {median(times) / gem:6.2f}")


if __name__ == "__main__":
    main()
