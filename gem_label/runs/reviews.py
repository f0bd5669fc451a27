"""Annotated photos as reviews of a run's photos, and the reviewed photos with their masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gem_label.errors import UsageError
from gem_label.formats.annotations import AnnotatedMask, AnnotatedPhoto, Annotations, Size
from gem_label.formats.photo_names import pair_photos
from gem_label.geometry import draw_shapes
from gem_label.learning.judging import PhotoReview
from gem_label.learning.training import ReviewedPhoto
from gem_label.masks import MaskSet
from gem_label.phrases import folded
from gem_label.runs.reader import Run
from gem_label.runs.schema import PhotoRecord, table_masks
from gem_label.vocabulary import Vocabulary
from gem_label.words import WordsPerImage


@dataclass(frozen=True)
class Reviews:
    """What is known about photos of a run.

    Attributes:
        photos: number of the photo in the run -> its review.
        left_out: what could not be used, a line each.
    """

    photos: Mapping[int, PhotoReview]
    left_out: tuple[str, ...]


def reviews_of(
    run: Run, annotations: Annotations, complete: bool, vocabulary: Vocabulary | None = None
) -> Reviews:
    """The reviews that annotations are.

    Masks that a reviewer rejected say what a mask does not show; all others are things. Crowd regions and boxes
    without a mask are left out.

    Args:
        run: whose photos they are about; photos are paired by the ends of their paths, classes by name, whatever
            its case.
        annotations: as a reader gives them.
        complete: every listed photo is reviewed in full for all classes of the annotations.
        vocabulary: the words that learn; None: those of the run.

    Raises:
        UsageError: none of the photos is one of the run.
    """
    photos = list(annotations.photos)
    records = {photo.number: photo for photo in run.photos()}
    paths = {number: photo.image for number, photo in records.items()}
    names = {place: photo.path or photo.name for place, photo in enumerate(photos)}
    pairs = pair_photos(paths, names)
    if not pairs:
        raise UsageError(f"none of the {len(photos)} annotated photos is one of {run.place}")
    left_out = []
    if len(pairs) < len(photos):
        left_out.append(f"{len(photos) - len(pairs)} annotated photos that are not in {run.place}")
    words = (vocabulary or run.vocabulary).classes
    own = {folded(name): name for name in words}
    names_of = {name: own.get(folded(name), name) for name in annotations.classes}
    classes = frozenset(names_of.values()) if complete else frozenset()
    reviews: dict[int, PhotoReview] = {}
    unusable = 0
    for number, place in pairs.items():
        record = records[number]
        reviews[number], missing = _review(photos[place], (record.height, record.width), names_of, classes)
        unusable += missing
    if unusable:
        left_out.append(f"{unusable} annotations that are crowds, boxes or no masks")
    unknown = sorted(set(names_of.values()) - set(words))
    if unknown:
        left_out.append(
            f"{len(unknown)} classes that the run is not labeled with, such as {unknown[0]!r}: "
            "`gem-label relabel` adds them"
        )
    return Reviews(reviews, tuple(left_out))


def _review(
    photo: AnnotatedPhoto, size: Size, names: Mapping[str, str], complete: frozenset[str]
) -> tuple[PhotoReview, int]:
    """The review of one photo with the run's names of classes, and how many of its annotations cannot be used.

    Raises:
        UsageError: the photo has another size in the annotations.
    """
    if photo.size not in (None, size):
        raise UsageError(
            f"{photo.name} is annotated at {photo.size[1]} x {photo.size[0]} pixels and was labeled at "
            f"{size[1]} x {size[0]}: learn from annotations of the same photos"
        )
    masks = [mask for mask in photo.masks if _is_thing(mask)]
    shapes = draw_shapes([mask.draw for mask in masks], *size)
    drawn = [(mask, shape.rle) for mask, shape in zip(masks, shapes, strict=True) if shape.rle is not None]
    labeled = [(names.get(mask.label, mask.label), mask.state, rle) for mask, rle in drawn]
    things = [(name, rle) for name, state, rle in labeled if state != "rejected"]
    rejected = [(name, rle) for name, state, rle in labeled if state == "rejected"]
    review = PhotoReview(
        [rle for _, rle in things],
        [name for name, _ in things],
        [rle for _, rle in rejected],
        [name for name, _ in rejected],
        complete,
    )
    return review, len(photo.masks) - len(drawn)


def _is_thing(mask: AnnotatedMask) -> bool:
    return bool(mask.label) and not mask.crowd and not mask.box_only


def reviewed_photos(
    run: Run, reviews: Mapping[int, PhotoReview], words: WordsPerImage | None
) -> list[ReviewedPhoto]:
    """The photos with a review, with their masks and embeddings, in the order of their numbers.

    Args:
        run: read as a stream; only the reviewed photos are kept.
        reviews: by the photo's number.
        words: words per photo; None: every photo may have every class.
    """
    found: dict[int, ReviewedPhoto] = {}
    vocabulary = run.vocabulary
    for photo, masks in photos_with_masks(run, reviews):
        allowed: NDArray[np.bool_] | None = None
        if words is not None:
            allowed = words.allowed(vocabulary, photo.image, photo.image_id)
        found[photo.number] = ReviewedPhoto(masks, photo.embedding, reviews[photo.number], allowed)
    return [found[number] for number in sorted(found)]


def photos_with_masks(run: Run, wanted: Mapping[int, object]) -> Iterable[tuple[PhotoRecord, MaskSet]]:
    """Yield some photos with their masks; row groups without any of them are not read.

    Args:
        run: an open run.
        wanted: numbers of photos.
    """
    for photos, table in run.groups(only=wanted):
        for photo, masks in zip(photos, table_masks(table, photos), strict=True):
            if photo.number in wanted:
                yield photo, masks
