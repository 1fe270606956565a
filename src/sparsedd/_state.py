"""State: name → tensor of a model or a state dict, under the names of the model inside all wrappers."""

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from sparsedd import _checks
from sparsedd._parameters import abridge, fit_name, join, memory_key, modules, strip_segments
from sparsedd._shards import Place, is_sharded, sum_over, take_part

Value = TypeVar("Value")
Weights: TypeAlias = nn.Module | Mapping[str, Tensor]


def strip_prefixes(state: Mapping[str, Value], like: Collection[str] = ()) -> dict[str, Value]:
    """Return a state dict under the names that ``like`` has, or else without the ``module.`` that all of them begin with."""
    for name in _checks.kind("state", state, Mapping, "a state dict, names to tensors"):
        _checks.kind("a name", name, str, "a string")
    if nested := _nested(state):
        raise ValueError(f"this is a checkpoint that holds a state dict inside, at {abridge(nested)}: pass that.")
    named = {strip_segments(name): value for name, value in state.items()}
    if len(named) != len(state):
        raise ValueError(f"some names differ only by '_orig_mod.': {abridge(state)}.")
    inner = {name: value for name, value in named.items() if name != "n_averaged"}  # which an AveragedModel counts
    if not inner or not all(name.startswith("module.") for name in inner):
        inner = named
    elif not like:
        return {name.removeprefix("module."): value for name, value in inner.items()}
    found = {fit_name(name, like): value for name, value in inner.items()}
    if len(found) != len(inner):
        raise ValueError(f"some names differ only by 'module.': {abridge(inner)}.")
    return found


def _nested(state: Mapping[str, Any]) -> list[str]:
    """List the places inside a checkpoint where its state dicts are."""
    places = []
    for name, value in state.items():
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value) and not name.endswith("_extra_state"):
            tensors = any(isinstance(tensor, Tensor) for tensor in value.values())
            places += [f"[{name!r}]"] if tensors else [f"[{name!r}]{place}" for place in _nested(value)]
    return places


def read_tensors(weights: Weights, like: Collection[str] = ()) -> dict[str, Tensor]:
    """Return the own parameters and buffers of a model, or the tensors of a state dict under the names of ``like`` that fit.

    A model's ``state_dict()`` may hold copies, and writing to those does not reach the model.
    """
    found: dict[str, Tensor] = {}
    if isinstance(weights, nn.Module):
        for prefix, module in modules(weights):
            saved = {name: b for name, b in module._buffers.items() if name not in module._non_persistent_buffers_set}
            found |= {join(prefix, name): t for name, t in (module._parameters | saved).items() if t is not None}
        return found
    words = "a model or a mapping of names to tensors"
    for name, tensor in strip_prefixes(_checks.kind("weights", weights, Mapping, words), like).items():
        if not name.endswith("_extra_state"):
            found[name] = _checks.kind(f"weights must be {words}: {name!r}", tensor, Tensor, "a tensor")
    return found


def find_first_names(model: nn.Module) -> dict[str, str]:
    """Return each name in the model's state with the first name of the same memory, which its first owner gives it."""
    first: dict[Hashable, str] = {}
    return {name: first.setdefault(memory_key(tensor), name) for name, tensor in read_tensors(model).items()}


def resolve_names(model: nn.Module, weights: Weights) -> dict[str, Tensor]:
    """Return weights under the model's names, a tied one under its first; names that the model lacks stay as they are.

    Raises
    ------
    ValueError
        When two names of one memory are given different values.
    """
    first = find_first_names(model)
    found: dict[str, Tensor] = {}
    given: dict[str, str] = {}
    for name, tensor in read_tensors(weights, first).items():
        key = first.get(name, name)
        if not _equal(found.setdefault(key, tensor), tensor):
            raise ValueError(
                f"{given[key]!r} and {name!r} are one tied weight of the model, but got different values: give one."
            )
        given.setdefault(key, name)
    return found


def _equal(a: Tensor, b: Tensor) -> bool:
    """Check that two tensors are equal, NaN in one place as NaN in the other."""
    if memory_key(a) == memory_key(b):
        return True
    if a.shape != b.shape:
        return False
    like = a if is_sharded(a) else b
    a, b = take_part(a, like), take_part(b, like)
    b = b.to(a.device)
    return not sum_over([int(((a != b) & ((a == a) | (b == b))).any())], [Place.of(like)])


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


def find_overwritten(own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> str | None:
    """Return the first name whose memory lost its value when views of it were written under other names, or None."""
    at = {name: own[name].untyped_storage().data_ptr() or name for name in values if not is_sharded(own[name])}
    places = Counter(at.values())
    for name, value in values.items():
        here = own[name]
        if not is_sharded(here) and places[at[name]] > 1 and not _equal(here, value.to(here.dtype)):
            return name
    return None


def is_float(tensor: Tensor) -> bool:
    """Check that a tensor holds real or complex numbers: not whole ones, such as those that BatchNorm counts batches in."""
    return tensor.is_floating_point() or tensor.is_complex()


def is_weight(name: str, tensor: Tensor) -> bool:
    """Check that a tensor is a weight by its looks: numbers in two or more dimensions, and not a bias."""
    return tensor.dim() >= 2 and is_float(tensor) and "bias" not in name.rpartition(".")[2]


def check_same(what: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Raise unless two states have the same names and shapes."""
    for name in (*first, *second):
        if name not in first or name not in second:
            raise ValueError(f"{what} are not of the same model: only one has {name!r}.")
        a, b = first[name].shape, second[name].shape
        if a != b:
            raise ValueError(
                f"{what} are not of the same model: {name!r} has shape {tuple(a)} in one and {tuple(b)} in the other."
            )
