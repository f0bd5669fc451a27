"""Words that learn: a vector for each taught class, held at the embedding of its text (numpy, scipy).

With no example a class is its text, with many it is what the examples have in common. The vectors stand where text
embeddings stand, so that everything behind them (softmax, surround, presence, selection) stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gem_label.labeling.scoring import ScoreModel, candidate_logits
from gem_label.vocabulary import Vocabulary

OTHER = -2
"""Shown by an example that shows none of the classes that learn."""
MOST_STEPS = 100
LOWEST = -30.0
"""Of log-odds: what is surer than this counts as this sure."""


@dataclass(frozen=True)
class LearnedWords:
    """What was learned about the looks of K classes.

    Attributes:
        classes: their names.
        vectors: (K, d) float32.
        with_text: (K,) bool; True: the vector is added to the text embeddings of the class; False: it stands in
            place of them, for classes that have examples and no word.
    """

    classes: tuple[str, ...]
    vectors: NDArray[np.float32]
    with_text: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.classes):
            raise ValueError("every learned class has one vector")
        if len(self.with_text) != len(self.classes) or len(set(self.classes)) != len(self.classes):
            raise ValueError("learned classes are named once each, with or without text")
        if not np.isfinite(self.vectors).all():
            raise ValueError("learned vectors must be finite numbers")


def learned_text(
    text: NDArray[np.float32], vocabulary: Vocabulary, words: LearnedWords
) -> NDArray[np.float32]:
    """(T, d) the text embeddings of a vocabulary with what was learned about some of its classes.

    Args:
        text: (T, d) embeddings of `vocabulary.phrases`.
        vocabulary: the words; learned classes that are not among them are left out.
        words: what was learned.

    Raises:
        ValueError: the vectors have another length.
    """
    if len(words.classes) and words.vectors.shape[1] != text.shape[1]:
        raise ValueError(
            f"learned vectors of length {words.vectors.shape[1]}, text embeddings of {text.shape[1]}"
        )
    taught = text.astype(np.float32, copy=True)
    place = {name: number for number, name in enumerate(vocabulary.classes)}
    for name, vector, with_text in zip(words.classes, words.vectors, words.with_text, strict=True):
        if name in place:
            rows = _rows_of(vocabulary, place[name])
            taught[rows] = taught[rows] + vector if with_text else vector
    return taught


def _rows_of(vocabulary: Vocabulary, number: int) -> slice:
    """The rows of a class's phrasings among the text embeddings."""
    first = int(vocabulary.first_phrase[number])
    return slice(first, first + len(vocabulary.phrasings[number]))


@dataclass(frozen=True)
class WordExamples:
    """Vectors and what is known about the words that fit them.

    Attributes:
        vectors: (J, d) float32, what stands for the inside of a mask, or the embedding of a surround.
        shown: (J,) index of the class that it shows; `OTHER`: none of the classes that learn; -1: not known.
        not_shown: (J,) index of a class that it does not show, -1 where none is known.
        weight: (J,) how much each counts; the masks of one thing share a weight of about 1.
        photo: (J,) number of the photo, in the order of the photos.
    """

    vectors: NDArray[np.float32]
    shown: NDArray[np.int64]
    not_shown: NDArray[np.int64]
    weight: NDArray[np.float64]
    photo: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.weight)

    def __getitem__(self, rows: NDArray[np.bool_]) -> WordExamples:
        """Those of a boolean mask of length J."""
        return WordExamples(
            self.vectors[rows], self.shown[rows], self.not_shown[rows], self.weight[rows], self.photo[rows]
        )


