"""Labels against annotated instances: IoU and COCO's greedy matching. Pure functions (numpy, pycocotools).

A *label* is a predicted mask with one class and one score; an *instance* is an annotated mask with one class; a
*crowd* is an annotated region that holds many instances (COCO's iscrowd). All photos together give flat arrays of L
labels and G annotations, crowds among them, in the order of the photos.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco_mask

IOU_THRESHOLD = 0.5
"""Lowest IoU at which a label finds an instance."""
INSIDE = 0.5
"""Share of the smaller area that a label and a found instance have in common when the label counts for it."""


@dataclass(frozen=True)
class PhotoLabels:
    """The labels of one photo and its annotations.

    Attributes:
        name: what errors call the photo.
        masks: N predicted masks as pycocotools takes them, {"size": [height, width], "counts": bytes or str}.
        classes: (N,) class indices in [0, C).
        scores: (N,) in [0, 1], higher is surer.
        kept: (N,) bool, labels that the threshold keeps; the others count only in figures over all thresholds.
        true_masks: G annotated masks in the same form.
        true_classes: (G,) class indices in [0, C).
        crowd: (G,) bool, annotations that are crowd regions.

    Raises:
        ValueError: lengths that do not fit together.
    """

    name: str
    masks: Sequence[dict]
    classes: ArrayLike
    scores: ArrayLike
    kept: ArrayLike
    true_masks: Sequence[dict]
    true_classes: ArrayLike
    crowd: ArrayLike

    def __post_init__(self) -> None:
        for count, names in ((len(self.masks), ("classes", "scores", "kept")),
                             (len(self.true_masks), ("true_classes", "crowd"))):  # fmt: skip
            for name in names:
                if np.shape(getattr(self, name)) != (count,):
                    raise ValueError(
                        f"{self.name}: {name} has shape {np.shape(getattr(self, name))} for {count} masks"
                    )


@dataclass(frozen=True)
class Matching:
    """Which instance each of L labels finds.

    Attributes:
        truth: (L,) index of the instance, -1 where the label finds none.
        ignored: (L,) bool, the label finds no instance but lies on a crowd of its class: neither right nor wrong.
        counted: (L,) bool, the labels that took part and are not ignored: the right and the wrong ones.
    """

    truth: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    counted: NDArray[np.bool_]

    @property
    def right(self) -> NDArray[np.bool_]:
        """(L,) true positives."""
        return self.truth >= 0

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """(L,) false positives."""
        return self.counted & (self.truth < 0)


@dataclass(frozen=True)
class Block:
    """The n labels and g instances of one class in one photo, where there are both.

    Attributes:
        photo: index of the photo.
        label_class: index of the class.
        labels: (n,) indices of the labels.
        truths: (g,) indices of the instances and crowds.
        iou: (n, g) in [0, 1]; of a crowd the share of the label's area that lies on it.
    """

    photo: int
    label_class: int
    labels: NDArray[np.int64]
    truths: NDArray[np.int64]
    iou: NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """All labels of all photos against all annotations.

    Attributes:
        photos: number of photos.
        classes: number of classes C.
        label_photo, label_class, score, kept: (L,) of each label.
        truth_photo, truth_class, crowd: (G,) of each annotation.
        matching: the matching of all labels.
        kept_matching: the matching of the kept labels alone.
        on_found: (L,) bool, kept labels that lie on a found instance of their class, see `compare`.
        own_iou, own_truth: (L,) highest IoU with an instance of the label's class, and its index (-1: none).
        other_iou, other_truth: (L,) the same for instances of other classes.
        blocks: labels and instances that share photo and class.
    """

    photos: int
    classes: int
    label_photo: NDArray[np.int64]
    label_class: NDArray[np.int64]
    score: NDArray[np.float64]
    kept: NDArray[np.bool_]
    truth_photo: NDArray[np.int64]
    truth_class: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    matching: Matching
    kept_matching: Matching
    on_found: NDArray[np.bool_]
    own_iou: NDArray[np.float64]
    own_truth: NDArray[np.int64]
    other_iou: NDArray[np.float64]
    other_truth: NDArray[np.int64]
    blocks: list[Block] = field(repr=False)

    @property
    def instances(self) -> NDArray[np.int64]:
        """(C,) annotated instances of each class, without crowds."""
        return np.bincount(self.truth_class[~self.crowd], minlength=self.classes)


def match(
    iou: NDArray[np.float64],
    same: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    scores: NDArray[np.float64],
    threshold: float = IOU_THRESHOLD,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Match the labels of one photo as COCOeval does.

    Best score first (equal scores in the order given), each label takes the free instance of its class that it
    overlaps most, when their IoU reaches the threshold; of equal IoUs the last. A label without an instance that
    lies on a crowd of its class, by at least that share of its area, is ignored; a crowd is never used up.

    Args:
        iou: (N, G), with crowd columns as pycocotools gives them.
        same: (N, G) bool, label and annotation have the same class.
        crowd: (G,) bool.
        scores: (N,) of the labels.
        threshold: lowest IoU, in (0, 1].

    Returns:
        (N,) index of the instance or -1, and (N,) bool ignored.
    """
    count, columns = iou.shape
    truth = np.full(count, -1, np.int64)
    if not iou.size:
        return truth, np.zeros(count, bool)
    threshold = min(threshold, 1 - 1e-10)
    fits = same & (iou >= threshold)
    on_crowd = np.asarray((fits & crowd).any(axis=1))
    candidates = np.where(fits & ~crowd, iou, -1.0)
    order = np.argsort(-scores, kind="stable")
    for row in order[(candidates[order] >= 0).any(axis=1)].tolist():
        best = columns - 1 - int(candidates[row, ::-1].argmax())
        if candidates[row, best] >= 0:
            truth[row] = best
            candidates[:, best] = -1.0
    return truth, on_crowd & (truth < 0)


