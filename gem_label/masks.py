"""`MaskSet`: the masks of one photo, and the pure functions on them.

Masks are held as COCO run-length encodings, never as a stack of full-size booleans: a thousand masks of a
12-megapixel photo are a few hundred kilobytes instead of 12 GB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from gem_label.rle import run_lengths


@dataclass(frozen=True)
class Overlaps:
    """The pairs of masks of one photo that overlap; `gem_label.overlaps.find_overlaps` finds them.

    Attributes:
        first: (K,) int32 index of a mask.
        second: (K,) int32 index of another, higher than the first; pairs are in the order of the second.
        share: (K,) uint8, pixels in both as a share of the smaller mask's area, in steps of 1/255.
    """

    first: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    second: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    share: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))

    def __len__(self) -> int:
        return len(self.first)

    def among(self, rows: NDArray[np.int64], total: int) -> Overlaps:
        """The pairs of which both masks are chosen, with their new indices.

        Args:
            rows: (M,) indices of the chosen masks, in their new order.
            total: how many masks there were.
        """
        place = np.full(total, -1, np.int64)
        place[rows] = np.arange(len(rows))
        one, other = place[self.first], place[self.second]
        both = (one >= 0) & (other >= 0)
        first, second = np.minimum(one, other)[both], np.maximum(one, other)[both]
        order = np.lexsort((first, second))
        return Overlaps(
            first[order].astype(np.int32), second[order].astype(np.int32), self.share[both][order]
        )


@dataclass(frozen=True)
class MaskSet:
    """All masks of one photo.

    Attributes:
        height: photo height in pixels.
        width: photo width in pixels.
        counts: N compressed COCO run lengths (column-major), each for a mask of (height, width).
        predicted_iou: (N,) float32 in [0, 1], SAM's own estimate of the mask's quality.
        stability: (N,) float32 in [0, 1], SAM's stability score.
        points: (N, 2) float32, the (x, y) pixel of the prompt that made the mask.
        embeddings: (N, d) float32 pooled patch features e_m, not normalized, or None before pooling.
        surrounds: (N, d) float32 the same features pooled over the ring around each mask, a row of zeros where
            there is no ring (a mask that fills the photo); None before pooling and in runs of older formats.
        mask_tokens: (N, d) float32 unit-length embeddings of the masks by class tokens of their own
            (`gem_label.clip.mask_tokens`); None where there are none.
        overlaps: the pairs of masks that overlap, or None where nobody looked yet.
        grid: (h, w) patches that the features were pooled from, (0, 0) where that is not known.
    """

    height: int
    width: int
    counts: tuple[bytes, ...] = ()
    predicted_iou: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    stability: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    points: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    embeddings: NDArray[np.float32] | None = None
    surrounds: NDArray[np.float32] | None = None
    mask_tokens: NDArray[np.float32] | None = None
    overlaps: Overlaps | None = None
    grid: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        n = len(self.counts)
        for name in ("predicted_iou", "stability", "points"):
            if len(getattr(self, name)) != n:
                raise ValueError(f"{name} has {len(getattr(self, name))} rows for {n} masks")
        for name in ("embeddings", "surrounds", "mask_tokens"):
            rows = getattr(self, name)
            if rows is not None and len(rows) != n:
                raise ValueError(f"{name} has {len(rows)} rows for {n} masks")

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.integer] | Sequence[int]) -> MaskSet:
        """The chosen masks, by a boolean mask of length N or by indices."""
        where = np.asarray(index)
        rows = np.flatnonzero(where) if where.dtype == np.bool_ else where.astype(np.int64)
        return replace(
            self,
            counts=tuple(self.counts[i] for i in rows),
            predicted_iou=self.predicted_iou[rows],
            stability=self.stability[rows],
            points=self.points[rows],
            embeddings=None if self.embeddings is None else self.embeddings[rows],
            surrounds=None if self.surrounds is None else self.surrounds[rows],
            mask_tokens=None if self.mask_tokens is None else self.mask_tokens[rows],
            overlaps=None if self.overlaps is None else self.overlaps.among(rows, len(self)),
        )

    def with_embeddings(self, embeddings: NDArray[np.float32]) -> MaskSet:
        """The same masks with their pooled embeddings, (N, d)."""
        return replace(self, embeddings=embeddings)

    @property
    def rles(self) -> list[dict]:
        """The masks as pycocotools takes them: {"size": [height, width], "counts": bytes}."""
        return [{"size": [self.height, self.width], "counts": c} for c in self.counts]

    @property
    def areas(self) -> NDArray[np.int64]:
        """(N,) mask areas in pixels."""
        if not self.counts:
            return np.zeros(0, np.int64)
        return coco_mask.area(self.rles).astype(np.int64)

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(N, 4) tight boxes x, y, width, height in pixels; an empty mask has a box of zeros."""
        if not self.counts:
            return np.zeros((0, 4), np.float32)
        return coco_mask.toBbox(self.rles).astype(np.float32)

    def decode(self, index: int) -> NDArray[np.bool_]:
        """One mask as booleans, (height, width)."""
        return coco_mask.decode(self.rles[index]).astype(bool)

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        """The masks one by one as (height, width) booleans; only one is in memory at a time."""
        return (self.decode(i) for i in range(len(self)))


