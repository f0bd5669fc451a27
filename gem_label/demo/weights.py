"""Saving the demo CLIP in open_clip's hub layout, small: half precision, and only the token rows that occur."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from torch import nn

from gem_label.demo.captions import ONE, SOME


def tokens_that_occur(nouns: Sequence[str], context_length: int) -> torch.Tensor:
    """(R,) sorted int64 ids of the tokens that the captions of these nouns can hold."""
    tokenizer = open_clip.SimpleTokenizer(context_length=context_length)
    texts = [t.format(n) for t in ONE for n in nouns] + [t.format("a, a and a") for t in SOME]
    return tokenizer(texts).unique()


def save_demo_clip(model: nn.Module, rows: torch.Tensor, settings: dict, out: Path) -> None:
    """Write open_clip_config.json and open_clip_model.safetensors into `out`.

    Args:
        model: an `open_clip.CLIP` whose token table holds R rows.
        rows: (R,) int64, the token that each row of the table stands for.
        settings: of pipelines/train_demo_clip.yaml; "model" and "dense" go into the configuration.
        out: folder, made if missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    state = {
        k: v.detach().cpu().half().contiguous() for k, v in model.state_dict().items() if k != "attn_mask"
    }
    state["token_ids"] = rows.to(torch.int32)
    save_file(state, out / "open_clip_model.safetensors")
    config = {
        "model_cfg": settings["model"],
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        "dense_cfg": settings["dense"],
    }
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n")
