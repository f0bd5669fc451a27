"""The number format that image encoders compute in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING

from gem_label.errors import UsageError

if TYPE_CHECKING:
    import torch


class Precision(StrEnum):
    """float32, or bfloat16 in matrix products and convolutions, where PyTorch's autocast takes it to be safe.

    bfloat16 has float32's range and 8 bits of precision. Weights and features stay float32.
    """

    float32 = "float32"
    bfloat16 = "bfloat16"

    @classmethod
    def _missing_(cls, value: object) -> Precision:
        raise UsageError(f"precision must be {' or '.join(cls)}, not {value!r}")


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Within it, operations on the device compute in that precision.

    Args:
        precision: which; for float32 nothing changes.
        device: where the operations run.
    """
    import torch  # only now: the command line knows the names and must not wait for it

    if precision is Precision.float32:
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
