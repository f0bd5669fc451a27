"""From mask embeddings to scores: softmax inside a mask and in its surround, presence in the photo (numpy only).

The logit of a vector v and a phrase t is `logit_scale * v . t`. Pooled vectors are linear in the patch features,
which is why a run can be labeled with new words without its images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gem_label.labeling.evidence import Evidence
from gem_label.labeling.labels import MaskLabels, join_labels
from gem_label.vocabulary import Vocabulary

LOGITS_AT_ONCE = 1 << 20
"""How many logits are looked at together: 4 MB, which stay in a processor's cache from step to step."""

RESCORED = 5
"""How many of a mask's classes, the most probable inside it, get a score at least."""


@dataclass(frozen=True)
class ScoreModel:
    """How a score follows from logits. Everything rests on the CLIP model's own logit scale, not on its cosines.

    For mask m and class c, with e its pooled embedding and s that of its surround:

        inside    p    = softmax over all words of temperature * logits of i, i = (1 + contrast) * e - contrast * s
        surround  p_s  = softmax over all words of surround_temperature * logits of s
        presence  g    = exp(presence * (logit of c for the whole photo - the highest logit of any word))
        size      z    = min(1, patches / enough_patches)
        evidence  q    = p^inside * (1 - p_s)^outside * max(g, presence_floor) * z^size
        score          = 1 / (1 + exp(-(slope * log(q / (1 - q)) + offset)))

    Where a mask has a token t, i is mixed with it, (1 - token_share) * i + token_share * t. As logits are linear in
    the vector, this is the geometric mean of the probabilities by patches and by token.

    A part of a thing has the thing's word in its surround, the whole has not. `contrast` takes out what attention
    spreads into a mask from around it. A mask of few patches has an embedding mixed with its neighbors'. The last
    line makes the score an estimate of the probability that the label is right (Platt, 1999).

    The numbers were chosen on rendered scenes and on simulated photos together (docs/label-quality.md).
    """

    temperature: float = 1.2
    contrast: float = 0.4
    surround_temperature: float = 0.7
    inside: float = 0.65
    outside: float = 1.0
    presence: float = 0.15
    presence_floor: float = 0.05
    enough_patches: float = 10.0
    size: float = 0.6
    slope: float = 1.6
    offset: float = 0.17
    negatives: int = 256
    most_weight: float = 4.0

    def negative_weight(self, count: int) -> float:
        """How often each of `count` negative words counts in a softmax.

        Few negatives stand for many: of the words that a mask could be called, the softmax sees `negatives` either
        way, so that scores mean the same. Fewer than `negatives / most_weight` are not made up for.
        """
        return min(max(self.negatives / count, 1.0), self.most_weight) if count else 1.0


def candidate_logits(
    vectors: NDArray[np.float32], text: NDArray[np.float32], vocabulary: Vocabulary, logit_scale: float
) -> NDArray[np.float32]:
    """Logits of the classes, then of the words that compete with them.

    A class with several phrasings takes its best one's logit, so that phrasings stand in for each other and a
    class does not win by having more of them.

    Args:
        vectors: (N, d) embeddings of masks, surrounds or images.
        text: (P, d) unit-length text embeddings of `vocabulary.phrases`.
        vocabulary: C classes, and R words that compete with them.
        logit_scale: the CLIP model's scale (100 for OpenAI's).

    Returns:
        (N, C + R) float32.
    """
    if text.shape[0] != len(vocabulary.phrases):
        raise ValueError(f"{text.shape[0]} text embeddings for {len(vocabulary.phrases)} phrases")
    # the scale goes onto the vectors, which are fewer numbers than the logits
    logits = (vectors * np.float32(logit_scale)).astype(np.float32, copy=False) @ text.astype(
        np.float32, copy=False
    ).T
    first = vocabulary.first_phrase
    # reduceat would cost as much as the product when every candidate has one phrase, as most do
    return logits if len(first) == logits.shape[1] else np.maximum.reduceat(logits, first, axis=1)


