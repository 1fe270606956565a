"""Parameters by name, whatever wraps the model."""

import sys
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from itertools import takewhile
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel

from sparsedd import _checks
from sparsedd._shards import is_sharded

Named = TypeVar("Named", bound=Mapping[str, Any])
Weight = TypeVar("Weight", bound=Tensor)
WRAPPERS = (DistributedDataParallel, DataParallel, AveragedModel)
# Where others, whose classes are costly to import, keep what they wrap: torch.compile, activation checkpointing, Fabric.
SEGMENTS = ("_orig_mod", "_checkpoint_wrapped_module", "_original_module", "_forward_module")


def unwrap(module: nn.Module) -> nn.Module:
    """Return the module inside its wrappers: DDP, DataParallel, AveragedModel, and those of SEGMENTS."""
    while key := _inside(module):
        module = module._modules[key]  # type: ignore[assignment]
    return module


def _inside(module: nn.Module) -> str | None:
    """Return the key under which a wrapper keeps what it wraps."""
    if "_fsdp_wrapped_module" in module._modules:
        raise RuntimeError(
            "the model is wrapped in FullyShardedDataParallel (FSDP1), which flattens parameters, and no mask fits those: "
            "prune and measure the model before it is wrapped, or from a full state dict."
        )
    for key in SEGMENTS:
        if key in module._modules:
            return key
    return "module" if isinstance(module, WRAPPERS) else None


def has_hooks(module: nn.Module) -> bool:
    """Check whether calling the module does more than the forward pass of its class."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks) or "forward" in vars(module)


def name_state_keys(model: nn.Module) -> dict[str, str]:
    """Return the keys of the model's state dict, each with its name in the model without any wrapper."""
    names = {}
    for key in model.state_dict():
        parts, module = [], model
        for part in key.split("."):
            if part != _inside(module):
                parts.append(part)
            child = module._modules.get(part)  # the last part names a parameter or a buffer
            module = module if child is None else child
        names[key] = ".".join(parts)
    return names


