"""A CLIP of random weights in open_clip's directory layout, small enough to run in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file


def write_small_clip(folder: Path, short_side: int = 96) -> Path:
    """Write the model into `folder`: 16-pixel patches, 3 blocks, 32 dimensions shared with text."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    torch.manual_seed(0)
    model = open_clip.CLIP(**json.loads(json.dumps(config)))
    settings = {
        "model_cfg": config,
        "preprocess_cfg": {},
        "dense_cfg": {"short_side": short_side, "depth": 2},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder
