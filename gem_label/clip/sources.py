"""Where open_clip's models come from: its names, weight files, directories and the packaged demo model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import HfApi, try_to_load_from_cache
from open_clip.model import convert_to_custom_text_state_dict
from open_clip.tokenizer import HFTokenizer
from torch import Tensor

from gem_label.checkpoints import TORCHSCRIPT, is_torchscript, read_tensors
from gem_label.defaults import DEFAULT_CLIP
from gem_label.errors import GemLabelError, UsageError

DEMO_DIRECTORY = Path(__file__).parents[1] / "demo" / "clip"
CONFIG_FILE = "open_clip_config.json"
WEIGHT_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)


@dataclass(frozen=True)
class Source:
    """Where a named model's configuration and weights are.

    Attributes:
        name: as `load_clip` took it.
        model_cfg: open_clip's configuration of the architecture.
        preprocess_cfg: "mean" and "std" of the pixels, and where the weights are on the hub.
        dense_cfg: a model's own "short_side" and "depth" for dense features.
        path: the weight file, None while it is on the hub only.
        torchscript: whether the file may be a TorchScript archive, which holds code.
        tokenizer_directory: where the tokenizer's files are, None for the hub.
    """

    name: str
    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any]
    dense_cfg: dict[str, Any]
    path: Path | None = None
    tokenizer_directory: Path | None = None
    torchscript: bool = False


def find_source(name: str) -> Source:
    """The source of a model by its name.

    Raises:
        UsageError: for a name that means nothing.
        GemLabelError: for a directory without the files that it should have, or a TorchScript archive that was not
            asked for by name.
    """
    if name == "demo":
        return _directory_source(name, DEMO_DIRECTORY)
    if Path(name).expanduser().is_dir():
        return _directory_source(name, Path(name).expanduser())
    torchscript = name.startswith(TORCHSCRIPT)
    arch, _, weights = name.removeprefix(TORCHSCRIPT).partition("/")
    model_cfg = open_clip.get_model_config(arch) if arch in open_clip.list_models() else None
    if model_cfg is None or not weights:
        raise UsageError(
            f"unknown CLIP {name!r}: give ARCH/PRETRAINED of open_clip such as {DEFAULT_CLIP}, ARCH/FILE, "
            f"blip/REPOSITORY, a directory with {CONFIG_FILE}, or demo"
        )
    tag = open_clip.get_pretrained_cfg(arch, weights)
    path = Path(weights).expanduser()
    if tag and not torchscript:
        # the plain architectures name no activation; weights trained with QuickGELU are wrong without it
        if tag.get("quick_gelu") or weights == "openai":
            model_cfg["quick_gelu"] = True
        return Source(name, model_cfg, tag, {})
    if path.is_dir():
        raise UsageError(
            f"{weights!r} is a folder: give the weight file in it, or a folder with {CONFIG_FILE}"
        )
    if not path.is_file():
        known = ", ".join(open_clip.list_pretrained_tags_by_model(arch)) or "none"
        raise UsageError(
            f"{weights!r} is no file and no pretrained weights of {arch}; open_clip knows: {known}"
        )
    if is_torchscript(path) and not torchscript:
        raise GemLabelError(
            f"{path} is a TorchScript archive, which holds code: if you trust its origin, ask for it by name as "
            f"{TORCHSCRIPT}{name}"
        )
    if is_torchscript(path):  # only OpenAI's own files come as such archives, all of them with QuickGELU
        model_cfg["quick_gelu"] = True
    return Source(name, model_cfg, _usual_normalization(arch), {}, path, torchscript=torchscript)


def _usual_normalization(arch: str) -> dict[str, Any]:
    """Mean and standard deviation where all released weights of an architecture agree on them."""
    tags = [open_clip.get_pretrained_cfg(arch, tag) for tag in open_clip.list_pretrained_tags_by_model(arch)]
    usual = {(tuple(tag["mean"]), tuple(tag["std"])) for tag in tags if tag.get("mean") and tag.get("std")}
    if len(usual) != 1:
        return {}
    mean, std = usual.pop()
    return {"mean": mean, "std": std}


def _directory_source(name: str, directory: Path) -> Source:
    config_path = directory / CONFIG_FILE
    found = [directory / file for file in WEIGHT_FILES if (directory / file).is_file()]
    if not config_path.is_file() or not found:
        raise GemLabelError(f"CLIP {name!r}: {directory} must hold {CONFIG_FILE} and {WEIGHT_FILES[0]}")
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        model_cfg = config["model_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise GemLabelError(f"{config_path} is no open_clip configuration: {error!r}") from error
    return Source(
        name, model_cfg, config.get("preprocess_cfg", {}), config.get("dense_cfg", {}), found[0], directory
    )


def build_model(model_cfg: dict[str, Any]) -> open_clip.CLIP:
    """The architecture with random weights, as open_clip's own factory builds it.

    Raises:
        UsageError: for a model without a plain ViT.
        GemLabelError: for a configuration that describes no model.
    """
    try:
        if "multimodal_cfg" in model_cfg:
            raise UsageError("dense features need a plain ViT such as ViT-B-16, not a CoCa model")
        model_cfg = {**model_cfg, "text_cfg": {**model_cfg["text_cfg"]}}
        custom_text = model_cfg.pop("custom_text", False)
        if "hf_model_name" in model_cfg["text_cfg"]:
            custom_text = True
            model_cfg["text_cfg"]["hf_model_pretrained"] = False
        return (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**model_cfg)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise GemLabelError(
            f"the configuration of this CLIP describes no model ({type(error).__name__}: {reason})"
        ) from error


def make_tokenizer(source: Source) -> Callable[[list[str]], Tensor]:
    """The tokenizer that goes with a source's text tower.

    Raises:
        GemLabelError: when it is one of transformers' and cannot be loaded.
    """
    text_cfg = source.model_cfg["text_cfg"]
    context_length = text_cfg.get("context_length", 77)
    options = text_cfg.get("tokenizer_kwargs") or {}
    hf_name = text_cfg.get("hf_tokenizer_name")
    if not hf_name:
        return open_clip.SimpleTokenizer(context_length=context_length, **options)
    place = str(source.tokenizer_directory or hf_name)
    try:
        return HFTokenizer(place, context_length=context_length, **options)
    except ImportError as error:
        raise GemLabelError(
            f"the tokenizer of {source.name} needs transformers: pip install 'gem-label[transformers]'"
        ) from error
    except Exception as error:  # of transformers, the hub's client and the tokenizers, each with its own
        raise GemLabelError(
            f"no tokenizer for {source.name} in {place}: bring the whole repository {hf_name} from the model hub "
            "and pass its directory"
        ) from error


def download(source: Source) -> Path:
    """The weight file of a source, from the hub's cache or the hub.

    Raises:
        GemLabelError: when the hub does not answer.
    """
    cached = find_cached(source)
    if cached is not None:
        return cached
    try:
        ask_hub(source)  # first because a download would try an absent hub for a minute
        return Path(open_clip.download_pretrained(source.preprocess_cfg))
    except Exception as error:  # the hub's clients raise anything from OSError to their own types
        raise GemLabelError(
            f"no answer from the model hub for {source.name}: {bring_by_hand(source)}, or try --clip demo"
        ) from error


def find_cached(source: Source) -> Path | None:
    """The weight file of a source where it is on this machine already, else None."""
    if source.path is not None:
        return source.path
    repository, file = os.path.split(source.preprocess_cfg.get("hf_hub", ""))
    for known in (file,) if file else WEIGHT_FILES:
        cached = try_to_load_from_cache(repository, known) if repository else None
        if isinstance(cached, str):
            return Path(cached)
    return None


def ask_hub(source: Source) -> None:
    """Make sure that the hub answers for a source; raises whatever the hub's client raises when it does not."""
    repository, _ = os.path.split(source.preprocess_cfg.get("hf_hub", ""))
    if repository:
        HfApi().model_info(repository, timeout=10)