def compare(photos: Iterable[PhotoLabels], classes: int) -> Comparison:
    """Compare the labels of every photo with its annotations.

    A kept label *lies on a found instance* when the instance has its class and is found by a kept label, and the
    area they have in common is at least half (`INSIDE`) of the smaller of the two: the label that finds it, further
    labels with IoU >= 0.5 (duplicates), labels mostly inside it (parts) and labels that cover most of it. Ignored
    labels do not count.

    Args:
        photos: any number of photos; each is read once, and its masks are not kept.
        classes: number of classes C.

    Raises:
        ValueError: a class index outside [0, C), or masks of several sizes in one photo.
    """
    parts: list[_Part] = []
    blocks: list[Block] = []
    labels = truths = 0
    for number, photo in enumerate(photos):
        part, found = _compare_photo(photo, number, classes, labels, truths)
        parts.append(part)
        blocks += found
        labels += len(part.score)
        truths += len(part.crowd)

    def joined(name: str, dtype: type) -> NDArray:
        return np.concatenate([np.zeros(0, dtype), *(getattr(part, name) for part in parts)]).astype(dtype)

    label_sizes, truth_sizes = [len(p.score) for p in parts], [len(p.crowd) for p in parts]
    kept = joined("kept", bool)
    ignored, kept_ignored = joined("ignored", bool), joined("kept_ignored", bool)
    return Comparison(
        photos=len(parts),
        classes=classes,
        label_photo=np.repeat(np.arange(len(parts)), label_sizes),
        label_class=joined("label_class", np.int64),
        score=joined("score", np.float64),
        kept=kept,
        truth_photo=np.repeat(np.arange(len(parts)), truth_sizes),
        truth_class=joined("truth_class", np.int64),
        crowd=joined("crowd", bool),
        matching=Matching(joined("truth", np.int64), ignored, ~ignored),
        kept_matching=Matching(joined("kept_truth", np.int64), kept_ignored, kept & ~kept_ignored),
        on_found=joined("on_found", bool),
        own_iou=joined("own_iou", np.float64),
        own_truth=joined("own_truth", np.int64),
        other_iou=joined("other_iou", np.float64),
        other_truth=joined("other_truth", np.int64),
        blocks=blocks,
    )


