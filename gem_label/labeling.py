"""From mask embeddings to labels: vocabularies, softmax, thresholds, containment (numpy only).

The logit of mask m and a phrase t is `logit_scale * e_m . t` (e_m: the mean of the patch features under the
mask, not normalised, so that an incoherent mask is an uncertain one). It is linear in the patch features,
which is why a run can be labelled anew without an image: see DESIGN, "The idea that shapes the architecture".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from gem_label.errors import UsageError
from gem_label.masks import MaskSet
from gem_label.vocabulary import Vocabulary

__all__ = [
    "LabelSettings",
    "MaskLabels",
    "Vocabulary",
    "candidate_logits",
    "image_top_k",
    "label_maskset",
    "label_masksets",
    "score_masks",
    "suppress_contained",
]

LOGITS_AT_ONCE = 1 << 20
"""How many logits are looked at together: 4 MB, which stay in a processor's cache from step to step."""


@dataclass(frozen=True)
class LabelSettings:
    """What decides over labels besides the words.

    Attributes:
        min_score: a mask whose best class has a lower probability, in [0, 1], is not kept.
        top_k: how many classes and scores are stored per mask.
        containment: a mask with this share of its area, in (0, 1], inside a better mask of its class goes.
        image_top_k: only the K classes likest to the whole photo (class token) take part; None: all.
    """

    min_score: float = 0.0
    top_k: int = 5
    containment: float = 0.9
    image_top_k: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_score <= 1.0:
            raise UsageError(f"min_score is a probability between 0 and 1, not {self.min_score}")
        if not 0.0 < self.containment <= 1.0:
            raise UsageError(f"containment is a share between 0 and 1, not {self.containment}")
        if self.top_k < 1 or (self.image_top_k is not None and self.image_top_k < 1):
            raise UsageError("top_k and image_top_k are at least 1")

    def to_dict(self) -> dict[str, Any]:
        """As JSON in manifest.json."""
        return asdict(self)


@dataclass(frozen=True)
class MaskLabels:
    """The labels of the N masks of one photo.

    Attributes:
        classes: the C class names that the indices point into.
        top_classes: (N, k) int32 class indices, best first; -1 where fewer than k classes took part.
        top_scores: (N, k) float32 their probabilities in [0, 1]; 0 beside a -1.
        background: (N,) bool, a background word won (or no class took part): the mask has no label.
        margin: (N,) float32 in [0, 1], best minus second-best probability, background words included.
        kept: (N,) bool, passed threshold, background and containment: what exports and push take.
    """

    classes: tuple[str, ...]
    top_classes: NDArray[np.int32]
    top_scores: NDArray[np.float32]
    background: NDArray[np.bool_]
    margin: NDArray[np.float32]
    kept: NDArray[np.bool_] = field(repr=False)

    def __len__(self) -> int:
        return len(self.margin)

    def __getitem__(
        self, index: NDArray[np.bool_] | NDArray[np.integer] | Sequence[int] | slice
    ) -> MaskLabels:
        """The labels of the chosen masks, by a boolean mask of length N, by indices or by a slice."""
        rows: Any = index if isinstance(index, slice) else np.asarray(index)
        if not isinstance(rows, slice) and rows.dtype != np.bool_:
            rows = rows.astype(np.int64)
        return replace(
            self,
            top_classes=self.top_classes[rows],
            top_scores=self.top_scores[rows],
            background=self.background[rows],
            margin=self.margin[rows],
            kept=self.kept[rows],
        )

    @property
    def label_index(self) -> NDArray[np.int32]:
        """(N,) index of each mask's class, -1 where background won."""
        return np.where(self.background, -1, self.top_classes[:, 0]).astype(np.int32)

    @property
    def score(self) -> NDArray[np.float32]:
        """(N,) probability of each mask's best class (also where background won)."""
        return self.top_scores[:, 0]

    @property
    def names(self) -> list[str | None]:
        """N labels, None where background won."""
        return [None if i < 0 else self.classes[i] for i in self.label_index]


