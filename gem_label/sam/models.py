"""SAM models by name or checkpoint: segment-anything's vit_b, vit_l, vit_h, and MobileSAM."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam as SegmentAnything
from timm.utils import reparameterize_model
from torch import Tensor

from gem_label.checkpoints import read_tensors
from gem_label.defaults import DEFAULT_SAM
from gem_label.devices import pick_device
from gem_label.errors import GemLabelError
from gem_label.precision import Precision
from gem_label.sam.mobile_sam import build_mobile_sam, rename_weights
from gem_label.weights import WEIGHTS, file_sha256, find_weights

_VIT_NAMES = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}  # by the encoder's width


@dataclass(frozen=True)
class Sam:
    """A SAM model ready to propose masks.

    Attributes:
        name: "mobile_sam", "vit_b", "vit_l" or "vit_h", for a checkpoint file too.
        model: the network in evaluation mode, with segment-anything's own interface (`image_encoder`,
            `prompt_encoder`, `mask_decoder`, `preprocess`, `postprocess_masks`).
        weights_sha256: checksum of the checkpoint file.
        precision: what the image encoder computes in; the mask decoder is always float32.
    """

    name: str
    model: SegmentAnything = field(repr=False)
    weights_sha256: str
    precision: Precision = Precision.float32

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    def to(self, device: str | torch.device) -> Sam:
        """The same model moved to that device (in place, as `torch.nn.Module.to` does)."""
        self.model.to(device)
        return self


def load_sam(
    name: str | os.PathLike[str] = DEFAULT_SAM,
    device: str | torch.device = "auto",
    precision: Precision = Precision.float32,
) -> Sam:
    """Load a SAM by name, or from a checkpoint file whose kind is seen from its tensors.

    Args:
        name: "mobile_sam", "vit_b", "vit_l", "vit_h", or the path of a checkpoint in one of their layouts.
        device: where to put it, see `pick_device`.
        precision: what the image encoder computes in.

    Raises:
        UsageError: neither a known name nor a file.
        GemLabelError: the weights are not on this machine, or the file is no SAM checkpoint.
    """
    precision, device = Precision(precision), pick_device(device)
    path = find_weights(name)
    weights: Mapping[str, Tensor] = read_tensors(path)
    kind = checkpoint_kind(weights)
    if kind is None:
        raise GemLabelError(
            f"{path} holds no SAM weights but those of another model ({next(iter(weights))!r} is one of them): "
            f"give a checkpoint of {', '.join(WEIGHTS)}"
        )
    if kind == "mobile_sam":
        model, weights = build_mobile_sam(), rename_weights(weights)
    else:
        model = sam_model_registry[kind]()
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise GemLabelError(f"{path} looks like {kind} but does not fit it: {problem[:300]}") from error
    model.eval().requires_grad_(False)
    if kind == "mobile_sam":
        # a convolution takes its batch norm in, and reads channels last: a tenth to a quarter less time on a CPU
        encoder = reparameterize_model(model.image_encoder, inplace=True)
        model.image_encoder = encoder.to(memory_format=torch.channels_last)
    published = WEIGHTS.get(os.fspath(name))
    sha256 = published.sha256 if published is not None else file_sha256(path)
    return Sam(kind, model.to(device), sha256, precision)


def checkpoint_kind(weights: Mapping[str, Tensor]) -> str | None:
    """Which SAM a checkpoint holds ("mobile_sam", "vit_b", ...), seen from its tensors; None when none."""
    if "image_encoder.patch_embed.seq.0.c.weight" in weights:
        return "mobile_sam"
    position = weights.get("image_encoder.pos_embed")
    return _VIT_NAMES.get(position.shape[-1]) if isinstance(position, Tensor) else None
