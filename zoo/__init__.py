"""GEM-SAM as a source of FiftyOne's model zoo: `foz.load_zoo_model("gem-sam-vit-b-16", classes="cat, dog")`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gem_label.errors import UsageError

CLIPS = {
    "gem-sam-vit-b-16": "ViT-B-16/openai",
    "gem-sam-vit-l-14": "ViT-L-14/openai",
    "gem-sam-demo": "demo",
}
SAM = "mobile_sam"


def download_model(model_name: str, model_path: str) -> None:
    """Bring MobileSAM's weights; CLIP's come when the model is loaded.

    Args:
        model_name: one of `CLIPS`.
        model_path: gets a note of what the model is made of, which tells FiftyOne that it is there.
    """
    from gem_label.weights import pull_weights

    pull_weights(SAM)
    Path(model_path).write_text(json.dumps({"clip": CLIPS[model_name], "sam": SAM}) + "\n")


def load_model(
    model_name: str,
    model_path: str,
    classes: Any = None,
    background: str | Sequence[str] = (),
    min_score: Any = None,
    negatives: Any = "auto",
    max_prompts: int = 192,
    device: str | None = None,
) -> Any:
    """The model, for `dataset.apply_model(model, "gem_sam")`.

    Args:
        model_name: one of `CLIPS`.
        model_path: what `download_model` wrote.
        classes: words, or text as `Vocabulary.parse` reads it.
        background: words that compete with the classes and are never a label, or text as --background takes.
        min_score: score in [0, 1] below which a mask is left out: a number, "0.5, cat=0.4", or numbers by class;
            None: the default.
        negatives: words that compete besides and are never a label: "auto", "none", how many, or the words.
        max_prompts: most prompts for a photo, see `gem_label.sam.FastSettings`.
        device: "cpu" or "cuda"; None: the GPU when there is one.

    Raises:
        UsageError: no classes.
    """
    import torch

    from gem_label.labeler import load_labeler
    from gem_label.review import GemSamModel
    from gem_label.sam import FastSettings

    if not classes:
        raise UsageError(f"give the words: foz.load_zoo_model({model_name!r}, classes='cat, dog')")
    parts = json.loads(Path(model_path).read_text())
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    proposals = FastSettings.with_at_most(max_prompts)
    labeler = load_labeler(device, clip=parts["clip"], sam=parts["sam"], proposals=proposals)
    return GemSamModel(labeler, classes, background, min_score, negatives)
