"""Mask proposals: SAM asked about every point of a grid, filtered as `SamAutomaticMaskGenerator` filters.

The masks are the same as that generator's, up to float noise; the order of the work differs so that memory
stays bounded. The decoder's 256 x 256 logits are filtered by predicted IoU first; only the survivors are
upsampled to the photo, each inside its own box, and at once become run lengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from segment_anything.modeling import Sam as SegmentAnything
from segment_anything.utils.amg import batched_mask_to_box, is_box_near_crop_edge, remove_small_regions
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor
from torch.nn import functional
from torchvision.ops.boxes import batched_nms

from gem_label.errors import ImageError, UsageError
from gem_label.masks import MaskSet, encode_mask
from gem_label.sam.models import Sam
from gem_label.sam.prompts import Crop, crop_prompts
from gem_label.sam.upsample import axis_taps, encode_outline, outline

# On a CPU a larger batch leaves the caches: 0.11 s a prompt at 4, 0.20 s at 64 (one core).
_POINTS_ON_CPU, _POINTS_ON_GPU = 4, 64
_MASKS_AT_ONCE = 16  # logits over the model's 1024 x 1024 input held at a time: 64 MiB of float32


@dataclass(frozen=True)
class ProposalSettings:
    """How masks are proposed; names and defaults are those of `SamAutomaticMaskGenerator`.

    Attributes:
        mode: "exact" proposes the generator's own masks.
        points_per_side: points along one side of the grid over the whole photo.
        points_per_batch: prompts decoded at once; None takes 64 on a GPU and 4 on a CPU, which is twice as
            fast there and gives the same masks up to float noise.
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
        if self.mode == "fast":
            raise UsageError("proposals `fast` come later: use `exact`")
        if self.mode != "exact":
            raise UsageError(f"unknown proposals {self.mode!r}: use `exact`")
        for name in ("points_per_side", "points_per_batch", "crop_n_points_downscale_factor"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")
        for name in ("crop_n_layers", "min_mask_region_area"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.points_per_side // self.crop_n_points_downscale_factor**self.crop_n_layers < 1:
            raise UsageError(
                f"points_per_side {self.points_per_side} leaves no point in crop layer {self.crop_n_layers}: "
                "take more points or a smaller crop_n_points_downscale_factor"
            )


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
def propose_masks(sam: Sam, image: NDArray[np.uint8], settings: ProposalSettings | None = None) -> MaskSet:
    """Class-agnostic masks of one photo, from SAM prompted with a grid of points.

    Args:
        sam: the model.
        image: (H, W, 3) uint8 RGB.
        settings: grid, filters and suppression; `ProposalSettings()` when None.

    Returns:
        The masks in the order of `SamAutomaticMaskGenerator` (by predicted IoU, best first, when there are no
        crop layers), the same at every call, without empty ones. `predicted_iou` is SAM's raw estimate, which
        may be a little above 1.

    Raises:
        ValueError: the image is not (H, W, 3) uint8.
        ImageError: the photo is so thin that nothing of it is left at SAM's input size.
    """
    settings = ProposalSettings() if settings is None else settings
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    crops = crop_prompts(
        height,
        width,
        settings.points_per_side,
        settings.crop_n_layers,
        settings.crop_overlap_ratio,
        settings.crop_n_points_downscale_factor,
    )
    found = _join([_propose_in_crop(sam.model, image, crop, settings) for crop in crops])
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
    model: SegmentAnything, image: NDArray[np.uint8], crop: Crop, settings: ProposalSettings
) -> _Candidates:
    x0, y0, x1, y1 = crop.box
    pixels = image[y0:y1, x0:x1]
    resize = ResizeLongestSide(model.image_encoder.img_size)
    if min(resize.get_preprocess_shape(crop.height, crop.width, resize.target_length)) < 1:
        raise ImageError(f"{crop.width} x {crop.height} pixels are too thin for SAM")
    resized = torch.as_tensor(resize.apply_image(pixels), device=model.device).permute(2, 0, 1)[None]
    features = model.image_encoder(model.preprocess(resized))
    input_size = (resized.shape[-2], resized.shape[-1])
    prompts = resize.apply_coords(crop.points, pixels.shape[:2])
    parts = []
    at_once = settings.points_per_batch or (_POINTS_ON_CPU if model.device.type == "cpu" else _POINTS_ON_GPU)
    for start in range(0, len(prompts), at_once):
        batch = slice(start, start + at_once)
        logits, predicted_iou = _decode_points(model, features, prompts[batch])
        points = torch.as_tensor(crop.points[batch] + [x0, y0], dtype=torch.float32)
        parts.append(
            _filter_masks(
                model,
                logits.flatten(0, 1),
                predicted_iou.flatten(),
                points.repeat_interleave(logits.shape[1], dim=0),
                input_size,
                crop,
                (image.shape[0], image.shape[1]),
                settings,
            )
        )
    found = _join(parts)
    return found[_suppress(found.boxes, found.predicted_iou, settings.box_nms_thresh)]


def _decode_points(
    model: SegmentAnything, features: Tensor, prompts: NDArray[np.float64]
) -> tuple[Tensor, Tensor]:
    """Three masks per point: logits (P, 3, 256, 256) and predicted IoU (P, 3).

    Args:
        features: (1, 256, 64, 64) image features.
        prompts: (P, 2) points x, y in the model's input frame.
    """
    # Like the generator: points go in as float64 where the device has it, and become float32 in the encoding.
    dtype = torch.float32 if model.device.type == "mps" else torch.float64
    points = torch.as_tensor(prompts, dtype=dtype, device=model.device)[:, None]
    labels = torch.ones(points.shape[:2], dtype=torch.int, device=model.device)
    sparse, dense = model.prompt_encoder(points=(points, labels), boxes=None, masks=None)
    return model.mask_decoder(
        image_embeddings=features,
        image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )


def _filter_masks(
    model: SegmentAnything,
    logits: Tensor,
    predicted_iou: Tensor,
    points: Tensor,
    input_size: tuple[int, int],
    crop: Crop,
    image_size: tuple[int, int],
    settings: ProposalSettings,
) -> _Candidates:
    """The masks that pass predicted IoU, stability and the crop's edge, as run lengths of the whole photo.

    Args:
        logits: (M, 256, 256), over the model's padded square input.
        predicted_iou: (M,).
        points: (M, 2) prompts in pixels of the photo.
        input_size: height and width of the resized crop inside the padded input.
        crop: the part of the photo that was encoded.
        image_size: height and width of the photo.
        settings: thresholds.
    """
    if settings.pred_iou_thresh > 0:
        passed = predicted_iou > settings.pred_iou_thresh
        logits, predicted_iou, points = logits[passed], predicted_iou[passed], points[passed.cpu()]
    height, width = image_size
    rows = axis_taps(input_size[0], crop.height, model.device)
    columns = axis_taps(input_size[1], crop.width, model.device)
    counts, kept, boxes, stabilities = [], [], [], []
    for index, canvas in enumerate(_unpadded(model, logits, input_size)):
        found = outline(
            canvas,
            rows,
            columns,
            (crop.box[1], crop.box[0]),
            height,
            model.mask_threshold,
            settings.stability_score_offset,
        )
        if not len(found.positions) or found.stability < settings.stability_score_thresh:
            continue
        box = torch.tensor([found.box], dtype=torch.float32)
        if _ends_at_crop_edge(box, crop, (height, width)):
            continue
        kept.append(index)
        counts.append(encode_outline(found.positions, height, width))
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


def _unpadded(model: SegmentAnything, logits: Tensor, input_size: tuple[int, int]) -> Iterator[Tensor]:
    """Logits over the resized crop, one (h, w) at a time: the first half of `Sam.postprocess_masks`."""
    side = model.image_encoder.img_size
    for start in range(0, len(logits), _MASKS_AT_ONCE):  # split() would give one empty chunk of no masks
        chunk = logits[start : start + _MASKS_AT_ONCE]
        square = functional.interpolate(chunk[None], (side, side), mode="bilinear", align_corners=False)[0]
        yield from square[:, : input_size[0], : input_size[1]]


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
