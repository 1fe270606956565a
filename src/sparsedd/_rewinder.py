"""Rewinder: a point in training that can be returned to."""

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping
from copy import deepcopy
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sparsedd import _checks, _files
from sparsedd._optimizers import ELEMENTWISE, find_optimizers
from sparsedd._parameters import abridge, memory_key, name_state_keys
from sparsedd._shards import is_sharded, shard_like, write_once
from sparsedd._state import resolve_names


class Rewinder:
    """A point in training that can be returned to: the states of models, optimizers and schedulers at a step.

    Lottery ticket rewinding restores the model and the schedule, learning rate rewinding the schedule alone (He et al. 2022,
    A.2; Renda et al. 2020). Rewind first, then enforce the mask.

    Parameters
    ----------
    step
        The optimizer step t at which the states are taken.
    parts
        Anything with ``state_dict`` and ``load_state_dict``, by a name of your choice. The states are copied.

    Raises
    ------
    TypeError
        When a part has no ``state_dict`` and ``load_state_dict``.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(2, 1)
    >>> start = Rewinder(step=0, model=model)
    >>> before = model.weight.detach().clone()
    >>> _ = torch.nn.init.zeros_(model.weight)
    >>> start.rewind(model=model)
    0
    >>> torch.equal(model.weight, before)
    True
    """

    def __init__(self, *, step: int = 0, **parts: Any) -> None:
        self._step = _checks.whole("step", step)
        for name, part in parts.items():
            _check(name, part)
        self._parts = {name: _capture(part) for name, part in parts.items()}

    @property
    def step(self) -> int:
        """The step at which the states were taken."""
        return self._step

    def __getitem__(self, part: str) -> Any:
        """Return a copy of the captured state of a part."""
        if part not in self._parts:
            raise _checks.Missing(f"{part!r} was not captured. There is {abridge(self._parts)}.")
        return deepcopy(self._parts[part])

    def __contains__(self, part: object) -> bool:
        return part in self._parts

    def __repr__(self) -> str:
        return f"Rewinder(step {self.step:,} of {abridge(self._parts)})"

    def rewind(self, **parts: Any) -> int:
        """Give the parts that are passed, and no others, their captured states; return the step.

        A scheduler brings the learning rates of its optimizer along, but not a momentum that it cycles, which is the
        optimizer's: pass that, too. Where a state does not fit, all parts are as they were.

        Raises
        ------
        ValueError
            When a part was not captured, or its state does not fit what is passed; that of an optimizer goes by the position
            of the parameters, so they must come in the order of then.
        """
        for name, part in parts.items():
            if name not in self._parts:
                raise ValueError(f"{name!r} was not captured. There is {abridge(self._parts)}.")
            _check(name, part)
            _check_order(name, part, self._parts[name])
        before = {name: _capture(part) for name, part in parts.items()}
        rates = [(group, deepcopy(group["lr"])) for p in parts.values() for group in _groups(p)]
        try:
            for name, part in parts.items():
                _restore(part, self._parts[name] if _copies(part) else deepcopy(self._parts[name]))
        except Exception as error:
            for other, state in before.items():
                _restore(parts[other], state)
            for group, rate in rates:
                group["lr"] = rate
            raise ValueError(f"the state captured of {name!r} does not fit what was passed: {error}") from error
        return self.step

    def state_dict(self) -> dict[str, Any]:
        """Return step and states; TypeError, with its path, for what is neither JSON nor a tensor."""
        _encode(self._parts, "", {}, {})
        return {"step": self.step, "parts": deepcopy(self._parts)}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """Read the rewinder of a :meth:`state_dict`."""
        new = cls._of(state)
        new._parts = deepcopy(new._parts)
        return new

    @classmethod
    def _of(cls, state: Mapping[str, Any]) -> Self:
        """Return a rewinder of these very states, which are in no other hands."""
        if not isinstance(state, Mapping) or set(state) != {"step", "parts"} or not isinstance(state["parts"], Mapping):
            got = f"a {type(state).__name__} of {abridge(state)}" if isinstance(state, Mapping) else repr(state)
            raise ValueError(f"the state of a Rewinder has the keys 'step' and 'parts', a mapping of names, got {got}.")
        new = cls(step=state["step"])
        new._parts = dict(state["parts"])
        return new

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one .safetensors file, atomically: tensors, and JSON for the rest.

        Of sharded tensors the file has the whole ones: every process must call this, and the first writes.
        """
        path = _checks.path("path", path)
        tensors: dict[str, Tensor] = {}
        content = {"step": self.step, "parts": _encode(self._parts, "", tensors, {})}
        names = _files.list_names(tensors)
        write_once(tensors, names, lambda read: _files.write_sealed(path, "rewinder", tensors, content, read))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file of :meth:`save`; ValueError if one byte of it has changed."""
        tensors, content = _files.unseal(_checks.path("path", path), "rewinder")
        with _files.blame(path, "a rewinder"):
            return cls._of({"step": content["step"], "parts": _decode(content["parts"], tensors)})


