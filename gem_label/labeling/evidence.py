"""`Evidence`: what the labels of masks depend on besides the words, for the masks of several photos at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gem_label.masks import MaskSet, Overlaps
from gem_label.overlaps import find_overlaps, join_overlaps

TOKEN_SHARE = 0.5
"""The share of mask tokens in log-probabilities unless asked otherwise: their geometric mean with pooled patches."""


@dataclass(frozen=True)
class Evidence:
    """What the labels of M masks of P photos depend on, photo after photo.

    Attributes:
        embeddings: (M, d) float32 pooled embeddings e_m of the masks.
        surrounds: (M, d) float32 pooled embeddings s_m of their surrounds, zeros where there is none; None where the
            run holds no surrounds.
        mask_tokens: (M, d) float32 unit-length embeddings of the masks by class tokens of their own; None where the
            run holds none.
        token_share: how much of the masks' log-probabilities those decide, in [0, 1].
        areas: (M,) pixels.
        overlaps: the pairs of masks that overlap, with indices into all M masks.
        masks: (P,) how many masks each photo has.
        patches_per_pixel: (P,) patches of the dense features for a pixel of the photo, 0 where not known.
        photos: (P, d) float32 class-token embeddings of the photos; None where the run holds none.
        boxes: (M, 4) x, y, width, height in pixels.
        sizes: (P, 2) height and width of the photos in pixels.
        predicted_iou: (M,) SAM's own estimate of the IoU, in [0, 1].
        stability: (M,) SAM's stability score, in [0, 1].
    """

    embeddings: NDArray[np.float32]
    surrounds: NDArray[np.float32] | None
    areas: NDArray[np.int64]
    overlaps: Overlaps
    masks: NDArray[np.int64]
    patches_per_pixel: NDArray[np.float64]
    photos: NDArray[np.float32] | None
    boxes: NDArray[np.float32]
    sizes: NDArray[np.int64]
    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]
    mask_tokens: NDArray[np.float32] | None = None
    token_share: float = TOKEN_SHARE

    @property
    def photo(self) -> NDArray[np.int64]:
        """(M,) index of each mask's photo."""
        return np.repeat(np.arange(len(self.masks)), self.masks)

    @property
    def patches(self) -> NDArray[np.float64]:
        """(M,) how many patches each mask covers, in parts of one; 0 where not known."""
        return self.areas * self.patches_per_pixel[self.photo]


def evidence_of(
    masks: Sequence[MaskSet], photos: Sequence[NDArray[np.floating] | None], dimension: int
) -> Evidence:
    """The evidence of the masks of some photos.

    Args:
        masks: the masks of each photo, with embeddings; overlaps are found where they are not known.
        photos: for each photo its (d,) class-token embedding.
        dimension: d.

    Raises:
        ValueError: masks without embeddings.
    """
    if any(each.embeddings is None and len(each) for each in masks):
        raise ValueError("the masks have no embeddings yet: pool patch features first")
    nothing = np.zeros((0, dimension), np.float32)
    filled = [each for each in masks if len(each)]
    return Evidence(
        embeddings=np.concatenate([each.embeddings for each in filled] or [nothing]),
        surrounds=_all_or_none([each.surrounds for each in filled], nothing),
        mask_tokens=_all_or_none([each.mask_tokens for each in filled], nothing),
        areas=np.concatenate([np.zeros(0, np.int64), *(each.areas for each in masks)]),
        overlaps=join_overlaps(
            [find_overlaps(each) if each.overlaps is None else each.overlaps for each in masks],
            [len(each) for each in masks],
        ),
        masks=np.array([len(each) for each in masks], np.int64),
        patches_per_pixel=np.array(
            [each.grid[0] * each.grid[1] / (each.height * each.width) for each in masks]
        ),
        photos=stack_photos(photos),
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *(each.boxes for each in masks)]),
        sizes=np.array([(each.height, each.width) for each in masks], np.int64).reshape(-1, 2),
        predicted_iou=_joined([each.predicted_iou for each in masks]),
        stability=_joined([each.stability for each in masks]),
    )


def _all_or_none(
    parts: Sequence[NDArray[np.float32] | None], nothing: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """All rows; None where one part is not there."""
    known = [part for part in parts if part is not None]
    return np.concatenate([nothing, *known]) if len(known) == len(parts) else None


def _joined(parts: Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32)


def stack_photos(photos: Sequence[NDArray[np.floating] | None]) -> NDArray[np.float32] | None:
    """(P, d) the class-token embeddings of P photos; None where there is no photo, or one without."""
    known = [np.asarray(photo, np.float32) for photo in photos if photo is not None]
    return np.stack(known) if known and len(known) == len(photos) else None
