"""Photos with masks and annotations, labeled by today's rule and by the older one, and the figures of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from older_rule import label_by_older_rule
from pycocotools import mask as coco_mask

from gem_label.errors import UsageError
from gem_label.evaluation.label_files import draw_all, read_truth
from gem_label.evaluation.results import percent
from gem_label.labeling import LabelSettings, MaskLabels, Vocabulary, add_negatives, label_maskset
from gem_label.masks import MaskSet
from gem_label.metrics.labels import LabelReport, PhotoLabels, evaluate_labels

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
Figures = dict[str, float | None]

NEW, OLDER = "new rule", "older rule"
FIGURES = ("f1", "precision", "recall", "labels_per_thing", "absent", "best_f1", "best_threshold")
HEADER = ("F1", "precision", "recall", "labels/thing", "absent labeled", "best F1", "at")


@dataclass(frozen=True)
class Truth:
    """The annotations of one photo.

    Attributes:
        masks: G masks as pycocotools takes them.
        words: G class names.
        crowd: (G,) bool, annotations that are crowd regions.
    """

    masks: Sequence[dict[str, Any]]
    words: Sequence[str]
    crowd: NDArray[np.bool_]

    def maskset(self, height: int, width: int) -> MaskSet:
        """The masks of a photo of this size in pixels as a `MaskSet`."""
        count = len(self.masks)
        counts = tuple(mask["counts"] for mask in self.masks)
        ones = np.ones(count, np.float32)
        return MaskSet(height, width, counts, ones, ones, np.zeros((count, 2), np.float32))


@dataclass(frozen=True)
class EmbeddedTruth:
    """A photo whose masks are pooled, with its annotations.

    Attributes:
        name: what errors call the photo.
        masks: N masks with embeddings, surrounds and overlaps.
        image_embedding: (d,) class-token embedding; None where the run holds none.
        truth: the annotations.
    """

    name: str
    masks: MaskSet
    image_embedding: NDArray[np.floating] | None
    truth: Truth


@dataclass(frozen=True)
class EncodedWords:
    """A vocabulary with its negative words.

    Attributes:
        vocabulary: P phrases.
        text: (P, d) unit-length text embeddings of them.
        logit_scale: the CLIP model's scale.
    """

    vocabulary: Vocabulary
    text: NDArray[np.float32]
    logit_scale: float

    @classmethod
    def of(
        cls,
        words: Sequence[str],
        encode: Encode,
        logit_scale: float,
        known_words: Sequence[str] | None = None,
    ) -> EncodedWords:
        """Words with the negatives that `gem-label label` takes by default.

        Args:
            words: the classes.
            encode: n phrases to their (n, d) unit-length text embeddings.
            logit_scale: the CLIP model's scale.
            known_words: see `add_negatives`.
        """
        vocabulary = add_negatives(Vocabulary.from_words(words), encode, "auto", known_words)
        return cls(vocabulary, encode(vocabulary.phrases), logit_scale)


def read_truths(path: Path) -> tuple[dict[str, Truth], list[str]]:
    """The annotations of a file by file name, and its classes in the order of the file.

    Raises:
        UsageError: it cannot be read, has another form, or does not say the size of a photo.
    """
    annotations = read_truth(path)
    truths = {}
    for photo in annotations.photos:
        if photo.size is None:
            raise UsageError(f"{path} does not say the size of {photo.name}")
        truths[photo.name] = Truth(
            draw_all(path, photo, photo.masks, photo.size),
            [mask.label for mask in photo.masks],
            np.array([mask.crowd for mask in photo.masks], bool),
        )
    return truths, list(annotations.classes)


def random_vocabularies(words: Sequence[str], size: int, count: int, seed: int) -> list[list[str]]:
    """`count` vocabularies of `size` different words each, in the order of `words`.

    One vocabulary of all words when there are no more than `size`.
    """
    if size >= len(words):
        return [list(words)]
    rng = np.random.default_rng(seed)
    chosen = [np.sort(rng.choice(len(words), size, replace=False)) for _ in range(count)]
    return [[words[i] for i in rows.tolist()] for rows in chosen]


def label_photos(rule: str, photos: Sequence[EmbeddedTruth], words: EncodedWords) -> list[MaskLabels]:
    """The labels of each photo's masks by the rule `NEW`, at its defaults, or `OLDER`, at min score 0."""
    vocabulary, text, scale = words.vocabulary, words.text, words.logit_scale
    if rule == OLDER:
        return [label_by_older_rule(photo.masks, text, vocabulary, scale) for photo in photos]
    settings = LabelSettings()
    return [
        label_maskset(photo.masks, text, vocabulary, scale, settings, image_embedding=photo.image_embedding)
        for photo in photos
    ]


