"""CUDA graphs that are not there: what is launched in a recording is put off, and done again at each replay."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves


class Graph:
    """What a recording has launched, with the very tensors that it read and made."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        with _unseen():
            for func, args, kwargs, made in self.calls:
                again = [leaf for leaf in tree_leaves(func(*args, **kwargs)) if isinstance(leaf, Tensor)]
                for old, new in zip(made, again, strict=True):
                    if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():  # else a view, or written in place
                        old.copy_(new)


@contextmanager
def _unseen() -> Iterator[None]:
    """A block whose operations nothing else sees: no mode, no autograd, no count of writes."""
    counts = torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.ADInplaceOrView))
    with torch._C.DisableTorchFunction(), _disable_current_modes(), torch._C._AutoDispatchBelowAutograd(), counts:
        yield


class _Record(TorchDispatchMode):
    """A recording computes nothing: what it writes to is put back at its end."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph, self.before = graph, {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        assert name not in ("aten::_local_scalar_dense", "aten::equal", "aten::nonzero"), f"{name} waits in a recording"
        written = {a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write}
        named = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | (kwargs or {})
        written |= {"running_mean", "running_var"}  # which batch norms write to without saying so
        with _unseen():
            for tensor in tree_leaves([named[name] for name in written if named.get(name) is not None]):
                if (where := tensor.untyped_storage().data_ptr()) not in self.before:
                    words = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
                    self.before[where] = words, words.clone()
        out = func(*args, **(kwargs or {}))
        self.graph.calls.append((func, args, kwargs or {}, [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]))
        return out


@contextmanager
def recorded() -> Iterator[list[Graph]]:
    """A block in which graphs can be recorded without a GPU; they are listed."""
    graphs: list[Graph] = []

    def make() -> Graph:
        graphs.append(Graph())
        return graphs[-1]

    @contextmanager
    def record(graph: Graph, stream: Any = None) -> Iterator[None]:
        mode = _Record(graph)
        with mode:
            yield
        with _unseen():
            for words, before in mode.before.values():
                words.copy_(before)

    stream = SimpleNamespace(wait_stream=lambda other: None)
    names = {"CUDAGraph": make, "graph": record, "Stream": lambda: stream, "current_stream": lambda: stream}
    names |= {"stream": lambda stream: nullcontext(), "device": lambda device: nullcontext()}
    with patch.multiple(torch.cuda, **names):
        yield graphs