@dataclass(frozen=True)
class _Part:
    """One photo's share of a `Comparison`."""

    label_class: NDArray[np.int64]
    score: NDArray[np.float64]
    kept: NDArray[np.bool_]
    truth_class: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    truth: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    kept_truth: NDArray[np.int64]
    kept_ignored: NDArray[np.bool_]
    on_found: NDArray[np.bool_]
    own_iou: NDArray[np.float64]
    own_truth: NDArray[np.int64]
    other_iou: NDArray[np.float64]
    other_truth: NDArray[np.int64]


def _compare_photo(
    photo: PhotoLabels, number: int, classes: int, first_label: int, first_truth: int
) -> tuple[_Part, list[Block]]:
    """One photo; indices start at `first_label` and `first_truth`."""
    label_class, truth_class = np.asarray(photo.classes, np.int64), np.asarray(photo.true_classes, np.int64)
    scores, kept = np.asarray(photo.scores, np.float64), np.asarray(photo.kept, bool)
    crowd = np.asarray(photo.crowd, bool)
    if any(len(c) and not (c.min() >= 0 and c.max() < classes) for c in (label_class, truth_class)):
        raise ValueError(f"{photo.name}: class indices are between 0 and {classes - 1}")
    sizes = {tuple(mask["size"]) for mask in [*photo.masks, *photo.true_masks]}
    if len(sizes) > 1:
        raise ValueError(f"{photo.name}: masks of sizes {' and '.join(map(str, sorted(sizes)))}")
    iou = np.zeros((len(kept), len(crowd)))
    inside = np.zeros_like(iou)
    if iou.size:
        iou[:] = coco_mask.iou(list(photo.masks), list(photo.true_masks), crowd.astype(int).tolist())
        area, true_area = coco_mask.area(list(photo.masks)), coco_mask.area(list(photo.true_masks))
        common = np.round(
            iou * np.add.outer(area, true_area) / (1 + iou)
        )  # whole pixels, from IoU = I / (A + B - I)
        inside = common / np.maximum(np.minimum.outer(area, true_area), 1)
    same = np.equal.outer(label_class, truth_class)
    truth, ignored = match(iou, same, crowd, scores)
    if kept.all():
        kept_truth, kept_ignored = truth, ignored
    else:
        rows = np.flatnonzero(kept)
        kept_truth, kept_ignored = np.full(len(kept), -1, np.int64), np.zeros(len(kept), bool)
        kept_truth[rows], kept_ignored[rows] = match(iou[rows], same[rows], crowd, scores[rows])
    found = np.zeros(len(crowd), bool)
    found[kept_truth[kept_truth >= 0]] = True
    on_found = (same & found & (inside >= INSIDE)).any(axis=1) & kept & ~kept_ignored
    own_iou, own_truth = _highest(iou, same & ~crowd, first_truth)
    other_iou, other_truth = _highest(iou, ~same & ~crowd, first_truth)
    part = _Part(
        label_class, scores, kept, truth_class, crowd,
        np.where(truth >= 0, truth + first_truth, -1), ignored,
        np.where(kept_truth >= 0, kept_truth + first_truth, -1), kept_ignored,
        on_found, own_iou, own_truth, other_iou, other_truth,
    )  # fmt: skip
    blocks = []
    for c in np.intersect1d(label_class, truth_class).tolist():
        rows, columns = np.flatnonzero(label_class == c), np.flatnonzero(truth_class == c)
        blocks.append(Block(number, c, rows + first_label, columns + first_truth, iou[np.ix_(rows, columns)]))
    return part, blocks


def _highest(
    iou: NDArray[np.float64], allowed: NDArray[np.bool_], first: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Each row's highest IoU among the allowed columns, and the column plus `first` (0 and -1 where all are 0)."""
    if not iou.size:
        return np.zeros(len(iou)), np.full(len(iou), -1, np.int64)
    values = np.where(allowed, iou, 0.0)
    best = values.argmax(axis=1)
    highest = values[np.arange(len(iou)), best]
    return highest, np.where(highest > 0, best + first, -1)
