"""SAM for tests that ask about one photo many times."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


class RememberingEncoder(nn.Module):
    """The image encoder, run once per input: whoever asks starts from the very same features."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.img_size = encoder.img_size
        self.seen: dict[bytes, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        key = hashlib.sha256(x.numpy().tobytes()).digest()
        if key not in self.seen:
            self.seen[key] = self.encoder(x)
        return self.seen[key]
