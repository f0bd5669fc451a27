"""A reviewer who knows the truth, and how long keys and looks take: what `review_hour.py` lets review a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gem_label.review.editing.many_masks import MaskDecision, decide_masks
from gem_label.review.queues.details import MaskDetails, mask_details
from gem_label.review.queues.order import MaskReference, queue_masks
from gem_label.review.queues.pages import PAGE, make_pages, next_class
from gem_label.review.storage.selection import Selection

Act = Literal["accept", "reject", "offered", "typed"]
"""What a mask needs: nothing, a rejection, another class out of the nine offered ones, or one that is typed."""

TYPED_KEYS = 5
"""Keys of a class that is typed: /, three letters, Enter."""


@dataclass(frozen=True)
class Seconds:
    """How long a reviewer takes for what.

    The first four are the operators K, B, P and M of the keystroke-level model (Card, Moran and Newell 1980): a key
    for an average person, a mouse button, pointing with the mouse, and a mental act such as judging a label.
    A glance at one of many pictures of the same class is one cycle of the same authors' model human processor (1983):
    230 ms for the eye, 100 ms to perceive, 70 ms to recognize.

    Attributes:
        key: a key.
        button: a mouse button.
        point: moving the mouse to a mask.
        think: looking at a mask and telling its class, or finding a class in a list.
        glance: looking at one mask of a page.
        answer: from a key to what comes next, as the tests of the panel measure it on a busy machine.
    """

    key: float = 0.28
    button: float = 0.2
    point: float = 1.1
    think: float = 1.35
    glance: float = 0.4
    answer: float = 0.05

    def choose(self, act: Act) -> float:
        """Telling what a mask is and saying so, once it is in view; without a key for masks that are accepted."""
        return {
            "accept": 0.0,
            "reject": 0.0,
            "offered": self.think + self.key,
            "typed": self.think + TYPED_KEYS * self.key,
        }[act]

    def of_mask(self, act: Act) -> float:
        """One mask at a time: a look, and one key unless it gets another class."""
        return self.think + (self.choose(act) or self.key) + self.answer

    def of_page(self, acts: Sequence[Act]) -> float:
        """A page: a glance at each mask, then a closer look at, and a click on, each that is not accepted."""
        marked = [act for act in acts if act != "accept"]
        marking = sum(self.think + self.point + self.button + self.choose(act) for act in marked)
        return len(acts) * self.glance + marking + self.think + self.key + self.answer


@dataclass(frozen=True, slots=True)
class Moment:
    """How far a review is: seconds since it began, and the masks decided about."""

    seconds: float
    decisions: int


@dataclass(frozen=True)
class Reviewer:
    """Somebody who knows the right label of every mask.

    Attributes:
        truth: detection id -> the word of the thing that the mask shows; None: it shows no thing.
        seconds: how long acts take.
        overlooked: the share of wrong masks of a page that are not noticed, and accepted with the page.
    """

    truth: Mapping[str, str | None]
    seconds: Seconds
    overlooked: float = 0.0

    def act_on(self, mask: MaskDetails) -> Act:
        """What a mask needs."""
        right = self.truth[mask.label_id]
        if right is None:
            return "reject"
        if right == mask.label:
            return "accept"
        return "offered" if right in dict(mask.classes) else "typed"

    def decision(self, mask: MaskDetails, act: Act) -> MaskDecision:
        """The decision that an act is."""
        label = mask.label if act == "accept" else self.truth[mask.label_id]
        return MaskDecision(MaskReference(mask.sample_id, mask.label_id), label)


def review_masks(dataset: Any, field: str, reviewer: Reviewer, seconds: float) -> Iterator[Moment]:
    """One mask at a time, the least certain first, until the time is over; decisions are stored.

    Yields:
        Where the review is after every 60 masks, and at its end.
    """
    queue = queue_masks(dataset, field, "uncertain", limit=100_000)
    spent, decided = 0.0, 0
    for start in range(0, len(queue), PAGE):
        decisions = []
        for mask in mask_details(dataset, field, queue[start : start + PAGE]):
            act = reviewer.act_on(mask)
            spent += reviewer.seconds.of_mask(act)
            if spent > seconds:
                break
            decisions.append(reviewer.decision(mask, act))
        decide_masks(dataset, field, decisions, f"masks {start}")
        decided += len(decisions)
        yield Moment(min(spent, seconds), decided)
        if spent > seconds:
            return


def review_pages(dataset: Any, field: str, reviewer: Reviewer, seconds: float) -> Iterator[Moment]:
    """A page at a time, class by class, until the time is over; decisions are stored.

    Yields:
        Where the review is after every page.
    """
    rng = np.random.default_rng(0)
    spent, decided = 0.0, 0
    while (label := next_class(dataset, field, Selection())) is not None:
        for page in make_pages(dataset, field, label):
            masks = mask_details(dataset, field, page)
            acts = [reviewer.act_on(mask) for mask in masks]
            unseen = rng.random(len(acts)) < reviewer.overlooked
            acts = ["accept" if miss else act for act, miss in zip(acts, unseen, strict=True)]
            spent += reviewer.seconds.of_page(acts)
            if spent > seconds:
                return
            decisions = [reviewer.decision(mask, act) for mask, act in zip(masks, acts, strict=True)]
            decide_masks(dataset, field, decisions, f"page {decided}")
            decided += len(decisions)
            yield Moment(spent, decided)
