"""Runs of small random embeddings, written by the real writer without any model: for tests of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gem_label.labeling import LabelSettings, label_maskset
from gem_label.masks import MaskSet, encode_mask
from gem_label.photos.photo import Photo
from gem_label.quantization import round_differences, round_to_codes
from gem_label.runs import Run, RunWriter, open_run
from gem_label.vocabulary import Vocabulary
from gem_label.words import WordsPerImage

DIM = 8
ANIMALS = Vocabulary.parse("cat; dog, puppy => dog; bird", background="sky")
COWS = Vocabulary.parse("cat; dog, puppy => dog; cow", background="sky")
TURNED = Vocabulary.parse("dog, puppy => dog; cat; bird", background="sky")
THINGS = Vocabulary.parse("bottle, cup", background="wall, floor")


def text_of(vocabulary: Vocabulary) -> NDArray[np.float32]:
    """A text encoder of sorts: the same phrase has the same unit vector everywhere."""
    rows = [np.random.default_rng(list(phrase.encode())).normal(size=DIM) for phrase in vocabulary.phrases]
    return np.array([row / np.linalg.norm(row) for row in rows], np.float32)


def make_photo(number: int) -> tuple[MaskSet, NDArray[np.float16]]:
    """The masks and class token that "the models" see in photo `number`; every fifth has no mask."""
    rng = np.random.default_rng(number)
    n = 0 if number % 5 == 0 else int(rng.integers(1, 6))
    counts = []
    for _ in range(n):
        mask = np.zeros((20, 30), bool)
        y, x, h, w = rng.integers(0, 15), rng.integers(0, 25), rng.integers(1, 9), rng.integers(1, 9)
        mask[y : y + h, x : x + w] = True
        counts.append(encode_mask(mask))
    vectors = rng.normal(size=(2 * n, DIM)).astype(np.float32) / 4
    embeddings = round_to_codes(vectors[:n])
    masks = MaskSet(
        20,
        30,
        tuple(counts),
        rng.random(n).astype(np.float32),
        rng.random(n).astype(np.float32),
        rng.random((n, 2)).astype(np.float32),
        embeddings,
        round_differences(vectors[n:], embeddings),
        grid=(4, 6),
    )
    return masks, rng.normal(size=DIM).astype(np.float16)


def photos(n: int) -> list[Photo]:
    return [Photo(f"/photos/{i:04d}.jpg", f"{i:04d}") for i in range(1, n + 1)]


def open_writer(path: Path, vocabulary: Vocabulary = ANIMALS, **changes: Any) -> RunWriter:
    settings = {"clip": "random", "points": (4, 4)} | changes.pop("settings", {})
    options = {"embedding_dim": DIM, "logit_scale": 20.0, "photos_per_shard": 7} | changes
    return RunWriter.create_or_resume(path, settings=settings, vocabulary=vocabulary, **options)


def write_photo(
    writer: RunWriter,
    photo: Photo,
    vocabulary: Vocabulary = ANIMALS,
    settings: LabelSettings | None = None,
    words: WordsPerImage | None = None,
) -> None:
    masks, token = make_photo(photo.number)
    allowed = None if words is None else words.allowed(vocabulary, photo.path, photo.image_id)
    labels = label_maskset(masks, text_of(vocabulary), vocabulary, 20.0, settings, allowed, token)
    writer.write(photo, masks, labels, token)


def write_run(path: Path, n: int, vocabulary: Vocabulary = ANIMALS, **changes: Any) -> Run:
    settings, words = changes.get("label_settings"), changes.pop("words", None)
    with open_writer(path, vocabulary, **changes) as writer:
        for photo in writer.register(photos(n)):
            write_photo(writer, photo, vocabulary, settings, words)
    return open_run(path)


def rows_of(run: Run) -> list[dict]:
    """All mask rows, in order of photo and mask."""
    rows = [row for table in run.tables() for row in table.to_pylist()]
    return sorted(rows, key=lambda row: (row["image_number"], int(row["mask_id"].rpartition("#")[2])))


def vectors_of(rows: list[dict], name: str) -> NDArray[np.float32]:
    """(N, d) vectors, "embedding", "surround" or "mask_token", by the definition in docs/run-directory.md."""
    column = "surround_difference" if name == "surround" else name
    scales = np.array([row[f"{column}_scale"] for row in rows], np.float32)[:, None]
    vectors = np.stack([np.frombuffer(row[column], np.int8) for row in rows]) * (scales / 127)
    return np.where(scales > 0, vectors + vectors_of(rows, "embedding"), 0) if name == "surround" else vectors


def rounded_scores(rows: list[dict]) -> list[dict]:
    """Rows with scores to float16 accuracy."""
    names = ("score", "margin", "top_scores")
    return [row | {name: np.float16(np.round(row[name], 3)).tolist() for name in names} for row in rows]
