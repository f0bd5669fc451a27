"""Loading CLIP models: open_clip's names, weight files, open_clip directories and the packaged demo model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gem_label.checks import COUNT, check_number
from gem_label.clip.adapters import make_tower
from gem_label.clip.blip import BLIP_PREFIX, is_blip_directory, load_blip
from gem_label.clip.sources import (
    build_model,
    download,
    find_source,
    load_state,
    make_tokenizer,
    read_state,
)
from gem_label.clip.towers import VisionTower
from gem_label.defaults import DEFAULT_CLIP
from gem_label.devices import pick_device
from gem_label.errors import UsageError
from gem_label.precision import Precision
from gem_label.resizing import resize_rgb
from gem_label.weights import file_sha256

if TYPE_CHECKING:
    from gem_label.clip.adapters.blip import BlipClip

DEFAULT_SHORT_SIDE = 448
DEFAULT_DEPTH = 6
# a sliver of a photo is squeezed to this aspect ratio: its patches would fill the memory otherwise
MAX_ASPECT = 16
CLIP_VOCABULARY = 49408


@dataclass
class Clip:
    """A CLIP model with all that its images and texts need.

    Attributes:
        name: as `load_clip` took it.
        model: open_clip's model, or BLIP in its likeness, in eval mode.
        tower: the view of its vision transformer.
        tokenizer: list of C strings -> (C, context length) token ids.
        mean: of the RGB channels in [0, 1], for normalizing images.
        std: of the RGB channels.
        short_side: pixels of the shorter side of the images for dense features.
        dense_depth: how many of the last blocks GEM runs on by default.
        logit_scale: factor on cosines before a softmax over texts, as trained. The bias that SigLIP adds for
            its sigmoid is the same for every text, so that a softmax does not see it.
        weights_sha256: of the weight file, None where there was no file.
        known_tokens: the token ids that a small model has embeddings for, None for all.
        precision: what dense features are computed in; texts are always float32.
    """

    name: str
    model: open_clip.CLIP | open_clip.CustomTextCLIP | BlipClip
    tower: VisionTower
    tokenizer: Callable[[list[str]], Tensor]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    short_side: int
    dense_depth: int
    logit_scale: float
    weights_sha256: str | None = None
    known_tokens: frozenset[int] | None = None
    precision: Precision = Precision.float32

    def __post_init__(self) -> None:
        check_number("short_side", self.short_side, COUNT)

    @property
    def native_size(self) -> int:
        """Image side in pixels that the tower was trained at."""
        return self.tower.native_size

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.tower.patch_size

    @property
    def embedding_dim(self) -> int:
        """Dimension d of the space that patches, images and texts share."""
        return self.tower.output_dim

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def to(self, device: torch.device | str) -> Clip:
        """Move the model to `device` and return self."""
        self.model.to(device)
        return self

    def unknown_phrases(self, phrases: Sequence[str]) -> list[str]:
        """Phrases with a word that the model has never seen; none where the whole token table is there."""
        if self.known_tokens is None:
            return []
        known = self.known_tokens | {0}  # 0 pads the end of the context
        return [phrase for phrase in phrases if not known.issuperset(self.tokenizer([phrase])[0].tolist())]

    def input_size(self, height: int, width: int, short_side: int | None = None) -> tuple[int, int]:
        """(H, W) of the network's input for a photo of (height, width) pixels: see `preprocess`."""
        side, patch = short_side or self.short_side, self.patch_size
        scale = side / min(height, width)

        def rounded(length: int) -> int:
            return max(1, round(min(length * scale, MAX_ASPECT * side) / patch)) * patch

        return rounded(height), rounded(width)

    def preprocess(self, image: Image.Image | NDArray[np.uint8], short_side: int | None = None) -> Tensor:
        """A photo as the dense encoder takes it.

        The short side is resized bicubically (antialias) to `short_side`, the aspect ratio is kept, both
        sides are rounded to multiples of the patch size. Nothing is cropped: patches cover the photo evenly.

        Args:
            image: a PIL image, or (height, width, 3) uint8 RGB.
            short_side: pixels; None takes the model's.

        Returns:
            (3, H, W) float32, normalized by the model's mean and standard deviation, on the CPU.
        """
        photo = np.asarray(image.convert("RGB")) if isinstance(image, Image.Image) else image
        height, width = self.input_size(photo.shape[0], photo.shape[1], short_side)
        resized = resize_rgb(photo, height, width, Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(resized).permute(2, 0, 1).float() / 255
        return (pixels - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]


def load_clip(
    name: str = DEFAULT_CLIP,
    device: torch.device | str = "auto",
    precision: Precision = Precision.float32,
) -> Clip:
    """Load a CLIP model with float32 weights, eval mode.

    Args:
        name: one of
            "ARCH/PRETRAINED", open_clip's names, such as "ViT-B-16/openai" (fetched from the model hub);
            "ARCH/FILE" with a weight file of that architecture (.safetensors, .pt, .bin);
            "torchscript:ARCH/FILE" with a TorchScript archive, as OpenAI gives its files: it holds code, so its
            origin has to be trusted;
            "blip/REPOSITORY", a retrieval BLIP on the hub, such as "blip/Salesforce/blip-itm-base-coco";
            a directory with open_clip_config.json and open_clip_model.safetensors, as on the hub, or with a
            retrieval BLIP as transformers saves it;
            "demo", the small model that comes with this package.
        device: where to put it, see `pick_device`.
        precision: what dense features are computed in.

    Raises:
        UsageError: for a name that is none of these, or a model without a plain ViT.
        GemLabelError: when the hub does not answer, the weights cannot be read or do not fit, or the model
            needs transformers (BLIP; SigLIP's tokenizer) and it is not installed.
    """
    precision, device = Precision(precision), pick_device(device)
    if name.startswith(BLIP_PREFIX) or is_blip_directory(name):
        blip = load_blip(name)
        clip = as_clip(
            blip.model,
            name=name,
            tokenizer=blip.tokenizer,
            preprocess_cfg={"mean": blip.mean, "std": blip.std},
        )
        loaded = replace(clip, weights_sha256=file_sha256(blip.weights), precision=precision)
        return loaded.to(device)
    source = find_source(name)
    model = build_model(source.model_cfg)
    make_tower(model.visual)  # refuses before anything is downloaded
    tokenizer = make_tokenizer(source)
    path = source.path or download(source)
    state = read_state(path, source.torchscript)
    known_tokens = frozenset(state["token_ids"].tolist()) if "token_ids" in state else None
    load_state(model, state, path)
    clip = as_clip(model, name=name, tokenizer=tokenizer, preprocess_cfg=source.preprocess_cfg)
    return replace(
        clip,
        short_side=source.dense_cfg.get("short_side", clip.short_side),
        dense_depth=min(source.dense_cfg.get("depth", clip.dense_depth), clip.tower.num_blocks),
        weights_sha256=file_sha256(path),
        known_tokens=known_tokens,
        precision=precision,
    ).to(device)


def as_clip(
    clip: Clip | open_clip.CLIP | open_clip.CustomTextCLIP | BlipClip,
    *,
    name: str = "open_clip model",
    tokenizer: Callable[[list[str]], Tensor] | None = None,
    preprocess_cfg: dict[str, Any] | None = None,
) -> Clip:
    """A `Clip` around any open_clip model with a ViT; a `Clip` is returned as it is.

    The model itself is used, not a copy, and put in eval mode.

    Args:
        clip: a `Clip` or an open_clip model.
        name: for messages and manifests.
        tokenizer: None takes CLIP's own, which models with another vocabulary (SigLIP) refuse when used.
        preprocess_cfg: open_clip's dict with "mean" and "std"; None takes the model's own, else OpenAI's.

    Raises:
        UsageError: when the image tower is no plain ViT.
    """
    if isinstance(clip, Clip):
        return clip
    tower = make_tower(clip.visual)
    preprocess = preprocess_cfg or getattr(clip.visual, "preprocess_cfg", {})
    return Clip(
        name=name,
        model=clip.eval(),
        tower=tower,
        tokenizer=tokenizer or _default_tokenizer(clip),
        mean=_three(preprocess.get("mean") or open_clip.OPENAI_DATASET_MEAN),
        std=_three(preprocess.get("std") or open_clip.OPENAI_DATASET_STD),
        short_side=DEFAULT_SHORT_SIDE,
        dense_depth=min(DEFAULT_DEPTH, tower.num_blocks),
        logit_scale=clip.logit_scale.detach().exp().item(),
    )


def _default_tokenizer(
    model: open_clip.CLIP | open_clip.CustomTextCLIP | BlipClip,
) -> Callable[[list[str]], Tensor]:
    """CLIP's tokenizer, or for a model with another vocabulary one that says what to do."""
    if getattr(model, "vocab_size", None) == CLIP_VOCABULARY:
        return open_clip.SimpleTokenizer(context_length=model.context_length)

    def refuse(_prompts: list[str]) -> Tensor:
        raise UsageError(
            "this model's vocabulary is not CLIP's: load it by load_clip, or pass its tokenizer to as_clip"
        )

    return refuse


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
