"""Loading CLIP models: open_clip's names, weight files, open_clip directories and the packaged demo model."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from numpy.typing import NDArray
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.tokenizer import HFTokenizer
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from gem_label.clip.towers import VisionTower
from gem_label.errors import GemLabelError, UsageError
from gem_label.weights import file_sha256

DEFAULT_CLIP = "ViT-B-16/openai"
DEFAULT_SHORT_SIDE = 448
DEFAULT_DEPTH = 6
# a sliver of a photo is squeezed to this aspect ratio: its patches would fill the memory otherwise
MAX_ASPECT = 16
DEMO_DIRECTORY = Path(__file__).parents[1] / "demo" / "clip"
CONFIG_FILE = "open_clip_config.json"
WEIGHT_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)


@dataclass
class Clip:
    """A CLIP model with all that its images and texts need.

    Attributes:
        name: as `load_clip` took it.
        model: the open_clip model, in eval mode.
        tower: the view of its vision transformer.
        tokenizer: list of C strings -> (C, context length) token ids.
        mean: of the RGB channels in [0, 1], for normalising images.
        std: of the RGB channels.
        short_side: pixels of the shorter side of the images for dense features.
        dense_depth: how many of the last blocks GEM runs on unless told otherwise.
        logit_scale: factor on cosines before a softmax over texts, as trained.
        weights_sha256: of the weight file, None where there was no file.
        known_tokens: the token ids that a small model has embeddings for, None for all.
    """

    name: str
    model: open_clip.CLIP
    tower: VisionTower
    tokenizer: Callable[[list[str]], Tensor]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    short_side: int
    dense_depth: int
    logit_scale: float
    weights_sha256: str | None = None
    known_tokens: frozenset[int] | None = None

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
            (3, H, W) float32, normalised by the model's mean and standard deviation, on the CPU.
        """
        if not isinstance(image, Image.Image):
            image = Image.fromarray(image)
        image = image.convert("RGB")
        height, width = self.input_size(image.height, image.width, short_side)
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
        return (pixels - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]


def load_clip(name: str = DEFAULT_CLIP, device: torch.device | str = "cpu") -> Clip:
    """Load a CLIP model in float32, eval mode.

    Args:
        name: one of
            "ARCH/PRETRAINED", open_clip's names, such as "ViT-B-16/openai" (fetched from the model hub);
            "ARCH/FILE" with a weight file of that architecture (.safetensors, .pt, .bin);
            a directory with open_clip_config.json and open_clip_model.safetensors, as on the hub;
            "demo", the small model that comes with this package.
        device: where to put it.

    Raises:
        UsageError: for a name that is none of these, or a model without a plain ViT.
        GemLabelError: when the hub does not answer, or the weights cannot be read or do not fit.
    """
    source = _find_source(name)
    model = _build_model(source.model_cfg)
    VisionTower(model.visual)  # refuses before anything is downloaded
    path = source.path or _download(source)
    state = _read_state(path)
    known_tokens = frozenset(state["token_ids"].tolist()) if "token_ids" in state else None
    _load_state(model, state, path)
    clip = as_clip(model, name=name, tokenizer=_make_tokenizer(source), preprocess_cfg=source.preprocess_cfg)
    return replace(
        clip,
        short_side=source.dense_cfg.get("short_side", clip.short_side),
        dense_depth=min(source.dense_cfg.get("depth", clip.dense_depth), clip.tower.num_blocks),
        weights_sha256=file_sha256(path),
        known_tokens=known_tokens,
    ).to(device)


def as_clip(
    clip: Clip | open_clip.CLIP,
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
        tokenizer: None takes CLIP's own.
        preprocess_cfg: open_clip's dict with "mean" and "std"; None takes the model's own, else OpenAI's.

    Raises:
        UsageError: when the image tower is no plain ViT.
    """
    if isinstance(clip, Clip):
        return clip
    tower = VisionTower(clip.visual)
    preprocess = preprocess_cfg or getattr(clip.visual, "preprocess_cfg", {})
    return Clip(
        name=name,
        model=clip.eval(),
        tower=tower,
        tokenizer=tokenizer or open_clip.SimpleTokenizer(context_length=clip.context_length),
        mean=_three(preprocess.get("mean") or open_clip.OPENAI_DATASET_MEAN),
        std=_three(preprocess.get("std") or open_clip.OPENAI_DATASET_STD),
        short_side=DEFAULT_SHORT_SIDE,
        dense_depth=min(DEFAULT_DEPTH, tower.num_blocks),
        logit_scale=clip.logit_scale.detach().exp().item(),
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)


@dataclass(frozen=True)
class _Source:
    """Where a named model's configuration and weights are; `path` is None while they are on the hub only."""

    name: str
    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]
    dense_cfg: dict[str, Any]
    path: Path | None = None
    tokenizer_directory: Path | None = None


