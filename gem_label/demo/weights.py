"""Saving the demo CLIP in open_clip's hub layout, small: half precision, and only the token rows that occur."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save
from torch import Tensor, nn

from gem_label.atomic import replacing
from gem_label.demo.captions import ONE, SOME


def tokens_that_occur(nouns: Sequence[str], context_length: int) -> torch.Tensor:
    """(R,) sorted int64 ids of the tokens that the captions of these nouns can hold."""
    tokenizer = open_clip.SimpleTokenizer(context_length=context_length)
    texts = [t.format(n) for t in ONE for n in nouns] + [t.format("a, a and a") for t in SOME]
    return tokenizer(texts).unique()


def scale_norms(state: dict[str, Tensor], gain: float) -> dict[str, Tensor]:
    """The same vision tower with the outputs of its attention blocks' ln_1 larger by `gain`.

    The queries', keys' and values' projections shrink by as much, so every output of the model stays what it was.
    Only GEM's adaptive temperature sees the difference: it is the norm of ln_1's output (GEM, eq. 4), which in a
    small network is so low that self-self attention averages over the whole image.
    """
    factors = {"ln_1.weight": gain, "ln_1.bias": gain, "attn.in_proj_weight": 1 / gain}
    scaled = dict(state)
    for name, tensor in state.items():
        for ending, factor in factors.items():
            if name.startswith("visual.") and name.endswith(ending):
                scaled[name] = tensor * factor
    return scaled


def save_demo_clip(model: nn.Module, rows: torch.Tensor, settings: dict, out: Path) -> None:
    """Write open_clip_config.json and open_clip_model.safetensors into `out`.

    Args:
        model: an `open_clip.CLIP` whose token table holds R rows.
        rows: (R,) int64, the token that each row of the table stands for.
        settings: of pipelines/train_demo_clip.yaml; "model" and "dense" go into the configuration, "norm_gain" is
            that of `scale_norms`.
        out: folder, made if missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    weights = {k: v.detach().cpu() for k, v in model.state_dict().items() if k != "attn_mask"}
    state = {k: v.half().contiguous() for k, v in scale_norms(weights, settings["norm_gain"]).items()}
    state["token_ids"] = rows.to(torch.int32)
    with replacing(out / "open_clip_model.safetensors") as file:
        file.write(save(state))
    config = {
        "model_cfg": settings["model"],
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        "dense_cfg": settings["dense"],
    }
    with replacing(out / "open_clip_config.json", "w") as file:
        file.write(json.dumps(config, indent=1) + "\n")
