"""Datasets under review, made without a vision model: runs of random masks that the demo CLIP's words can label."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from run_factory import rectangles

from gem_label.labeling import LabelSettings, label_maskset
from gem_label.masks import MaskSet, encode_mask
from gem_label.photos.photo import Photo
from gem_label.runs import Run, RunWriter, open_run
from gem_label.vocabulary import Vocabulary

FIELD = "gem_label"
WORDS = ("cat", "horse", "pizza")
TEMPLATES = ("a photo of a {}.",)


@lru_cache(maxsize=1)
def demo_clip() -> Any:
    from gem_label.clip.models import load_clip

    return load_clip("demo")


def demo_run(
    path: Path, photos: int, masks: int = 4, words: Sequence[str] = WORDS, background: Sequence[str] = ()
) -> Run:
    """A run over photos of noise: each mask's embedding lies near the text of one of the words, in turn."""
    from gem_label.clip.text import TextEncoder

    clip = demo_clip()
    vocabulary = Vocabulary.from_words(words, background)
    text = TextEncoder(clip, TEMPLATES).encode(vocabulary.phrases)
    settings = LabelSettings(min_score=0.0, overlaps=True)
    writer = RunWriter.create_or_resume(
        path,
        settings={"clip": "demo", "templates": list(TEMPLATES), "sam": "none"},
        vocabulary=vocabulary,
        embedding_dim=clip.embedding_dim,
        logit_scale=clip.logit_scale,
        label_settings=settings,
        weights={"clip": {"name": "demo", "sha256": clip.weights_sha256}},
    )
    folder = path.parent / "photos"
    folder.mkdir(exist_ok=True)
    with writer:
        listing = [Photo(str(folder / f"{i}.png"), str(i)) for i in range(photos)]
        for number, photo in enumerate(writer.register(listing)):
            rng = np.random.default_rng(number)
            Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(photo.path)
            near = text[(np.arange(masks) + number) % len(words)]
            noise = rng.normal(size=near.shape) / np.sqrt(near.shape[1])
            embeddings = (0.3 * near + 0.05 * noise).astype(np.float16).astype(np.float32)
            shapes = rectangles(masks, seed=number)
            mask_set = MaskSet(
                48, 64, tuple(map(encode_mask, shapes)), np.ones(masks, np.float32), np.ones(masks, np.float32),
                np.zeros((masks, 2), np.float32), embeddings,
            )  # fmt: skip
            labels = label_maskset(mask_set, text, vocabulary, clip.logit_scale, settings)
            writer.write(photo, mask_set, labels, np.zeros(clip.embedding_dim, np.float16))
    return open_run(path)
