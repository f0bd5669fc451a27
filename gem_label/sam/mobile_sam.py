"""MobileSAM: segment-anything with a TinyViT image encoder (Zhang et al. 2023, "Faster Segment Anything").

The encoder is put together from timm's TinyViT blocks. It differs from the classifier of that size in two
ways: the last state merges patches without halving the grid, so that features stay at stride 16 like SAM's,
and SAM's neck takes the place of the classification head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling import Sam as SegmentAnything
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import ConvLayer, PatchEmbed, PatchMerging, TinyVitStage
from torch import Tensor, nn

_IMAGE_SIZE = 1024
_STRIDE = 16
_EMBEDDING_DIM = 256
_WIDTHS = (64, 128, 160, 320)
_DEPTHS = (2, 2, 6, 2)
_HEADS = (2, 4, 5, 10)
_WINDOWS = (7, 7, 14, 7)
# MobileSAM's TinyViT ends a state with the patch merging that timm puts at the start of the next one.
_RENAMED = (
    (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
    (r"^layers\.0\.downsample\.", "stages.1.downsample."),
    (r"^layers\.1\.downsample\.", "stages.2.downsample."),
    (r"^layers\.2\.downsample\.", "stages.3.downsample."),
    (r"^layers\.", "stages."),
    (r"\.c\.weight$", ".conv.weight"),
)
_CLASSIFIER = ("norm_head.", "head.")


class PatchMergingAtStride1(PatchMerging):
    """Patch merging that keeps the grid: the same weights, stride 1 instead of 2."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv2.conv.stride = (1, 1)


class TinyVitEncoder(nn.Module):
    """MobileSAM's image encoder: (B, 3, 1024, 1024) normalized pixels -> (B, 256, 64, 64) features.

    Attributes:
        img_size: side of the square input in pixels, as segment-anything asks of an image encoder.
    """

    def __init__(self) -> None:
        super().__init__()
        self.img_size = _IMAGE_SIZE
        self.patch_embed = PatchEmbed(in_chs=3, out_chs=_WIDTHS[0], act_layer=nn.GELU)
        self.stages = nn.Sequential(
            ConvLayer(dim=_WIDTHS[0], depth=_DEPTHS[0], act_layer=nn.GELU),
            *(
                TinyVitStage(
                    dim=_WIDTHS[i - 1],
                    out_dim=_WIDTHS[i],
                    depth=_DEPTHS[i],
                    num_heads=_HEADS[i],
                    window_size=_WINDOWS[i],
                    downsample=PatchMerging if i < len(_WIDTHS) - 1 else PatchMergingAtStride1,
                )
                for i in range(1, len(_WIDTHS))
            ),
        )
        self.neck = nn.Sequential(
            nn.Conv2d(_WIDTHS[-1], _EMBEDDING_DIM, kernel_size=1, bias=False),
            LayerNorm2d(_EMBEDDING_DIM),
            nn.Conv2d(_EMBEDDING_DIM, _EMBEDDING_DIM, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(_EMBEDDING_DIM),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features of normalized images, (B, 3, 1024, 1024) -> (B, 256, 64, 64)."""
        return self.neck(self.stages(self.patch_embed(x)))


def build_mobile_sam() -> SegmentAnything:
    """MobileSAM with random weights: segment-anything's own prompt encoder and mask decoder on TinyViT."""
    grid = _IMAGE_SIZE // _STRIDE
    return SegmentAnything(
        image_encoder=TinyVitEncoder(),
        prompt_encoder=PromptEncoder(
            embed_dim=_EMBEDDING_DIM,
            image_embedding_size=(grid, grid),
            input_image_size=(_IMAGE_SIZE, _IMAGE_SIZE),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=_EMBEDDING_DIM, mlp_dim=2048, num_heads=8),
            transformer_dim=_EMBEDDING_DIM,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
    )


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published MobileSAM checkpoint under the names of `build_mobile_sam`.

    Only the ImageNet classifier that the checkpoint carries along is left out; every other tensor is kept, so
    that a strict load notices what does not belong.
    """
    renamed = {}
    prefix = "image_encoder."
    for key, tensor in weights.items():
        if not key.startswith(prefix):
            renamed[key] = tensor
            continue
        name = key.removeprefix(prefix)
        if name.startswith(_CLASSIFIER):
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        renamed[prefix + name] = tensor
    return renamed