def bring_by_hand(source: Source) -> str:
    """What to do on a machine that the hub does not reach: which file of which repository, and how to pass it."""
    arch = source.name.partition("/")[0]
    if source.model_cfg.get("quick_gelu") and f"{arch}-quickgelu" in open_clip.list_models():
        arch = f"{arch}-quickgelu"
    repository, file = os.path.split(source.preprocess_cfg.get("hf_hub", ""))
    place = f"{file or WEIGHT_FILES[0]} of {repository}" if repository else source.preprocess_cfg.get("url")
    return f"bring its weight file by hand ({place}) and pass {arch}/FILE"


def read_state(path: Path, torchscript: bool = False) -> dict[str, Tensor]:
    """The weights in a file by their names, on the CPU.

    Args:
        path: the file.
        torchscript: load a TorchScript archive, which holds code.

    Raises:
        GemLabelError: the file is no checkpoint; the message says what it is.
    """
    return {key.removeprefix("module."): value for key, value in read_tensors(path, torchscript).items()}


def load_state(model: open_clip.CLIP, state: dict[str, Tensor], path: Path) -> None:
    """Copy `state` into `model`; half precision becomes float32.

    Raises:
        GemLabelError: the weights are of another model.
    """
    for leftover in ("input_resolution", "context_length", "vocab_size"):  # in OpenAI's archives
        state.pop(leftover, None)
    try:
        if "token_ids" in state:
            state["token_embedding.weight"] = spread_token_table(
                state["token_embedding.weight"], state.pop("token_ids"), model.vocab_size
            )
        if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
            state = convert_to_custom_text_state_dict(state)
        for name in ("logit_scale", "logit_bias"):  # a scalar in some files, one element in others
            if name in state and getattr(model, name, None) is not None:
                state[name] = state[name].reshape(getattr(model, name).shape)
        model.load_state_dict(state)
    except (RuntimeError, KeyError, IndexError) as error:
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
