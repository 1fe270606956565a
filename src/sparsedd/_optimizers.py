"""Optimizers, as enforcement has to know them: those that mix weights, and what they remember of each."""

from collections import OrderedDict, UserDict, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim import LBFGS, Optimizer

from sparsedd._bits import Bits
from sparsedd._shards import local
from sparsedd._words import Words

Path = tuple[Any, ...]  # the keys that lead to a tensor in the state of a parameter

# These treat weights one by one. All others, and subclasses of these, are taken to mix them, and get masked gradients.
ELEMENTWISE = frozenset(
    {
        *(optim.SGD, optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.Adamax, optim.Adagrad, optim.Adadelta),
        *(optim.RMSprop, optim.Rprop, optim.ASGD, optim.SparseAdam),
    }
)
# The setting that a fresh optimizer of torch holds for a weight, where that is not zero.
_FRESH = {(optim.Adagrad, "sum"): "initial_accumulator_value", (optim.Rprop, "step_size"): "lr"}


def find_optimizers(optimizer: Optimizer) -> list[Optimizer]:
    """Find, of an optimizer and those that it wraps (as Accelerate's do), the ones that call hooks at each step."""
    every = [optimizer]
    for one in every:  # which grows
        every += [o for o in vars(one).values() if isinstance(o, Optimizer) and not any(o is other for other in every)]
    hooks = [(o, vars(o).get("_optimizer_step_post_hooks")) for o in every]
    own = {id(held): o for o, held in hooks if isinstance(held, OrderedDict)}
    return list(own.values())  # a wrapper may share the hooks of the one inside, which is the one that calls them


def fill_(tensor: Tensor, keep: Bits, value: Any) -> None:
    """Fill what is not kept, also of what a sparse tensor holds."""
    if tensor.is_sparse:
        tensor._values().masked_fill_(~keep.unpack()[tuple(tensor._indices())], value)
    elif value == 0 and type(tensor) in (Tensor, nn.Parameter):  # slices of other classes may be copies
        Words([(tensor.detach(), keep.to(tensor.device))]).clear_pruned_()
    else:
        tensor.masked_fill_(~keep.to(tensor.device).unpack(), value)


@torch.no_grad()
def refresh_state(optimizer: Optimizer, kept: Mapping[int, Bits], births: dict[Any, dict[Path, Any]]) -> set[str]:
    """Give pruned weights the state that a fresh optimizer has for a weight of zero; say what had to be left alone.

    ``kept`` has masks by the parameters' id; ``births`` keeps what was found out about an optimizer.
    """
    left: set[str] = set()
    for group in optimizer.param_groups:
        for p in group["params"] if not isinstance(optimizer, LBFGS) else ():  # see forget_directions
            if id(p) not in kept or not (state := dict(_walk_tensors(_read_state(optimizer, p)))):
                continue
            if type(optimizer).__module__.startswith("torch.optim."):
                state = {path: value for path, value in state.items() if value.shape == p.shape and path != ("step",)}
                fresh = {path: group.get(_FRESH.get((type(optimizer), path[0]), ""), 0) for path in state}
            else:
                key = id(optimizer), id(group), p.dim(), p.dtype, p.device, *state
                fresh = births[key] if key in births else births.setdefault(key, _find_fresh(optimizer, group, p, set(state)))
            keep = kept[id(p)]
            for path, value in ((path, local(value)) for path, value in state.items()):
                born = fresh.get(path)
                if value.numel() == keep.numel() and born is not ... and not _fill_state(value, keep, born):
                    left.add(f"{path[0]!r} of {type(optimizer).__name__}")
    return left


def _fill_state(value: Tensor, keep: Bits, fresh: Any) -> bool:
    """Fill a state, in the weight's shape or flat; return False if that can't be done. Integers are codes of something."""
    if fresh is None or not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool):
        return False
    try:
        fill_(value if value.shape == keep.shape else value.view(keep.shape), keep, fresh)
    except Exception:  # whatever a class of tensor raises that is not torch's own: a quantized one, say
        try:
            plain, where = value.dequantize(), ~keep.unpack()
            if bool((plain[where] != fresh).any()):
                value.copy_(plain.masked_fill(where, fresh))
            return bool((value.dequantize()[where] == fresh).all())
        except Exception:
            return False
    return True


