"""Names of devices."""

from __future__ import annotations

import pytest
import torch

from gem_label.devices import pick_device
from gem_label.errors import UsageError


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device() == torch.device("cpu")
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="torch finds no CUDA device: use cpu or auto"):
        pick_device("cuda:1")
    with pytest.raises(
        UsageError, match="device must be auto, cpu, cuda or another that torch knows, not 'gpu'"
    ):
        pick_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device(torch.device("cuda:1")) == torch.device("cuda:1")
