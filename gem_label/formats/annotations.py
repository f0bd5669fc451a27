"""What every reader of a file gives and every writer takes: photos with labeled masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from gem_label.geometry import Shape

Draw = Callable[[int, int], Shape]
"""Height and width of the photo in pixels -> the shape over it."""

State = Literal["undecided", "accepted", "renamed", "rejected"]
"""What a reviewer decided about a mask."""

STATES: tuple[State, ...] = get_args(State)

Size = tuple[int, int]
"""Height and width in pixels."""

IDS_PER_PHOTO = 1_000
"""Room for annotation ids of one photo among the ids that fit 32 bits."""

_WIDE, _WIDE_PER_PHOTO = 1 << 50, 100_000


@dataclass(slots=True)  # a file has many, and frozen ones take three times as long to make
class AnnotatedMask:
    """A mask with its label.

    Attributes:
        label: its class.
        draw: makes the shape over the photo; only then is it known whether a file's shape is one.
        name: what messages call it: "annotation 7".
        mask_id: as the run has it; None where a person drew it.
        id: its id in the file, a whole number or text; None where the format has none.
        score: the probability that the label is right, in [0, 1].
        margin: best minus second-best probability, in [0, 1].
        state: what a reviewer decided; None where nobody says.
        decided_by: the name of that reviewer, where it is known.
        decided_at: when, in ISO 8601 (UTC), where it is known.
        crowd: it covers several things (COCO's `iscrowd`).
        box_only: a file has a box and nothing else; drawn, it is a rectangle.
        box: that box, x, y, width, height in pixels, where it is upright and its pixels are known.
        size: of the photo, where the shape itself says it.
        area: in pixels, as COCO's files have it; it need not be that of the drawn mask.
    """

    label: str
    draw: Draw
    name: str = ""
    mask_id: str | None = None
    id: int | str | None = None
    score: float | None = None
    margin: float | None = None
    state: State | None = None
    crowd: bool = False
    box_only: bool = False
    box: tuple[float, float, float, float] | None = None
    size: Size | None = None
    area: float | None = None
    decided_by: str | None = None
    decided_at: str | None = None


@dataclass(frozen=True, slots=True)
class AnnotatedPhoto:
    """A photo with its masks.

    Attributes:
        name: its file's path with "/", relative to the folder of the `Annotations`, or as a file gives it.
        size: height and width in pixels, None where they are not known.
        masks: in the order of the file.
        id: a whole number, or text in some files; None where the format has none.
        path: where the photo is on this machine, None where that is not known.
        absent: classes that the photo does not show.
        not_exhaustive: classes of which it may show more than is annotated.
    """

    name: str
    size: Size | None
    masks: Sequence[AnnotatedMask] = ()
    id: int | str | None = None
    path: str | None = None
    absent: tuple[str, ...] = ()
    not_exhaustive: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Annotations:
    """Annotated photos.

    Attributes:
        photos: may stream: writers go through them once.
        classes: names in the order of their ids, each once. Labels are among them.
        category_ids: of each class in the file it was read from; empty where the format has none.
        count: how many photos there are, None where that is only known at the end.
        folder: the innermost folder that holds all photos, "" where that is not known.
        info: "description", "version" and "date_created", those that are known.
        tolerance: pixels that outlines in the file may depart from the masks that they were made of; 0 where masks
            are exact or nobody says.
        left_out: what the file has beside these photos and masks, a line each.
    """

    photos: Iterable[AnnotatedPhoto]
    classes: tuple[str, ...]
    category_ids: tuple[int | str, ...] = ()
    count: int | None = None
    folder: str = ""
    info: Mapping[str, str] = field(default_factory=dict)
    tolerance: float = 0.0
    left_out: tuple[str, ...] = ()


@dataclass(slots=True)
class WriteReport:
    """What a writer wrote.

    Attributes:
        photos: photos, those without masks too.
        masks: masks that are in the file.
        classes: classes that the file declares.
        left_out: why masks are not in the file -> how many.
        altered: what the format cannot hold, and became of it -> how many masks.
        outlines: masks that became outlines with a tolerance.
        mean_iou: of these outlines with the masks, 1 where there are none.
        lowest_iou: the lowest of them, 1 where there are none.
    """

    photos: int = 0
    masks: int = 0
    classes: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    altered: Counter[str] = field(default_factory=Counter)
    outlines: int = 0
    mean_iou: float = 1.0
    lowest_iou: float = 1.0

    def add_outline(self, iou: float) -> None:
        """Count an outline that keeps so much of its mask."""
        self.outlines += 1
        self.mean_iou += (iou - self.mean_iou) / self.outlines
        self.lowest_iou = min(self.lowest_iou, iou)

    def __str__(self) -> str:
        """One line, with what was left out or altered."""
        parts = [f"{self.photos} images, {self.masks} annotations, {self.classes} categories"]
        parts += [f"{count} {reason} left out" for reason, count in self.left_out.items()]
        parts += [f"{count} {what}" for what, count in self.altered.items()]
        if self.outlines:
            parts.append(f"outlines keep IoU {self.mean_iou:.3f} on average, {self.lowest_iou:.3f} at least")
        return "; ".join(parts)


def annotation_ids(photo: int, indices: Sequence[int | None]) -> list[int]:
    """The ids of a photo's annotations: the same whatever else is in a file.

    The first 1 000 masks of the first 2 147 482 photos get ids that fit 32 bits; others get ids above 2^50. A mask
    without an index, or with the index of one before it, gets the highest free id of its photo.

    Args:
        photo: its number, from 1.
        indices: of N masks among those of the run, from 0; None: drawn by a person.

    Returns:
        N different ids.

    Example:
        >>> annotation_ids(7, [0, 3, None])
        [7001, 7004, 8000]
    """
    ids: list[int | None] = []
    taken: set[int] = set()
    for index in indices:
        if index is None or not 0 <= index < _WIDE_PER_PHOTO:
            own = None
        elif index < IDS_PER_PHOTO:
            own = photo * IDS_PER_PHOTO + index + 1
        else:
            own = _WIDE + photo * _WIDE_PER_PHOTO + index
        own = None if own in taken else own
        if own is not None:
            taken.add(own)
        ids.append(own)
    first = photo * IDS_PER_PHOTO + 1
    free = (i for i in range(first + IDS_PER_PHOTO - 1, first - 1, -1) if i not in taken)
    wide = _WIDE + (photo + 1) * _WIDE_PER_PHOTO
    wider = (i for i in range(wide - 1, wide - 1 - _WIDE_PER_PHOTO, -1) if i not in taken)
    return [next(free, None) or next(wider) if each is None else each for each in ids]


def draw_rle(rle: dict[str, Any]) -> Draw:
    """A mask that is known: {"size": [height, width], "counts": bytes}, whatever size the photo has."""
    shape = Shape(rle)
    return lambda height, width: shape


def unusable(problem: str) -> Draw:
    """A shape that is none."""
    return lambda height, width: Shape(None, (problem,))


def is_text(value: Any) -> bool:
    """Whether a value is text that a database takes: not empty, no halves of surrogate pairs."""
    if not isinstance(value, str) or not value.strip():
        return False
    if value.isascii():
        return True
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def brief(value: Any) -> str:
    """A value of a file, for a message of one line."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} of many levels"
    return text if len(text) <= 80 else f"{text[:77]}..."
