"""`fast` proposals: a tenth of the prompts, asked where the masks found so far do not explain the photo.

`SamAutomaticMaskGenerator` asks about 1024 points, most of them about things that another point has found, and throws
away what is below high thresholds. Here a coarse grid comes first; then, in rounds, the image tokens whose features
are least like those of a confident mask over them, far from every place asked before (`residual`). All filtering
happens at the decoder's own resolution, of the part of the image that is photo and not padding; only the masks that
stay are resized and encoded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gem_label.checks import COUNT, SHARE, Numbers, check_number, check_numbers
from gem_label.errors import UsageError
from gem_label.masks import MaskSet
from gem_label.sam.decoder import PointDecoder
from gem_label.sam.encoding import EncodedImage, encode_image
from gem_label.sam.mask_runs import Frame, encode_runs, iter_mask_runs
from gem_label.sam.models import Sam
from gem_label.sam.prompts import crop_prompts
from gem_label.sam.residual import next_tokens, similarity_to_masks, token_cover

# Prompts decoded together: what they hold fits a CPU's caches, and a GPU has enough to do.
_POINTS_ON_CPU, _POINTS_ON_GPU = 8, 64


_ALLOWED = {
    "points_per_side": COUNT,
    "max_prompts": COUNT,
    "prompts_per_round": COUNT,
    "min_residual": Numbers(0, 2),
    "confident_iou": SHARE,
    "pred_iou_thresh": SHARE,
    "stability_score_thresh": SHARE,
    "stability_score_offset": Numbers(0),
    "mask_nms_thresh": SHARE,
}


@dataclass(frozen=True)
class FastSettings:
    """How `fast` proposes masks. The number of prompts follows the photo, up to a maximum.

    Attributes:
        mode: "fast".
        points_per_side: points along one side of the first, coarse grid.
        max_prompts: prompts for one photo, the coarse grid included.
        prompts_per_round: prompts between two looks at what is still unexplained.
        min_residual: one minus the cosine between an image token and the mask that is most like it, below which
            the token is not asked about; 1 leaves the uncovered tokens alone.
        confident_iou: predicted IoU above which a mask lowers the residual.
        pred_iou_thresh: a mask passes when SAM's own estimate of its IoU is higher; 0 lets all pass.
        stability_score_thresh: a mask passes when its stability, at the decoder's resolution, is at least that.
        stability_score_offset: how far the cutoff is moved up and down to measure stability, in logits.
        mask_nms_thresh: of two masks with a higher IoU the one with the lower predicted IoU goes.
    """

    mode: str = field(default="fast", init=False)
    points_per_side: int = 8
    max_prompts: int = 192
    prompts_per_round: int = 64
    min_residual: float = 0.3
    confident_iou: float = 0.8
    pred_iou_thresh: float = 0.7
    stability_score_thresh: float = 0.7
    stability_score_offset: float = 1.0
    mask_nms_thresh: float = 0.8

    @classmethod
    def with_at_most(cls, max_prompts: int) -> FastSettings:
        """The defaults for so many prompts, with a sparser coarse grid where its own would have more.

        Raises:
            UsageError: fewer than one.
        """
        check_number("max_prompts", max_prompts, COUNT)
        return cls(points_per_side=min(cls.points_per_side, math.isqrt(max_prompts)), max_prompts=max_prompts)

    def __post_init__(self) -> None:
        check_numbers(self, _ALLOWED)
        if self.max_prompts < self.points_per_side**2:
            raise UsageError(
                f"max_prompts {self.max_prompts} are fewer than the {self.points_per_side} x "
                f"{self.points_per_side} points of the coarse grid: take more, or fewer points_per_side"
            )


@dataclass(frozen=True)
class _Found:
    """N masks at the decoder's resolution.

    Attributes:
        logits: (N, H, W).
        predicted_iou: (N,).
        points: (N, 2) float64 on the CPU, the prompts x, y in SAM's input.
    """

    logits: Tensor
    predicted_iou: Tensor
    points: Tensor

    def __getitem__(self, rows: Tensor) -> _Found:
        return _Found(self.logits[rows], self.predicted_iou[rows], self.points[rows.cpu()])


def propose_fast(sam: Sam, image: NDArray[np.uint8], settings: FastSettings) -> MaskSet:
    """Class-agnostic masks of one photo, from SAM prompted adaptively.

    Args:
        sam: the model.
        image: (H, W, 3) uint8 RGB.
        settings: prompts, filters and suppression.

    Returns:
        The masks by predicted IoU, best first, the same at every call, without empty ones. Stability is that of the
        full-size mask.

    Raises:
        ImageError: the photo is so thin that nothing of it is left at SAM's input size.
    """
    encoded = encode_image(sam, image)
    height, width = image.shape[:2]
    grid = crop_prompts(height, width, settings.points_per_side)[0].points
    found = _search(sam, encoded, encoded.to_input(grid), settings)
    return _maskset(encoded, found, sam.model.mask_threshold, settings.stability_score_offset)


@torch.no_grad()
def _search(sam: Sam, encoded: EncodedImage, prompts: NDArray[np.float64], settings: FastSettings) -> _Found:
    """Ask about the coarse grid's prompts, then where something is left to explain."""
    window = (encoded.rows.reach, encoded.columns.reach)
    # Padding is no part of the photo: without it attention has up to half the image tokens less to look at.
    features = encoded.features[..., : -(-window[0] // 4), : -(-window[1] // 4)]
    decoder = PointDecoder(sam.model, features, window)
    directions = functional.normalize(features[0].float(), dim=0)
    matched = torch.zeros(directions.shape[1:], device=directions.device)
    asked = np.zeros((0, 2))
    held: _Found | None = None
    while len(prompts):
        asked = np.concatenate([asked, prompts])
        found = _ask(decoder, prompts, sam.device, sam.model.mask_threshold, settings)
        confident = found.logits[found.predicted_iou > settings.confident_iou] > sam.model.mask_threshold
        matched = torch.maximum(matched, similarity_to_masks(directions, token_cover(confident)))
        held = _suppress(found if held is None else _join([held, found]), sam.model.mask_threshold, settings)
        count = min(settings.prompts_per_round, settings.max_prompts - len(asked))
        tokens = next_tokens(
            _inside(1 - matched, encoded).cpu().numpy(),
            asked / encoded.stride - 0.5,
            count,
            settings.min_residual,
        )
        prompts = (tokens + 0.5) * encoded.stride
    assert held is not None
    return held


def _inside(residual: Tensor, encoded: EncodedImage) -> Tensor:
    """Residual of the tokens whose center lies on the photo; 0 elsewhere."""
    rows, columns = (
        (torch.arange(length, device=residual.device) + 0.5) * encoded.stride < side
        for length, side in zip(residual.shape, encoded.resized, strict=True)
    )
    return residual * rows[:, None] * columns


def _ask(
    decoder: PointDecoder,
    prompts: NDArray[np.float64],
    device: torch.device,
    cutoff: float,
    settings: FastSettings,
) -> _Found:
    """Decode prompts and keep the masks that pass predicted IoU and stability."""
    parts = []
    at_once = _POINTS_ON_CPU if device.type == "cpu" else _POINTS_ON_GPU
    for start in range(0, len(prompts), at_once):
        batch = prompts[start : start + at_once]
        decoded = decoder.predict_iou(batch)
        passed = decoded.predicted_iou > (settings.pred_iou_thresh or -torch.inf)
        logits = decoder.decode_masks(decoded, passed)
        offset = settings.stability_score_offset
        inner, outer = ((logits > cutoff + sign * offset).flatten(1).sum(1) for sign in (1, -1))
        there = (logits > cutoff).flatten(1).any(1)
        stable = there & (inner >= settings.stability_score_thresh * outer)
        points = torch.as_tensor(batch).repeat_interleave(passed.sum(1).cpu(), dim=0)
        parts.append(_Found(logits, decoded.predicted_iou[passed], points)[stable.nonzero()[:, 0]])
    return _join(parts)


def _join(parts: list[_Found]) -> _Found:
    return _Found(
        torch.cat([part.logits for part in parts]),
        torch.cat([part.predicted_iou for part in parts]),
        torch.cat([part.points for part in parts]),
    )


def _suppress(found: _Found, cutoff: float, settings: FastSettings) -> _Found:
    order = found.predicted_iou.argsort(descending=True, stable=True)
    masks = (found.logits > cutoff)[order]  # a byte a pixel: four times quicker to reorder than logits
    keep = distinct_masks(masks, settings.mask_nms_thresh)
    return found[order[keep]]


def distinct_masks(masks: Tensor, threshold: float) -> Tensor:
    """Indices of the masks that stay when each one removes those after it with a higher IoU.

    Boxes would not do: a wheel and the car that fills its box are two things.

    Args:
        masks: (N, H, W) bool, best first.
        threshold: IoU in [0, 1].
    """
    flat = masks.flatten(1).float()
    shared = flat @ flat.T
    areas = shared.diagonal()
    iou = (shared / (areas[:, None] + areas - shared).clamp(min=1)).cpu().numpy()
    alive = np.ones(len(masks), bool)
    for index in range(len(masks)):
        if alive[index]:
            alive[index + 1 :] &= iou[index, index + 1 :] <= threshold
    return torch.as_tensor(np.flatnonzero(alive), device=masks.device)


def _maskset(encoded: EncodedImage, found: _Found, cutoff: float, offset: float) -> MaskSet:
    """Resize and encode the masks; one that has no pixel of the photo is left out."""
    height, width = encoded.size
    counts, kept, stability = [], [], []
    frame = Frame(encoded.rows, encoded.columns, (0, 0), height, cutoff, offset)
    for index, mask in enumerate(iter_mask_runs(found.logits, frame)):
        if len(mask.positions):
            kept.append(index)
            counts.append(encode_runs(mask.positions, height, width))
            stability.append(mask.stability)
    return MaskSet(
        height=height,
        width=width,
        counts=tuple(counts),
        predicted_iou=found.predicted_iou[kept].float().cpu().numpy(),
        stability=np.array(stability, np.float32),
        points=encoded.to_photo(found.points[kept].numpy()).astype(np.float32),
    )