def image_top_k(
    image_embedding: NDArray[np.floating],
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    k: int,
    allowed: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """(C,) the K classes, among the allowed ones, whose text is most similar to the whole photo.

    Args:
        image_embedding: (d,) the model's ordinary image embedding.
        text: (P, d) text embeddings of `vocabulary.phrases`.
        vocabulary: C classes; other words do not take part here.
        k: how many to keep.
        allowed: (C,) the classes to choose from; None: all.
    """
    similarity = candidate_logits(np.asarray(image_embedding, np.float32)[None], text, vocabulary, 1.0)[0]
    similarity = similarity[: len(vocabulary.classes)]
    possible = np.ones(len(similarity), bool) if allowed is None else allowed.astype(bool)
    best = np.argsort(np.where(possible, -similarity, np.inf), kind="stable")[:k]
    chosen = np.zeros(len(similarity), bool)
    chosen[best] = True
    return chosen & possible


def score_evidence(
    evidence: Evidence,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
    allowed: NDArray[np.bool_] | None = None,
    known: NDArray[np.bool_] | None = None,
    top_k: int = 5,
    model: ScoreModel | None = None,
) -> MaskLabels:
    """Classes and scores of masks; `kept` and `selected` say only that no background word won.

    Args:
        evidence: M masks of P photos.
        text: (T, d) unit-length text embeddings of `vocabulary.phrases`.
        vocabulary: C classes, and words that compete with them.
        logit_scale: the CLIP model's scale.
        allowed: (P, C) the classes that a photo's masks may have; None: all. The other classes compete as negative
            words do, so that something else does not take the least unlikely of few classes.
        known: (P,) photos whose allowed classes are known to be in them: presence counts for nothing there.
        top_k: how many classes to give per mask (at most C).
        model: how scores follow from logits; None: the default.
    """
    model = model or ScoreModel()
    presence = _presence(evidence, text, vocabulary, logit_scale, known, model)
    owner, patches = evidence.photo, evidence.patches
    size = np.where(patches > 0, np.minimum(patches / model.enough_patches, 1.0) ** model.size, 1.0)
    step = max(1, LOGITS_AT_ONCE // max(1, len(text)))
    parts = []
    for first in range(0, max(1, len(owner)), step):
        rows = slice(first, first + step)
        inside, around, surrounded = mask_vectors(evidence, rows, model)
        takes_part = None if allowed is None else allowed[owner[rows]]
        probability = _inside(inside, text, vocabulary, logit_scale, takes_part, top_k, model)
        classes = np.maximum(probability.top_classes, 0)
        values = probability.top_scores**model.inside * size[rows, None]
        if around is not None and len(vocabulary.first_phrase) > 1:  # one word alone is everywhere
            odds, total = _softmax_parts(
                around, text, vocabulary, logit_scale * model.surround_temperature, model
            )
            surround = np.take_along_axis(odds, classes, axis=1) / total
            surround[~surrounded] = 0.0
            values *= (1.0 - surround) ** model.outside
        if presence is not None:
            values *= presence[owner[rows, None], classes]
        parts.append(_ranked(probability, _calibrated(values, model), min(top_k, len(vocabulary.classes))))
    return join_labels(parts)


def mask_vectors(
    evidence: Evidence, rows: slice, model: ScoreModel
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.bool_]]:
    """What stands for the inside of some masks, what for their surrounds, and which have one.

    Args:
        evidence: M masks.
        rows: N of them.
        model: how scores follow from logits.

    Returns:
        (N, d), (N, d) or None where there are no surrounds, and (N,) bool.
    """
    inside = evidence.embeddings[rows]
    around: NDArray[np.float32] | None = None
    surrounded: NDArray[np.bool_] = np.zeros(len(inside), bool)
    if evidence.surrounds is not None:
        around = evidence.surrounds[rows]
        surrounded = np.any(around, axis=1)
        inside = inside + (np.float32(model.contrast) * surrounded)[:, None] * (inside - around)
    if evidence.mask_tokens is not None:
        share = np.float32(evidence.token_share)
        inside = (1 - share) * inside + share * evidence.mask_tokens[rows]
    return inside, around, surrounded


def _presence(
    evidence: Evidence,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
    known: NDArray[np.bool_] | None,
    model: ScoreModel,
) -> NDArray[np.float32] | None:
    """(P, C) how well each class goes with each photo as a whole, in (0, 1]; None where photos have no embedding."""
    if evidence.photos is None or not model.presence:
        return None
    logits = candidate_logits(evidence.photos, text, vocabulary, logit_scale)
    below: NDArray[np.float32] = logits[:, : len(vocabulary.classes)] - logits.max(axis=1, keepdims=True)
    if known is not None:
        below[known] = 0.0
    return np.maximum(np.exp(np.float32(model.presence) * below), np.float32(model.presence_floor))


def _softmax_parts(
    vectors: NDArray[np.float32],
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
    model: ScoreModel,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Odds of all candidates, and what to divide them by, (N, C + R) and (N, 1).

    The odds of a class that has negatives of its own are lower already, as these compete with that class alone.
    """
    classes, own = len(vocabulary.classes), len(vocabulary.negative_of)
    logits = candidate_logits(vectors, text, vocabulary, logit_scale)
    if vocabulary.negatives:
        stop = logits.shape[1] - own
        weight = model.negative_weight(len(vocabulary.negatives))
        logits[:, stop - len(vocabulary.negatives) : stop] += np.float32(np.log(weight))
    logits -= logits.max(axis=1, keepdims=True)
    odds = np.exp(logits, out=logits)
    shared = odds[:, : odds.shape[1] - own]
    total = np.maximum(shared.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    if own:
        against = np.zeros((len(odds), classes), np.float32)
        np.add.at(against.T, vocabulary.negative_of, odds[:, shared.shape[1] :].T)
        shared[:, :classes] *= total / (total + against)
    return shared, total


def _inside(
    vectors: NDArray[np.float32],
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
    allowed: NDArray[np.bool_] | None,
    top_k: int,
    model: ScoreModel,
) -> MaskLabels:
    """The most probable classes inside masks, at least `RESCORED` of them, with their probabilities as scores."""
    n, c, b = len(vectors), len(vocabulary.classes), len(vocabulary.background)
    odds, total = _softmax_parts(vectors, text, vocabulary, logit_scale * model.temperature, model)
    strongest = odds[:, c : c + b].max(axis=1, initial=0.0)  # of the background words
    rivals = [_largest(odds[:, c:].copy(), min(2, odds.shape[1] - c))[1]]
    if allowed is not None:
        rivals.append(_largest(np.where(allowed, 0.0, odds[:, :c]), min(2, c))[1])
        odds[:, :c][~allowed] = -1.0  # below every class that the mask may have
    top_classes, top_scores = _largest(odds[:, :c], min(max(top_k, RESCORED), c))
    background = (top_scores[:, 0] < strongest) | (top_scores[:, 0] < 0)
    # a whole vocabulary need not be divided for the few that are stored
    winners = np.sort(np.hstack([np.zeros((n, 2), np.float32), top_scores[:, :2], *rivals]), axis=1) / total
    top_scores /= total
    return MaskLabels(
        classes=vocabulary.classes,
        top_classes=np.where(top_scores < 0, -1, top_classes).astype(np.int32),
        top_scores=np.maximum(top_scores, 0),
        background=background,
        margin=(winners[:, -1] - winners[:, -2]).astype(np.float32),
        kept=~background,
        selected=~background,
    )


def _calibrated(values: NDArray[np.floating], model: ScoreModel) -> NDArray[np.float32]:
    """Scores of evidence in [0, 1]: Platt's logistic function of its log-odds, which keeps the order."""
    bounded = np.clip(values.astype(np.float64), 1e-9, 1 - 1e-9)
    log_odds = model.slope * np.log(bounded / (1 - bounded)) + model.offset
    return np.where(values > 0, 1 / (1 + np.exp(-log_odds)), 0.0).astype(np.float32)


def _ranked(labels: MaskLabels, scores: NDArray[np.float32], top_k: int) -> MaskLabels:
    """The same masks with these scores of their classes, best first, the first `top_k` of them."""
    scores = np.where(labels.top_classes < 0, 0.0, scores).astype(np.float32)
    order = np.argsort(np.where(labels.top_classes < 0, 1.0, -scores), axis=1, kind="stable")[:, :top_k]
    return MaskLabels(
        classes=labels.classes,
        top_classes=np.take_along_axis(labels.top_classes, order, axis=1),
        top_scores=np.take_along_axis(scores, order, axis=1),
        background=labels.background,
        margin=labels.margin,
        kept=labels.kept,
        selected=labels.selected,
    )


def _largest(values: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Columns and values of each row's largest entries, largest first, the first column where they tie.

    The entries that were found are overwritten. A pass of argmax a column: for the few that are asked for, that
    is many times faster than to partition or sort a large vocabulary.

    Args:
        values: (N, C).
        count: K <= C.

    Returns:
        (N, K) columns and (N, K) values.
    """
    rows = np.arange(len(values))
    columns, found = np.zeros((len(values), count), np.int64), np.zeros((len(values), count), np.float32)
    for i in range(count):
        columns[:, i] = values.argmax(axis=1)
        found[:, i] = values[rows, columns[:, i]]
        values[rows, columns[:, i]] = -np.inf
    return columns, found
