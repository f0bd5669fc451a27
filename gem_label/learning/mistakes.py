"""Decisions that the rest of the reviewed photos contradicts, for a second look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gem_label.labeling.labels import MaskLabels
from gem_label.learning.judging import WRONG
from gem_label.learning.training import ReviewedPhoto, judge_photos, thing_classes

UNLIKELY = 0.1
"""Probability up to which an accepted mask is listed."""
LIKELY = 0.9
"""Probability from which a label that was found wrong is listed."""
SURE = 0.5
"""Score of another label from which it contradicts an accepted one."""


@dataclass(frozen=True)
class Mistake:
    """A decision that is likely wrong.

    Attributes:
        photo: place of the photo among the reviewed ones.
        mask: index of the mask in its photo.
        kind: "accepted": the mask does not look like the class that it was given; "wrong": the label was rejected, or
            nothing is annotated there, and it looks right.
        label: the class in question.
        likelier: the class that the mask looks like, None where it is the same one.
        probability: that the decision is right, in [0, 1], by what the other photos taught.
    """

    photo: int
    mask: int
    kind: Literal["accepted", "wrong"]
    label: str
    likelier: str | None
    probability: float


def likely_mistakes(
    photos: Sequence[ReviewedPhoto], labels: MaskLabels, unlikely: float = UNLIKELY, likely: float = LIKELY
) -> tuple[Mistake, ...]:
    """The decisions that are likely wrong, the least likely first.

    Args:
        photos: reviewed photos with M masks.
        labels: of all masks, by what the other photos taught (`Lesson.after`).
        unlikely: probability of its class up to which the best mask of an accepted thing is listed.
        likely: probability from which a selected label that was found wrong is listed.
    """
    judged = judge_photos(photos, labels)
    owner = np.repeat(np.arange(len(photos)), [len(photo.masks) for photo in photos])
    first = np.cumsum([0, *(len(photo.masks) for photo in photos)])
    classes = thing_classes(photos, labels.classes)
    found: list[Mistake] = []
    for thing, number in enumerate(classes.tolist()):
        masks = np.flatnonzero(judged.thing == thing)
        if number < 0 or not len(masks):
            continue
        best = masks[judged.iou[masks].argmax()]
        scores = np.where(labels.top_classes[masks] == number, labels.top_scores[masks], 0.0)
        probability = float(scores.max())
        index = labels.label_index[best]
        # a mask without a sure label of its own contradicts nothing
        if probability <= unlikely and index not in (-1, number) and labels.score[best] >= SURE:
            found.append(
                Mistake(
                    int(owner[best]),
                    int(best - first[owner[best]]),
                    "accepted",
                    labels.classes[number],
                    labels.classes[index],
                    probability,
                )
            )
    wrong = labels.selected & (judged.verdict == WRONG) & ~judged.misplaced
    for mask in np.flatnonzero(wrong & (labels.score >= likely) & (judged.thing < 0)).tolist():
        name = labels.classes[labels.label_index[mask]]
        photo = int(owner[mask])
        found.append(
            Mistake(photo, int(mask - first[photo]), "wrong", name, None, 1 - float(labels.score[mask]))
        )
    return tuple(sorted(found, key=lambda each: (each.probability, each.photo, each.mask)))