def _find_source(name: str) -> _Source:
    if name == "demo":
        return _directory_source(name, DEMO_DIRECTORY)
    if Path(name).expanduser().is_dir():
        return _directory_source(name, Path(name).expanduser())
    arch, _, weights = name.partition("/")
    model_cfg = open_clip.get_model_config(arch) if arch in open_clip.list_models() else None
    if model_cfg is None or not weights:
        raise UsageError(
            f"unknown CLIP {name!r}: give ARCH/PRETRAINED of open_clip such as {DEFAULT_CLIP}, ARCH/FILE, "
            f"a directory with {CONFIG_FILE}, or demo"
        )
    tag = open_clip.get_pretrained_cfg(arch, weights)
    path = Path(weights).expanduser()
    if tag:
        # the plain architectures name no activation; weights trained with QuickGELU are wrong without it
        if tag.get("quick_gelu") or weights == "openai":
            model_cfg["quick_gelu"] = True
        return _Source(name, model_cfg, tag, {})
    if not path.is_file():
        known = ", ".join(open_clip.list_pretrained_tags_by_model(arch)) or "none"
        raise UsageError(
            f"{weights!r} is no file and no pretrained weights of {arch}; open_clip knows: {known}"
        )
    if _is_torchscript(path):  # only OpenAI's own files come as such archives, all of them with QuickGELU
        model_cfg["quick_gelu"] = True
    return _Source(name, model_cfg, {}, {}, path)


def _directory_source(name: str, directory: Path) -> _Source:
    config_path = directory / CONFIG_FILE
    found = [directory / file for file in WEIGHT_FILES if (directory / file).is_file()]
    if not config_path.is_file() or not found:
        raise GemLabelError(f"CLIP {name!r}: {directory} must hold {CONFIG_FILE} and {WEIGHT_FILES[0]}")
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        model_cfg = config["model_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise GemLabelError(f"{config_path} is no open_clip configuration: {error!r}") from error
    return _Source(
        name, model_cfg, config.get("preprocess_cfg", {}), config.get("dense_cfg", {}), found[0], directory
    )


def _build_model(model_cfg: dict[str, Any]) -> open_clip.CLIP:
    """The architecture with random weights, as open_clip's own factory builds it."""
    model_cfg = {**model_cfg, "text_cfg": {**model_cfg["text_cfg"]}}
    if "multimodal_cfg" in model_cfg:
        raise UsageError("dense features need a plain open_clip ViT such as ViT-B-16, not a CoCa model")
    custom_text = model_cfg.pop("custom_text", False)
    if "hf_model_name" in model_cfg["text_cfg"]:
        custom_text = True
        model_cfg["text_cfg"]["hf_model_pretrained"] = False
    return (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**model_cfg)


def _make_tokenizer(source: _Source) -> Callable[[list[str]], Tensor]:
    text_cfg = source.model_cfg["text_cfg"]
    context_length = text_cfg.get("context_length", 77)
    options = text_cfg.get("tokenizer_kwargs") or {}
    if hf_name := text_cfg.get("hf_tokenizer_name"):
        directory = source.tokenizer_directory
        return HFTokenizer(str(directory or hf_name), context_length=context_length, **options)
    return open_clip.SimpleTokenizer(context_length=context_length, **options)


def _download(source: _Source) -> Path:
    arch = source.name.partition("/")[0]
    repository, file = os.path.split(source.preprocess_cfg.get("hf_hub", ""))
    for known in (file,) if file else WEIGHT_FILES:
        cached = try_to_load_from_cache(repository, known) if repository else None
        if isinstance(cached, str):
            return Path(cached)
    try:
        if repository:  # asked first because a download would try an absent hub for a minute
            HfApi().model_info(repository, timeout=10)
        return Path(open_clip.download_pretrained(source.preprocess_cfg))
    except Exception as error:  # the hub's clients raise anything from OSError to their own types
        if source.model_cfg.get("quick_gelu") and f"{arch}-quickgelu" in open_clip.list_models():
            arch = f"{arch}-quickgelu"
        raise GemLabelError(
            f"no answer from the model hub for {source.name}: bring its weight file by hand "
            f"({repository or source.preprocess_cfg.get('url')}) and pass {arch}/FILE, or try --clip demo"
        ) from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(member.endswith("/constants.pkl") for member in archive.namelist())


def _read_state(path: Path) -> dict[str, Tensor]:
    """The weights in a file by their names, on the CPU."""
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        elif _is_torchscript(path):
            state = torch.jit.load(path, map_location="cpu").state_dict()
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = state.get("state_dict", state)  # some are whole training checkpoints
    except Exception as error:  # each reader has its own; all mean the same to the user
        reason = str(error).partition("\n")[0]
        raise GemLabelError(f"{path} cannot be read as CLIP weights: {reason}") from error
    return {key.removeprefix("module."): value for key, value in state.items()}


def _load_state(model: open_clip.CLIP, state: dict[str, Tensor], path: Path) -> None:
    """Copy `state` into `model`; half precision becomes float32."""
    for leftover in ("input_resolution", "context_length", "vocab_size"):  # in OpenAI's archives
        state.pop(leftover, None)
    if "token_ids" in state:
        state["token_embedding.weight"] = spread_token_table(
            state["token_embedding.weight"], state.pop("token_ids"), model.vocab_size
        )
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    if "logit_scale" in state:  # a scalar in some files, one element in others
        state["logit_scale"] = state["logit_scale"].reshape(model.logit_scale.shape)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise GemLabelError(f"the weights in {path} do not fit this CLIP's architecture: {reason}") from error


def spread_token_table(rows: Tensor, token_ids: Tensor, vocab_size: int) -> Tensor:
    """A whole token table out of the rows that a small model stores.

    Args:
        rows: (R, width) embeddings of the tokens that occurred in training.
        token_ids: (R,) integer ids of those tokens.
        vocab_size: V tokens of the tokenizer.

    Returns:
        (V, width), zeros for every other token.
    """
    table = rows.new_zeros(vocab_size, rows.shape[1])
    table[token_ids.long()] = rows
    return table
