"""What the comparators share: images as a transformers model takes them, and what its weights are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer

from gem_label.checkpoints import describe_file
from gem_label.errors import GemLabelError
from gem_label.phrases import as_words
from gem_label.weights import file_sha256

PROMPT = "a photo of a {}."
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def check_source(source: str) -> None:
    """Make sure that a model can be fetched: transformers would try an absent hub for minutes.

    Raises:
        GemLabelError: it is no folder, not in the cache, and the hub does not answer.
    """
    if Path(source).is_dir() or isinstance(try_to_load_from_cache(source, "config.json"), str):
        return
    try:
        HfApi().model_info(source, timeout=10)
    except Exception as error:  # the hub's clients raise anything from OSError to their own types
        raise GemLabelError(
            f"no answer from the model hub for {source}: bring its folder by hand and pass --weights FOLDER"
        ) from error


def load_pretrained(kind: Any, source: str) -> Any:
    """A model of transformers with the weights of a folder or a name on the hub, in evaluation mode.

    Args:
        kind: the model's class.
        source: a folder, or a name on the hub.

    Raises:
        GemLabelError: the files cannot be read, or are of another model.
    """
    for name in WEIGHT_FILES:
        file = Path(source) / name
        if file.is_file() and (found := describe_file(file)) is not None:
            raise GemLabelError(f"{file} is no checkpoint: it is {found}")
    try:
        model, info = kind.from_pretrained(source, output_loading_info=True)
    except Exception as error:  # transformers and its readers raise anything
        reason = " ".join(str(error).split())[:300]
        raise GemLabelError(f"{source} cannot be read as {kind.__name__}: {reason}") from error
    missing = info["missing_keys"]
    # transformers fills what is missing with random numbers, and only warns
    if 2 * len(missing) > len(model.state_dict()):
        raise GemLabelError(f"{source} is of another model than {kind.__name__}: it lacks {min(missing)}")
    return model.eval()


def load_processors(source: str) -> tuple[Any, Any]:
    """The image processor and the tokenizer of a model of transformers.

    Raises:
        GemLabelError: a file is missing or cannot be read.
    """
    try:
        return AutoImageProcessor.from_pretrained(source), AutoTokenizer.from_pretrained(source)
    except Exception as error:  # as above
        reason = " ".join(str(error).split())[:300]
        raise GemLabelError(f"{source} lacks an image processor or tokenizer: {reason}") from error


def weights_sha256(source: str) -> str | None:
    """sha256 of the weight file in a folder, or of a hub model's file in the cache; None for weights in parts."""
    for name in WEIGHT_FILES:
        local = Path(source) / name
        found = local if local.is_file() else try_to_load_from_cache(source, name)
        if isinstance(found, (str, Path)):
            return file_sha256(found)
    return None


def squeezed(image: NDArray[np.uint8], size: tuple[int, int], processor: Any) -> Tensor:
    """(3, H, W) of a photo squeezed to the size, so that nothing is cropped, with the model's mean and deviation.

    Args:
        image: (H', W', 3) uint8 RGB.
        size: (H, W) of the result.
        processor: the model's image processor, for `image_mean` and `image_std`.
    """
    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std)
    )
    return (pixels - mean) / std


def prompts(texts: str | Sequence[str]) -> list[str]:
    """The phrases in the prompt of the GEM paper."""
    return [PROMPT.format(text) for text in as_words(texts)]
