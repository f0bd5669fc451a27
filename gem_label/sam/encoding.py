"""A photo as SAM's decoder takes it: image features, and how points and logits map to the photo's pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from gem_label.errors import ImageError
from gem_label.precision import computing_in
from gem_label.resizing import resize_rgb
from gem_label.sam.models import Sam
from gem_label.sam.upsample import ResizeMatrix, resize_matrix


@dataclass(frozen=True)
class EncodedImage:
    """Image features and geometry of one photo, or of a crop of one.

    Attributes:
        features: (1, C, h, w) of SAM's square input; the photo lies in its top left corner, the rest is padding.
        size: height and width of the photo in pixels.
        resized: height and width of the photo inside the square input, in the input's pixels.
        stride: input pixels along one side of an image token.
        rows: from the decoder's logits, 4 a token, to the photo's rows.
        columns: the same for its columns.
    """

    features: Tensor
    size: tuple[int, int]
    resized: tuple[int, int]
    stride: int
    rows: ResizeMatrix
    columns: ResizeMatrix

    def to_input(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(P, 2) points x, y in pixels of the photo -> the same in SAM's input."""
        return points * (self.resized[1] / self.size[1], self.resized[0] / self.size[0])

    def to_photo(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(P, 2) points x, y in SAM's input -> the same in pixels of the photo."""
        return points * (self.size[1] / self.resized[1], self.size[0] / self.resized[0])


@torch.no_grad()
def encode_image(sam: Sam, pixels: NDArray[np.uint8]) -> EncodedImage:
    """Run SAM's image encoder on (H, W, 3) uint8 RGB, resized and padded as segment-anything does.

    Raises:
        ImageError: the photo is so thin that nothing of it is left at SAM's input size.
    """
    model = sam.model
    height, width = pixels.shape[:2]
    resize = ResizeLongestSide(model.image_encoder.img_size)
    target = resize.get_preprocess_shape(height, width, resize.target_length)
    if min(target) < 1:
        raise ImageError(f"{width} x {height} pixels are too thin for SAM")
    photo = resize_rgb(
        pixels, target[0], target[1], Image.Resampling.BILINEAR
    )  # as `resize.apply_image` does
    resized = torch.as_tensor(photo, device=model.device).permute(2, 0, 1)[None]
    with computing_in(sam.precision, sam.device):
        features = model.image_encoder(model.preprocess(resized)).float()
    side = resize.target_length
    rows, columns = (
        resize_matrix(4 * tokens, [(side, kept), (length, length)], model.device)
        for tokens, kept, length in zip(features.shape[-2:], resized.shape[-2:], (height, width), strict=True)
    )
    return EncodedImage(
        features,
        (height, width),
        (resized.shape[-2], resized.shape[-1]),
        side // features.shape[-1],
        rows,
        columns,
    )
