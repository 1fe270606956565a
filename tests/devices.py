"""Devices that are not there: plain tensors whose memory carries a label, "this is on cuda:0".

In a :func:`devices` block ``x.device`` says what the label says. What a device refuses raises: an operation on tensors of two
devices, ``.numpy()``. What costs time there is counted. The values are real, and computed on the CPU: what runs in the block is
to give, bit for bit, what it gives outside. It does not see what CUDA computes otherwise (TF32, cuDNN, autocast's lists), nor
``torch.compile``, nor C++ that asks for the device. With ``SPARSEDD_DEVICE=cuda`` the device is real, and so are its waits.
"""

import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

REAL = os.environ.get("SPARSEDD_DEVICE")  # of a kind that torch finds
CPU = torch.device("cpu")
READS = {"_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "bincount", "_unique2"}  # by the host
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
COPIES = {"copy_", "_to_copy", "_foreach_copy_"}
FREE = {"detach", "alias", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}  # no kernel
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward"}


@dataclass
class Events:
    """What happened, by operation and line of sparsedd."""

    waits: Counter[str] = field(default_factory=Counter)  # of the host for the device; of a real one, uploads among them
    uploads: Counter[str] = field(default_factory=Counter)  # which block
    launches: Counter[str] = field(default_factory=Counter)  # of kernels; not counted on a real device
    beside: Counter[str] = field(default_factory=Counter)  # products on the CPU

    def clear(self) -> None:
        self.waits.clear(), self.uploads.clear(), self.launches.clear(), self.beside.clear()


@contextmanager
def devices(kind: str = "cuda", count: int = 1, *, float64: bool = True) -> Iterator[Events]:
    """A block in which there are so many devices of a kind; without ``float64`` they refuse it, as Apple's do."""
    with ExitStack() as stack:
        yield _count_real(stack) if REAL else _pretend(stack, kind, count, float64)


def _count_real(stack: ExitStack) -> Events:
    events, before = Events(), torch.cuda.get_sync_debug_mode()
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("always")
    warnings.showwarning = lambda said, *where, **_: "synchroniz" in str(said) and events.waits.update([f"{where[1:3]}"])
    stack.callback(torch.cuda.set_sync_debug_mode, before)
    torch.cuda.set_sync_debug_mode("warn")
    return events


def _pretend(stack: ExitStack, kind: str, count: int, float64: bool) -> Events:
    events, here = Events(), {kind: "cpu"}  # what the kernels are

    def put(where: Any, name: str, value: Callable[..., Any]) -> None:
        stack.enter_context(patch.object(where, name, value, create=True))

    if kind == "cuda":
        put(torch.cuda, "is_available", lambda: True)
        put(torch.cuda, "device_count", lambda: count)
        put(torch.cuda, "get_device_name", lambda *_: "a pretended device")
    put(torch.xpu, "get_device_properties", lambda _: SimpleNamespace(has_fp64=float64))
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):  # torch's own look at CUDA
        put(torch.optim.Optimizer, name, lambda _: None)
    begin, enabled, dtype = torch.autocast.__init__, torch.is_autocast_enabled, torch.get_autocast_dtype
    put(torch.autocast, "__init__", lambda self, d, *a, **k: begin(self, here.get(d, d), *a, **k))
    put(torch, "is_autocast_enabled", lambda d=kind: enabled(here.get(d, d)))
    put(torch, "get_autocast_dtype", lambda d: dtype(here.get(d, d)))
    group = torch._C._group_tensors_by_device_and_dtype
    put(torch._C, "_group_tensors_by_device_and_dtype", lambda *a: _regrouped(group(*a)))
    stack.callback(torch._C._set_mkldnn_enabled, torch.backends.mkldnn.enabled)
    torch._C._set_mkldnn_enabled(False)  # its convolutions of torch 2.14 write beyond a channels-last tensor
    for mode in (_Python(), _Kernels()):
        vars(mode).update(events=events, kind=kind, count=count, float64=float64)
        stack.enter_context(mode)
    return events


def _memory(tensor: Tensor) -> Any:
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    if tensor.layout is not torch.strided:
        tensor = tensor._values() if tensor.layout is torch.sparse_coo else tensor.values()
    return getattr(tensor, "_local_tensor", tensor).untyped_storage()


def _device(tensor: Tensor) -> torch.device | None:
    """The label; None of what C++ has made just now, which goes with whatever it meets."""
    with torch._C.DisableTorchFunction():
        return getattr(_memory(tensor), "pretended", None)


def _put(tensor: Tensor, device: torch.device) -> Tensor:
    with torch._C.DisableTorchFunction():
        _memory(tensor).pretended = device
    return tensor


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and not leaf.is_meta]


def _settle(tree: Any) -> Any:
    for tensor in _tensors(tree):
        if _device(tensor) is None:
            _put(tensor, CPU)
    return tree


def _regrouped(groups: dict[Any, Any]) -> dict[Any, Any]:
    """The groups by device that optimizers and clipping make of tensors, by the labels."""
    found: dict[Any, Any] = {}
    for (device, dtype), (lists, indices) in groups.items():
        for i, first in enumerate(lists[0]):
            group = found.setdefault((_device(first) or device, dtype), ([[] for _ in lists], []))
            for whole, part in zip(lists, group[0], strict=True):
                part += whole[i : i + 1]
            group[1].extend(indices[i : i + 1])
    return found


def _site() -> str:
    """The line of sparsedd that asked."""
    frame = sys._getframe(1)
    while frame and "/sparsedd/" not in frame.f_code.co_filename:
        frame = frame.f_back  # type: ignore[assignment]
    return f"{frame.f_code.co_filename.rsplit('/sparsedd/', 1)[-1]}:{frame.f_lineno}" if frame else "elsewhere"


