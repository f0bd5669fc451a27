"""Mask proposals: SAM asked about every point of a grid, filtered as `SamAutomaticMaskGenerator` filters.

The masks are the same as that generator's, up to float noise; the order of the work differs, for speed and so that
memory stays bounded. SAM's own estimate of the masks' IoU comes first; only masks that pass are drawn, each is
resized to the photo inside its own box, and at once becomes run lengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from segment_anything.utils.amg import batched_mask_to_box, is_box_near_crop_edge, remove_small_regions
from torch import Tensor
from torchvision.ops.boxes import batched_nms

from gem_label.checks import COUNT, SHARE, Numbers, check_numbers
from gem_label.errors import UsageError
from gem_label.masks import MaskSet, encode_mask
from gem_label.sam.decoder import PointDecoder
from gem_label.sam.encoding import encode_image
from gem_label.sam.fast import FastSettings, propose_fast
from gem_label.sam.mask_runs import Frame, encode_runs, iter_mask_runs
from gem_label.sam.models import Sam
from gem_label.sam.prompts import Crop, crop_prompts

# A prompt's image tokens take 2 MB until its masks are drawn.
_POINTS_ON_CPU, _POINTS_ON_GPU = 8, 64


_ALLOWED = {
    "points_per_side": COUNT,
    "points_per_batch": replace(COUNT, optional=True),
    "pred_iou_thresh": SHARE,
    "stability_score_thresh": SHARE,
    "stability_score_offset": Numbers(0),
    "box_nms_thresh": SHARE,
    "crop_n_layers": Numbers(0, whole=True),
    "crop_nms_thresh": SHARE,
    "crop_overlap_ratio": SHARE,
    "crop_n_points_downscale_factor": COUNT,
    "min_mask_region_area": Numbers(0, whole=True),
}


@dataclass(frozen=True)
class ProposalSettings:
    """How masks are proposed; names and defaults are those of `SamAutomaticMaskGenerator`.

    Attributes:
        mode: "exact" proposes the generator's own masks.
        points_per_side: points along one side of the grid over the whole photo.
        points_per_batch: prompts decoded at once; None takes 64 on a GPU and 8 on a CPU. The masks are the same
            up to float noise.
        pred_iou_thresh: a mask passes when SAM's own estimate of its IoU is higher; 0 lets all pass.
        stability_score_thresh: a mask passes when its stability is at least that; 0 lets all pass.
        stability_score_offset: how far the cutoff is moved up and down to measure stability, in logits.
        box_nms_thresh: of two masks of a crop with a higher box IoU, the one with the lower predicted IoU
            goes.
        crop_n_layers: layers of crops beside the whole photo; layer i has 4**i of them.
        crop_nms_thresh: the same threshold among crops, where the mask of the smaller crop stays.
        crop_overlap_ratio: overlap of the first layer's crops as a share of the photo's shorter side.
        crop_n_points_downscale_factor: each layer's grid is sparser than the one before by this factor.
        min_mask_region_area: holes and islands below that many pixels are filled and removed; 0 leaves them.
    """

    mode: str = "exact"
    points_per_side: int = 32
    points_per_batch: int | None = None
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0

    def __post_init__(self) -> None:
        if self.mode != "exact":
            raise UsageError(
                f"{self.mode!r} is not `exact`: `fast` proposals have settings of their own, FastSettings"
            )
        check_numbers(self, _ALLOWED)
        if self.points_per_side // self.crop_n_points_downscale_factor**self.crop_n_layers < 1:
            raise UsageError(
                f"points_per_side {self.points_per_side} leaves no point in crop layer {self.crop_n_layers}: "
                "take more points or a smaller crop_n_points_downscale_factor"
            )


AnySettings = ProposalSettings | FastSettings


_OLDER_NAMES = MappingProxyType({"min_surprise": "min_residual", "explaining_iou": "confident_iou"})
"""Names of settings in runs of format 1 and 2."""


def read_proposals(settings: Mapping[str, Any]) -> AnySettings:
    """The proposals that a manifest names.

    Raises:
        KeyError, TypeError, UsageError: settings that this version does not have.
    """
    values = {_OLDER_NAMES.get(name, name): value for name, value in settings.items()}
    return FastSettings(**values) if values.pop("mode") == "fast" else ProposalSettings(**values)


@dataclass(frozen=True)
class _Candidates:
    """Masks on their way to a MaskSet; the fields are those of MaskSet, plus what suppression needs.

    Attributes:
        boxes: (N, 4) float32 x0, y0, x1, y1 in pixels of the photo, x1 and y1 inclusive.
        crop_areas: (N,) float32, pixels of the crop that each mask was found in.
    """

    counts: list[bytes]
    boxes: Tensor
    predicted_iou: Tensor
    stability: Tensor
    points: Tensor
    crop_areas: Tensor

    def __getitem__(self, rows: Tensor) -> _Candidates:
        return _Candidates(
            [self.counts[i] for i in rows.tolist()],
            self.boxes[rows],
            self.predicted_iou[rows],
            self.stability[rows],
            self.points[rows],
            self.crop_areas[rows],
        )


def _join(parts: list[_Candidates]) -> _Candidates:
    return _Candidates(
        [counts for part in parts for counts in part.counts],
        torch.cat([part.boxes for part in parts]),
        torch.cat([part.predicted_iou for part in parts]),
        torch.cat([part.stability for part in parts]),
        torch.cat([part.points for part in parts]),
        torch.cat([part.crop_areas for part in parts]),
    )


@torch.no_grad()
def propose_masks(sam: Sam, image: NDArray[np.uint8], settings: AnySettings | None = None) -> MaskSet:
    """Class-agnostic masks of one photo, from SAM prompted with points.

    Args:
        sam: the model.
        image: (H, W, 3) uint8 RGB.
        settings: `ProposalSettings` for `exact` proposals, `FastSettings` for `fast` ones; `ProposalSettings()`
            when None.

    Returns:
        The masks, the same at every call, without empty ones. `exact` has the order of
        `SamAutomaticMaskGenerator` (by predicted IoU, best first, when there are no crop layers), `fast` is by
        predicted IoU. `predicted_iou` is SAM's raw estimate, which
        may be a little above 1.

    Raises:
        ValueError: the image is not (H, W, 3) uint8.
        ImageError: the photo is so thin that nothing of it is left at SAM's input size.
    """
    settings = ProposalSettings() if settings is None else settings
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
    if isinstance(settings, FastSettings):
        return propose_fast(sam, image, settings)
    height, width = image.shape[:2]
    crops = crop_prompts(
        height,
        width,
        settings.points_per_side,
        settings.crop_n_layers,
        settings.crop_overlap_ratio,
        settings.crop_n_points_downscale_factor,
    )
    found = _join([_propose_in_crop(sam, image, crop, settings) for crop in crops])
    if len(crops) > 1:
        found = found[_suppress(found.boxes, 1 / found.crop_areas, settings.crop_nms_thresh)]
    if settings.min_mask_region_area > 0:
        threshold = max(settings.box_nms_thresh, settings.crop_nms_thresh)
        found = _clean_regions(found, (height, width), settings.min_mask_region_area, threshold)
    return MaskSet(
        height=height,
        width=width,
        counts=tuple(found.counts),
        predicted_iou=found.predicted_iou.numpy(),
        stability=found.stability.numpy(),
        points=found.points.numpy(),
    )


def _propose_in_crop(
    sam: Sam, image: NDArray[np.uint8], crop: Crop, settings: ProposalSettings
) -> _Candidates:
    x0, y0, x1, y1 = crop.box
    encoded, model = encode_image(sam, image[y0:y1, x0:x1]), sam.model
    prompts = encoded.to_input(crop.points)
    decoder = PointDecoder(model, encoded.features, (encoded.rows.reach, encoded.columns.reach))
    frame = Frame(
        encoded.rows,
        encoded.columns,
        (y0, x0),
        image.shape[0],
        model.mask_threshold,
        settings.stability_score_offset,
    )
    parts = []
    at_once = settings.points_per_batch or (_POINTS_ON_CPU if model.device.type == "cpu" else _POINTS_ON_GPU)
    for start in range(0, len(prompts), at_once):
        batch = slice(start, start + at_once)
        decoded = decoder.predict_iou(prompts[batch])
        passed = decoded.predicted_iou > (settings.pred_iou_thresh or -torch.inf)
        points = torch.as_tensor(crop.points[batch] + [x0, y0], dtype=torch.float32)
        parts.append(
            _filter_masks(
                decoder.decode_masks(decoded, passed),
                decoded.predicted_iou[passed],
                points.repeat_interleave(passed.sum(1).cpu(), dim=0),
                frame,
                crop,
                (image.shape[0], image.shape[1]),
                settings,
            )
        )
    found = _join(parts)
    return found[_suppress(found.boxes, found.predicted_iou, settings.box_nms_thresh)]


def _filter_masks(
    logits: Tensor,
    predicted_iou: Tensor,
    points: Tensor,
    frame: Frame,
    crop: Crop,
    image_size: tuple[int, int],
    settings: ProposalSettings,
) -> _Candidates:
    """The masks that pass stability and the crop's edge, as run lengths of the whole photo.

    Args:
        logits: (M, h, w) of the crop.
        predicted_iou: (M,).
        points: (M, 2) prompts in pixels of the photo.
        frame: where they lie in the photo.
        crop: the part of the photo that was encoded.
        image_size: height and width of the photo.
        settings: thresholds.
    """
    height, width = image_size
    counts, kept, boxes, stabilities = [], [], [], []
    for index, found in enumerate(iter_mask_runs(logits, frame)):
        if not len(found.positions) or found.stability < settings.stability_score_thresh:
            continue
        box = torch.tensor([found.box], dtype=torch.float32)
        if _ends_at_crop_edge(box, crop, image_size):
            continue
        kept.append(index)
        counts.append(encode_runs(found.positions, height, width))
        boxes.append(box)
        stabilities.append(found.stability)
    return _Candidates(
        counts,
        torch.cat([torch.zeros(0, 4), *boxes]),
        predicted_iou[kept].float().cpu(),
        torch.tensor(stabilities),
        points[kept],
        torch.full((len(kept),), float(crop.height * crop.width)),
    )


def _ends_at_crop_edge(box: Tensor, crop: Crop, image_size: tuple[int, int]) -> bool:
    """Whether a mask ends where its crop does, inside the photo: most likely it is cut off there."""
    x0, y0 = crop.box[:2]
    in_crop = box - torch.tensor([x0, y0, x0, y0])
    return bool(is_box_near_crop_edge(in_crop, list(crop.box), [0, 0, image_size[1], image_size[0]]))


def _suppress(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Indices of the boxes that stay, best score first; all are of one category."""
    return batched_nms(boxes, scores, torch.zeros(len(boxes)), threshold)


def _clean_regions(found: _Candidates, size: tuple[int, int], min_area: int, threshold: float) -> _Candidates:
    """Fill small holes, drop small islands, and remove the duplicates that this makes, one mask at a time.

    Suppression prefers masks that needed no change, as the generator does.
    """
    height, width = size
    counts, boxes, untouched = [], [], []
    for original in found.counts:
        mask = coco_mask.decode({"size": [height, width], "counts": original}).astype(bool)
        mask, filled = remove_small_regions(mask, min_area, mode="holes")
        mask, dropped = remove_small_regions(mask, min_area, mode="islands")
        counts.append(encode_mask(mask) if filled or dropped else original)
        boxes.append(batched_mask_to_box(torch.as_tensor(mask)).float())
        untouched.append(float(not (filled or dropped)))
    cleaned = replace(found, counts=counts, boxes=torch.stack([torch.zeros(4), *boxes])[1:])
    return cleaned[_suppress(cleaned.boxes, torch.tensor(untouched), threshold)]