def measure(
    photos: Sequence[EmbeddedTruth], labels: Sequence[MaskLabels], words: EncodedWords, threshold: float
) -> LabelReport:
    """All figures of labels that are made already.

    Args:
        photos: P photos.
        labels: the labels of each photo's masks.
        words: what they are labeled with; annotations of other words do not count.
        threshold: the score that made `kept`.
    """
    return evaluate_labels(photo_labels(photos, labels, words), words.vocabulary.classes, threshold)


def photo_labels(
    photos: Sequence[EmbeddedTruth], labels: Sequence[MaskLabels], words: EncodedWords
) -> Iterator[PhotoLabels]:
    """Yield the labels of each photo with its annotations; annotations of other words do not count.

    Args:
        photos: P photos.
        labels: the labels of each photo's masks.
        words: what they are labeled with.
    """
    place = {word: index for index, word in enumerate(words.vocabulary.classes)}
    for photo, found in zip(photos, labels, strict=True):
        rows = np.flatnonzero(found.selected & (photo.masks.areas > 0))
        rles, truth = photo.masks.rles, photo.truth
        asked = [i for i, word in enumerate(truth.words) if word in place]
        yield PhotoLabels(
            photo.name,
            [rles[i] for i in rows.tolist()],
            found.label_index[rows],
            found.score[rows],
            found.kept[rows],
            [truth.masks[i] for i in asked],
            np.array([place[truth.words[i]] for i in asked], np.int64),
            truth.crowd[asked],
        )


def best_recall(photos: Sequence[EmbeddedTruth], labels: Sequence[MaskLabels]) -> float | None:
    """Recall of a perfect selection: things of the vocabulary with a mask of IoU >= 0.5 whose best word is theirs.

    None when there is no such thing.
    """
    reached = []
    for photo, found in zip(photos, labels, strict=True):
        truth, named = photo.truth, np.array([name or "" for name in found.names], object)
        rows = [i for i, word in enumerate(truth.words) if word in found.classes and not truth.crowd[i]]
        if not rows:
            continue
        things, rles = [truth.masks[i] for i in rows], photo.masks.rles
        iou = np.asarray(coco_mask.iou(things, rles, [0] * len(rles))).reshape(len(things), len(rles))
        right = named[None] == np.array([truth.words[i] for i in rows], object)[:, None]
        reached.extend(((iou >= 0.5) & right).any(axis=1).tolist())
    return float(np.mean(reached)) if reached else None


def threshold_of(rule: str) -> float:
    """The score from which a rule keeps labels."""
    return 0.0 if rule == OLDER else LabelSettings().min_score.default


def figures_of(report: LabelReport) -> Figures:
    """`FIGURES` of a report: shares in [0, 1], labels for a thing found, and the threshold of the best F1."""
    best = report.best_f1
    return {
        "f1": report.micro.f1,
        "precision": report.micro.precision,
        "recall": report.micro.recall,
        "labels_per_thing": report.labels_per_thing,
        "absent": report.absent_rate,
        "best_f1": None if best is None else best.f1,
        "best_threshold": None if best is None else best.threshold,
    }


def mean_figures(rows: Sequence[Figures]) -> Figures:
    """The mean of each figure over the rows where it is defined; None where it is defined nowhere."""
    means: Figures = {}
    for name in rows[0]:
        values = [value for row in rows if (value := row[name]) is not None]
        means[name] = float(np.mean(values)) if values else None
    return means


def cells(figures: Figures) -> list[str]:
    """`FIGURES` as the columns `HEADER` of a table."""

    def number(name: str) -> str:
        value = figures[name]
        return "-" if value is None else f"{value:.2f}"

    shares = [percent(figures[name]) for name in ("f1", "precision", "recall")]
    best = [percent(figures["best_f1"]), number("best_threshold")]
    return [*shares, number("labels_per_thing"), percent(figures["absent"]), *best]