def _read_state(optimizer: Optimizer, p: Tensor) -> dict[Any, Any]:
    """Return the state of a parameter, also that under a name that comes first: ``state["trac"][p]``."""
    nested = {k: v[p] for k, v in optimizer.state.items() if isinstance(k, str) and isinstance(v, dict) and p in v}
    return {**optimizer.state.get(p, {}), **nested}


def _walk_tensors(value: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Yield every tensor in containers of containers, with the keys that lead to it."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, dict | list | tuple | deque):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _walk_tensors(item, (*path, key))


class _Enough(Exception):
    """Raised when all that was asked for is there."""


class _Births(UserDict[Any, Any]):
    """The state of a parameter, with a copy of each tensor as it was when it came."""

    def __init__(self, state: Mapping[Any, Any], wanted: set[Path]) -> None:
        self.data, self._wanted = dict(state), wanted
        self.first = {path: t.clone() for path, t in _walk_tensors(self.data)}

    def __setitem__(self, key: Any, value: Any) -> None:
        self.data[key] = value
        self.first = {path: t.clone() for path, t in _walk_tensors(value, (key,))} | self.first
        if self._wanted <= self.first.keys():
            raise _Enough


def _find_fresh(optimizer: Optimizer, group: dict[str, Any], p: Tensor, wanted: set[Path]) -> dict[Path, Any]:
    """Find what a fresh optimizer holds for a weight of zero from a twin's first step; ``...`` for what is not by weight.

    Values that are missing or None are not known: they are not the same for all weights, or there is no such twin.
    """
    born: dict[Path, Any] = {}
    w = nn.Parameter(torch.zeros([3 + i for i in range(p.dim())], dtype=p.dtype, device=p.device))  # no side like another
    w.grad = torch.zeros_like(w)
    with torch.random.fork_rng(devices=[p.device] if p.device.type == "cuda" else []), suppress(Exception):
        twin = _make_twin(optimizer, group, w)
        twin.state[w] = births = _Births(twin.state.get(w, {}), wanted)
        if not wanted <= births.first.keys():
            with suppress(Exception):
                getattr(twin, "train", bool)()  # schedule-free ones ask for it
                step: Any = getattr(type(twin).step, "__wrapped__", type(twin).step)  # without hooks
                step(twin, *[lambda: torch.zeros(())][: len(signature(step).parameters) - 1])
        zeros = {path: t for path, t in _walk_tensors(_read_state(twin, w)) if not t.any()}  # without a gradient they stay so
        for path, t in (zeros | births.first).items():
            one = t.flatten()[0].item() if t.numel() == w.numel() else ...
            born[path] = one if one is ... or bool((t == one).all()) else None
    return born


def _make_twin(optimizer: Optimizer, group: dict[str, Any], p: nn.Parameter) -> Optimizer:
    """Make an optimizer of the same class and settings that has this parameter alone."""
    group = {**deepcopy({key: value for key, value in group.items() if not key.startswith("param")}), "params": [p]}
    have = {**vars(optimizer), **optimizer.defaults, **group}
    takes = [t for t in signature(type(optimizer)).parameters.values() if t.kind in (t.POSITIONAL_OR_KEYWORD, t.KEYWORD_ONLY)]
    given = {t.name: have[t.name] for t in takes if t.name in have}
    given = {n: _make_twin(v, v.param_groups[0], p) if isinstance(v, Optimizer) else v for n, v in given.items()}
    if not isinstance(given.get(takes[0].name), Optimizer):
        given[takes[0].name] = [group]
    return type(optimizer)(**given)


@torch.no_grad()
def forget_directions(optimizer: LBFGS, kept: Mapping[int, Bits]) -> None:
    """Clear the history of an LBFGS that went elsewhere than the mask allows: it would move pruned weights inside a step."""
    parts = []
    for p in optimizer.param_groups[0]["params"]:
        gone = ~kept[id(p)].unpack() if id(p) in kept else torch.zeros_like(p, dtype=torch.bool)
        parts.append(gone.flatten().repeat_interleave(2) if p.is_complex() else gone.flatten())  # as real numbers
    flat = torch.cat(parts)
    for state in optimizer.state.values():
        held = [t for v in state.values() for t in (v if isinstance(v, list) else [v]) if isinstance(t, Tensor)]
        if any(bool(t[flat].any()) for t in held if t.shape == flat.shape):
            state.clear()