def _check(name: str, part: Any) -> None:
    if not (callable(getattr(part, "state_dict", None)) and callable(getattr(part, "load_state_dict", None))):
        raise TypeError(f"{name!r} must have state_dict and load_state_dict, got {type(part).__name__}.")


def _check_order(name: str, part: Any, state: Any) -> None:
    """Raise unless what an optimizer remembers of its parameters fits them, in their order."""
    if not isinstance(part, Optimizer) or not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
        return
    pairs: list[tuple[Tensor, Mapping[Any, Any]]] = []
    for here, then in zip(part.param_groups, state["param_groups"], strict=False):  # other numbers are refused by torch
        pairs += zip(here["params"], [state["state"].get(number, {}) for number in then.get("params", ())], strict=False)
        if (names := here.get("param_names")) and (old := then.get("param_names")) and list(names) != list(old):
            raise ValueError(_ORDER.format(name, f"{abridge(old)}; now they are {abridge(names)}"))
    for key in dict.fromkeys(key for _, held in pairs for key in held):
        both = [(p.shape, t.shape) for p, held in pairs if isinstance(t := held.get(key), Tensor) and t.dim()]
        mine, theirs = (sorted(shapes) for shapes in zip(*both, strict=True)) if both else ([], [])
        whole = {type(own) for own in find_optimizers(part)} <= ELEMENTWISE  # such hold a number for each weight
        if wrong := [(a, b) for a, b in both if a != b and (whole or mine == theirs)]:
            raise ValueError(_ORDER.format(name, f"a {key!r} of shape {tuple(wrong[0][1])}, for {tuple(wrong[0][0])} now"))


_ORDER = (
    "the state captured of {!r} does not fit what was passed: it was taken under another order of parameters, or of others: "
    "{}. Give the optimizer its parameters in the order of then."
)


def _groups(part: Any) -> list[dict[str, Any]]:
    """Return the parameter groups whose learning rates a scheduler sets."""
    return part.optimizer.param_groups if isinstance(part, LRScheduler) else []


def _capture(part: Any) -> Any:
    if isinstance(part, nn.Module):  # under the names of the unwrapped model
        names, state = name_state_keys(part), deepcopy(dict(part.state_dict()))  # in one act, in which tied weights stay one
        return OrderedDict((names[key], value) for key, value in state.items())
    return deepcopy(part.state_dict())


def _copies(part: Any) -> bool:
    """Check that a part copies the tensors of a state that it loads, as torch's modules do, and changes none of them."""
    return isinstance(part, nn.Module) and all(
        getattr(type(module), act).__module__.startswith("torch.nn.") and not module._load_state_dict_pre_hooks
        for module in part.modules()
        for act in ("load_state_dict", "_load_from_state_dict", "set_extra_state")
    )