def fit_words(
    examples: WordExamples,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
    taught: NDArray[np.int64],
    strength: float,
    model: ScoreModel | None = None,
) -> NDArray[np.float32]:
    """What to add to the text embeddings of some classes, so that the examples get their words.

    Minimizes the log-loss of the softmax that `score_evidence` takes inside masks, over examples with a known class,
    and of the probability of a class over examples that do not show it, plus a penalty for the length of what is
    added. Deterministic: L-BFGS from 0, in double precision.

    Args:
        examples: J vectors.
        text: (T, d) embeddings of `vocabulary.phrases`.
        vocabulary: the words.
        logit_scale: the CLIP model's scale.
        taught: (K,) indices of the classes that learn, ascending.
        strength: of the penalty, above 0: half of it is what a logit costs that is moved by 1.
        model: how scores follow from logits; None: the default.

    Returns:
        (K, d) float32.
    """
    from scipy.optimize import minimize

    model = model or ScoreModel()
    scale = logit_scale * model.temperature
    vectors = examples.vectors.astype(np.float64) * scale
    logits, rest = _split_logits(examples.vectors, text, vocabulary, scale, taught, model)
    place = np.full(len(vocabulary.classes) + 1, -1)
    place[taught] = np.arange(len(taught))
    not_shown, target = place[examples.not_shown], place[np.maximum(examples.shown, -1)]
    # what does not learn keeps its logit, and wins by what the others lose
    own = _own_logits(examples, text, vocabulary, scale, rest)
    known = np.flatnonzero((examples.shown != -1) & np.isfinite(own))
    denied = np.flatnonzero((not_shown >= 0) & (examples.shown == -1))
    weight, size = examples.weight, (len(taught), text.shape[1])

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        added = flat.reshape(size)
        moved = logits + vectors @ added.T
        highest = np.maximum(moved.max(axis=1, initial=-np.inf), rest)
        odds = np.exp(moved - highest[:, None])
        total = odds.sum(axis=1) + np.exp(rest - highest)
        log_total, share = np.log(total) + highest, odds / total[:, None]
        slope = np.zeros_like(share)
        learns = target[known] >= 0
        reached = np.where(learns, moved[known, np.maximum(target[known], 0)], own[known])
        value = (weight[known] * (log_total[known] - reached)).sum()
        slope[known] = weight[known, None] * share[known]
        slope[known[learns], target[known[learns]]] -= weight[known[learns]]
        p = np.clip(share[denied, not_shown[denied]], 0, 1 - np.exp(LOWEST))
        value -= (weight[denied] * np.log1p(-p)).sum()
        pull = weight[denied] * p / (1 - p)
        slope[denied] -= pull[:, None] * share[denied]
        slope[denied, not_shown[denied]] += pull
        value += 0.5 * strength * scale**2 * (flat * flat).sum()
        return float(value), (slope.T @ vectors).ravel() + strength * scale**2 * flat

    options = {"maxiter": MOST_STEPS, "ftol": 1e-7}
    found = minimize(loss, np.zeros(size[0] * size[1]), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x.reshape(size), np.float32)


def word_losses(
    examples: WordExamples,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
    taught: NDArray[np.int64],
    model: ScoreModel | None = None,
) -> NDArray[np.float64]:
    """(J,) what `fit_words` sums for each example, by these text embeddings and without weights.

    Args:
        examples: J vectors.
        text: (T, d) embeddings of `vocabulary.phrases`, taught or not.
        vocabulary: the words.
        logit_scale: the CLIP model's scale.
        taught: (K,) indices of the classes that learn.
        model: how scores follow from logits; None: the default.
    """
    model = model or ScoreModel()
    scale = logit_scale * model.temperature
    logits, rest = _split_logits(examples.vectors, text, vocabulary, scale, taught, model)
    total = np.logaddexp(np.logaddexp.reduce(logits, axis=1, initial=-np.inf), rest)
    own = _own_logits(examples, text, vocabulary, scale, rest)
    denied = np.isin(examples.not_shown, taught) & (examples.shown == -1)
    rows = np.flatnonzero(denied)
    losses = np.where((examples.shown != -1) & np.isfinite(own), total - own, 0.0)
    place = np.searchsorted(taught, examples.not_shown[rows])
    p = np.clip(np.exp(logits[rows, place] - total[rows]), 0, 1 - np.exp(LOWEST))
    losses[rows] = -np.log1p(-p)
    return losses


def _split_logits(
    vectors: NDArray[np.float32],
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    scale: float,
    taught: NDArray[np.int64],
    model: ScoreModel,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(J, K) logits of the classes that learn, and (J,) the logarithm of the summed odds of all other words."""
    logits = candidate_logits(vectors, text, vocabulary, scale).astype(np.float64)
    stop = logits.shape[1] - len(vocabulary.negative_of)  # what competes with one class alone is left out
    if vocabulary.negatives:
        count = len(vocabulary.negatives)
        logits[:, stop - count : stop] += np.log(model.negative_weight(count))
    others = np.setdiff1d(np.arange(stop), taught)
    rest = np.logaddexp.reduce(logits[:, others], axis=1, initial=-np.inf) if len(others) else None
    return logits[:, taught], np.full(len(vectors), -np.inf) if rest is None else rest


def _own_logits(
    examples: WordExamples,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    scale: float,
    rest: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(J,) the logit of what each example shows: of its class, or of all words that do not learn; 0: not known."""
    logits = candidate_logits(examples.vectors, text, vocabulary, scale).astype(np.float64)
    own = logits[np.arange(len(examples)), np.maximum(examples.shown, 0)]
    return np.where(examples.shown >= 0, own, np.where(examples.shown == OTHER, rest, 0.0))
