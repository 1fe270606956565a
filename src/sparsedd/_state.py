"""State: name → tensor, of a model or a state dict, under the names of the model inside all wrappers."""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from sparsedd import _checks
from sparsedd._parameters import fit, is_sharded, joined, listed, memory, modules, plain

Value = TypeVar("Value")
Weights: TypeAlias = nn.Module | Mapping[str, Tensor]


def memories(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's own parameters and buffers under each of their names in a state dict.

    What ``state_dict`` itself returns may be copies: what is written to those does not reach the model.
    """
    found: dict[str, Tensor] = {}
    for prefix, module in modules(model):
        kept = {name: b for name, b in module._buffers.items() if name not in module._non_persistent_buffers_set}
        found |= {joined(prefix, name): t for name, t in (module._parameters | kept).items() if t is not None}
    return found


def unprefixed(state: Mapping[str, Value], like: Collection[str] = ()) -> dict[str, Value]:
    """Return a state dict under the names that ``like`` has, or else without the ``module.`` that all of them begin with."""
    for name in _checks.kind("state", state, Mapping, "a state dict, names to tensors"):
        _checks.kind("a name", name, str, "a string")
    if nested := _nested(state):
        raise ValueError(f"this is a checkpoint that holds a state dict inside, at {listed(nested)}: pass that.")
    named = {plain(name): value for name, value in state.items()}
    if len(named) != len(state):
        raise ValueError(f"some names differ only by '_orig_mod.': {listed(state)}.")
    inner = {name: value for name, value in named.items() if name != "n_averaged"}  # which an AveragedModel counts
    if not inner or not all(name.startswith("module.") for name in inner):
        inner = named
    elif not like:
        return {name.removeprefix("module."): value for name, value in inner.items()}
    found = {fit(name, like): value for name, value in inner.items()}
    if len(found) != len(inner):
        raise ValueError(f"some names differ only by 'module.': {listed(inner)}.")
    return found


def _nested(state: Mapping[str, Any]) -> list[str]:
    """List the places inside a checkpoint where its state dicts are."""
    places = []
    for name, value in state.items():
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value) and not name.endswith("_extra_state"):
            tensors = any(isinstance(tensor, Tensor) for tensor in value.values())
            places += [f"[{name!r}]"] if tensors else [f"[{name!r}]{place}" for place in _nested(value)]
    return places


def tensors(weights: Weights, like: Collection[str] = ()) -> dict[str, Tensor]:
    """Return name → tensor of a model, or of a state dict, whose names are those of ``like`` where they fit."""
    if isinstance(weights, nn.Module):
        return memories(weights)
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights must be a model or a mapping of names to tensors, got {type(weights).__name__}.")
    found = {name: tensor for name, tensor in unprefixed(weights, like).items() if not name.endswith("_extra_state")}
    for name, tensor in found.items():
        if not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise TypeError(f"weights must be a model or a mapping of names to tensors, got {name!r} of type {kind}.")
    return found


def first_names(model: nn.Module) -> dict[str, str]:
    """Return each name in the model's state with the first name of the same memory: that of a tied weight's first owner."""
    first: dict[Hashable, str] = {}
    return {name: first.setdefault(memory(tensor), name) for name, tensor in memories(model).items()}


def resolve(model: nn.Module, weights: Weights) -> dict[str, Tensor]:
    """Return weights, each memory of the model once, by the first of its names; names that the model has not stay as they are.

    Raises
    ------
    ValueError
        When two names of one memory are given different values.
    """
    first = first_names(model)
    found: dict[str, Tensor] = {}
    given: dict[str, str] = {}
    for name, tensor in tensors(weights, first).items():
        key = first.get(name, name)
        if not _equal(found.setdefault(key, tensor), tensor):
            raise ValueError(
                f"{given[key]!r} and {name!r} are one tied weight of the model, but got different values: give one."
            )
        given.setdefault(key, name)
    return found


def _equal(a: Tensor, b: Tensor) -> bool:
    """Check that two tensors are equal, NaN in one place as NaN in the other."""
    if memory(a) == memory(b):
        return True
    b = b.to(a.device)
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


@torch.no_grad()
def write_(name: str, own: Tensor, value: Tensor) -> None:
    """Copy a value into the memory of a tensor, which may be expanded: then many of its entries are one in memory."""
    if own.layout is not torch.strided or 0 not in own.stride():
        own.copy_(value)
        return
    if not all(_equal(value.narrow(d, 0, 1).expand_as(value), value) for d, step in enumerate(own.stride()) if not step):
        raise ValueError(f"{name!r} is expanded: all its entries along an axis are one in memory, and got different values.")
    alone = tuple(slice(None) if step else slice(0, 1) for step in own.stride())
    own[alone].copy_(value[alone])


def overwritten(own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> str | None:
    """Return the first name whose memory no longer holds its value, because views of it were written under other names."""
    places = Counter(own[name].untyped_storage().data_ptr() for name in values if not is_sharded(own[name]))
    for name, value in values.items():
        here = own[name]
        if not is_sharded(here) and places[here.untyped_storage().data_ptr()] > 1 and not _equal(here, value.to(here.dtype)):
            return name
    return None


def check_same(start: Mapping[str, Tensor], end: Mapping[str, Tensor]) -> None:
    """Raise unless two states have the same names and shapes."""
    for name in (*start, *end):
        if name not in start or name not in end:
            raise ValueError(f"start and end are not the same model: only one has {name!r}.")
        a, b = start[name].shape, end[name].shape
        if a != b:
            raise ValueError(f"{name!r} has shape {tuple(a)} at the start and {tuple(b)} at the end.")
