"""Whether words learn, and how much: cross-validation by photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gem_label.learning.validation import photo_folds, standard_errors
from gem_label.learning.words import LearnedWords, WordExamples, fit_words, learned_text, word_losses
from gem_label.vocabulary import Vocabulary

WORD_STRENGTHS = (0.3, 0.1, 0.03)
"""How strongly words are held at their text, the strongest first; which one is chosen by cross-validation."""
WORD_FOLDS = 5
LEAST_EXAMPLES = 3
"""Things that a class needs to learn from."""
LEAST_GAIN = 2.0
"""Words learn when they gain at least so many standard errors over photos."""


@dataclass(frozen=True)
class TaughtClass:
    """A class that learned: its name, and how many things show it."""

    name: str
    things: int


@dataclass(frozen=True)
class WordValidation:
    """How taught words did on photos that they had not seen.

    Attributes:
        classes: that had enough examples.
        strength: that did best, None where none was tried.
        loss_before: mean log-loss of the words of examples by text alone; None where none was tried.
        loss_after: the same of words that learned from the other photos.
        gain: the difference in standard errors over photos.
        used: whether that was enough.
        reason: why not, "" where they are used.
    """

    classes: tuple[TaughtClass, ...] = ()
    strength: float | None = None
    loss_before: float | None = None
    loss_after: float | None = None
    gain: float | None = None
    used: bool = False
    reason: str = ""


@dataclass(frozen=True)
class WordChoice:
    """Words and how they were chosen.

    Attributes:
        words: None where classes stay their text.
        validation: how they did on photos that they had not seen.
        held_out_text: for each of `photo_folds(photos, WORD_FOLDS)` the (T, d) text embeddings that the other photos
            teach.
    """

    words: LearnedWords | None
    validation: WordValidation
    held_out_text: tuple[NDArray[np.float32], ...]


def choose_words(
    examples: WordExamples,
    photos: int,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
) -> WordChoice:
    """The words that do best on photos they have not seen, or none.

    Args:
        examples: of reviewed photos.
        photos: how many photos there are.
        text: (T, d) embeddings of `vocabulary.phrases`.
        vocabulary: the words.
        logit_scale: the CLIP model's scale.
    """
    folds = photo_folds(photos, WORD_FOLDS)
    untaught = (text,) * len(folds)
    taught, classes = classes_with_examples(examples, vocabulary.classes)
    if not len(taught):
        reason = f"no class has {LEAST_EXAMPLES} things to learn from"
        return WordChoice(None, WordValidation(reason=reason), untaught)
    if len(np.unique(examples.photo)) < 2:
        reason = "all examples are of one photo"
        return WordChoice(None, WordValidation(classes, reason=reason), untaught)
    weight = examples.weight
    before = word_losses(examples, text, vocabulary, logit_scale, taught) * weight
    tried = []
    for strength in WORD_STRENGTHS:
        texts, after = [], before.copy()
        for fold in folds:
            unseen = np.isin(examples.photo, fold)
            words = fit(examples[~unseen], text, vocabulary, logit_scale, taught, strength)
            texts.append(learned_text(text, vocabulary, words))
            losses = word_losses(examples[unseen], texts[-1], vocabulary, logit_scale, taught)
            after[unseen] = losses * weight[unseen]
        tried.append((float(after.sum()), strength, after, tuple(texts)))
        if tried[-1][0] > min(total for total, *_ in tried):
            break  # words that are held less only fit their own photos better
    total, strength, after, held_out = min(tried, key=lambda each: each[0])
    gain = standard_errors(before - after, examples.photo)
    used = gain >= LEAST_GAIN
    validation = WordValidation(
        classes,
        strength,
        float(before.sum() / weight.sum()),
        total / float(weight.sum()),
        gain,
        used,
        "" if used else "they do not do better for certain on photos that they have not seen",
    )
    if not used:
        return WordChoice(None, validation, untaught)
    words = fit(examples, text, vocabulary, logit_scale, taught, strength)
    return WordChoice(words, validation, held_out)


def fit(
    examples: WordExamples,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
    taught: NDArray[np.int64],
    strength: float,
) -> LearnedWords:
    """`fit_words` as `LearnedWords` that are added to the text of their classes."""
    added = fit_words(examples, text, vocabulary, logit_scale, taught, strength)
    names = tuple(vocabulary.classes[i] for i in taught.tolist())
    return LearnedWords(names, added, np.ones(len(taught), bool))


def classes_with_examples(
    examples: WordExamples, classes: Sequence[str], least: int = LEAST_EXAMPLES
) -> tuple[NDArray[np.int64], tuple[TaughtClass, ...]]:
    """(K,) indices of the classes with at least `least` things, and what each learns from."""
    shows = examples.shown >= 0
    counts = np.bincount(examples.shown[shows], examples.weight[shows], minlength=len(classes))
    things = np.rint(counts).astype(int)
    taught = np.flatnonzero(things >= least)
    return taught, tuple(TaughtClass(classes[i], int(things[i])) for i in taught.tolist())
