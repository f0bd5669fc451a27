"""A CUDA device played by the CPU: what runs on it, what it may not be mixed with, and when the host waits for it.

Tensors of the device are a subclass that says "cuda:0" and holds a CPU tensor inside. Every operation on them goes
through a dispatch mode, which does it on the CPU and refuses what a real device refuses: tensors of both sides in one
operation, or reading a tensor's memory from the host. It counts operations, and the round trips for which the host
must wait until the device has done all it was given.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

Module = TypeVar("Module", bound=nn.Module)
_DEVICE = torch.device("cuda", 0)
_MOVES = {"_to_copy", "copy_"}  # the operations that may have tensors of both sides
_ASKS = {
    "_local_scalar_dense",
    "nonzero",
    "equal",
    "_unique2",
    "is_nonzero",
}  # their result decides what comes next


class DeviceTensor(Tensor):
    """A tensor that says it is on the device; `inner` is where its numbers are."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> DeviceTensor:
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=_DEVICE,
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func}: the accelerator is off")


class Accelerator(TorchDispatchMode):
    """Plays the device while it is entered.

    Attributes:
        operations: how often each was done on the device.
        round_trips: those for which the host waited, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.round_trips: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        ours = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
        # a number may come from the host, as on a real device, and so may an index
        foreign = [t for t in tensors if not isinstance(t, DeviceTensor) and t.ndim]
        if ours and foreign and name not in _MOVES and not name.startswith("index"):
            raise RuntimeError(f"{name}: tensors on {_DEVICE} and on the CPU")
        target = kwargs.get("device")
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        stays = bool(ours) if target is None else torch.device(target).type == _DEVICE.type
        if name == "copy_":
            stays = isinstance(args[0], DeviceTensor)
        if ours or stays:
            self.operations[name] += 1
        if ours and (not stays or name in _ASKS or _asks_by_mask(name, args)):
            self.round_trips[name] += 1
        inner_args, inner_kwargs = tree_map_only(DeviceTensor, lambda tensor: tensor.inner, (args, kwargs))
        with _disable_current_modes():
            out = func(*inner_args, **inner_kwargs)
        known = {
            id(tensor.inner): tensor for tensor in ours
        }  # an operation in place returns what it was given

        def on_device(tensor: Tensor) -> Tensor:
            return known[id(tensor)] if id(tensor) in known else DeviceTensor(tensor)

        return tree_map_only(Tensor, on_device, out) if stays else out


def _asks_by_mask(name: str, args: Any) -> bool:
    """Whether an index is a mask, whose trues have to be counted first."""
    return name.startswith("index") and any(
        isinstance(leaf, Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1])
    )


@contextmanager
def accelerator() -> Iterator[Accelerator]:
    """The device, as long as the context lasts."""
    # the fake mode keeps torch from looking for a driver; it never sees an operation
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), Accelerator() as device:
        yield device


def on_accelerator(module: Module) -> Module:
    """A copy of the module with its weights on the device."""
    moved = copy.deepcopy(module)
    for part in moved.modules():
        for tensors in (part._parameters, part._buffers):
            for name, value in tensors.items():
                if value is not None:
                    tensors[name] = DeviceTensor(value.detach())  # type: ignore[assignment]
    return moved
