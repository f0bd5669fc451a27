"""Where models run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gem_label.errors import UsageError

if TYPE_CHECKING:
    import torch


def pick_device(device: torch.device | str = "auto") -> torch.device:
    """The device that a name stands for.

    Args:
        device: "auto" for the first CUDA device where torch finds one, else the CPU; or any name that torch knows.

    Raises:
        UsageError: torch does not know the name, or finds no CUDA device where one is asked for.
    """
    import torch  # only now: the command line reads options without it

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UsageError(
            f"device must be auto, cpu, cuda or another that torch knows, not {device!r}"
        ) from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("torch finds no CUDA device: use cpu or auto")
    return chosen
