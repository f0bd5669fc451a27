"""Classes by examples: annotated photos, from anywhere, whose masks are embedded once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError
from gem_label.formats.annotations import AnnotatedPhoto, Annotations
from gem_label.formats.photo_names import pair_photos
from gem_label.formats.reading import read_annotations
from gem_label.geometry import draw_shapes
from gem_label.labeling.evidence import TOKEN_SHARE, Evidence, evidence_of
from gem_label.labeling.negatives import Wanted
from gem_label.labeling.scoring import ScoreModel, mask_vectors
from gem_label.learning.learned import Learned
from gem_label.learning.training import SURROUND_WEIGHT
from gem_label.learning.words import LearnedWords, WordExamples, fit_words
from gem_label.masks import MaskSet
from gem_label.photos.listing import list_images
from gem_label.photos.reading import read_image
from gem_label.vocabulary import Vocabulary

if TYPE_CHECKING:
    from gem_label.labeler import Labeler

STRENGTH = 0.03
"""How strongly a class is held at its text, see `fit_words`; chosen on scenes (docs/learning.md)."""


def with_example_classes(
    vocabulary: Vocabulary | None, annotations: Annotations, background: str = ""
) -> Vocabulary:
    """A vocabulary with the classes of annotations that it does not have, each its own phrasing.

    Args:
        vocabulary: the words; None: there are none.
        annotations: the examples.
        background: words that compete and never become a label, where there is no vocabulary.
    """
    if vocabulary is None:
        return Vocabulary.from_words(list(annotations.classes), background)
    new = [name for name in annotations.classes if name not in vocabulary.classes]
    return replace(
        vocabulary,
        classes=(*vocabulary.classes, *new),
        phrasings=(*vocabulary.phrasings, *((name,) for name in new)),
        own_negatives=(*vocabulary.own_negatives, *(() for _ in new)) if vocabulary.own_negatives else (),
    )


def read_examples(path: str | Path) -> Annotations:
    """Annotated photos with the paths of their files, which are below the folder of the annotations.

    Raises:
        UsageError: the file cannot be read, or none of its photos is there.
    """
    path = Path(path)
    annotations = read_annotations(path)
    listed = [photo for photo in annotations.photos if photo.masks]
    there = {photo.path: photo.path for photo in list_images([path if path.is_dir() else path.parent])}
    paths = {
        place: file for file, place in pair_photos(there, dict(enumerate(p.name for p in listed))).items()
    }
    if not paths:
        raise UsageError(f"none of the annotated photos of {path} is below its folder: put them there")
    found = [replace(photo, path=paths[place]) for place, photo in enumerate(listed) if place in paths]
    return replace(annotations, photos=found, count=len(found))


def with_examples(
    learned: Learned | None,
    annotations: Annotations,
    labeler: Labeler,
    vocabulary: Vocabulary,
    words: frozenset[str],
    negatives: Wanted = "auto",
    token_share: float = TOKEN_SHARE,
) -> Learned:
    """What was learned, and what examples say about the looks of their classes.

    Args:
        learned: None: nothing yet.
        annotations: by `read_examples`.
        labeler: embeds the masks.
        vocabulary: the words and the classes of the examples.
        words: the classes that have a word.
        negatives: words that compete, as for `Labeler.job`.
        token_share: of mask tokens, as labels will have it, see `LabelSettings`.
    """
    learned = learned or Learned(labeler.clip.weights_sha256)
    prepared = labeler.text.prepare(vocabulary, negatives)
    text = labeler.text.encode(prepared.phrases)
    return replace(learned, examples=learn_examples(annotations, labeler, prepared, text, words, token_share))


def learn_examples(
    annotations: Annotations,
    labeler: Labeler,
    vocabulary: Vocabulary,
    text: NDArray[np.float32],
    words: frozenset[str],
    token_share: float = TOKEN_SHARE,
) -> LearnedWords:
    """What annotated masks say about the looks of their classes.

    A class that has a word starts from its text, another one from the mean of all texts, which looks like nothing in
    particular.

    Args:
        annotations: with paths of photos; every mask with a class is an example.
        labeler: embeds the masks.
        vocabulary: the words and the classes of the examples.
        text: (T, d) embeddings of `vocabulary.phrases`.
        words: the classes that have a word.
        token_share: of mask tokens, as labels will have it.

    Raises:
        UsageError: there is no mask to learn from.
        ImageError: a photo cannot be read.
    """
    names: list[str] = []
    parts: list[MaskSet] = []
    for masks, labels in _embedded(annotations, labeler):
        parts.append(masks)
        names += labels
    if not names:
        raise UsageError("the examples have no masks: boxes and crowds alone teach nothing")
    taught = np.array([vocabulary.classes.index(name) for name in dict.fromkeys(names)], np.int64)
    with_text = np.array([vocabulary.classes[i] in words for i in taught.tolist()], bool)
    wordless = np.zeros(len(text), bool)
    for number in taught[~with_text].tolist():
        first = int(vocabulary.first_phrase[number])
        wordless[first : first + len(vocabulary.phrasings[number])] = True
    start = text.copy()
    start[wordless] = text[~wordless if not wordless.all() else wordless].mean(axis=0)
    evidence = replace(evidence_of(parts, [None] * len(parts), text.shape[1]), token_share=token_share)
    examples = _word_examples(evidence, [vocabulary.classes.index(name) for name in names])
    added = fit_words(examples, start, vocabulary, labeler.clip.logit_scale, taught, STRENGTH)
    base = start[vocabulary.first_phrase[taught]] * (~with_text)[:, None]
    classes = tuple(vocabulary.classes[i] for i in taught.tolist())
    return LearnedWords(classes, (base + added).astype(np.float32), with_text)


def _word_examples(evidence: Evidence, shown: list[int]) -> WordExamples:
    """Masks that show their class, and surrounds that do not."""
    inside, around, surrounded = mask_vectors(evidence, slice(0, len(shown)), ScoreModel())
    ring, classes = np.flatnonzero(surrounded), np.array(shown, np.int64)
    surrounds = np.zeros_like(inside) if around is None else around
    nothing = np.full(len(shown), -1)
    return WordExamples(
        np.concatenate([inside, surrounds[ring]]),
        np.concatenate([classes, nothing[ring]]),
        np.concatenate([nothing, classes[ring]]),
        np.concatenate([np.ones(len(shown)), np.full(len(ring), SURROUND_WEIGHT)]),
        np.concatenate([evidence.photo, evidence.photo[ring]]),
    )


def _embedded(annotations: Annotations, labeler: Labeler) -> Iterator[tuple[MaskSet, list[str]]]:
    """Yield the masks of each photo, embedded, and their classes."""
    for photo in annotations.photos:
        assert photo.path is not None
        pixels = read_image(photo.path)
        masks, names = _masks(photo, pixels.shape[0], pixels.shape[1])
        if names:
            yield labeler.embed(pixels, masks).masks, names


def _masks(photo: AnnotatedPhoto, height: int, width: int) -> tuple[MaskSet, list[str]]:
    """The masks of a photo that show one thing each, and their classes.

    Raises:
        UsageError: the photo has another size than the annotations say.
    """
    if photo.size not in (None, (height, width)):
        raise UsageError(
            f"{photo.path} is {width} x {height} pixels, not as its annotations say: annotate it again"
        )
    wanted = [mask for mask in photo.masks if mask.label and not mask.crowd and not mask.box_only]
    shapes = draw_shapes([mask.draw for mask in wanted], height, width)
    drawn = [(m.label, s.rle["counts"]) for m, s in zip(wanted, shapes, strict=True) if s.rle is not None]
    counts = tuple(counts for _, counts in drawn)
    ones = np.ones(len(drawn), np.float32)
    return MaskSet(height, width, counts, ones, ones, np.zeros((len(drawn), 2), np.float32)), [
        n for n, _ in drawn
    ]