def _restore(part: Any, state: Any) -> None:
    if isinstance(part, nn.Module):
        _restore_model(part, state)
        return
    if isinstance(part, Optimizer):
        _split_state(part, state)
    part.load_state_dict(state)
    if isinstance(part, LRScheduler):  # its optimizer holds the rate; the schedule only says how to change it
        for group, rate in zip(_groups(part), part.get_last_lr(), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = float(rate)
    if isinstance(part, Optimizer):  # load_state_dict has rounded what is wider than the weights
        numbers = [number for group in state["param_groups"] for number in group["params"]]
        weights = [p for group in part.param_groups for p in group["params"]]
        for number, p in zip(numbers, weights, strict=True):
            for key, value in part.state.get(p, {}).items():
                captured = state["state"][number][key]
                if isinstance(value, Tensor) and value.dtype != captured.dtype:
                    part.state[p][key] = captured.to(value.device)


def _split_state(optimizer: Optimizer, state: Any) -> None:
    """Shard what an optimizer remembers of parameters, or make it whole, as its own parameters are now."""
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
        return
    numbers = [number for group in state["param_groups"] for number in group.get("params", ())]
    for number, p in zip(numbers, [p for group in optimizer.param_groups for p in group["params"]], strict=False):
        for key, value in state["state"].get(number, {}).items():
            if isinstance(value, Tensor) and value.shape == p.shape and is_sharded(p) != is_sharded(value):
                state["state"][number][key] = shard_like(value, p)


def _restore_model(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    resolve_names(model, {name: value for name, value in state.items() if isinstance(value, Tensor)})  # ties have one value
    actual = {name: key for key, name in name_state_keys(model).items()}
    now = model.state_dict()
    new = OrderedDict((actual.get(name, name), value) for name, value in state.items())
    for key, value in new.items():
        here = now.get(key)
        if not isinstance(value, Tensor) or not isinstance(here, Tensor) or is_lazy(here):
            continue
        if here.is_meta and not value.is_meta:
            raise RuntimeError(f"{key!r} is on the meta device: call model.to_empty(device=...) first.")
        if here.dtype != value.dtype:
            raise ValueError(f"{key!r} is {here.dtype} and was {value.dtype}: call model.to({value.dtype}) first.")
        new[key] = shard_like(value, here)
    new._metadata = getattr(now, "_metadata", None)  # type: ignore[attr-defined] # the versions of its modules
    model.load_state_dict(new)


# In JSON a tuple is {"tuple": [...]} and a mapping {"dict": [[key, value], ...]}, so that each comes back as what it was.
_MAPPINGS: dict[str, Callable[[dict[Any, Any]], Any]] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}


def _encode(value: Any, path: str, tensors: dict[str, Tensor], keys: dict[Hashable, str]) -> Any:
    """Return JSON of a value, with its tensors by key: those that are one in memory have one key."""
    if isinstance(value, Tensor):
        if is_lazy(value):
            raise TypeError(f"{path} has no shape yet: run a batch through its lazy module first.")
        if value.layout is not torch.strided or value.is_meta or value.dtype == torch.complex128:
            raise TypeError(
                f"{path} is {value.dtype}, {value.layout}, on {value.device}: a .safetensors file has no such tensor."
            )
        if (known := keys.get(memory_key(value))) is not None:
            return {"tensor": known}
        key = path
        while key in tensors or key == "__metadata__":  # {"a": {"b": 1}, "a.b": 2} has one path twice
            key += "'"
        keys[memory_key(value)] = key
        tensors[key] = value.detach()
        return {"tensor": key}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        items = [_encode(item, f"{path}[{i}]", tensors, keys) for i, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str | int):
                raise TypeError(f"{path or 'the parts'} has the key {key!r}: only strings and integers can be saved.")
        name = type(value).__name__ if type(value).__name__ in _MAPPINGS else "dict"
        return {name: [[k, _encode(v, f"{path}.{k}" if path else str(k), tensors, keys)] for k, v in value.items()]}
    raise TypeError(f"{path} is a {type(value).__name__}: only tensors, numbers, strings and their containers can be saved.")


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(_decode(item, tensors) for item in content)
    items = {key: _decode(item, tensors) for key, item in content}
    if len(items) != len(content):
        raise ValueError("a key comes twice")
    return _MAPPINGS[kind](items)
