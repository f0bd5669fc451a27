"""SAM asked about one thing: the masks at some points, or in a box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from gem_label.errors import UsageError
from gem_label.masks import MaskSet, encode_mask
from gem_label.sam.encoding import EncodedImage
from gem_label.sam.models import Sam

Point = tuple[float, float]
"""x, y in pixels."""


@dataclass(frozen=True)
class Prompt:
    """What SAM is asked for in one photo.

    Attributes:
        points: points x, y in pixels that are inside the thing.
        negative_points: points that are not.
        box: x0, y0, x1, y1 in pixels, a box around the thing.

    Raises:
        UsageError: neither a point inside nor a box, a number that is not finite, or a box without an area.
    """

    points: tuple[Point, ...] = ()
    negative_points: tuple[Point, ...] = ()
    box: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if not self.points and self.box is None:
            raise UsageError("give a point inside the thing, or a box around it")
        numbers = [number for point in (*self.points, *self.negative_points) for number in point]
        if not all(math.isfinite(number) for number in (*numbers, *(self.box or ()))):
            raise UsageError("points and boxes are finite numbers of pixels")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise UsageError(f"{self.box} is no box: x0, y0, x1, y1 with x0 < x1 and y0 < y1")

    @property
    def is_ambiguous(self) -> bool:
        """Whether it is a single point, which may mean a part, a thing or several things."""
        return self.box is None and len(self.points) == 1 and not self.negative_points

    def scaled(self, across: float, down: float) -> Prompt:
        """The same prompt on a photo of another size: x times `across`, y times `down`."""
        return Prompt(
            tuple((x * across, y * down) for x, y in self.points),
            tuple((x * across, y * down) for x, y in self.negative_points),
            None
            if self.box is None
            else (self.box[0] * across, self.box[1] * down, self.box[2] * across, self.box[3] * down),
        )


ABOUT_AS_SURE = 0.05
"""Of a point's masks with a predicted IoU this near to the best, the largest is preferred: a thing, not its part."""

SAME = 0.95
"""IoU from which a mask is the same as another one."""


@torch.no_grad()
def prompt_masks(sam: Sam, encoded: EncodedImage, prompt: Prompt) -> MaskSet:
    """SAM's masks for a prompt, several where it may mean a part, the whole or more.

    A single point gives SAM's three masks. With further points SAM begins again from each of the three, and from
    none: a point that is not in the thing says that the preferred one was nearly right, and another point in it
    that it was not. A box gives one mask.

    Args:
        sam: the model.
        encoded: the photo, see `encode_image`.
        prompt: points and box in pixels of the photo.

    Returns:
        Different masks that are not empty, the preferred one first; stability is 1, the point is the first one of the
        prompt or the middle of its box.
    """
    if prompt.is_ambiguous:
        masks = _draw(sam, encoded, prompt, *_decode(sam, encoded, prompt, several=True))
        return masks[distinct(masks, preferred_order(masks))]
    decoded = [_decode(sam, encoded, prompt)]
    if prompt.box is None:
        first = Prompt(points=prompt.points[:1])
        starts, quality = _decode(sam, encoded, first, several=True)
        order = preferred_order(_draw(sam, encoded, first, starts, quality))
        again = [_decode(sam, encoded, prompt, start=starts[:, index : index + 1]) for index in order]
        decoded = [*decoded, *again] if len(prompt.points) > 1 else [*again, *decoded]
    logits, quality = (torch.cat(parts, dim=1) for parts in zip(*decoded, strict=True))
    masks = _draw(sam, encoded, prompt, logits, quality)
    return masks[distinct(masks, agreeing_order(masks, prompt))]


def preferred_order(masks: MaskSet) -> list[int]:
    """The indices of a point's masks that are not empty, the preferred one first, then by SAM's own estimate."""
    areas, quality = masks.areas, masks.predicted_iou
    filled = np.flatnonzero(areas)
    if not len(filled):
        return []
    sure = filled[quality[filled] >= quality[filled].max() - ABOUT_AS_SURE]
    first = int(sure[areas[sure].argmax()])
    by_quality = filled[np.argsort(-quality[filled], kind="stable")].tolist()
    return [first, *(index for index in by_quality if index != first)]


def agreeing_order(masks: MaskSet, prompt: Prompt) -> list[int]:
    """The indices of masks that are not empty, those that agree with the most points of a prompt first."""
    points = np.array([*prompt.points, *prompt.negative_points], np.float64).reshape(-1, 2)
    inside = np.arange(len(points)) < len(prompt.points)
    columns, rows = np.clip(points.astype(int), 0, (masks.width - 1, masks.height - 1)).T
    agreeing = [int((mask[rows, columns] == inside).sum()) for mask in masks]
    return [int(i) for i in np.argsort(-np.array(agreeing), kind="stable") if masks.areas[i]]


def distinct(masks: MaskSet, order: Sequence[int]) -> list[int]:
    """Some indices of masks, in order, without those of masks that are the same as one before."""
    chosen: list[int] = []
    for index in order:
        others = [masks.rles[i] for i in chosen]
        if not others or np.max(coco_mask.iou([masks.rles[index]], others, [0] * len(others))) < SAME:
            chosen.append(index)
    return chosen


def _decode(
    sam: Sam, encoded: EncodedImage, prompt: Prompt, several: bool = False, start: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """SAM's logits (1, K, h, w) and its estimates (1, K) of their IoU: K is 3 for `several`, otherwise 1.

    `start` are logits (1, 1, h, w) of a mask to begin from.
    """
    model = sam.model
    sparse, dense = model.prompt_encoder(
        points=_points(prompt, encoded, sam.device), boxes=_box(prompt, encoded, sam.device), masks=start
    )
    logits, quality = model.mask_decoder(
        image_embeddings=encoded.features,
        image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=several,
    )
    return logits, quality


def _draw(sam: Sam, encoded: EncodedImage, prompt: Prompt, logits: Tensor, quality: Tensor) -> MaskSet:
    """The masks of logits (1, K, h, w) over the photo."""
    drawn = sam.model.postprocess_masks(logits, encoded.resized, encoded.size)[0] > sam.model.mask_threshold
    return MaskSet(
        *encoded.size,
        counts=tuple(encode_mask(mask) for mask in drawn.cpu().numpy()),
        predicted_iou=quality[0].cpu().numpy(),
        stability=np.ones(len(drawn), np.float32),
        points=np.tile(np.array(_middle(prompt), np.float32), (len(drawn), 1)),
    )


def _points(prompt: Prompt, encoded: EncodedImage, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """(1, P, 2) points in SAM's input, and (1, P) 1 for those inside; None: there are none."""
    points = [*prompt.points, *prompt.negative_points]
    if not points:
        return None
    inside = [1] * len(prompt.points) + [0] * len(prompt.negative_points)
    places = encoded.to_input(np.array(points, np.float64))
    return (
        torch.as_tensor(places, dtype=torch.float32, device=device)[None],
        torch.as_tensor(inside, dtype=torch.int, device=device)[None],
    )


def _box(prompt: Prompt, encoded: EncodedImage, device: torch.device) -> Tensor | None:
    """(1, 4) the box in SAM's input; None: there is none."""
    if prompt.box is None:
        return None
    corners = encoded.to_input(np.array(prompt.box, np.float64).reshape(2, 2))
    return torch.as_tensor(corners.reshape(1, 4), dtype=torch.float32, device=device)


def _middle(prompt: Prompt) -> Point:
    if prompt.points or prompt.box is None:
        return prompt.points[0]
    x0, y0, x1, y1 = prompt.box
    return (x0 + x1) / 2, (y0 + y1) / 2
