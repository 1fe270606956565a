"""Parameters by name, whatever wraps the model."""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any
from warnings import warn

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import UninitializedParameter

PRUNABLE = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.MultiheadAttention,
)
WRAPPERS = (DistributedDataParallel, DataParallel)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside torch.compile, DistributedDataParallel and DataParallel."""
    while key := _inside(module):
        module = module._modules[key]  # type: ignore[assignment]
    return module


def _inside(module: nn.Module) -> str | None:
    """The key under which a wrapper keeps what it wraps."""
    if "_orig_mod" in module._modules:  # torch.compile; its class is costly to import
        return "_orig_mod"
    return "module" if isinstance(module, WRAPPERS) else None


def hooked(module: nn.Module) -> bool:
    """Does calling the module do more than the forward pass of its class?"""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks) or "forward" in vars(module)


def state_names(model: nn.Module) -> dict[str, str]:
    """The keys of the model's state dict, each with the name that it has in the model without any wrapper."""
    wrappers = {id(m) for m in model.modules() if unwrapped(m) is not m}
    names = {}
    for key in model.state_dict():
        kept, module = [], model
        for part in key.split("."):
            if id(module) not in wrappers:
                kept.append(part)
            child = module._modules.get(part)  # the last part names a parameter or a buffer
            module = module if child is None else child
        names[key] = ".".join(kept)
    return names


def modules(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every module with its name in the unwrapped model, a shared one under each of its names."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    model = unwrapped(model)
    yield prefix, model
    for name, child in model._modules.items():
        if child is not None:
            yield from modules(child, f"{prefix}.{name}" if prefix else name)


def parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter of the model under each of its names, in the order of the model."""
    return {
        f"{prefix}.{name}" if prefix else name: parameter
        for prefix, module in modules(model)
        for name, parameter in module._parameters.items()
        if parameter is not None
    }


def once(named: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Tied parameters under the first of their names."""
    seen: set[int] = set()
    return {n: p for n, p in named.items() if not (id(p) in seen or seen.add(id(p)))}  # type: ignore[func-returns-value]


def select(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Parameter]:
    """The named parameters, in the order of the model, looked up now."""
    if isinstance(names, str):
        raise TypeError(f"names must be a collection of parameter names, got the string {names!r}: write [{names!r}].")
    every = parameters(model)
    wanted = dict.fromkeys(plain(name) for name in _strings("names", names))
    if model is not unwrapped(model):  # names of the wrapper are as good
        wanted = dict.fromkeys(name if name in every else name.removeprefix("module.") for name in wanted)
    for name in wanted:
        if name not in every:
            raise ValueError(f"the model has no parameter {name!r}. It has {listed(every)}.")
    found = {name: p for name, p in every.items() if name in wanted}
    for name, p in found.items():
        if isinstance(p, UninitializedParameter):
            raise RuntimeError(f"{name!r} has no shape yet: run a batch through its lazy module first.")
    return found


def _strings(what: str, value: Any) -> list[str]:
    items: list[Any] = list(value) if isinstance(value, Iterable) else [None]
    if not all(isinstance(item, str) for item in items):
        raise TypeError(f"{what} must be a collection of strings, got {value!r}.")
    return items


def path(model: nn.Module, name: str) -> tuple[str, ...]:
    """The keys that lead to a parameter, those of wrappers among them."""
    keys: list[str] = []
    *parts, leaf = name.split(".")
    for part in [*parts, None]:
        while key := _inside(model):
            keys.append(key)
            model = model._modules[key]  # type: ignore[assignment]
        if part is not None:
            keys.append(part)
            model = model._modules[part]  # type: ignore[assignment]
    return *keys, leaf


def follow(model: nn.Module, path: tuple[str, ...]) -> nn.Parameter:
    """The parameter at a :func:`path`, looked up now: cheap enough for every step."""
    for key in path[:-1]:
        model = model._modules[key]  # type: ignore[assignment]
    return model._parameters[path[-1]]  # type: ignore[return-value]


def plain(name: str) -> str:
    """A name without the segments that torch.compile adds."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod") if "_orig_mod" in name else name


def listed(names: Iterable[Any], most: int = 8) -> str:
    """The first few names, for an error message."""
    every = [str(name) for name in names]
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "") or "none"


def prunable(
    model: nn.Module, *, types: type | tuple[type, ...] = PRUNABLE, exclude: str | Iterable[str] = ()
) -> tuple[str, ...]:
    """The names of the weights that pruning may remove, in the order of the model.

    These are the parameters of two or more dimensions that a module of ``types`` owns directly, biases left out. A tied
    parameter comes once, under its first name; the weight of a Linear that is tied to an Embedding is left out (name it in
    :meth:`Mask.dense` to prune it). Names are those of the model inside ``torch.compile``, DDP and DataParallel.

    Parameters
    ----------
    model
        Any module.
    types
        The kinds of modules whose weights count: ``Linear``, ``Conv*d``, ``ConvTranspose*d`` and ``MultiheadAttention``.
    exclude
        Names, or glob patterns, of parameters or of their modules: ``"fc3"``, ``"*.downsample.*"``.

    Warns
    -----
    UserWarning
        When ``types`` cover less than half of the model's weights.

    Raises
    ------
    ValueError
        When a pattern of ``exclude`` matches nothing, or nothing is left to prune.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    >>> prunable(model)
    ('0.weight', '2.weight')
    >>> prunable(model, exclude="2")
    ('0.weight',)
    """
    types = types if isinstance(types, tuple) else (types,)
    if not all(isinstance(t, type) for t in types):
        raise TypeError(f"types must be a class or a tuple of classes, such as nn.Linear, got {types!r}.")
    embedded = {id(m.weight) for _, m in modules(model) if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    candidates: dict[str, nn.Parameter] = {}
    for prefix, module in modules(model):
        if not isinstance(module, types):
            continue
        for name, parameter in module._parameters.items():
            full = f"{prefix}.{name}" if prefix else name
            if isinstance(parameter, UninitializedParameter):
                raise RuntimeError(f"{full!r} has no shape yet: run a batch through its lazy module first.")
            if parameter is None or parameter.dim() < 2 or "bias" in name:
                continue
            if id(parameter) in embedded and not isinstance(module, nn.Embedding | nn.EmbeddingBag):
                continue
            candidates[full] = parameter
    candidates = once(candidates)

    patterns = [exclude] if isinstance(exclude, str) else _strings("exclude", exclude)
    left_out: set[str] = set()
    for pattern in patterns:
        matches = {n for n in candidates if any(fnmatchcase(n, p) for p in (pattern, f"{pattern}.*"))}
        if not matches:
            raise ValueError(f"exclude: {pattern!r} matches no prunable parameter. They are {listed(candidates)}.")
        left_out |= matches
    names = tuple(name for name in candidates if name not in left_out)
    if not names:
        raise ValueError(
            f"nothing to prune: {type(unwrapped(model)).__name__} has no weights in modules of the given types"
            + (" besides the excluded ones." if candidates else f" ({listed(t.__name__ for t in types)}).")
        )

    covered = sum(p.numel() for p in candidates.values())
    weights = sum(
        p.numel() for p in once(parameters(model)).values() if not isinstance(p, UninitializedParameter) and p.dim() >= 2
    )
    if 2 * covered < weights:
        warn(
            f"prunable covers {covered:,} of the model's {weights:,} weights ({covered / weights:.0%}): "
            "pass types= to include other kinds of modules.",
            stacklevel=2,
        )
    return names