def candidate_logits(
    embeddings: NDArray[np.float32], text: NDArray[np.float32], vocabulary: Vocabulary, logit_scale: float
) -> NDArray[np.float32]:
    """Logits of the classes, then of the background words.

    A class with several phrasings takes its best one's logit, so that phrasings stand in for each other and a
    class does not win by having more of them.

    Args:
        embeddings: (N, d) mask (or image) embeddings.
        text: (P, d) unit-length text embeddings of `vocabulary.phrases`.
        vocabulary: C classes and B background words.
        logit_scale: the CLIP model's scale (100 for OpenAI's).

    Returns:
        (N, C + B) float32.
    """
    if text.shape[0] != len(vocabulary.phrases):
        raise ValueError(f"{text.shape[0]} text embeddings for {len(vocabulary.phrases)} phrases")
    # the scale goes onto the embeddings, which are fewer numbers than the logits
    logits = (embeddings * np.float32(logit_scale)).astype(np.float32, copy=False) @ text.astype(
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
    """(C,) the K classes, among the allowed ones, whose text is likest to the whole photo.

    Args:
        image_embedding: (d,) the model's ordinary image embedding.
        text: (P, d) text embeddings of `vocabulary.phrases`.
        vocabulary: C classes; background words do not take part here.
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


def score_masks(
    embeddings: NDArray[np.float32],
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
    allowed: NDArray[np.bool_] | None = None,
    top_k: int = 5,
) -> MaskLabels:
    """Softmax over classes and background words; `kept` says only that a class won.

    Args:
        embeddings: (N, d) pooled mask embeddings e_m.
        text: (P, d) unit-length text embeddings of `vocabulary.phrases`.
        vocabulary: C classes and B background words.
        logit_scale: the CLIP model's scale.
        allowed: (C,) the classes that take part, or (N, C) for each mask; None: all. Background words always do.
        top_k: how many classes to give per mask (at most C).
    """
    n, c, k = len(embeddings), len(vocabulary.classes), min(top_k, len(vocabulary.classes))
    logits = candidate_logits(embeddings, text, vocabulary, logit_scale)
    part = None if allowed is None else np.broadcast_to(allowed, (n, c))
    if part is not None:
        logits[:, :c][~part] = -np.inf
        if logits.shape[1] == c:
            logits[~part.any(axis=1)] = 0  # nothing takes part: any numbers do, as long as they are numbers
    logits -= logits.max(axis=1, keepdims=True)
    odds = np.exp(logits, out=logits)
    total = odds.sum(axis=1, keepdims=True)
    rivals = np.sort(odds[:, c:], axis=1)[:, -2:] / total  # the likeliest background words
    if part is not None:
        odds[:, :c][~part] = -1.0  # below every class that takes part
    top_classes, top_scores = _largest(odds[:, :c], max(k, min(2, c)))
    top_scores /= total  # a whole vocabulary need not be divided for the few that are stored
    winners = np.sort(np.hstack([np.zeros((n, 2), np.float32), top_scores[:, :2], rivals]), axis=1)
    top_classes, top_scores = top_classes[:, :k], top_scores[:, :k]
    background = (top_scores[:, 0] < rivals.max(axis=1, initial=0.0)) | (top_scores[:, 0] < 0)
    return MaskLabels(
        classes=vocabulary.classes,
        top_classes=np.where(top_scores < 0, -1, top_classes).astype(np.int32),
        top_scores=np.maximum(top_scores, 0),
        background=background,
        margin=winners[:, -1] - winners[:, -2],
        kept=~background,
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


def suppress_contained(masks: MaskSet, labels: MaskLabels, threshold: float = 0.9) -> NDArray[np.bool_]:
    """(N,) `kept` without the masks that lie inside a better kept mask of the same class (a wheel of a car).

    Better: a higher score; at the same score the larger mask. Inside: |A and B| / |A| >= threshold.
    """
    kept = labels.kept.copy()
    of_class = np.bincount(labels.label_index[kept], minlength=1)
    rows = np.flatnonzero(kept)
    rows = rows[of_class[labels.label_index[rows]] > 1]  # a mask alone in its class is inside none of them
    if not len(rows):
        return kept
    candidates = masks[rows]
    boxes, areas, rles = candidates.boxes, candidates.areas, candidates.rles
    score, index = labels.score[rows], labels.label_index[rows]
    best_first = np.lexsort((np.arange(len(areas)), -areas, -score))
    x, y, w, h = boxes[best_first].T
    area, index = areas[best_first], index[best_first]
    # boxes first: they rule out nearly all pairs, and run lengths are slow to intersect
    overlap = np.minimum.outer(x + w, x + w) - np.maximum.outer(x, x)
    overlap *= np.maximum(np.minimum.outer(y + h, y + h) - np.maximum.outer(y, y), 0)
    possible = np.tril((overlap >= threshold * area[:, None]) & np.equal.outer(index, index), -1)
    parts, wholes = np.flatnonzero(possible.any(axis=1)), np.flatnonzero(possible.any(axis=0))
    if len(parts):
        part_rles, whole_rles = ([rles[i] for i in best_first[some]] for some in (parts, wholes))
        # iscrowd divides the intersection by the first mask's area alone, which is containment
        inside = np.asarray(coco_mask.iou(part_rles, whole_rles, [1] * len(wholes))) >= threshold
        inside &= possible[np.ix_(parts, wholes)]
        alive = np.ones(len(area), bool)
        for part, row in zip(parts, inside, strict=True):
            alive[part] = not alive[wholes[row]].any()
        kept[rows[best_first]] = alive
    return kept


def label_maskset(
    masks: MaskSet,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
    settings: LabelSettings | None = None,
    allowed: NDArray[np.bool_] | None = None,
    image_embedding: NDArray[np.floating] | None = None,
) -> MaskLabels:
    """Label the masks of one photo: softmax, threshold, background, containment (DESIGN, "Masks and labels").

    Args:
        masks: N masks with embeddings.
        text: (P, d) unit-length text embeddings of `vocabulary.phrases`.
        vocabulary: C classes and B background words.
        logit_scale: the CLIP model's scale.
        settings: thresholds; None: the defaults.
        allowed: (C,) the classes that this photo may have; None: all.
        image_embedding: (d,) the photo's class-token embedding, needed for `settings.image_top_k`.
    """
    settings = settings or LabelSettings()
    return label_masksets([masks], text, vocabulary, logit_scale, settings, [allowed], [image_embedding])


def label_masksets(
    masks: Sequence[MaskSet],
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    logit_scale: float,
    settings: LabelSettings,
    allowed: Sequence[NDArray[np.bool_] | None],
    image_embeddings: Sequence[NDArray[np.floating] | None],
) -> MaskLabels:
    """Label the masks of several photos as `label_maskset` does, in fewer and larger steps.

    Args:
        masks: the masks of each photo, with embeddings.
        text: (P, d) unit-length text embeddings of `vocabulary.phrases`.
        vocabulary: C classes and B background words.
        logit_scale: the CLIP model's scale.
        settings: thresholds.
        allowed: for each photo (C,) the classes that it may have; None: all.
        image_embeddings: for each photo its (d,) class-token embedding, needed for `settings.image_top_k`.

    Returns:
        The labels of all masks, photo after photo.
    """
    stops = np.cumsum([len(each) for each in masks])
    classes = _allowed_by_photo(len(masks), text, vocabulary, settings, allowed, image_embeddings)
    embeddings = np.concatenate([_embeddings(each, text.shape[1]) for each in masks])
    owner = np.repeat(np.arange(len(masks)), np.diff(stops, prepend=0))
    step = max(1, LOGITS_AT_ONCE // len(text))
    parts = [
        score_masks(
            embeddings[first : first + step],
            text,
            vocabulary,
            logit_scale,
            None if classes is None else classes[owner[first : first + step]],
            settings.top_k,
        )
        for first in range(0, max(1, len(embeddings)), step)
    ]
    labels = _joined(parts)
    labels = replace(labels, kept=labels.kept & (labels.score >= settings.min_score))
    kept = [
        suppress_contained(each, labels[stop - len(each) : stop], settings.containment)
        for each, stop in zip(masks, stops.tolist(), strict=True)
    ]
    return replace(labels, kept=np.concatenate(kept))


def _allowed_by_photo(
    photos: int,
    text: NDArray[np.float32],
    vocabulary: Vocabulary,
    settings: LabelSettings,
    allowed: Sequence[NDArray[np.bool_] | None],
    image_embeddings: Sequence[NDArray[np.floating] | None],
) -> NDArray[np.bool_] | None:
    """(photos, C) the classes that take part in each photo, None: all in all."""
    if settings.image_top_k is None and all(each is None for each in allowed):
        return None
    chosen = np.ones((photos, len(vocabulary.classes)), bool)
    for row, some, embedding in zip(chosen, allowed, image_embeddings, strict=True):
        if some is not None:
            row[:] = some
        if settings.image_top_k is not None:
            if embedding is None:
                raise UsageError("image_top_k needs the photo's own embedding, which this run does not hold")
            row[:] = image_top_k(embedding, text, vocabulary, settings.image_top_k, row.copy())
    return chosen


def _embeddings(masks: MaskSet, dimension: int) -> NDArray[np.float32]:
    if masks.embeddings is None and len(masks):
        raise ValueError("the masks have no embeddings yet: pool patch features first")
    return np.zeros((0, dimension), np.float32) if masks.embeddings is None else masks.embeddings


def _joined(parts: Sequence[MaskLabels]) -> MaskLabels:
    """The labels of several lots of masks as one."""
    if len(parts) == 1:
        return parts[0]
    return MaskLabels(
        parts[0].classes,
        np.concatenate([part.top_classes for part in parts]),
        np.concatenate([part.top_scores for part in parts]),
        np.concatenate([part.background for part in parts]),
        np.concatenate([part.margin for part in parts]),
        np.concatenate([part.kept for part in parts]),
    )