def encode_mask(mask: NDArray[np.bool_]) -> bytes:
    """Compressed COCO run lengths of one (height, width) boolean mask."""
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]


def area_weights(length: int, patches: int) -> NDArray[np.float32]:
    """How `length` pixels fall onto `patches` equal patches along one axis.

    Returns:
        (patches, length) float32; entry (p, i) is the share of patch p that pixel i covers, rows sum to 1.
    """
    edges = np.linspace(0.0, length, patches + 1)
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1.0) - np.maximum(edges[:-1, None], pixels)
    return (np.clip(overlap, 0.0, None) * (patches / length)).astype(np.float32)


def patch_weights(masks: MaskSet, grid: tuple[int, int]) -> NDArray[np.float32]:
    """Share w_mp of each patch's area that lies under each mask (DESIGN, "Masks and labels, exactly").

    Straight from the run lengths: no mask is decoded, so that a photo's pixels cost nothing. Column by column a
    run's start adds all pixels after it and its end takes them away again. These are rectangles that reach to the
    photo's lower right corner, and how such a one covers the patches follows from the patch its own corner is in.

    Args:
        masks: N masks of one photo.
        grid: (h, w) patches that cover the whole photo evenly.

    Returns:
        (N, h, w) float32 in [0, 1], exact up to its rounding: sums are of whole numbers, a pixel counted as h * w
        parts.
    """
    (height, width), (rows, columns) = (masks.height, masks.width), grid
    lengths, terms = run_lengths(masks.counts)
    of_mask = np.repeat(np.arange(len(masks)), terms)
    ends = np.cumsum(lengths) - of_mask * (height * width)  # each mask's lengths sum to all pixels
    places = np.arange(len(lengths)) - np.repeat(np.cumsum(terms) - terms, terms)
    signs = np.where(places % 2 == 0, 1.0, -1.0)  # a run of zeros ends where a run of ones starts
    x, y = np.divmod(ends, height)
    shape = (len(masks), rows + 2, columns + 2)
    # all pixels from (x, y) on: the column's foot, and the columns behind it
    parts = (
        part
        for corner_x, corner_y, sign in ((x, y, signs), (x + 1, y, -signs), (x + 1, np.zeros_like(y), signs))
        for part in _corners(shape, of_mask, (corner_y * rows, height), (corner_x * columns, width), sign)
    )
    sums, cells = np.zeros(shape), math.prod(shape)
    if cells <= len(ends):
        for index, amounts in parts:
            sums += np.bincount(index, amounts, cells).reshape(shape)
    elif len(ends):  # fewer passes over the cells, which cost more here than the corners
        indices, all_amounts = zip(*parts, strict=True)
        sums += np.bincount(np.concatenate(indices), np.concatenate(all_amounts), cells).reshape(shape)
    shares = sums.cumsum(axis=1).cumsum(axis=2)[:, :rows, :columns] / (height * width)
    return shares.astype(np.float32)


def _corners(
    shape: tuple[int, int, int],
    of_mask: NDArray[np.int64],
    vertical: tuple[NDArray[np.int64], int],
    horizontal: tuple[NDArray[np.int64], int],
    signs: NDArray[np.float64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Rectangles down to the lower right corner, as the second differences of what they cover of each patch.

    Args:
        shape: (N, rows + 2, columns + 2) of the array that the differences belong to.
        of_mask: (K,) each rectangle's mask.
        vertical: (K,) y of the rectangles' upper edges, and the height of a patch, in the same parts of a pixel.
        horizontal: the same for x of the left edges and the width of a patch.
        signs: (K,) factors.

    Yields:
        Flat indices into that array, and what is to be added there.
    """
    (y, height), (x, width) = vertical, horizontal
    row, above = np.divmod(y, height)
    column, before = np.divmod(x, width)
    index = (of_mask * shape[1] + row) * shape[2] + column
    covered_x = (width - before) * signs, before * signs
    for down, covered_y in ((0, height - above), (shape[2], above)):
        if covered_y.any():
            for right in (0, 1):
                yield index + (down + right), covered_x[right] * covered_y


def pool_patches(weights: NDArray[np.float32], patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pooled mask embeddings e_m = sum_p w_mp f_p / sum_p w_mp.

    Args:
        weights: (N, h, w) from `patch_weights`.
        patches: (h, w, d) unit-length patch features f_p.

    Returns:
        (N, d) float32, kept unnormalized: the norm (at most 1) says how coherent the mask is. An empty mask
        gives zeros.
    """
    flat = weights.reshape(len(weights), weights.shape[1] * weights.shape[2])
    total = flat.sum(axis=1, keepdims=True)
    pooled = flat @ patches.reshape(-1, patches.shape[-1]).astype(np.float32)
    return (pooled / np.where(total > 0, total, 1.0)).astype(np.float32)
