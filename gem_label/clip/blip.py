"""Loading BLIP's retrieval models, from the hub or a directory, through transformers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import open_clip
from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
from torch import Tensor

from gem_label.errors import GemLabelError, UsageError

if TYPE_CHECKING:
    from gem_label.clip.adapters.blip import BlipClip

BLIP_PREFIX = "blip/"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class BlipTokenizer:
    """List of C strings -> (C, n) token ids, padded to the longest of them.

    Attributes:
        tokenizer: that of transformers.
        context_length: most tokens of a text; further ones are cut.
    """

    tokenizer: Any
    context_length: int

    def __call__(self, prompts: list[str]) -> Tensor:
        """Token ids."""
        return self.tokenizer(
            prompts, padding=True, truncation=True, max_length=self.context_length, return_tensors="pt"
        ).input_ids


@dataclass(frozen=True)
class Blip:
    """A BLIP model with what its images and texts need.

    Attributes:
        model: in the likeness of an open_clip model.
        tokenizer: of its texts.
        mean: of the RGB channels in [0, 1].
        std: of the RGB channels.
        weights: the weight file.
    """

    model: BlipClip
    tokenizer: BlipTokenizer
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: Path


def is_blip_directory(name: str) -> bool:
    """Whether `name` is a directory with a BLIP model as transformers saves it."""
    return _read_json(Path(name).expanduser() / "config.json").get("model_type") == "blip"


def load_blip(name: str) -> Blip:
    """A retrieval BLIP, `BlipForImageTextRetrieval` in transformers.

    Args:
        name: a directory, or "blip/REPOSITORY" on the hub.

    Raises:
        UsageError: for a BLIP that was not trained for retrieval: it has no space that images and texts share.
        GemLabelError: when transformers is not installed, the hub does not answer, or files are missing.
    """
    try:
        from transformers import AutoTokenizer, BlipForImageTextRetrieval
    except ImportError as error:
        raise GemLabelError(f"{name} needs transformers: pip install 'gem-label[transformers]'") from error
    from gem_label.clip.adapters.blip import BlipClip

    directory = _download(name) if name.startswith(BLIP_PREFIX) else Path(name).expanduser()
    weights = _weights(directory)
    if weights is None or not is_blip_directory(str(directory)):
        raise GemLabelError(
            f"BLIP {name!r}: {directory} must hold config.json of a BLIP and {WEIGHT_FILES[0]}"
        )
    loader: Any = BlipForImageTextRetrieval  # typed without its loading information
    try:
        model, info = loader.from_pretrained(directory, local_files_only=True, output_loading_info=True)
        words = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # transformers and its readers raise anything
        reason = " ".join(str(error).split())[:300]
        raise GemLabelError(f"{directory} cannot be read as a BLIP model: {reason}") from error
    if missing := sorted(info["missing_keys"]):
        raise UsageError(
            f"{name} was not trained for retrieval (it lacks {missing[0]}): take one such as "
            f"{BLIP_PREFIX}Salesforce/blip-itm-base-coco"
        )
    limit = model.config.text_config.max_position_embeddings

    pixels = _read_json(directory / "preprocessor_config.json")
    return Blip(
        model=BlipClip(model.float()),
        tokenizer=BlipTokenizer(words, limit),
        mean=tuple(pixels.get("image_mean", open_clip.OPENAI_DATASET_MEAN)),
        std=tuple(pixels.get("image_std", open_clip.OPENAI_DATASET_STD)),
        weights=weights,
    )


def _download(name: str) -> Path:
    """The repository's files, from the hub's cache or the hub."""
    repository = name.removeprefix(BLIP_PREFIX)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UsageError(
            f"{name!r} names no BLIP on the hub: give {BLIP_PREFIX}ORGANIZATION/NAME, or a directory"
        )
    cached = try_to_load_from_cache(repository, "config.json")
    if isinstance(cached, str) and _weights(Path(cached).parent):
        return Path(cached).parent
    try:  # asked first because a download would try an absent hub for a minute
        files = {file.rfilename for file in HfApi().model_info(repository, timeout=10).siblings or ()}
        weights = [file for file in WEIGHT_FILES if file in files][:1]
        return Path(snapshot_download(repository, allow_patterns=["*.json", "*.txt", *weights]))
    except Exception as error:  # the hub's clients raise anything from OSError to their own types
        raise GemLabelError(
            f"no answer from the model hub for {name}: bring the repository {repository} by hand and pass its "
            "directory, or try --clip demo"
        ) from error


def _weights(directory: Path) -> Path | None:
    """The weight file in a directory."""
    return next((directory / file for file in WEIGHT_FILES if (directory / file).is_file()), None)


def _read_json(path: Path) -> dict:
    """A JSON object from a file; an empty one where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
