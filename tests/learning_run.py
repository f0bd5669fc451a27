"""Runs of the demo CLIP's own words without any vision model, in which one word means nothing to the model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from run_factory import rectangle_masks

from gem_label.clip.models import load_clip
from gem_label.clip.text import TextEncoder
from gem_label.labeling import LabelSettings, label_maskset
from gem_label.learning.learned import Learned, apply_learned
from gem_label.masks import MaskSet
from gem_label.photos.photo import Photo
from gem_label.quantization import round_differences, round_to_codes
from gem_label.runs import Run, RunWriter, open_run
from gem_label.vocabulary import Vocabulary

FIELD, REVIEWED, PHOTOS = "gem_label", 16, 20
WORDS = Vocabulary.from_words(("cat", "dog", "blick"))
SIZE = 60


def scene(number: int, encoder: TextEncoder) -> tuple[MaskSet, list[str]]:
    """The masks of a photo: a cat, a pizza that is to be called blick, and parts that look like dogs."""
    rng = np.random.default_rng(number)
    text = encoder.encode(["cat", "pizza", "dog"])
    masks = rectangle_masks((0, 0, 20, 20), (30, 0, 20, 20), (0, 30, 6, 6), (30, 30, 5, 8), size=SIZE)
    vectors = np.stack([text[0], text[1], text[2], text[2]]) * np.float32(0.8)
    noise = rng.normal(size=vectors.shape).astype(np.float32) * np.float32(0.01)
    around = rng.normal(size=vectors.shape).astype(np.float32) * np.float32(0.02)
    inside = round_to_codes(vectors + noise)
    masks = replace(masks, embeddings=inside, surrounds=round_differences(around, inside), grid=(20, 20))
    return masks, ["cat", "blick"]


def write_run(
    path: Path,
    encoder: TextEncoder,
    photos: range,
    learned: Learned | None = None,
    folder: Path = Path("/photos"),
) -> Run:
    """A run as `label` writes it, of photos that need not be there."""
    clip, text = encoder.clip, encoder.encode(WORDS.phrases)
    taught, rescore = apply_learned(learned, text, WORDS, clip.logit_scale)
    writer = RunWriter.create_or_resume(
        path,
        settings={"clip": "demo", "templates": list(encoder.templates)},
        vocabulary=WORDS,
        embedding_dim=clip.embedding_dim,
        logit_scale=clip.logit_scale,
        weights={"clip": {"name": "demo", "sha256": clip.weights_sha256}},
        learned=learned,
    )
    with writer:
        listing = [Photo(str(folder / f"{i:03d}.jpg"), f"{i:03d}") for i in photos]
        for photo in writer.register(listing):
            masks, _ = scene(int(photo.image_id), encoder)
            labels = label_maskset(masks, taught, WORDS, clip.logit_scale, LabelSettings(), rescore=rescore)
            writer.write(photo, masks, labels)
    return open_run(path)


def learning_dataset(folder: Path, name: str, count: int = PHOTOS) -> Any:
    """A dataset of so many photos of such a run, with all labels in its field."""
    import fiftyone as fo

    from gem_label.review.pushing.push_run import push_run

    encoder, photos = TextEncoder(load_clip("demo", "cpu")), folder / "photos"
    photos.mkdir(parents=True)
    for i in range(1, count + 1):
        Image.new("RGB", (SIZE, SIZE), (i, 90, 90)).save(photos / f"{i:03d}.jpg")
    run = write_run(folder / "run", encoder, range(1, count + 1), folder=photos)
    push_run(run, name, min_score=0.0, hidden_from=None)
    return fo.load_dataset(name)


def decide_by_truth(dataset: Any, ids: Collection[str] | None = None, name: str = "blick") -> None:
    """Decide as a reviewer who knows better: cats and pizzas are right, all else is rejected.

    Args:
        dataset: of `learning_dataset`.
        ids: of detections, decided ones of which stay as they are; None: all of the first sixteen photos.
        name: what the reviewer calls a pizza.
    """
    from gem_label.review.editing.decisions import decide
    from gem_label.review.queues.order import queue_masks
    from gem_label.review.storage.selection import Selection

    undecided = {mask.label_id for mask in queue_masks(dataset, FIELD, "photo")}
    photos = dataset.sort_by("filepath").limit(REVIEWED) if ids is None else dataset
    for sample in photos:
        for mask in sample[FIELD].detections:
            if mask.id not in undecided or (ids is not None and mask.id not in ids):
                continue
            place = int(mask.mask_id.rpartition("#")[2])
            chosen = Selection(ids=[mask.id], samples=[sample.id])
            if place == 1 and mask.label != name:
                decide(dataset, FIELD, "rename", chosen, label=name)
            else:
                decide(dataset, FIELD, "accept" if place < 2 else "reject", chosen)
