"""SAM prompted with boxes: one mask in each."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor

from gem_label.masks import MaskSet, encode_mask
from gem_label.sam.models import Sam

BOXES_AT_A_TIME = 64


@torch.no_grad()
def mask_boxes(sam: Sam, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> MaskSet:
    """SAM's mask in each of N boxes.

    Args:
        sam: the model.
        image: (H, W, 3) RGB.
        boxes: (N, 4) x0, y0, x1, y1 in pixels.

    Returns:
        N masks, in the order of the boxes, some maybe empty; stability is 1, points are the boxes' centers.
    """
    height, width = image.shape[:2]
    if not len(boxes):
        return MaskSet(height, width)
    predictor = SamPredictor(sam.model)
    predictor.set_image(image)
    prompts = predictor.transform.apply_boxes_torch(torch.from_numpy(boxes), (height, width))
    counts: list[bytes] = []
    quality: list[float] = []
    for part in prompts.to(sam.device).split(BOXES_AT_A_TIME):
        masks, predicted, _ = predictor.predict_torch(None, None, boxes=part, multimask_output=False)
        counts.extend(encode_mask(mask) for mask in masks[:, 0].cpu().numpy())
        quality.extend(predicted[:, 0].tolist())
    return MaskSet(
        height=height,
        width=width,
        counts=tuple(counts),
        predicted_iou=np.array(quality, np.float32),
        stability=np.ones(len(counts), np.float32),
        points=((boxes[:, :2] + boxes[:, 2:]) / 2).astype(np.float32),
    )
