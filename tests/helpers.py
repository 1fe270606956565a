"""What several tests need: a small model, and ways to see that nothing has changed."""

import ctypes
import pickle
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsedd.sweeps import Curves, Record


def filled(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with its parameters drawn from a generator of their own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return module


def net(seed: int = 0) -> nn.Module:
    """Images (b, 1, 6, 6) to three logits; prunable: conv.weight (3, 1, 3, 3) and fc.weight (3, 48)."""
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(1, 3, 3))
    model.add_module("tanh", nn.Tanh())
    model.add_module("flatten", nn.Flatten())
    model.add_module("fc", nn.Linear(48, 3))
    return filled(model, seed)


def batch(step: int, n: int = 4) -> tuple[Tensor, Tensor]:
    """A batch for net(), other ones for each step."""
    generator = torch.Generator().manual_seed(1000 + step)
    return torch.randn(n, 1, 6, 6, generator=generator), torch.randint(3, (n,), generator=generator)


def bits(tensor: Tensor | None) -> tuple[Any, ...] | None:
    """A tensor as a value that is equal only where every bit is."""
    if tensor is None:
        return None
    raw = torch.atleast_1d(tensor.detach().cpu().contiguous()).view(torch.uint8)
    return tensor.dtype, tuple(tensor.shape), raw.numpy().tobytes()


def everything(model: nn.Module) -> list[Any]:
    """All that a caller could see of a model: classes, attributes, modes, hooks, and which tensors hold which bits."""
    seen: list[Any] = [type(model), list(model.state_dict())]
    for name, module in model.named_modules():
        hooks = [len(value) for key, value in vars(module).items() if "hook" in key and hasattr(value, "__len__")]
        seen.append((name, type(module), module.training, sorted(vars(module)), hooks))
        for key, p in module._parameters.items():
            if p is not None:
                seen.append((key, id(p), type(p), p.requires_grad, p.stride(), bits(p), id(p.grad), bits(p.grad)))
        seen.extend((key, id(b), bits(b)) for key, b in module._buffers.items())
    return seen


def record(**fields: Any) -> Record:
    """A record of its fields and measures."""
    return Record.from_json({name: asdict(value) if isinstance(value, Curves) else value for name, value in fields.items()})


def changed(before: Record, **fields: Any) -> Record:
    """A record with other fields or measures."""
    return Record.from_json(before.to_json() | fields)


def generators() -> tuple[Any, ...]:
    """The states of the global random generators."""
    return random.getstate(), pickle.dumps(np.random.get_state()), torch.get_rng_state().numpy().tobytes()


@contextmanager
def no_global_draws() -> Iterator[None]:
    before = generators()
    yield
    assert generators() == before, "a global random generator was used"


def blocks(page: Path, language: str = "python") -> list[str]:
    """The fenced blocks of a page in one language, without the options of their directive."""
    found = re.findall(rf"^```{language}\n((?::[\w-]+:[^\n]*\n)*)(.*?)^```$", page.read_text(), flags=re.M | re.S)
    return [code for _, code in found]


@cache
def read_page(page: Path) -> str:
    """A page as Sphinx reads it: with the blocks that are computed from results/."""
    extensions = str(Path(__file__).parent.parent / "docs" / "_ext")
    if extensions not in sys.path:
        sys.path.append(extensions)
    return str(import_module("computed").fill(page.read_text()))


M_MMAP_THRESHOLD = -3  # of malloc.h
OWN_PAGES = 1 << 16  # the size from which on tensors get pages of their own in :func:`risen`


def risen(function: Callable[[], object], times: int = 3) -> int:
    """Bytes by which this process's memory rises at its peak in a call (Linux), what it leaves behind among them.

    It is the least of so many calls, as what else the process does only ever adds; less what is read anew of files that stay
    mapped: the pages of libraries, which the system may have taken away.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, OWN_PAGES)  # tensors get pages of their own: none leaves a hole in the heap
    found, holes = [], _fill_holes(libc)
    try:
        for _ in range(times):
            libc.malloc_trim(0)  # what was freed until here is not there to be used again
            before, read = _status("VmRSS"), _status("RssFile")
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
            function()
            found.append(_status("VmHWM") - before - max(0, _status("RssFile") - read))
    finally:
        for hole in holes:
            libc.free(hole)
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 25)  # the highest that it takes by itself
    return min(found)


def _fill_holes(libc: ctypes.CDLL) -> list[ctypes.c_void_p]:
    """Take all holes of the heap in which a tensor could lie: malloc gives them away before pages of their own."""
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    holes, size = [], 1 << 28
    while size >= OWN_PAGES:
        place = libc.malloc(size)
        if ctypes.c_size_t.from_address(place - ctypes.sizeof(ctypes.c_size_t)).value & 2:  # it has pages of its own
            libc.free(ctypes.c_void_p(place))
            size //= 2
        else:
            holes.append(ctypes.c_void_p(place))
    return holes


def _status(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None, f"/proc/self/status has no {key}: this needs Linux"
    return int(found[1]) * 1024