class _Python(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        _settle((args, kwargs))  # from before the block
        return _settle(self._called(func, args, kwargs or {}))

    def _called(self, func: Any, args: Any, kwargs: Any) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__get__" and (what := func.__self__.__name__) in ("device", "is_cuda", "is_cpu") and not args[0].is_meta:
            device = _device(args[0])
            return device if what == "device" else device.type == what.removeprefix("is_")
        if name in ("numpy", "__array__") and _device(args[0]) != CPU:
            if not kwargs.get("force"):
                raise TypeError(f"can't convert {_device(args[0])} device type tensor to numpy.")
            return self._moved(args[0], CPU, args[0].clone).numpy()
        if name == "__deepcopy__":
            known, device = id(args[0]) in args[1], _device(args[0])
            return func(*args) if known else _put(func(*args), device)
        if name in ("cpu", "cuda"):
            return self._moved(args[0], self._named(name), lambda: args[0])
        if (wanted := kwargs.get("device")) is not None:
            kwargs = {**kwargs, "device": CPU}
        elif name == "to" and len(args) > 1 and isinstance(args[1], Tensor):
            wanted, args = _device(args[1]), (args[0], args[1].dtype, *args[2:])
        elif name == "to" and len(args) > 1 and isinstance(args[1], torch.device | str | int):
            wanted, args = args[1], (args[0], CPU, *args[2:])
        device = CPU if wanted is None else self._named(wanted)
        if wanted is None or device.type == "meta":
            return func(*args, **(kwargs if wanted is None else {**kwargs, "device": device}))
        if name == "to":
            return self._moved(args[0], device, lambda: func(*args, **kwargs))
        out = func(*args, **kwargs)
        for tensor in _tensors(out):
            _put(tensor, device)
        return out

    def _named(self, device: Any) -> torch.device:
        device = torch.device(self.kind, device) if isinstance(device, int) else torch.device(device)
        if device.type in ("cpu", "meta"):
            return torch.device(device.type)
        if device.type != self.kind or (device.index or 0) >= self.count:
            raise RuntimeError(f"there is no {device}")
        return torch.device(device.type, device.index or 0)

    def _moved(self, source: Tensor, device: torch.device, make: Any) -> Tensor:
        before = _device(source)
        out: Tensor = make()
        if before == device:
            return out
        (self.events.waits if device == CPU else self.events.uploads)[f"to {device} {_site()}"] += 1
        if source.requires_grad and torch.is_grad_enabled():
            return _Move.apply(out, before, device)  # type: ignore[no-any-return]
        return _put(out.clone() if _memory(out) is _memory(source) else out, device)


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, source: Tensor, before: torch.device, device: torch.device) -> Tensor:
        ctx.before = before
        return _put(source.clone(), device)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _put(grad.clone(), ctx.before), None, None


class _Kernels(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors, name = _tensors((args, kwargs)), func._schema.name.split("::")[1]
        found = {device for t in tensors if (device := _device(t)) is not None}
        away = found - {CPU}
        each = [list(group) for group in zip(*(a for a in args if isinstance(a, list)), strict=False)]  # of a multi-tensor call
        if away:
            for group in each if name.startswith("_foreach") else [tensors]:
                self._check(name, func, args, _tensors(group))
        out = func(*args, **(kwargs or {}))
        device = _device(tensors[0]) if name in COPIES and name != "_to_copy" else next(iter(away or found), None)
        for i, tensor in enumerate(_tensors(out)):
            place = _device(_tensors(each[i])[0]) if name.startswith("_foreach") else device
            if place is not None:
                _put(tensor, place)
            if not self.float64 and place not in (None, CPU) and tensor.dtype == torch.float64:
                raise TypeError(f"this device has no float64: {name}, {_site()}")
        view = name == "_unsafe_view" or any(a.alias_info and not a.alias_info.is_write for a in func._schema.arguments)
        self.events.launches[name] += bool(away) and name not in FREE and not view
        if not away and name in PRODUCTS:
            self.events.beside[f"{name} {_site()}"] += 1
        return out

    def _check(self, name: str, func: Any, args: Any, tensors: list[Tensor]) -> None:
        """Raise where CUDA does, and count what waits."""
        if name in READS:
            self.events.waits[f"{name} {_site()}"] += 1
        if name in COPIES:
            if len(tensors) > 1 and _device(tensors[0]) != _device(tensors[-1]):
                (self.events.waits if _device(tensors[0]) == CPU else self.events.uploads)[f"{name} {_site()}"] += 1
            return
        if name in INDEXED:
            indices = [i for i in args[1] if i is not None]
            self.events.waits[f"{name} by a mask {_site()}"] += sum(i.dtype == torch.bool for i in indices)
            self.events.uploads[f"{name} by indices on the CPU {_site()}"] += sum(_device(i) == CPU for i in indices)
            tensors = [t for t in tensors if not any(t is i and _device(i) == CPU for i in indices)]
        numbers = torch.Tag.pointwise in func.tags or name.startswith(("_foreach", "_fused", "fill", "masked_fill"))
        numbers, written = numbers and {_device(t) for t in tensors} != {CPU}, args[0] if name.endswith("_") else None
        placed = {_device(t) for t in tensors if not (numbers and _device(t) == CPU and not t.dim() and t is not written)}
        if len(placed - {None}) > 1:
            met = ", ".join(f"{_device(t)} {tuple(t.shape)}" for t in tensors)
            raise RuntimeError(f"Expected all tensors to be on the same device, but {name} met {met}")