def modules(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield every module with its name in the unwrapped model, a shared one under each of its names."""
    model = unwrap(_checks.kind("model", model, nn.Module, "a torch.nn.Module"))
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is not None and isinstance(model, fsdp.FSDPModule):
        model.reshard()  # after a forward pass its parameters may be whole copies, and what is written to those is lost
    if any(hasattr(p, "ds_id") for p in model._parameters.values()):
        raise RuntimeError(
            "the model's parameters are partitioned by DeepSpeed's ZeRO-3, which leaves none here that a mask fits: shard "
            "it by torch.distributed.fsdp.fully_shard instead, or prune and measure a full state dict."
        )
    yield prefix, model
    for name, child in model._modules.items():
        if child is not None:
            yield from modules(child, join(prefix, name))


def parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return every parameter of the model under each of its names, in the order of the model."""
    return {
        join(prefix, name): parameter
        for prefix, module in modules(model)
        for name, parameter in module._parameters.items()
        if parameter is not None
    }


def address(tensor: Tensor) -> int:
    """Return where a tensor lies; of one on a device that doesn't say (XLA's, say), its identity. An empty one lies nowhere."""
    return (tensor.data_ptr() or id(tensor)) if tensor.numel() else 0


def memory_key(p: Tensor) -> Hashable:
    """Return a key equal for tied parameters: address, shape, strides."""
    if is_sharded(p):  # a process' part may be empty, and has a storage even so
        part: Tensor = p._local_tensor  # type: ignore[attr-defined]
        return part.untyped_storage()._cdata, part.storage_offset(), p.shape
    if isinstance(p, UninitializedParameter) or p.is_meta or p.layout is not torch.strided or not p.numel():
        return id(p)
    return p.device, p.dtype, address(p), p.shape, p.stride()


def drop_tied(named: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Return parameters with tied ones under the first of their names only."""
    first: dict[Hashable, str] = {}
    return {name: p for name, p in named.items() if first.setdefault(memory_key(p), name) == name}


def select(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Parameter]:
    """Look up parameters by name, in the order of the model; raise where no mask could hold one."""
    every = parameters(model)
    wanted = set(find_names(names, every, "the model"))
    found = {name: p for name, p in every.items() if name in wanted}
    raw = _find_raw(model)
    for name, p in found.items():
        if name in raw:
            raise ValueError(
                f"{raw[name]!r} is computed from {name!r} by a parametrization, and zeros here are none there: remove "
                "that first (torch.nn.utils.parametrize.remove_parametrizations, remove_weight_norm, prune.remove)."
            )
        if isinstance(p, UninitializedParameter):
            raise RuntimeError(f"{name!r} has no shape yet: run a batch through its lazy module first.")
        check_stages(name, p)
    _check_apart(found)
    return found


def check_present(found: dict[str, Weight]) -> dict[str, Weight]:
    """Return the same tensors if they have values, else raise."""
    for name, p in found.items():
        if p.is_meta:
            raise RuntimeError(f"{name!r} is on the meta device and has no weights: load them first.")
    return found


def check_undivided(named: Named) -> Named:
    """Return the same tensors if this process has all of each, else raise."""
    for name, tensor in named.items():
        if is_sharded(tensor):
            raise RuntimeError(
                f"{name!r} is a DTensor, sharded over processes, and this needs a whole one: tensor.full_tensor(), or "
                "get_model_state_dict of torch.distributed.checkpoint.state_dict with full_state_dict=True. Pruner.prune, "
                "Mask.nonzero and Mask.enforce take the sharded model itself."
            )
    return named


def check_stages(name: str, p: Any) -> None:
    """Raise where a mesh says that each process has some of the layers only."""
    if not is_sharded(p):
        return
    mesh = getattr(p.device_mesh, "_get_root_mesh", lambda: p.device_mesh)()
    for size, stage in zip(mesh.shape, mesh.mesh_dim_names or (), strict=False):
        if stage in ("pp", "pipeline") and size > 1:
            raise RuntimeError(
                f"{name!r} is one of a pipeline stage (its device mesh has a dimension {stage!r}), and this process can't rank "
                "the weights of the others: prune and measure before the model is cut into stages, or a full state dict."
            )


def _check_apart(found: dict[str, nn.Parameter]) -> None:
    """Raise where two parameters share some weights, but not all of them in one order."""
    whole = {name: p for name, p in found.items() if not (is_sharded(p) or p.is_meta)}
    dense = {name: p for name, p in whole.items() if p.layout is torch.strided and p.numel() and p.data_ptr()}
    spans = sorted((p.data_ptr(), p.data_ptr() + _length(p) * p.element_size(), name) for name, p in dense.items())
    for i, (_, end, one) in enumerate(spans):
        for _, _, other in takewhile(lambda span: span[0] < end, spans[i + 1 :]):  # noqa: B023
            if memory_key(dense[one]) != memory_key(dense[other]) and _share(dense[one], dense[other]):
                raise ValueError(
                    f"{one!r} and {other!r} share memory in another shape or order, as a view does: a mask can't tell their "
                    f"weights apart. Leave one of them out (names= or exclude=), or give {other!r} weights of its own."
                )


def _share(a: Tensor, b: Tensor) -> bool:
    """Check whether one weight lies in both. Columns of a matrix, say, have spans that overlap, and no weight in common."""
    if a.dtype != b.dtype:
        return True
    at, bt = ((t.data_ptr() - min(a.data_ptr(), b.data_ptr())) // t.element_size() for t in (a, b))
    taken = torch.zeros(max(at + _length(a), bt + _length(b)), dtype=torch.bool, device="cpu")
    taken.as_strided(a.shape, a.stride(), at).fill_(True)
    return bool(taken.as_strided(b.shape, b.stride(), bt).any())


def _length(t: Tensor) -> int:
    """Count the elements in memory from a tensor's first to its last."""
    return 1 + sum((n - 1) * step for n, step in zip(t.shape, t.stride(), strict=True))


def find_computed(module: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return the weights that a module computes at each call, and the parameters that it computes them from.

    Parametrizations do that, and the older weight_norm, spectral_norm and torch.nn.utils.prune.
    """
    found: dict[str, tuple[str, ...]] = {}
    if parametrize.is_parametrized(module):
        chains: Any = module.parametrizations
        for name, chain in chains.items():
            found[name] = tuple(f"parametrizations.{name}.{key}" for key in chain._parameters)
    for name in [name for name, value in vars(module).items() if isinstance(value, Tensor)]:
        if raw := tuple(f"{name}{end}" for end in ("_orig", "_g", "_v") if f"{name}{end}" in module._parameters):
            found[name] = raw
    return {name: raw for name, raw in found.items() if any(module.get_parameter(key).dim() >= 2 for key in raw)}


def _find_raw(model: nn.Module) -> dict[str, str]:
    """Return the parameters that a weight is computed from, with its name; a mere factor (spectral_norm) does not count."""
    found: dict[str, str] = {}
    for prefix, module in modules(model):
        chains: Any = module.parametrizations if parametrize.is_parametrized(module) else {}
        for weight, raw in find_computed(module).items():
            steps = {type(step).__name__ for step in chains[weight]} if weight in chains else set()
            if steps != {"_SpectralNorm"} and f"{weight}_u" not in module._buffers:
                found |= {join(prefix, key): join(prefix, weight) for key in raw}
    return found


def join(prefix: str, name: str) -> str:
    """Join the name of a module and that of a part of it."""
    return f"{prefix}.{name}" if prefix else name


def check_names(what: str, value: Any) -> list[str]:
    """List names from any iterable that is not itself a string."""
    if isinstance(value, str):
        raise TypeError(f"{what} must be a collection of parameter names, got the string {value!r}: write [{value!r}].")
    items: list[Any] = list(value) if isinstance(value, Iterable) else [None]
    if not all(isinstance(item, str) for item in items):
        raise TypeError(f"{what} must be a collection of strings, got {value!r}.")
    return items


def locate(model: nn.Module, name: str) -> tuple[str, ...]:
    """Return the keys that lead to a parameter, those of wrappers among them."""
    keys: list[str] = []
    here: Any = model
    for part in name.split("."):
        while key := _inside(here):
            keys.append(key)
            here = here._modules[key]
        keys.append(part)
        here = here._modules.get(part)  # the last part names a parameter
    return tuple(keys)


def follow(model: nn.Module, keys: tuple[str, ...]) -> nn.Parameter:
    """Look up the parameter where :func:`locate` found it: cheap enough for every step."""
    for key in keys[:-1]:
        model = model._modules[key]  # type: ignore[assignment]
    return model._parameters[keys[-1]]  # type: ignore[return-value]


def strip_segments(name: str) -> str:
    """Return a name without the segments that wrappers of SEGMENTS add."""
    return ".".join(part for part in name.split(".") if part not in SEGMENTS) if "_mod" in name else name


def fit_name(name: str, names: Collection[str]) -> str:
    """Return a name without the ``module.`` that DDP and others put before it, where that makes it one of ``names``."""
    inner = name
    while inner not in names and inner.startswith("module."):
        inner = inner.removeprefix("module.")
    return inner if inner in names else name


def find_names(names: Iterable[str], every: Collection[str], owner: str) -> list[str]:
    """Return names as they are in ``every``, which are those of the ``owner``; raise for one that is not there."""
    found = [fit_name(strip_segments(name), every) for name in check_names("names", names)]
    for name in found:
        if name not in every:
            raise ValueError(f"{owner} has no parameter {name!r}. It has {abridge(every)}.")
    return found


def abridge(names: Iterable[Any], most: int = 8) -> str:
    """Join the first few names, for an error message."""
    every = [str(name) for name in names]
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "") or "none"
